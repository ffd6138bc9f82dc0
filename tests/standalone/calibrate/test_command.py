"""`itermix calibrate` against a server in the shape of a WebUI."""

import json
import re

import pytest
from calibrate_webui import CHECKPOINT, asked

from itermix.standalone.cli import main


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_text("# a comment\n\n" + "\n".join(f"a secret of {k}" for k in range(4)))
    return file


def calibrate(server, out, *more):
    return main(["calibrate", "--server", server.url, "--out", str(out), "--steps", "8", *map(str, more)])


def report(out):
    return json.loads((out / "report.json").read_text())


def test_a_run_measures_shows_and_keeps(few, server, prompts, tmp_path, capsys):
    assert calibrate(server, tmp_path / "out", "--prompts", prompts, "--budget", 1, "--keep", "Mine") == 0
    told = report(tmp_path / "out")
    rows = {row["name"]: row for row in told["rows"]}
    assert {"enlarged", "hires fix 0.3", "hires fix 0.5", "hires fix 0.7", "Balanced", "Faithful", "Creative"} < set(
        rows
    )
    assert told["complete"]
    assert told["pictures"] == 4
    assert any(row["kind"] == "search" and row["n"] == 4 for row in told["rows"])
    best = max((row for row in told["rows"] if "settings" in row and row["n"] == 4), key=lambda row: row["score"])
    assert told["best"] == best["name"]
    assert server.kept == {"Mine": best["settings"]}
    assert server.bound == {CHECKPOINT["hash"]: "Mine"}
    said = capsys.readouterr()
    assert re.search(r"It ends by \d\d:\d\d at the latest", said.out)
    assert re.search(r"\d+ pictures until about \d\d:\d\d", said.err)
    assert f"Kept {best['name']} as Mine; Automatic takes it with small.safetensors [0123456789]." in said.out
    assert len(asked(server)) == len(set(asked(server)))
