"""Both scripts in real WebUIs, through the API."""

import json
import math
import threading
import time
from urllib.parse import urlencode

import hosts
import numpy as np
import pytest
import torch
from payloads import (
    PLAIN,
    SIZE,
    STEPS,
    hires,
    mask,
    mixing,
    need_sampler,
    needs,
    photograph,
    plain,
    repeatable,
    request_for,
    upscale,
)
from PIL import Image

from itermix import NoisedLatents, Settings, weights
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.filters import haar_low, low_pass
from itermix.model.detail import CATCH_UP, FINE
from itermix.steps.parametrisation import ve, vp
from itermix.steps.schedule import steps_by_host

SAMPLERS = ("Euler", "Euler a", "DPM++ 2M", "DDIM")


def equal(pictures, others):
    return len(pictures) == len(others) and all(np.array_equal(a.pixels, b.pixels) for a, b in zip(pictures, others))


def difference(a, b):
    """Largest difference of two pictures in grey levels."""
    return np.abs(a.pixels - b.pixels).max()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_photograph_is_upscaled(webui, sampler):
    (picture,) = webui.generate("img2img", upscale({"scale": 2.0}, sampler=sampler))
    assert picture.pixels.shape == (2 * SIZE, 2 * SIZE, 3)
    assert picture.pixels.std() > 1
    assert "Itermix enabled: True" in picture.parameters
    assert f"Sampler: {sampler}" in picture.parameters
    assert f"Size: {2 * SIZE}x{2 * SIZE}" in picture.parameters
    assert f"Denoising strength: {Settings().denoise}" in picture.parameters


@pytest.mark.parametrize("sampler", ["Euler", "Euler a", "DPM++ 2M"])
def test_full_weight_to_the_end_leaves_what_the_host_makes_of_the_last_step_alone(webui, sampler):
    """With weight 1 the last step starts at z' of its level: the same as the host's own img2img of just that step."""
    (mixed,) = webui.generate(
        "img2img", mixing({"blending": "addition", "lowest": 1.0, "detail": 0.0, "fidelity": 0.0}, sampler=sampler)
    )
    (by_host,) = webui.generate("img2img", request_for(sampler, denoising_strength=0.01))
    (free,) = webui.generate("img2img", mixing({"blending": "addition", "lowest": 0.9}, sampler=sampler))
    assert difference(mixed, by_host) <= 1
    assert difference(mixed, free) > 1


@pytest.mark.parametrize("blending", BLENDINGS)
@pytest.mark.parametrize("sampler", ["Euler", "DDIM"])
def test_every_model_call_is_what_a_hand_written_loop_makes_it(webui, sampler, blending):
    values = {"denoise": 1.0, "alpha": 0.7, "blending": blending, "detail": 0.3}
    settings = Settings(**values)
    webui.generate("img2img", mixing(values, sampler=sampler))
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    latent, noise, calls = probe["latent"], probe["noise"], probe["calls"]
    levels = torch.tensor([level for _, level, _ in calls])
    alphas = probe["alphas_cumprod"].float()
    noised = NoisedLatents(latent.float(), ve() if sampler == "Euler" else vp(alphas), noise=noise)
    w = weights(settings, len(calls)).tolist()
    assert len(calls) >= STEPS - 2

    x, denoised = None, None
    for i, (seen, level, output) in enumerate(calls):
        z = noised.at(i, levels[i]).clone()
        signal = 1.0 if sampler == "Euler" else float(alphas[int(level)].sqrt())
        expected = z if x is None else blend_by_hand(settings, x, z, w[i], latent.float(), denoised, signal)
        assert (seen - expected).abs().max() < 1e-4 * expected.abs().max()
        output, denoised = strengthened_by_hand(sampler, settings.detail, seen, output, i, levels, alphas)
        if i + 1 < len(calls):
            x = step_by_hand(sampler, seen, output, level, float(levels[i + 1]), alphas)


def strengthened_by_hand(sampler, detail, x, output, i, levels, alphas):
    """What the sampler gets for the model's output of call i, and the estimate of the clean picture in that."""
    ratios = levels if sampler == "Euler" else (1 / alphas[levels.long()] - 1).sqrt()
    ratio, last = float(ratios[i]), i + 1 == len(levels)
    signal = 1.0 if sampler == "Euler" else (1 + ratio**2) ** -0.5
    held = 0.0 if last else math.log(ratio / float(ratios[i + 1]))
    denoised = output if sampler == "Euler" else (x - signal * ratio * output) / signal
    share = detail * (1 + CATCH_UP * held) * ratio**2 / (ratio**2 + FINE**2)
    denoised = denoised + share * (denoised - low_pass(denoised, 2.0))
    return denoised if sampler == "Euler" else (x - signal * denoised) / (signal * ratio), denoised


