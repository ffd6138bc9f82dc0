"""The analysis in real WebUIs: files beside the saved pictures, and nothing else is another."""

import json
import math

import pytest
from payloads import hires, mixing, need_sampler, plain, repeatable, upscale
from PIL import Image
from test_img2img import equal
from test_scales import LIMIT, TWO, failing, run  # noqa: F401

STEPS = 3
QUICK = {"steps": STEPS}
ON = {"analysis": True, "steps": STEPS}
SAVED = {"save_images": True, **QUICK}


@pytest.fixture
def new_files(webui):
    """new_files() -> names of the files saved since the last call, those of pictures as pictures' own."""
    seen = set(webui.data.rglob("*"))

    def found():
        new = {file for file in set(webui.data.rglob("*")) - seen if file.suffix in (".png", ".json")}
        seen.update(new)
        return sorted(file for file in new if file.name not in ("runs.json", "fail.json"))

    return found


def beside(files):
    """(picture, ends of the names of its sheets) for each picture, whose every sheet has its numbers beside it."""
    pictures = [file for file in files if "-analysis" not in file.name]
    found = []
    for picture in pictures:
        own = [file for file in files if file.name.startswith(f"{picture.stem}-analysis")]
        sheets = [file for file in own if file.suffix == ".png"]
        assert {file.with_suffix(".json") for file in sheets} == {file for file in own if file.suffix == ".json"}
        found.append((picture, [sheet.stem.removeprefix(picture.stem) for sheet in sheets]))
    assert len(files) == len(pictures) + sum(2 * len(ends) for _, ends in found)
    return found


def check_numbers(picture, end, image=0, steps=STEPS):
    numbers = json.loads(picture.with_name(f"{picture.stem}{end}.json").read_text())
    assert numbers["image"] == image
    assert [row["step"] for row in numbers["steps"]] == list(range(steps))
    assert numbers["steps"][0]["weight"] == 1
    assert numbers["steps"][0]["similarity"] == pytest.approx(1, abs=1e-4)
    levels = [row["level"] for row in numbers["steps"]]
    assert levels == sorted(levels, reverse=True)
    for row in numbers["steps"]:
        assert -1.001 <= row["similarity"] <= 1.001
        for name in ("noised", "state", "denoised"):
            assert row[name]["std"] > 0
            assert math.isfinite(row[name]["mean"])
            assert 0 < row[name]["shapiro_w"] <= 1
            assert 0 <= row[name]["shapiro_p"] <= 1
    assert numbers["similarities"]["noised"] == numbers["similarities"]["state"] == list(range(steps))
    with Image.open(picture.with_name(f"{picture.stem}{end}.png")) as sheet:
        assert sheet.size == (1400, 1050)
        assert len(sheet.convert("RGB").getcolors(2**24)) > 100


@pytest.mark.parametrize(
    ("path", "request_of", "sampler", "steps", "rows"),
    [
        ("img2img", mixing, "Euler", 3, 3),
        ("img2img", upscale, "DDIM", 5, 5),
        ("txt2img", hires, "UniPC", 6, 5),
    ],
)
def test_the_files_are_beside_the_picture_which_is_as_without(webui, new_files, path, request_of, sampler, steps, rows):
    need_sampler(webui, sampler)
    asked = {"sampler_name": sampler, "steps": steps, "save_images": True}
    without = repeatable(webui, path, request_of({"steps": steps}, **asked))
    assert {tuple(ends) for _, ends in beside(new_files())} == {()}
    with_it = repeatable(webui, path, request_of({**ON, "steps": steps}, **asked))
    assert equal(with_it, without)
    assert [picture.parameters for picture in with_it] == [picture.parameters for picture in without]
    ((picture, ends),) = [found for found in beside(new_files()) if found[1]]
    assert ends == ["-analysis"]
    check_numbers(picture, "-analysis", steps=rows)
    repeatable(webui, path, request_of({}, **SAVED))
    assert {tuple(ends) for _, ends in beside(new_files())} == {()}


@pytest.mark.parametrize("path", ["img2img", "txt2img"])
def test_it_takes_no_model_call_and_each_phase_has_a_sheet(webui, new_files, run, path):  # noqa: F811
    requests = [
        upscale({**TWO, **on}, **SAVED) if path == "img2img" else hires({**LIMIT, **on}, hr_scale=1.5, **SAVED)
        for on in ({"steps": STEPS}, ON)
    ]
    (_, without), (_, with_it) = (run(path, request) for request in requests)
    assert with_it == without
    _, (picture, ends) = sorted(beside(new_files()), key=lambda found: found[1])
    assert ends == ["-analysis-phase-1", "-analysis-phase-2"]
    for end in ends:
        check_numbers(picture, end)


@pytest.mark.parametrize("request_of", [mixing, upscale])
def test_every_picture_of_a_batch_has_its_own(webui, new_files, request_of):
    webui.generate("img2img", request_of({**ON, "cleanup": 0.2}, batch_size=2, n_iter=2, **SAVED))
    found = [(picture, ends) for picture, ends in beside(new_files())]
    assert [ends for _, ends in found] == [["-analysis"]] * 4
    for k, (picture, _) in enumerate(found):
        check_numbers(picture, "-analysis", image=k % 2)


@pytest.mark.parametrize("how", ["error", "interrupt"])
@pytest.mark.parametrize("path", ["img2img", "txt2img"])
def test_what_is_stopped_has_the_sheets_of_what_was_finished(webui, new_files, run, plain_pictures, path, how):  # noqa: F811
    first = path == "txt2img"  # whose first pass is no phase
    request = hires({**LIMIT, **ON}, hr_scale=1.5, **SAVED) if first else upscale({**TWO, **ON}, **SAVED)
    pictures, _ = run(path, request, failing(2 + first, how))
    assert "Itermix unfinished" in pictures[0].parameters
    ((picture, ends),) = beside(new_files())
    assert ends == ["-analysis"]
    check_numbers(picture, "-analysis")
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])
    assert new_files() == []


@pytest.mark.parametrize(("path", "request_of"), [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)])
def test_without_a_saved_picture_it_is_refused(webui, new_files, path, request_of):
    response = webui.post(path, request_of(ON, **QUICK))
    assert response.status_code == 422, response.text[-2000:]
    assert "analysis = True" in response.json()["detail"]
    assert "save_images" in response.json()["detail"]
    assert new_files() == []


def test_a_picture_is_not_lost_if_its_analysis_can_not_be_saved(webui, new_files):
    named = {"samples_filename_pattern": "blocked", "save_images_add_number": False}
    without = repeatable(webui, "img2img", mixing({"steps": STEPS}, override_settings=named, **SAVED))
    (picture,) = new_files()
    assert picture.name == "blocked.png"
    picture.unlink()
    blocking = picture.with_name("blocked-analysis.json")
    blocking.mkdir()
    with_it = repeatable(webui, "img2img", mixing(ON, override_settings=named, **SAVED))
    blocking.rmdir()
    assert equal(with_it, without)
    assert picture.exists()
    assert not picture.with_name("blocked-analysis.png").exists()
    assert "Iterative Mixing: the analysis could not be saved" in webui.log.read_text()
