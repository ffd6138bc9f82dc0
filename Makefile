# make demo   see what mixing does, without a WebUI        make test   everything that is checked
# make mutants   whether the tests notice when the core or the batch changes: docs/mutants.md
# make speed  what model calls cost and which can be left out, with its picture (an hour): docs/speed.md
# make large SERVER=http://127.0.0.1:7860
#             what large pictures cost and are worth beside other tools, with its table (hours); the other tools' rows
#             want an A1111 that runs with them, see docs/development.md, and stay as they were without: docs/speed.md
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
# Threads that wait for each other must not burn the cores that they wait for.
export OMP_WAIT_POLICY = passive

.PHONY: demo test mutants speed large

demo: $(VENV)/installed
	$(BIN)/python -m itermix demo --out out/demo

test: $(VENV)/installed .venv-gradio3/installed .venv-gradio4/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy itermix benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --durations 10

# One thread each, since the processes are forks, and a fork can't use the threads of its parent. Large pages of memory
# make a fork ten times as fast.
mutants: $(VENV)/installed
	$(BIN)/pip install --quiet --editable '.[mutants]'
	rm -rf mutants
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 PYTHONMALLOC=malloc OMP_NUM_THREADS=1 \
		$(BIN)/python tools/try_mutants.py --processes 2
	$(BIN)/python tools/make_mutants.py

speed: $(VENV)/installed
	$(BIN)/pip install --quiet diffusers
	$(BIN)/python benchmarks/cost.py --out benchmarks/results/cost.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mixing_cost.py --out benchmarks/results/mixing.json
	$(BIN)/python benchmarks/skipping.py --out benchmarks/results/skipping.json
	$(BIN)/python benchmarks/step_budget.py --out benchmarks/results/step-budget-2x.json
	$(BIN)/python benchmarks/step_budget.py --schedules exponential align-your-steps --mixing denoise=0.7 \
		--out benchmarks/results/step-budget-2x-schedules.json
	$(BIN)/python tools/make_speed.py

large: $(VENV)/installed
	$(BIN)/pip install --quiet diffusers
	$(BIN)/python benchmarks/cost.py --out benchmarks/results/cost.json
	$(BIN)/python benchmarks/tile_memory.py --out benchmarks/results/tiles.json
	$(BIN)/python benchmarks/tile_memory.py --network sd15 --scales 1 2 4 --out benchmarks/results/tiles-sd15.json
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/large.py --out out/large $(if $(SERVER),--server $(SERVER))
	$(BIN)/python tools/make_large.py

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# The gradio of A1111 and that of Forge, for tests/ui. Torch is found in the environment above, after what is here.
PACKAGES = import sysconfig, sys; print(sysconfig.get_path("purelib", vars={"base": sys.argv[1]}))
.venv-gradio%/installed: tests/ui/gradio%.txt
	$(PYTHON) -m venv .venv-gradio$*
	.venv-gradio$*/bin/pip install --quiet --requirement $<
	cd .venv-gradio$* && bin/python -c '$(PACKAGES)' $(abspath $(VENV)) > "$$(bin/python -c '$(PACKAGES)' "$$PWD")/torch.pth"
	touch $@
