"""README's table of what runs where is that of the data, and each of its cells has a test."""

import json

import make_works_on
import pytest
from make_works_on import DATA, README, ROOT, SURFACES, TESTS, Runs

FOUND = json.loads(DATA.read_text(encoding="utf-8"))


def test_the_table_is_made_of_what_ran():
    text = README.read_text(encoding="utf-8")
    assert text == make_works_on.readme(text, FOUND)
    assert make_works_on.table(FOUND).count("| ran ") > 60


def test_every_cell_has_a_test():
    for _, found in TESTS.values():
        assert len(found) in (len(SURFACES), len(SURFACES) - 1)
        for test in (test for surface in found for test in make_works_on.tests_of(surface)):
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / "tests" / "webui" / file).read_text(encoding="utf-8")
    for known in FOUND.values():
        assert set(known["models"]) == set(TESTS)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ([("a.py::test[Forge-flux]", "passed")], "ran"),
        ([("a.py::test[Forge]", "passed")], "not run"),
        ([("a.py::test[Forge-flux-1]", "skipped"), ("a.py::test[Forge-flux-2]", "passed")], "ran"),
        ([("a.py::test[Forge-flux]", "skipped")], "not run"),
        ([("a.py::test[Forge Neo-flux]", "passed")], "not run"),
        ([("a.py::test[Forge-flux]", "skipped"), ("b.py::test[Forge-flux]", "passed")], "ran"),
        ([], "not run"),
    ],
)
def test_only_what_passed_ran(ended, said):
    runs = Runs()
    runs.ended = ended
    assert runs.of("Forge", ("a.py::test", "b.py::test"), "flux") == said
