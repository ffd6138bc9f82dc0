"""Where a request to a WebUI begins: models of flow matching at the noise level of denoise, others where they did."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from itermix import Settings
from itermix.steps.levels import flow_level, noise_of

STEPS = 8


class Sampler:
    """The part of a WebUI's sampler that makes the schedule and cuts it."""

    def get_sigmas(self, p, steps):
        t = torch.linspace(1, 0, steps + 1)
        return 3 * t / (1 + 2 * t)

    def run(self, p, steps=None):
        """The sigmas that sample_img2img runs, as all of the WebUIs reckon them."""
        denoise = min(p.denoising_strength, 0.999)
        whole, last = (int(steps / denoise), steps - 1) if steps else (p.steps, int(denoise * p.steps))
        return self.get_sigmas(p, whole)[whole - last - 1 :]


def model(kind):
    if kind == "A1111":
        return SimpleNamespace()
    if kind == "A1111, SD3":
        return SimpleNamespace(add_noise_to_latent=None)
    predictor = {"predictor": SimpleNamespace(prediction_type=kind)} if kind != "reForge" else {}
    return SimpleNamespace(forge_objects=SimpleNamespace(unet=SimpleNamespace(model=SimpleNamespace(**predictor))))


def begun(job, kind, settings, hires, denoise=None):
    """[sigmas that are run] with and without, and after it."""
    settings = Settings(enabled=True, **settings)
    p = SimpleNamespace(
        steps=20, sampler_name="Euler", denoising_strength=denoise or settings.denoise, sd_model=model(kind)
    )
    if hires:
        p.hr_second_pass_steps, p.hr_sampler_name = 0, None
    made, sampler = job.Job(settings), Sampler()
    made.ask_for_steps(p)
    asked = (p.hr_second_pass_steps or p.steps) if hires else None
    plain = sampler.run(p, asked)
    with made.begun(p, sampler, asked or p.steps, exact=hires):
        found = sampler.run(p, asked)
    assert vars(sampler) == {}
    return found, plain


@pytest.mark.parametrize("hires", [False, True])
@pytest.mark.parametrize("kind", ["const", "A1111, SD3"])
@pytest.mark.parametrize("denoise", [0.05, 0.4, 0.5, 0.95])
@pytest.mark.parametrize("steps", [STEPS, 0])
def test_flow_begins_at_the_level_with_as_many_steps(job, kind, hires, denoise, steps):
    found, plain = begun(job, kind, {"denoise": denoise, "steps": steps}, hires)
    assert len(found) == len(plain)
    assert float(found[0]) == pytest.approx(flow_level(noise_of(denoise)), rel=1e-5)


@pytest.mark.parametrize("hires", [False, True])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("A1111", {}),
        ("reForge", {}),
        ("epsilon", {}),
        ("v_prediction", {}),
        ("const", {"denoise": 1.0}),
        ("const", {"denoise_in": "steps"}),
    ],
)
def test_others_begin_where_they_did(job, kind, settings, hires):
    found, plain = begun(job, kind, settings, hires)
    assert torch.equal(found, plain)


def test_a_sampler_that_knows_no_levels_is_left_alone(job):
    """DDIM, PLMS and UniPC of the WebUIs, which run along timesteps."""
    p = SimpleNamespace(denoising_strength=0.5, sd_model=model("const"))
    sampler = SimpleNamespace(get_timesteps=None)
    with job.Job(Settings(enabled=True)).begun(p, sampler, STEPS, exact=True):
        assert vars(sampler) == {"get_timesteps": None}


def test_the_clean_up_begins_by_its_own_share(webui, job, monkeypatch):
    cleanup, levels = webui("cleanup"), []

    class Cleaning(Sampler):
        def sample_img2img(self, p, samples, noise, steps):
            levels.append(float(self.run(p, steps)[0]))
            return samples

    monkeypatch.setattr(cleanup.host, "sampler", lambda p, name: Cleaning())
    settings = Settings(enabled=True, cleanup=0.2)
    p = SimpleNamespace(sampler=None, denoising_strength=0.5, sd_model=model("const"), seeds=[7])
    (light,) = settings.after_phase(40)
    monkeypatch.setattr(cleanup.crops, "windowed", lambda *_: nullcontext())
    monkeypatch.setattr(cleanup.host, "sampler_name", lambda p: "Euler")
    cleanup.run(p, job.Job(settings), light, (), {}, torch.zeros(1, 16, 4, 4))
    assert levels == [pytest.approx(flow_level(noise_of(0.2)), rel=1e-5)]