def blend_by_hand(settings, x, z, w, z0, denoised, signal):
    name = settings.blending
    if name == "addition":
        return w * z + (1 - w) * x
    if name == "variance-preserving":
        m = signal * (w * z0 + (1 - w) * denoised)
        return m + (w * z + (1 - w) * x - m) / (w**2 + (1 - w) ** 2) ** 0.5
    low = {"low-pass": low_pass, "wavelet": haar_low}.get(name.removeprefix("clean "))
    if low:
        return x + (signal * w * low(z0 - denoised, 2.0) if name.startswith("clean") else w * low(z - x, 2.0))
    if name == "norm-only":
        return w * z + (1 - w) * x / x.norm() * z.norm()
    angle = torch.acos((x * z).sum() / x.norm() / z.norm())
    return torch.sin(w * angle) / torch.sin(angle) * z + torch.sin((1 - w) * angle) / torch.sin(angle) * x


def step_by_hand(sampler, x, output, level, following, alphas):
    if sampler == "Euler":  # output is the denoised
        return x + (x - output) / level * (following - level)
    a, a_next = alphas[int(level)], alphas[int(following)]  # output is the noise: arXiv 2010.02502, eq. 12, eta 0
    return a_next.sqrt() * (x - (1 - a).sqrt() * output) / a.sqrt() + (1 - a_next).sqrt() * output


def test_an_enlarged_picture_is_corrected_where_it_does_not_give_the_source(webui):
    def made(upscaler, corrected):
        request = upscale({"upscaler": upscaler, "back_projection": corrected})
        (picture,) = repeatable(webui, "img2img", request)
        return picture

    assert difference(made("Lanczos", True), made("Lanczos", False)) > 0
    needs(webui, "Nearest")
    assert difference(made("Nearest", True), made("Nearest", False)) == 0


@pytest.mark.parametrize("name", PLAIN)
def test_switched_off_the_picture_is_that_of_a_webui_without_the_extension(webui, plain_pictures, name):
    assert equal(plain(webui, name), plain_pictures[name])


def after_success(webui):
    webui.generate("img2img", upscale({"noise": "independent"}, sampler="Euler a"))


def after_an_error(webui):
    assert webui.post("img2img", mixing({"start_at_step": 50})).status_code == 422


def after_an_interrupt(webui):
    answer, steps = {}, 1500
    (webui.data / "runs.json").unlink(missing_ok=True)

    def generate():
        answer["response"] = webui.post("img2img", upscale({}, steps=steps))

    thread = threading.Thread(target=generate)
    thread.start()
    progress = wait_for_progress(webui)
    webui.post("interrupt", {})
    thread.join()
    assert 0 < progress < 1
    assert answer["response"].status_code == 200
    calls = sum(run[2] for run in json.loads((webui.data / "runs.json").read_text()))
    assert calls < steps // 2


def after_a_skip(webui):
    answer = {}
    thread = threading.Thread(
        target=lambda: answer.update(response=webui.post("img2img", upscale({}, steps=40, n_iter=2)))
    )
    thread.start()
    wait_for_progress(webui)
    webui.post("skip", {})
    thread.join()
    assert len(answer["response"].json()["images"]) == 2


def wait_for_progress(webui):
    for _ in range(600):
        state = webui.get("progress?skip_current_image=true")
        if state["state"]["sampling_step"] > 0:
            return state["progress"]
        time.sleep(0.05)
    raise AssertionError("sampling did not start")


@pytest.mark.parametrize("happening", [after_success, after_an_error, after_an_interrupt, after_a_skip])
def test_nothing_is_left_behind(webui, plain_pictures, happening):
    happening(webui)
    for name in ("img2img", "ancestral"):
        assert equal(plain(webui, name), plain_pictures[name])
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    assert probe["hooks"] == 0
    assert "sample_img2img" not in probe["own_attributes"]


def test_batch_of_two_in_two_iterations_gives_the_pictures_of_four_seeds(webui):
    settings = {"noise": "cumulative"}
    pictures = webui.generate("img2img", mixing(settings, batch_size=2, n_iter=2))
    assert len(pictures) == 4
    for k, picture in enumerate(pictures):
        assert f"Seed: {7 + k}," in picture.parameters
        (alone,) = webui.generate("img2img", mixing(settings, seed=7 + k))
        assert difference(picture, alone) <= 2
    assert difference(pictures[0], pictures[1]) > 2


