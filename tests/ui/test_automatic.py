"""The preset that is bound to a checkpoint, and a calibration from the page, on both versions of gradio."""

import json

import pytest
import requests
from browsing import choose, enter, given, unfold

from itermix.settings import Settings
from itermix.settings.presets import AUTOMATIC, PRESETS

PRESET, REASON = "#itermix_img2img_preset", "#itermix_img2img_preset_reason"
MESSAGE = "#itermix_img2img_preset_message"
CALIBRATE = "#itermix_img2img_calibrate"


def post(server, route, **body):
    return requests.post(f"{server.url}/itermix/v1/{route}", json=body, timeout=30)


def wait_alpha(page, value):
    box = "#itermix_img2img_alpha input[type=number]"
    page.wait_for_function(f"value => Number(document.querySelector('{box}').value) === value", arg=value)


def load(server, checkpoint):
    requests.post(f"{server.url}/probe/checkpoint/{checkpoint}", timeout=30)


@pytest.fixture
def mine(server):
    """A preset of one's own; the page begins with the checkpoint one, and nothing is left."""
    load(server, "one")
    assert post(server, "presets/save", name="Mine", settings={"alpha": 0.45}).ok
    yield "Mine"
    (server.data / "itermix-presets.json").unlink(missing_ok=True)
    load(server, "one")


@pytest.fixture
def bound(mine, page, server):
    """The page with Automatic chosen, where Mine is bound to the checkpoint one."""
    assert post(server, "presets/bind", name=mine, checkpoint="a" * 10).ok
    choose(page, PRESET, AUTOMATIC)
    page.locator(REASON).get_by_text("Mine, which is bound to one.").wait_for()
    return page


def test_a_preset_is_bound_and_unbound_on_the_page(mine, page, server):
    unfold(page)
    page.wait_for_timeout(1000)
    choose(page, PRESET, mine)
    page.locator(f"{PRESET}_bind").click()
    page.locator(MESSAGE).get_by_text("Automatic takes Mine with one.").wait_for()
    known = requests.get(f"{server.url}/itermix/v1/presets", timeout=30).json()
    assert known["bound"] == {"a" * 10: "Mine"}
    page.locator(f"{PRESET}_unbind").click()
    page.locator(MESSAGE).get_by_text("No preset is bound to one any more.").wait_for()
    assert requests.get(f"{server.url}/itermix/v1/presets", timeout=30).json()["bound"] == {}
    page.locator(f"{PRESET}_unbind").click()
    page.locator(MESSAGE).get_by_text("is not possible").wait_for()


def test_automatic_fills_in_what_is_bound_and_follows_the_checkpoint(bound, server):
    wait_alpha(bound, 0.45)
    assert given(bound)["alpha"] == 0.45
    bound.wait_for_timeout(1000)
    load(server, "other")
    bound.locator(REASON).get_by_text("No preset is bound to other, so this is Balanced.").wait_for()
    wait_alpha(bound, Settings().alpha)
    load(server, "one")
    bound.locator(REASON).get_by_text("Mine, which is bound to one.").wait_for()
    wait_alpha(bound, 0.45)


def test_a_request_has_the_preset_of_its_checkpoint_whatever_the_page_shows_still(bound, server):
    bound.route("**/itermix/v1/facts", lambda route: route.abort())  # so the page hears of no other checkpoint
    load(server, "other")
    found = given(bound)
    wait_alpha(bound, 0.45)
    assert found["alpha"] == Settings().alpha


def test_what_one_changes_after_automatic_stays(bound):
    enter(bound, "#itermix_img2img_alpha", 0.6)
    assert given(bound)["alpha"] == 0.6
    bound.locator(REASON).get_by_text("Automatic, but for Creativity.").wait_for()


def test_no_preset_of_ones_own_is_called_automatic(server):
    answer = post(server, "presets/save", name="automatic", settings={})
    assert answer.status_code == 422
    assert "Automatic is a built-in preset" in answer.json()["detail"]


def test_the_page_tries_its_checkpoint_shows_the_sheet_and_keeps_a_row(mine, page, server):
    unfold(page)
    page.locator("summary", has_text="Which settings suit this checkpoint?").first.click()
    page.locator(f"{CALIBRATE} .minutes").fill("0")
    page.locator(f"{CALIBRATE} .start").click()
    page.locator(f"{CALIBRATE} .status").get_by_text("minutes = 0 is not possible.").wait_for()
    page.locator(f"{CALIBRATE} .minutes").fill("30")
    page.locator(f"{CALIBRATE} .start").click()
    page.locator(f"{CALIBRATE} .status").get_by_text("over at about").wait_for()
    assert page.locator(f"{CALIBRATE} .start").is_disabled()
    assert post(server, "calibration/start", minutes=1, scale=2).status_code == 422  # one at a time
    page.locator(f"{CALIBRATE} .status").get_by_text("Best by the numbers: ").wait_for(timeout=240_000)
    frame = page.frame_locator(f"{CALIBRATE} iframe")
    frame.locator(".pair img").first.wait_for()
    assert frame.locator("section").count() == 2
    row = page.locator(f"{CALIBRATE} .row")
    assert set(row.locator("option").all_inner_texts()) > set(list(PRESETS)[:3])
    row.select_option("Creative")
    page.locator(f"{CALIBRATE} .name").fill("Calibrated")
    page.locator(f"{CALIBRATE} .keep").click()
    page.locator(f"{CALIBRATE} .kept").get_by_text(
        "Kept Creative as Calibrated; Automatic takes it with one."
    ).wait_for()
    file = json.loads((server.data / "itermix-presets.json").read_text())
    assert file["Calibrated"]["checkpoints"] == ["a" * 10]
    assert file["Calibrated"]["alpha"] == PRESETS["Creative"]["alpha"]
