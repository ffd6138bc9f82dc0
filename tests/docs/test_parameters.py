import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
TOOLS = DOCS.parent / "tools"


def test_the_parameter_table_is_that_of_the_settings():
    spec = importlib.util.spec_from_file_location("make_parameters", TOOLS / "make_parameters.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (DOCS / "parameters.md").read_text(encoding="utf-8") == module.page()
