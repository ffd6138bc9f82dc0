"""What the sources may not do: evaluate, unpickle, start programs, write markup of others; and who opens files."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "itermix").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "install.py"])
SERVED = [path for path in SOURCES if "standalone" not in path.parts]
"""What runs in a WebUI."""

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "importlib.import_module"}
FORBIDDEN_IMPORTS = {"pickle", "marshal", "shelve", "dill", "joblib", "yaml", "subprocess", "pty", "ctypes", "runpy"}
LOADS_PICKLES = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}
FILES = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "mkstemp", "unlink", "replace", "mkdir"}
FILE_MODULES = {"os", "io", "shutil", "tempfile", "pathlib", "glob", "socket", "urllib", "http", "requests"}
OPENS_FILES = {
    "itermix/settings/presets.py",
    "itermix/webui/presets.py",
    "itermix/webui/latent_upscaler.py",
    "itermix/webui/masks.py",
    "itermix/analysis/sheet.py",
    "itermix/webui/analysis.py",
    "itermix/webui/calibration.py",
    "itermix/webui/docs.py",
    "itermix/webui/folder.py",
    "itermix/webui/results.py",
    "itermix/webui/ui_config.py",
    "itermix/__main__.py",
}
"""The user's own presets, the weights of the latent upscaler, masks and results (from memory), analyses, calibrations
(in a folder of their own), the docs (by a list of what is there), folders that the page may name, the WebUI's
ui-config.json, and the command line."""


def wrong(source):
    """What of a Python source evaluates, unpickles or starts something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_IMPORTS)
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in FORBIDDEN_IMPORTS:
                yield node.module
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {each.arg: getattr(each.value, "value", None) for each in node.keywords}
            if name in FORBIDDEN_CALLS or keywords.get("shell"):
                yield name
            option, value = LOADS_PICKLES.get(name, (None, None))
            if option and keywords.get(option) is not value:
                yield name


def opened(source):
    """What of a Python source opens files, or what could."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in FILE_MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FILE_MODULES:
            yield node.module
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in FILES | {"Image.open", "torch.save"}:
            yield ast.unparse(node.func)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_nothing_is_evaluated_unpickled_or_started(path):
    assert list(wrong(path.read_text())) == []


@pytest.mark.parametrize("path", SERVED, ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_opened_in_known_places_alone(path):
    assert str(path.relative_to(ROOT)) in OPENS_FILES or list(opened(path.read_text())) == []


def test_a_mask_is_read_from_memory():
    assert list(opened((ROOT / "itermix" / "webui" / "masks.py").read_text())) == ["io", "Image.open"]
    tree = ast.parse((ROOT / "itermix" / "webui" / "masks.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open"]
    assert [ast.unparse(call.args[0]).partition("(")[0] for call in calls] == ["io.BytesIO"]


def test_the_one_path_is_made_of_nothing_that_a_request_gives():
    tree = ast.parse((ROOT / "itermix" / "webui" / "presets.py").read_text())
    paths = [
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and "PresetFile(" in ast.unparse(node)
    ]
    assert paths == ["PresetFile(Path(data_path) / 'itermix-presets.json')"]


@pytest.mark.parametrize("path", sorted((ROOT / "javascript").glob("*.js")), ids=lambda p: p.name)
def test_the_page_takes_no_text_for_markup_or_code(path):
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser"
    assert re.findall(forbidden, path.read_text()) == []


def test_markup_of_ours_has_no_text_of_others_in_it():
    """gr.HTML takes what it is given for markup: that is constants, prefixes of ids, and what `shown` has escaped.

    docs.py makes markup of the project's own docs, and escapes all of it first: tests/core/test_docs_pages.py.
    """
    ours = {"prefix", "elem_id", "place", "group", "HINT", "FOLDERS", "html.escape(text)"}
    for path in set((ROOT / "itermix" / "webui").glob("*.py")) - {ROOT / "itermix" / "webui" / "docs.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr) and re.search(r"<\w", ast.unparse(node)):
                put_in = {ast.unparse(each.value) for each in node.values if isinstance(each, ast.FormattedValue)}
                assert put_in <= ours


@pytest.mark.parametrize(
    "source",
    [
        "eval(text)",
        "import pickle",
        "from subprocess import run",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "os.system('ls')",
        "run('ls', shell=True)",
        "import yaml",
    ],
)
def test_what_is_wrong_is_found(source):
    assert list(wrong(source))


def test_what_opens_files_is_found():
    for source in ("open(name)", "import os", "from pathlib import Path", "Image.open(name)"):
        assert list(opened(source))
    assert list(wrong("torch.load(path, weights_only=True)")) == []
