"""A result over its source and over another result, on both versions of gradio."""

import io

import pytest
import requests
from PIL import Image

HERE = "#itermix_img2img_compare"


@pytest.fixture
def compare(page):
    page.locator("#itermix_img2img_enabled summary", has_text="Before and after").click()
    page.locator(f"{HERE} .itermix-pair img").first.wait_for()
    loaded(page)
    return page


def loaded(page):
    images = f"[...document.querySelectorAll('{HERE} .itermix-pair img')]"
    page.wait_for_function(f"{images}.every(image => image.complete && image.naturalWidth > 0)")


def seen(page, share):
    """The colour of the picture that is seen at this share of its width."""
    pair = page.locator(f"{HERE} .itermix-pair")
    with Image.open(io.BytesIO(pair.screenshot())) as image:
        return image.convert("RGB").getpixel((round(share * image.width), image.height // 2))


def test_the_last_result_lies_over_its_source_and_the_slider_moves_between(compare):
    assert compare.locator(f"{HERE} select.right").input_value() == "2"
    assert compare.locator(f"{HERE} select.left").input_value() == "source"
    assert seen(compare, 0.25) == (0, 0, 255)
    assert seen(compare, 0.75) == (204, 0, 0)
    boxes = [compare.locator(f"{HERE} .itermix-pair img").nth(k).bounding_box() for k in (0, 1)]
    assert boxes[0] == boxes[1]
    slider = compare.locator(f"{HERE} input[type=range]")
    slider.focus()
    compare.keyboard.press("Home")
    assert seen(compare, 0.25) == (204, 0, 0)
    compare.keyboard.press("End")
    assert seen(compare, 0.75) == (0, 0, 255)


def test_dragging_in_the_picture_moves_the_slider(compare):
    box = compare.locator(f"{HERE} .itermix-pair").bounding_box()
    y = box["y"] + box["height"] / 2
    compare.mouse.move(box["x"] + box["width"] / 2, y)
    compare.mouse.down()
    compare.mouse.move(box["x"] + box["width"] * 0.9, y, steps=3)
    compare.mouse.up()
    assert seen(compare, 0.75) == (0, 0, 255)
    assert float(compare.locator(f"{HERE} input[type=range]").input_value()) == pytest.approx(90, abs=1)


def test_two_results_are_compared_with_what_differs_between_them(compare):
    compare.locator(f"{HERE} select.left").select_option("1")
    loaded(compare)
    assert seen(compare, 0.25) == (63, 0, 0)
    assert seen(compare, 0.75) == (204, 0, 0)
    assert compare.locator(f"{HERE} dl").locator("dt, dd").all_inner_texts() == ["Creativity", "0.25", "0.8"]


def test_the_zoom_is_of_the_results_own_pixels(compare):
    compare.locator(f"{HERE} select.zoom").select_option("200 %")
    box = compare.locator(f"{HERE} .itermix-pair").bounding_box()
    assert (box["width"], box["height"]) == (128, 64)


@pytest.mark.parametrize(("path", "part"), [("9/result", "number = 9"), ("1/mask", "kind = 'mask'"), ("x/result", "")])
def test_what_is_not_kept_is_a_sentence(server, path, part):
    answer = requests.get(f"{server.url}/itermix/v1/results/{path}", timeout=10)
    assert answer.status_code == 422
    assert part in answer.json()["detail"]
