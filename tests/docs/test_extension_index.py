"""The entry for A1111's extension index, by the rules of its validate.py and README as of August 2026."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
(FILE,) = (ROOT / "docs" / "data" / "extension-index").iterdir()
ENTRY = json.loads(FILE.read_text())
TAGS = {
    *("script", "localization", "tab", "dropdown", "ads", "installed", "training", "models", "UI related", "prompting"),
    *("editing", "manipulations", "online", "animation", "query", "science", "extras"),
}


def test_it_has_what_the_index_requires_but_for_the_address_that_the_project_does_not_have_yet():
    """The index fills in the date itself."""
    assert FILE.suffix == ".json"
    assert ENTRY.keys() == {"name", "description", "tags"}
    assert ENTRY["name"]
    assert ENTRY["description"]


def test_its_tags_are_among_those_of_the_index():
    assert ENTRY["tags"]
    assert set(ENTRY["tags"]) <= TAGS - {"installed"}  # which is the WebUI's own


def test_it_is_not_tagged_online_since_what_a_webui_loads_asks_no_server():
    assert "online" not in ENTRY["tags"]
    loaded = [*(ROOT / "itermix").rglob("*.py"), *(ROOT / "scripts").glob("*.py"), ROOT / "install.py"]
    asking = {file.relative_to(ROOT).as_posix() for file in loaded if asks(file)}
    assert asking == {"itermix/standalone/client.py"}  # the command line's, for the servers that its user names


def asks(file):
    """Whether it imports something that connects."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return any(name.partition(".")[0] in ("requests", "urllib", "http", "httpx", "aiohttp", "socket") for name in names)


def test_no_script_of_the_page_asks_another_server():
    for file in (ROOT / "javascript").glob("*.js"):
        assert file.read_text().count("fetch(") == (file.name == "itermix.js")
    assert "fetch(`./itermix/v1/${route}`" in (ROOT / "javascript" / "itermix.js").read_text()
