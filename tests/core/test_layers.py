"""The core knows no host, no UI and no k-diffusion; only itermix/webui imports `modules`."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "itermix"
HOST = {"modules", "modules_forge", "backend", "gradio", "ldm", "ldm_patched"}
CORE = {"itermix", "torch", "numpy"} | set(sys.stdlib_module_names)


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module if not node.level else "relative"


def files(*layers):
    return sorted(p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts[0] in layers)


CORE_FILES = sorted(path for path in PACKAGE.glob("*.py") if path.name != "__main__.py")
DRAWING_FILES = files("drawing")
STANDALONE_FILES = files("standalone")


@pytest.mark.parametrize("path", CORE_FILES, ids=lambda p: p.name)
def test_the_core_imports_torch_and_numpy_alone(path):
    names = set(imported(path))
    assert {name.split(".")[0] for name in names} <= CORE
    assert not any(name.startswith(("itermix.webui", "itermix.standalone", "itermix.drawing")) for name in names)


@pytest.mark.parametrize("path", DRAWING_FILES, ids=lambda p: p.name)
def test_what_draws_needs_matplotlib_besides(path):
    names = set(imported(path))
    assert {name.split(".")[0] for name in names} <= CORE | {"matplotlib"}
    assert "matplotlib.pyplot" not in names  # whose figures are kept, and which chooses a backend for all
    assert not any(name.startswith(("itermix.webui", "itermix.standalone")) for name in names)


@pytest.mark.parametrize("path", STANDALONE_FILES, ids=lambda p: p.name)
def test_what_runs_without_a_webui_imports_none(path):
    names = set(imported(path))
    assert not {name.split(".")[0] for name in names} & HOST
    assert not any(name.startswith("itermix.webui") for name in names)


@pytest.mark.parametrize("path", files("webui") + sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_what_runs_in_a_webui_needs_nothing_of_the_standalone_part(path):
    names = set(imported(path))
    assert not any(name.startswith("itermix.standalone") or "k_diffusion" in name for name in names)


def test_importing_itermix_loads_neither_host_nor_k_diffusion():
    code = "import itermix, sys; print({'k_diffusion', 'gradio', 'modules', 'scipy', 'PIL'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
