# make demo   see what mixing does, without a WebUI        make test   everything that is checked
# make versions   the core on the oldest and the newest Python and torch
# make mutants   whether the tests notice when the core or the batch changes: docs/mutants.md
# make speed  what model calls cost and which can be left out, with its picture (an hour): docs/speed.md
# make large SERVER=http://127.0.0.1:7860
#             what large pictures cost and are worth beside other tools, with its table (hours); the other tools' rows
#             want an A1111 that runs with them, see docs/development.md, and stay as they were without: docs/speed.md
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
VERSIONS = 3.10 3.13
# Threads that wait for each other must not burn the cores that they wait for.
export OMP_WAIT_POLICY = passive

.PHONY: demo test versions mutants speed large $(VERSIONS:%=version-%)

demo: $(VENV)/installed
	$(BIN)/python -m itermix demo --out out/demo

PYTEST = -m pytest --numprocesses 2 --dist loadgroup
test: $(VENV)/installed .venv-gradio3/installed .venv-gradio4/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy itermix benchmarks
	OMP_NUM_THREADS=1 $(BIN)/python $(PYTEST) --durations 10

# The core on the oldest Python and torch, and on the newest. One after the other, since both install from this folder. A
# Python that isn't there is named, and is no failure.
versions:
	@failed=; \
	for version in $(VERSIONS); do $(MAKE) --no-print-directory version-$$version || failed=yes; done; \
	test -z "$$failed"

$(VERSIONS:%=version-%): version-%:
	@for python in python$* "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$*.*/bin/python; do \
		if "$$python" -c "" 2> /dev/null; then \
			exec $(MAKE) --no-print-directory PYTHON="$$python" .venv-$*/tested; \
		fi; \
	done; \
	echo "Python $*: not found, not run"

$(VERSIONS:%=.venv-%/tested): .venv-%/tested: .venv-%/installed
	$(@D)/bin/python -c "import numpy, torch; print('torch', torch.__version__, 'numpy', numpy.__version__)"
	OMP_NUM_THREADS=1 $(@D)/bin/python $(PYTEST) tests/core tests/parity tests/contract

.venv-3.10/installed: WITH = 'torch==2.1.*' 'numpy<2'
$(VERSIONS:%=.venv-%/installed): pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --editable '.[test]' $(WITH)
	touch $@

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
	$(BIN)/python benchmarks/step_budget.py --schedules exponential align-your-steps --mixing denoise=0.5 \
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
