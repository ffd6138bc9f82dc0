"""Fidelity in real WebUIs: what decoded pictures get back of their source, in every way to mix, and when they don't."""

import hosts
import numpy as np
import pytest
import torch
from payloads import PLAIN, PRIMER, SIZE, hires, mask, mixing, needs, photograph, plain, repeatable, upscale
from test_img2img import equal
from test_scales import LIMIT, TWO, failing, run  # noqa: F401

from itermix.picture.enlarging import means

QUICK = {"steps": 3}
FREE = {"highest": 0.0}  # nothing else keeps to the source
AREAS = (SIZE // 8, SIZE // 8)
HALF = {"inpaint_full_res": False, "mask_blur": 0}


def pixels(picture):
    """[1, 3, H, W] in grey levels."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].double()


def apart(picture, source, areas=AREAS):
    """How far means over areas are from the source's, in grey levels."""
    return float((means(pixels(picture.pixels), areas) - means(pixels(source), areas)).abs().mean())


def first_pass(webui, **changes):
    request = {**hires({}, **QUICK), **changes, "enable_hr": False, "alwayson_scripts": {}}
    (picture,) = repeatable(webui, "txt2img", request)
    return picture.pixels


def shares(webui, path, request_of, **changes):
    """The pictures with nothing put back, half and all of what is lacking."""
    made = []
    for share in (0.0, 0.5, 1.0):
        (picture,) = repeatable(webui, path, request_of({**FREE, "fidelity": share}, **{**QUICK, **changes}))
        made.append(picture)
    return made


def assert_nearer(source, none, half, whole, areas=AREAS):
    """Each share brings the picture nearer; not the whole way, since the enlarged correction is smooth and clamped."""
    assert apart(none, source, areas) > 3
    assert apart(half, source, areas) < 0.75 * apart(none, source, areas)
    assert apart(whole, source, areas) < 0.5 * apart(none, source, areas)


@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
def test_img2img_is_kept_to_the_picture_of_the_tab(webui, sampler):
    """In areas of 8 pixels of a picture half as large, since no scale is known."""
    made = shares(webui, "img2img", mixing, sampler=sampler, steps=6)
    assert_nearer(photograph(SIZE), *made, areas=(SIZE // 16, SIZE // 16))


def test_the_cut_off_says_how_large_areas_are_in_img2img(webui):
    made = shares(webui, "img2img", lambda settings, **changes: mixing({**settings, "cutoff": 1.0}, **changes))
    assert_nearer(photograph(SIZE), *made)


@pytest.mark.parametrize("upscaler", ["Lanczos", "Latent"])
@pytest.mark.parametrize("cleanup", [0.0, 0.25])
def test_the_script_keeps_to_its_source_over_all_phases(webui, upscaler, cleanup):
    needs(webui, upscaler)
    settings = {**TWO, "upscaler": upscaler, "cleanup": cleanup, "cleanup_steps": 1}
    made = shares(webui, "img2img", lambda more, **changes: upscale({**settings, **more}, **changes))
    assert made[0].pixels.shape == (96, 96, 3)
    assert_nearer(photograph(SIZE), *made)


@pytest.mark.parametrize("upscaler", ["None", "Latent"])
@pytest.mark.parametrize("limit", [2.0, 1.25])
def test_a_hires_pass_keeps_to_the_first_pass_over_all_phases(webui, upscaler, limit):
    needs(webui, upscaler)
    made = shares(
        webui,
        "txt2img",
        lambda more, **changes: hires({"max_scale_per_phase": limit, **more}, **changes),
        hr_scale=1.5,
        hr_upscaler=upscaler,
    )
    assert made[0].pixels.shape == (96, 96, 3)
    assert_nearer(first_pass(webui), *made)


def test_a_hires_pass_that_is_cut_keeps_to_what_is_left(webui):
    """From 64x64 to 128x128, of which 96x128 are left in the middle."""
    made = shares(webui, "txt2img", hires, hr_resize_x=96, hr_resize_y=128)
    assert made[0].pixels.shape == (128, 96, 3)
    assert_nearer(first_pass(webui)[:, 8:-8], *made, areas=(8, 6))


def test_every_phase_is_corrected(webui):
    def saved(share, path, request):
        before = set(webui.data.rglob("*.png"))
        repeatable(webui, path, request)
        images = [hosts.Image.open(file).convert("RGB") for file in set(webui.data.rglob("*.png")) - before]
        return next(image for image in images if image.size == (80, 80))

    for path, request_of, source in (
        ("img2img", lambda share: upscale({**TWO, **FREE, "fidelity": share, "save_phases": True}), photograph(SIZE)),
        (
            "txt2img",
            lambda share: hires({**LIMIT, **FREE, "fidelity": share, "save_phases": True}, hr_scale=1.5),
            first_pass(webui),
        ),
    ):
        none, whole = (
            hosts.Picture(np.asarray(saved(share, path, {**request_of(share), "save_images": True, **QUICK})), "")
            for share in (0.0, 1.0)
        )
        assert apart(whole, source) < 0.5 * apart(none, source)


def test_pictures_of_a_batch_keep_to_their_own_sources(webui):
    sources = [photograph(SIZE), photograph(SIZE).rotate(180)]
    batch = {"init_images": [hosts.encoded(each) for each in sources], "batch_size": 2, **QUICK}
    kept = {**FREE, "fidelity": 1.0, "cutoff": 1.0}
    for request in (mixing(kept, **batch), upscale({**kept, "scale": 1.0}, **batch)):
        made = repeatable(webui, "img2img", request)
        assert len(made) == 2
        for own, other, picture in zip(sources, reversed(sources), made):
            assert apart(picture, own) < 0.5 * apart(picture, other)


@pytest.mark.parametrize(("path", "request_of"), [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)])
def test_nothing_is_put_back_where_the_mask_is_black(webui, path, request_of):
    right = hosts.encoded(mask())
    none, _, whole = shares(webui, path, lambda more, **changes: request_of({**more, "mask": right}, **changes))
    side = whole.pixels.shape[1]
    margin = side // 8 // 2  # half a latent pixel of the largest
    assert difference_in(none, whole, slice(0, side // 2 - margin)) == 0
    assert difference_in(none, whole, slice(side // 2 + margin, side)) > 3


def difference_in(a, b, columns):
    return np.abs(a.pixels - b.pixels)[:, columns].max()


@pytest.mark.parametrize("request_of", [mixing, lambda more, **changes: upscale({**TWO, **more}, **changes)])
@pytest.mark.parametrize("only_masked", [False, True])
def test_an_inpainted_part_keeps_to_what_it_was(webui, request_of, only_masked):
    painted = {**HALF, "mask": hosts.encoded(mask()), "inpainting_fill": 1, "inpaint_full_res": only_masked}
    painted["inpaint_full_res_padding"] = 0
    none, _, whole = shares(webui, "img2img", request_of, **painted)
    source = photograph(SIZE)
    half = SIZE // 16
    before, after = (
        (means(pixels(each.pixels), AREAS) - means(pixels(source), AREAS))[..., half + 1 :].abs().mean()
        for each in (none, whole)
    )
    assert after < before - 1


@pytest.mark.parametrize("request_of", [mixing, lambda more, **changes: upscale({**TWO, **more}, **changes)])
@pytest.mark.parametrize("fill", [2, 3])
def test_latent_noise_and_latent_nothing_are_no_source_to_put_back(webui, request_of, fill):
    painted = {**HALF, "mask": hosts.encoded(mask()), "inpainting_fill": fill}
    none, half, whole = shares(webui, "img2img", request_of, **painted)
    assert equal([none], [half])
    assert equal([none], [whole])


@pytest.fixture
def run_repeatably(webui, run):  # noqa: F811
    """`run`, the same whatever was asked for before."""

    def generate(*args):
        webui.generate(*PRIMER)
        return run(*args)[0]

    return generate


@pytest.mark.parametrize(
    ("path", "request_of", "number"), [("img2img", mixing, 1), ("img2img", upscale, 1), ("txt2img", hires, 2)]
)
def test_a_stopped_sampling_gets_nothing_back(run_repeatably, path, request_of, number):
    made = [
        run_repeatably(path, request_of({**FREE, "fidelity": share}, **QUICK), failing(number, "interrupt"))
        for share in (0.0, 1.0)
    ]
    assert equal(*made)


@pytest.mark.parametrize(("path", "request_of"), [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)])
def test_if_it_fails_the_finished_picture_is_given_and_a_comment_says_so(run_repeatably, path, request_of):
    made = run_repeatably(path, request_of({**FREE, "fidelity": 1.0}, **QUICK), {"how": "source"})
    expected = run_repeatably(path, request_of({**FREE, "fidelity": 0.0}, **QUICK))
    assert equal(made, expected)
    assert 'Itermix unfinished: "fidelity: it failed (' in made[0].parameters


def test_what_comes_out_is_within_the_range_of_a_picture(webui):
    """A source of black and white, of which a part is put back that a picture can't hold: no grey level wraps round."""
    source = mask()  # black left, white right
    request = mixing({**FREE, "fidelity": 1.0, "cutoff": 1.0}, init_images=[hosts.encoded(source.convert("RGB"))])
    (picture,) = repeatable(webui, "img2img", {**request, **QUICK})
    black, white = picture.pixels[:, : SIZE // 2 - 8], picture.pixels[:, SIZE // 2 + 8 :]
    assert black.mean() < 64
    assert white.mean() > 192


@pytest.mark.parametrize("name", PLAIN)
def test_switched_off_nothing_is_left_of_it(webui, plain_pictures, name):
    repeatable(webui, "img2img", mixing({"fidelity": 1.0}, **QUICK))
    repeatable(webui, "txt2img", hires({"fidelity": 1.0}, **QUICK))
    assert equal(plain(webui, name), plain_pictures[name])
