"""Which part imports which: only downward, and only itermix/webui imports `modules`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itermix"
HOST = {"modules", "modules_forge", "backend", "gradio", "ldm", "ldm_patched"}
CORE = {"itermix", "torch", "numpy", "typing_extensions"} | set(sys.stdlib_module_names)

FLOORS = ("parameters", "steps", "mixing", "model", "analysis", "picture", "settings", "sampling")
"""Of the core, from the ground up; each imports those below it and itself."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
            assert not node.level, f"{path} has a relative import"


def floor(path):
    """The room, or the file, of the package in which a file stands."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def files(*floors):
    return sorted(path for path in PACKAGE.rglob("*.py") if floor(path) in floors)


def name(path):
    return str(path.relative_to(ROOT))


SHEET = PACKAGE / "analysis" / "sheet.py"
STANDALONE = files("standalone")
WEBUI = files("webui") + sorted((ROOT / "scripts").glob("*.py"))


def test_every_file_has_its_floor():
    others = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}
    assert set(files(*FLOORS)) | set(STANDALONE) | set(files("webui")) | others == set(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(*FLOORS), ids=name)
def test_the_core_imports_torch_numpy_and_what_is_below(path):
    names = set(imported(path))
    below = FLOORS[: FLOORS.index(floor(path)) + 1]
    assert {name.split(".")[0] for name in names} <= CORE | ({"matplotlib"} if path == SHEET else set())
    assert {name.split(".")[1] for name in names if name.startswith("itermix.")} <= set(below)


@pytest.mark.parametrize("room", FLOORS)
def test_no_two_files_of_a_room_import_each_other(room):
    wanted = {
        f"itermix.{path.relative_to(PACKAGE).with_suffix('').as_posix().replace('/', '.')}": path
        for path in files(room)
    }
    wanted = {module.removesuffix(".__init__"): path for module, path in wanted.items()}
    left = {
        module: {
            other
            for other in wanted
            if other != module and any(n == other or n.startswith(f"{other}.") for n in imported(path))
        }
        for module, path in wanted.items()
    }
    while left:
        free = [module for module, needs in left.items() if not needs & left.keys()]
        assert free, f"a circle of imports: {left}"
        for module in free:
            del left[module]


def test_the_sheet_draws_without_pyplot():
    """Whose figures are kept, and which chooses a backend for all."""
    assert not any(name.startswith("matplotlib.pyplot") for name in imported(SHEET))


@pytest.mark.parametrize("path", STANDALONE, ids=name)
def test_what_runs_without_a_webui_imports_none(path):
    names = set(imported(path))
    assert not {name.split(".")[0] for name in names} & HOST
    assert not any(name.startswith("itermix.webui") for name in names)


@pytest.mark.parametrize("path", WEBUI, ids=name)
def test_what_runs_in_a_webui_needs_nothing_of_the_standalone_part(path):
    names = set(imported(path)) - OF_STANDALONE.get(path.name, set())
    assert not any(name.startswith("itermix.standalone") or "k_diffusion" in name for name in names)


OF_STANDALONE = {
    "folder.py": {
        f"itermix.standalone.batch.{name}"
        for name in ("journal", "journal.Journal", "plan", *(f"plan.{n}" for n in ("Files", "Picture", "PlanError")))
    }
    | {"itermix.standalone.batch.plan.found", "itermix.standalone.batch.plan.looked_at"},
    "calibration.py": {f"itermix.standalone.calibrate.{name}" for name in ("session", "sources", "run.Wanted")},
}
"""A folder from the page has the journal of the command, and a calibration is the command's: these need nothing that a
WebUI doesn't have."""


@pytest.mark.parametrize(
    ("module", "had"), [("batch.plan", set()), ("calibrate.session", {"scipy", "skimage"})], ids=["batch", "calibrate"]
)
def test_what_the_page_takes_of_the_standalone_part_loads_nothing_that_a_webui_may_lack(module, had):
    """scikit-image, and so scipy, is among the requirements of every WebUI; it is loaded when it is wanted."""
    lacked = {"k_diffusion", "matplotlib", "ray", "requests", "scipy", "skimage"} - had
    code = f"import itermix.standalone.{module}, sys; print({lacked} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_importing_itermix_loads_neither_host_nor_k_diffusion():
    code = "import itermix, sys; print({'k_diffusion', 'gradio', 'modules', 'scipy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


MOST_ARGUMENTS, MOST_LINES = 7, 60
DEMANDED = {"sample_hr_pass"}
"""Functions with more arguments, which a host's signature has."""


def too_large(source):
    """{function: (arguments, lines)} of the functions of a Python source above the limits."""
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            every = node.args
            several = [each for each in (every.vararg, every.kwarg) if each]
            own = [each for each in every.posonlyargs + every.args if each.arg not in ("self", "cls")]
            arguments, lines = len(own + every.kwonlyargs + several), node.end_lineno - node.lineno + 1
            if (arguments > MOST_ARGUMENTS and node.name not in DEMANDED) or lines > MOST_LINES:
                found[node.name] = (arguments, lines)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=name)
def test_no_function_takes_many_arguments_or_is_long(path):
    assert too_large(path.read_text()) == {}


def test_what_is_too_large_is_found():
    assert too_large("def f(self, a, b, /, c, d, *e, g, **h): 0") == {}
    assert too_large("def f(a, b, /, c, d, *e, g, i, **h): 0") == {"f": (8, 1)}
    assert too_large("async def f():" + "\n    0" * 60) == {"f": (0, 61)}