def test_a_noise_seed_of_its_own_counts_through_the_batch(webui):
    pictures = webui.generate("img2img", mixing({"seed": 100}, n_iter=2))
    (second,) = webui.generate("img2img", mixing({"seed": 101}, seed=8))
    assert difference(pictures[1], second) <= 2
    assert difference(pictures[0], second) > 2


@pytest.mark.parametrize("fill", [1, 2])
@pytest.mark.parametrize("upscaler", ["Lanczos", "Latent"])
def test_an_inpaint_mask_keeps_what_it_covers(webui, upscaler, fill):
    needs(webui, upscaler)
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": False, "inpainting_fill": fill, "mask_blur": 0}
    (picture,) = webui.generate("img2img", upscale({"upscaler": upscaler, "back_projection": False}, **painted))
    source = np.asarray(photograph(SIZE).resize((2 * SIZE, 2 * SIZE), 1)).astype(int)
    kept, changed = np.abs(picture.pixels - source)[:, : SIZE - 16], np.abs(picture.pixels - source)[:, SIZE + 16 :]
    assert kept.max() <= 2
    assert changed.mean() > 5


def test_only_the_masked_part_can_be_enlarged(webui):
    painted = {"mask": hosts.encoded(mask()), "inpaint_full_res": True, "inpainting_fill": 1, "mask_blur": 0}
    (picture,) = webui.generate("img2img", upscale({"back_projection": False}, **painted))
    source = np.asarray(photograph(SIZE).resize((2 * SIZE, 2 * SIZE), 1)).astype(int)
    assert picture.pixels.shape == source.shape
    assert np.abs(picture.pixels - source)[:, : SIZE - 16].max() <= 2


@pytest.mark.parametrize("upscaler", ["None", "Lanczos", "Nearest", "Latent", "Latent (nearest-exact)"])
def test_every_kind_of_upscaler_the_host_lists(webui, upscaler):
    needs(webui, upscaler)
    (picture,) = webui.generate("img2img", upscale({"upscaler": upscaler, "scale": 1.5, "lowest": 1.0}))
    assert picture.pixels.shape == (96, 96, 3)
    if upscaler != "Lanczos":
        assert f"Itermix upscaler: {upscaler}" in picture.parameters


def test_a_latent_mode_enlarges_in_latent_space(webui):
    needs(webui, "Latent (nearest-exact)")
    webui.generate("img2img", upscale({"upscaler": "Latent (nearest-exact)"}))
    latent = torch.load(webui.data / "probe.pt", weights_only=True)["latent"]
    assert torch.equal(latent, latent[..., ::2, ::2].repeat_interleave(2, -1).repeat_interleave(2, -2))
    webui.generate("img2img", upscale({}))
    pixels = torch.load(webui.data / "probe.pt", weights_only=True)["latent"]
    assert (pixels - latent).abs().max() > 0.1


def test_a_target_size_stands_above_the_scale(webui):
    (picture,) = webui.generate("img2img", upscale({"width": 120, "height": 80}))
    assert picture.pixels.shape == (80, 120, 3)


def test_saved_under_the_hosts_own_naming_with_the_settings_in_the_infotext(webui):
    before = set(webui.data.rglob("*.png"))
    webui.generate("img2img", upscale({"alpha": 0.6}, save_images=True))
    (saved,) = set(webui.data.rglob("*.png")) - before
    assert "img2img" in str(saved.relative_to(webui.data))
    assert saved.name.endswith("-7.png")
    with Image.open(saved) as image:
        assert image.size == (2 * SIZE, 2 * SIZE)
        assert "Itermix enabled: True, Itermix alpha: 0.6" in image.info["parameters"]


def test_the_uis_positional_values_mean_the_same_as_a_dict(webui):
    values = [p.default for p in Settings.parameters()]
    values[0] = True
    named = [{"steps": Settings().steps}]
    positional, named = (repeatable(webui, "img2img", mixing(*args)) for args in (values, named))
    assert equal(positional, named)
    sizes = request_for(
        script_name="Iterative Mixing upscale",
        script_args=[1.5, 0, 0, "Lanczos"],
        alwayson_scripts={"Iterative Mixing": {"args": [{"alpha": 0.6, "steps": 0}]}},
    )
    dicts = upscale({"scale": 1.5, "alpha": 0.6})
    assert equal(repeatable(webui, "img2img", sizes), repeatable(webui, "img2img", dicts))


