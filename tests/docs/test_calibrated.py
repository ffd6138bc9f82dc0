"""docs/calibrated.md is made of the reports, and docs/calibrate.md says what the benchmark has found."""

import json
import re
import shlex
from pathlib import Path

import calibrate_latent
import calibrate_truth
import make_calibrated
import numpy as np
import pytest

from itermix.standalone.cli import parser
from itermix.standalone.latent.metrics import mean_and_error

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "benchmarks" / "results" / "calibrate-truth.json").read_text())
CONFIRMED = json.loads((ROOT / "benchmarks" / "results" / "calibrate-confirmed.json").read_text())
REPORTS = [json.loads(file.read_text()) for file in sorted(make_calibrated.REPORTS.glob("*.json"))]


COMMANDS = [
    command
    for page in ("README.md", "docs/calibrate.md")
    for command in re.findall(r"^    .*itermix (calibrate .*)", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command):
    options = parser().parse_args(shlex.split(command))
    assert (options.server, options.out.name, options.budget) == ("http://127.0.0.1:7860", "mine", 20)


def test_the_page_is_made_of_the_reports():
    assert make_calibrated.PAGE.read_text(encoding="utf-8") == make_calibrated.page()


def test_the_built_in_and_the_latent_model_are_the_first():
    assert {report["checkpoint"] for report in REPORTS} >= {"the built-in model", "itermix-latent"}


def test_the_reports_have_no_prompts_and_no_paths():
    for report in REPORTS:
        assert "prompts" not in report
        assert "/" not in json.dumps(report)


def test_what_is_put_first_is_about_as_good_as_the_best():
    page = " ".join((ROOT / "docs" / "calibrate.md").read_text(encoding="utf-8").split())
    sharp, soft = (f"{of['behind']:.2f} ± {of['se']:.2f}" for of in (FOUND["first"]["true"], FOUND["first"]["soft"]))
    assert f"by {sharp} points with sharp sources and {soft} with soft ones" in page


def test_the_score_ranks_as_the_truth_does():
    lines = (ROOT / "docs" / "calibrate.md").read_text(encoding="utf-8").splitlines()
    for kind, correlations in FOUND["correlations"].items():
        assert correlations["score"]["rho"] >= 0.8
        for metric, of in correlations.items():
            assert calibrate_truth.line(kind, metric, of) in lines


def test_what_was_put_first_is_level_with_the_best_of_the_benchmark():
    lines = (ROOT / "docs" / "calibrate.md").read_text(encoding="utf-8").splitlines()
    (values,) = CONFIRMED["values"].values()
    assert all(line in lines for line in calibrate_latent.lines(values))
    first = values.pop(calibrate_latent.KEPT)
    (report,) = (each for each in REPORTS if each["checkpoint"] == "itermix-latent")
    (row,) = (each for each in report["rows"] if each["name"] == report["best"])
    assert row["settings"] == CONFIRMED["kept"]
    for measure in calibrate_latent.MEASURES:
        for name in (*calibrate_latent.BEST_PRESETS, "hires fix 0.2", "hires fix 0.3"):
            ahead, error = mean_and_error(np.array(values[name][measure]) - first[measure])
            assert ahead <= error
