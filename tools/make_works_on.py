"""Write README's table of what runs where: python tools/make_works_on.py [--table]

Runs the tests in TESTS on the WebUIs that are listed in ~/.config/itermix/webuis.toml, puts what ran of each into
docs/data/works-on.json, leaves other WebUIs there as they are, and writes the table; nothing if a test fails.
--table writes the table only.
"""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "data" / "works-on.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- works on -->\n", "<!-- end of works on -->\n"

SURFACES = ("script", "hires fix", "img2img", "inpaint", "ControlNet")
KIND = "test_models.py::test_other_kinds_of_models_are_mixed_at_their_own_noise_levels"
"""Makes a picture in each of the first four ways."""
SMALL = (
    "test_small_models.py::test_the_script_with_its_defaults_doubles_a_picture",
    "test_small_models.py::test_img2img_and_hires_fix_mix",
    "test_small_models.py::test_img2img_and_hires_fix_mix",
    "test_small_models.py::test_an_inpaint_mask_keeps_what_it_covers",
)
TESTS: dict[str, tuple[str, tuple[str | tuple[str, ...], ...]]] = {
    "Stable Diffusion 1": (
        "",
        (
            "test_img2img.py::test_a_photograph_is_upscaled",
            "test_scales.py::test_hires_fix_is_replaced_with_its_own_controls",
            "test_img2img.py::test_every_model_call_is_what_a_hand_written_loop_makes_it",
            "test_img2img.py::test_an_inpaint_mask_keeps_what_it_covers",
            "test_together.py::test_controlnet_sees_a_hint_of_every_phases_size",
        ),
    ),
    "the same, v-prediction": ("v-prediction", 4 * (KIND,)),
    "the same, for inpainting": ("inpainting", 4 * (KIND,)),
    "the same, its U-Net kept in fp8": ("fp8", 4 * (KIND,)),
    "SDXL": ("sdxl", tuple((KIND, small) for small in SMALL)),
    "Flux: flow matching, 16 channels": ("flux", SMALL),
    "Flux 2 Klein: 128 channels of half the side, edits": ("klein", SMALL),
    "Chroma": ("chroma", SMALL),
    "Z-Image": ("z-image", SMALL),
    "Lumina 2": ("lumina", SMALL),
    "ERNIE-Image: 128 channels of half the side": ("ernie", SMALL),
    "Qwen-Image: 16 channels, frames": ("qwen", SMALL),
    "Krea 2: 16 channels, frames": ("krea", SMALL),
    "Wan 2.1, text to one picture: 16 channels, frames": ("wan", SMALL),
    "Anima: 16 channels, frames": ("anima", SMALL),
}
"""{model: (what a test's name has for it, the test of each surface, of which the last may be missing)}. Of several
tests of a surface a WebUI can run one at most."""


def tests_of(surface: str | tuple[str, ...]) -> tuple[str, ...]:
    return (surface,) if isinstance(surface, str) else surface


class Runs:
    """A plugin of pytest that remembers how each test ended, and what the WebUIs say of themselves."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, str]] = []
        self.facts: dict[str, dict[str, str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Any:
        value = yield
        if fixturedef.argname == "webui":
            self.facts[value.host.name] = facts(value)
        return value

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:
            self.ended.append((report.nodeid, report.outcome))

    def of(self, host: str, tests: tuple[str, ...], kind: str) -> str:
        """'ran' if a test of this kind passed on the WebUI with some arguments at least, else 'not run'."""
        names = [f"{test}[{host}{end}" for test in tests for end in ("-", "]")]
        ended = [how for name, how in self.ended if any(part in name for part in names) and kind in name]
        return "ran" if "passed" in ended else "not run"


def facts(webui: Any) -> dict[str, str]:
    """Version of a running WebUI, of its Python and of its torch, and the day."""
    import requests

    said = requests.get(f"{webui.url}/internal/sysinfo", timeout=60).json()
    ask = [webui.host.python, "-c", "import torch; print(torch.__version__)"]
    day = datetime.date.today()
    return {
        "version": said["Version"],
        "python": said["Python"],
        "torch": subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip(),
        "date": f"{day.day} {day:%B %Y}",
    }


def measured() -> dict[str, dict[str, Any]]:
    """{WebUI: {**facts, "models": {model: {surface: "ran" or "not run"}}}} of those that are listed."""
    tests = sorted({test for _, found in TESTS.values() for surface in found for test in tests_of(surface)})
    runs = Runs()
    pytest.main(["-q", *(str(ROOT / "tests" / "webui" / test) for test in tests)], plugins=[runs])
    if failed := [name for name, how in runs.ended if how == "failed"]:
        raise SystemExit("failed, so nothing is written:\n" + "\n".join(failed))
    return {
        host: {
            **known,
            "models": {
                model: {surface: runs.of(host, tests_of(test), kind) for surface, test in zip(SURFACES, found)}
                for model, (kind, found) in TESTS.items()
            },
        }
        for host, known in runs.facts.items()
    }


def table(found: dict[str, dict[str, Any]]) -> str:
    """A line for each WebUI and model of which anything ran."""
    lines = ["WebUI", "model", *SURFACES], ["---"] * (2 + len(SURFACES))
    rows = defaultdict(list, {"": list(lines)})
    for host, known in sorted(found.items()):
        name = f"{host} ({known['version']}; Python {known['python']}, torch {known['torch']}; {known['date']})"
        for model in TESTS:
            ran = known["models"][model]
            if "ran" in ran.values():
                cells = [ran.get(surface, "not run") for surface in SURFACES]
                rows[host].append(["" if rows[host] else name, model, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for part in rows.values() for row in part)


def readme(text: str, found: dict[str, dict[str, Any]]) -> str:
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(found) + "\n" + END + rest.split(END)[1]


def main() -> None:
    found = json.loads(DATA.read_text(encoding="utf-8")) if DATA.exists() else {}
    if sys.argv[1:] != ["--table"]:
        found |= measured()
        DATA.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