def test_arguments_after_the_dict_are_those_of_another_script(webui):
    """A1111 gives a script as many as its controls are, and fills a shorter list with those of the next script."""
    alone = upscale({"scale": 1.5})
    followed = {**alone, "script_args": [*alone["script_args"], 512, 8, "next", "32", "64"]}
    assert equal(webui.generate("img2img", followed), webui.generate("img2img", alone))


@pytest.mark.parametrize("script", [mixing, upscale])
@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ([{"alpha": 999}], ["alpha = 999", "0.05 to 100"]),
        ([{"curve": "sine"}], ["curve = 'sine'", "cosine, linear, logistic, comfy-cosine"]),
        ([{"alhpa": 1}], ["alhpa = 1", "Did you mean alpha?"]),
        ([{"denoise": "0.5"}], ["denoise = '0.5'", "a number from 0.05 to 1"]),
        ([{"start_at_step": 50}], ["start_at_step = 50", "less than the 3 steps that denoise leaves"]),
    ],
)
def test_a_wrong_setting_fails_with_a_sentence_and_gives_no_picture(webui, script, args, parts):
    response = webui.post("img2img", script(*args))
    assert response.status_code == 422
    assert all(part in response.json()["detail"] for part in parts)
    assert "images" not in response.json()


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        ([{"upscaler": "ESRGAN_9x"}], ["upscaler = 'ESRGAN_9x'", "Lanczos"]),
        ([{"width": 500}], ["width = 500", "a multiple of 8"]),
        ([{"enabled": False}], ["enabled = False", "this script"]),
        ([0.5, 0, 0, "Lanczos"], ["scale = 0.5", "from 1 to 8"]),
    ],
)
def test_a_wrong_size_or_upscaler_fails_with_a_sentence(webui, args, parts):
    response = webui.post("img2img", upscale(*args))
    assert response.status_code == 422
    assert all(part in response.json()["detail"] for part in parts)


def test_the_upscale_scripts_settings_are_unknown_to_the_always_on_script(webui):
    response = webui.post("img2img", mixing({"scale": 2.0}))
    assert response.status_code == 422
    assert "scale = 2.0" in response.json()["detail"]


def test_too_little_denoise_for_a_timestep_sampler_is_said(webui):
    response = webui.post("img2img", mixing({"denoise": 0.1}, sampler="DDIM"))
    assert response.status_code == 422
    assert "steps = 0" in response.json()["detail"]
    assert "more denoise" in response.json()["detail"]


def test_a_range_of_steps_runs_only_those(webui):
    for sampler, expected in (("Euler", 2), ("DDIM", 2)):
        webui.generate("img2img", mixing({"denoise": 1.0, "start_at_step": 1, "end_at_step": 3}, sampler=sampler))
        probe = torch.load(webui.data / "probe.pt", weights_only=True)
        assert len(probe["calls"]) == expected


@pytest.mark.parametrize("sampler", [*SAMPLERS, "PLMS"])
@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({}, 20),
        ({}, 9),
        ({"denoise": 1.0}, 6),
        ({"denoise": 0.35, "start_at_step": 1}, 12),
        ({"denoise": 0.6, "end_at_step": 4}, 10),
    ],
)
def test_the_steps_that_are_run_are_those_that_are_foretold(webui, sampler, settings, steps):
    need_sampler(webui, sampler)
    again = sampler == "PLMS"  # calls the model twice in its first step
    requests = (
        ("img2img", upscale(settings, sampler=sampler, steps=steps), False),
        ("txt2img", hires(settings, sampler_name=sampler, steps=2, hr_second_pass_steps=steps), True),
    )
    for path, request, exact in requests:
        webui.generate(path, request)
        calls = torch.load(webui.data / "probe.pt", weights_only=True)["calls"]
        foretold = steps_by_host(Settings(**settings), steps, sampler, exact)
        assert len(calls) == foretold + again
        query = urlencode(
            {
                **settings,
                "width": SIZE,
                "height": SIZE,
                "steps": steps,
                "mixing_steps": 0,
                "sampler": sampler,
                "hires": exact,
            }
        )
        assert webui.get(f"../../itermix/v1/plan?{query}")["text"] == f"64x64 -> 128x128, {foretold} steps"
