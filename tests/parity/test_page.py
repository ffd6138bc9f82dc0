"""docs/migration.md and the tests can't part: every row has a test, every test a row."""

import re
from pathlib import Path

import make_migration
import pytest
from parity import FOLDER, held_by, modules, row

PAGE = Path(__file__).parents[2] / "docs" / "migration.md"


def lines_of_tables():
    found = re.findall(r"^\| (?!---)(.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return [tuple(line.split(" | ")) for line in found]


def test_the_page_is_made_of_the_tests():
    assert PAGE.read_text(encoding="utf-8") == make_migration.page()


def test_every_test_has_a_row_and_every_row_a_test():
    expected = []
    for module in modules():
        tests = held_by(module)
        assert tests
        assert all(hasattr(test, "row") for test in tests), f"a test in {module.__name__} has no row"
        expected += [module.HEADS, *((test.row.theirs, test.row.ours, test.row.note) for test in tests)]
    assert lines_of_tables() == expected
    assert len(expected) == len(set(expected))


def test_every_file_of_tests_is_a_section():
    files = {file.stem for file in FOLDER.glob("test_*.py")} - {"test_page"}
    assert {module.__name__ for module in modules()} == files
    assert sorted(module.ORDER for module in modules()) == list(range(1, len(files) + 1))


def test_the_numbers_of_a_row_are_shown_and_given_to_its_test():
    @row("there", "here", "{late:.2f} later", late=0.123)
    def test():
        """Holds nothing."""

    assert (test.row.note, test.sizes) == ("0.12 later", {"late": 0.123})
    with pytest.raises(KeyError):
        row("there", "here", "{late}", later=1)(test)


def test_no_cell_breaks_the_table():
    for module in modules():
        for test in held_by(module):
            for cell in (test.row.theirs, test.row.ours, test.row.note):
                assert "|" not in cell
                assert "\n" not in cell
