"""Masks, Perlin noise and rewinding with the built-in model."""

from __future__ import annotations

import base64
import json

import pytest
import torch
from PIL import Image

import itermix.standalone.upscaling as up
from itermix import Settings
from itermix.mixing.perlin import perlin
from itermix.standalone import cli, network, server
from itermix.standalone.sources import read
from itermix.standalone.upscaling import Method, Model, phases

pytestmark = pytest.mark.xdist_group("masks")  # one process for all that use the sources and the free pictures

TIED = Settings(denoise=1.0, blending="addition", lowest=1.0)
FREE = Settings(denoise=1.0, highest=0.0, fidelity=0.0)
LEFT, RIGHT = (..., slice(0, 28)), (..., slice(36, 64))  # without the middle, over which the model looks


@pytest.fixture(scope="module")
def model():
    return Model(network.Guided(network.load(network.WEIGHTS)), steps=8)


@pytest.fixture(scope="module")
def sources(model):
    return up.model_sources(model, 2, seed=20)


@pytest.fixture(scope="module")
def free(model, sources):
    """The pictures without guidance."""
    return upscaled(model, sources, FREE)


def upscaled(model, sources, settings, mask=None):
    *_, last = phases(model, Method("masked", settings, mask=mask), sources, (64, 64))
    return last


def left_half(value=1.0):
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = value
    return mask


def error(found, source, where):
    return float((found - source)[where].square().mean())


@pytest.mark.parametrize("settings", [TIED, Settings(denoise=1.0, mask_mode="threshold", blending="addition")])
def test_the_white_half_stays_the_source_and_the_other_is_free(model, sources, free, settings):
    enlarged = up.enlarge(sources.pictures, (64, 64))
    masked = upscaled(model, sources, settings, left_half())
    assert error(masked, enlarged, LEFT) < 0.1 * error(free, enlarged, LEFT)
    assert error(masked, enlarged, RIGHT) > 0.3 * error(free, enlarged, RIGHT)
    assert error(masked, enlarged, RIGHT) > 10 * error(masked, enlarged, LEFT)


def test_the_longer_the_threshold_holds_the_nearer_is_the_source(model, sources):
    settings = Settings(denoise=1.0, mask_mode="threshold", blending="addition", fidelity=0.0)
    enlarged = up.enlarge(sources.pictures, (64, 64))
    errors = [error(upscaled(model, sources, settings, left_half(value)), enlarged, LEFT) for value in (0.2, 0.9)]
    assert errors[0] > 3 * errors[1]


def test_perlin_noise_frees_its_patches(model, sources):
    settings = TIED.replace(lowest=0.0, mask_mode="threshold", fidelity=0.0, perlin=1.0, perlin_scale=2.0, seed=5)
    enlarged = up.enlarge(sources.pictures, (64, 64))
    masked = upscaled(model, sources, settings)
    patches = torch.stack([perlin(64, 64, 2.0, 5 + k) for k in range(2)])[:, None].expand_as(enlarged)
    difference = (masked - enlarged).square()
    assert difference[patches > 0.7].mean() > 3 * difference[patches < 0.2].mean()


def test_rewinding_calls_the_model_for_its_steps_again(model, sources, free):
    calls = []
    hook = model.denoiser.register_forward_hook(lambda *args: calls.append(float(args[1][1][0])))
    try:
        once = upscaled(model, sources, Settings(denoise=1.0))
        count = len(calls)
        again = upscaled(model, sources, Settings(denoise=1.0, rewind=True))
    finally:
        hook.remove()
    assert count == model.steps
    assert len(calls) - count == 8 + 4 + 2
    assert not torch.equal(once, again)
    enlarged = up.enlarge(sources.pictures, (64, 64))
    whole = (slice(None),)
    assert error(again, enlarged, whole) < 0.2 * error(free, enlarged, whole)


def test_the_command_line_takes_a_mask_for_the_built_in_model(tmp_path):
    mask = tmp_path / "mask.png"
    common = ["--scale", "2", "--steps", "4", "--blending", "addition", "--lowest", "1"]
    made = []
    for level in (255, 0):
        Image.new("L", (9, 5), level).save(mask)
        out = tmp_path / f"{level}.png"
        assert cli.main(["upscale", "--out", str(out), "--mask", str(mask), *common]) == 0
        made.append(Image.open(out).tobytes())
    out = tmp_path / "plain.png"
    assert cli.main(["upscale", "--out", str(out), *common]) == 0
    assert Image.open(out).tobytes() == made[0] != made[1]


def test_what_is_no_mask_is_told(tmp_path, capsys):
    (tmp_path / "mask.png").write_text("nothing")
    out = str(tmp_path / "out.png")
    assert cli.main(["upscale", "--out", out, "--mask", str(tmp_path / "mask.png")]) == 2
    assert "mask.png can't be read as a picture" in capsys.readouterr().err
    assert cli.main(["upscale", "--out", out, "--mask", str(tmp_path / "none.png")]) == 2
    assert "none.png" in capsys.readouterr().err


def test_a_server_gets_the_file(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "picture.png")
    source = read(tmp_path / "picture.png")
    settings = up.UpscaleSettings(enabled=True, mask_mode="threshold")
    body = server.request(source, settings, {}, b"mask")
    (given,) = json.loads(body)["script_args"]
    assert given == {"enabled": True, "mask_mode": "threshold", "mask": base64.b64encode(b"mask").decode()}
    (given,) = json.loads(server.request(source, settings, {}))["script_args"]
    assert "mask" not in given
