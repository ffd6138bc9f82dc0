"""A setting has an effect just where its declaration says so, in runs of a small network."""

import itertools

import pytest
import torch

from itermix import Settings, sample
from itermix.parameters import ON, Known
from itermix.settings import UpscaleSettings
from itermix.settings.effect import FACTS, needs, words
from tests.core.model.test_deep_shrink import UNet

DECLARED = {parameter.name: parameter for parameter in UpscaleSettings.parameters()}
OF_A_RUN = {
    "alpha": 2.0,
    "cutoff": 3.0,
    "deep_shrink_factor": 4.0,
    "deep_shrink_block": 1,
    "deep_shrink_method": "area",
    "window_jitter": False,
    "window_auto": False,
    "window_overlap": 0.25,
    "window_formulas": "DemoFusion",
    "dilated": 3.0,
    "gaussian_sigma": 2.0,
    "gaussian_alpha": 3.0,
    "rewind_min": 0.25,
    "rewind_max": 0.4,
    "perlin_scale": 3.0,
    "mask_mode": "threshold",
    "skip_tolerance": 0.5,
}
"""{setting that acts in a run of the core: another value}."""

ELSEWHERE = {
    "denoise_in": "tests/webui/test_flow.py, and tests/core/test_webui_levels.py: other models begin where they did",
    "cleanup_steps": "tests/webui/test_scales.py, as the next",
    "cleanup_sampler": "",
    "window_batch": "it changes how fast a run is, and no number",
    "inversion_prompt": "tests/webui/test_inversion.py",
    "nn_upscaler": "tests/webui/test_nn_shrink.py",
    "repairs": "tests/webui/test_repairs.py",
    "deep_shrink": "tests/core/model/test_deep_shrink.py: other models are refused",
    "scale": "tests/core/picture/test_enlarging.py",
}
ON_AS = {"cleanup": 0.1, "deep_shrink": 0.6, "window": 8, "dilated": 1.0, "gaussian_sigma": 1.0, "rewind": True}
ON_AS |= {"window_auto": True, "perlin": 0.5, "detail": 0.5, "mask": True}
OFF_AS = {"window_auto": False, "rewind": False, "mask": False}


class Denoiser(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.network = UNet()

    def forward(self, x, sigma):
        return x / (1 + sigma.view(-1, 1, 1, 1) ** 2) + self.network(x) / 10


def euler(model, x, sigmas, extra_args=None, callback=None, disable=None):
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones([len(x)]))
        if callback:
            callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        x = x + (x - denoised) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
    return x


euler.__name__ = "sample_euler"


def made(values):
    """What a run with these settings, and the mask if it is on among them, makes."""
    torch.manual_seed(0)
    model = Denoiser().requires_grad_(False)
    latent = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    values = dict(values)
    mask = torch.linspace(0, 1, 32).expand(1, 1, 32, 32) if values.pop("mask", False) else None
    levels = torch.tensor([6.0, 4.5, 3.0, 2.0, 1.2, 0.7, 0.3, 0.1, 0.0])
    settings = Settings(**{"denoise": 1.0, "seed": 3, "window_overlap": 0.5, **values}).of_model((256, 256), Known(8))
    return sample(euler, model, latent, levels, settings, mask=mask, unet=model.network, disable=True)


def met(need, pick):
    """{setting: value} with which an entry of a need holds: of each, those of the one that is picked."""
    name, values = list(need.items())[pick]
    return {name: ON_AS[name] if values is ON else values[0]}


def unmet(need):
    """{setting: value} with which none holds."""
    found = {}
    for name, values in need.items():
        if values is ON:
            found[name] = OFF_AS.get(name, 0)
        else:
            others = DECLARED[name].choices or (ON_AS[name],)
            found[name] = next(value for value in others if value not in values)
    return found


def acts(name, values):
    return not torch.equal(made(values), made({**values, name: OF_A_RUN[name]}))


def test_every_declared_condition_is_looked_at():
    assert OF_A_RUN.keys() | ELSEWHERE.keys() == {p.name for p in DECLARED.values() if p.needs}


@pytest.mark.parametrize("name", OF_A_RUN)
def test_it_acts_with_what_it_needs_and_without_that_it_does_not(name):
    wanted = DECLARED[name].needs
    for picks in itertools.product(*(range(len(need)) for need in wanted)):
        values = {}
        for need, pick in zip(wanted, picks):
            values |= {**unmet(need), **met(need, pick)}
        assert acts(name, values)
    values = {}
    for need in wanted:
        values |= met(need, 0)
    for need in wanted:
        assert not acts(name, {**values, **unmet(need)})


def test_needs_in_words():
    assert words({"mask": ON}) == "a mask"
    assert words({"blending": ("wavelet",)}) == "Blending wavelet"
    assert words({"blending": ("low-pass", "wavelet", "addition"), "detail": ON}) == (
        "Blending low-pass, wavelet or addition, or Detail"
    )
    assert needs(DECLARED["window_overlap"]) == [
        {"any": {"window": None, "window_auto": None}, "words": "Window, or Automatic window"},
        {"any": {"window_formulas": ["clean picture"]}, "words": "Window formulas clean picture"},
    ]


def test_all_values_that_a_need_names_are_possible_and_told():
    for parameter in DECLARED.values():
        for need, told in zip(parameter.needs, needs(parameter)):
            assert told["words"] == words(need)
            for name, values in need.items():
                if (name, values) in FACTS:
                    continue
                assert DECLARED[name].label in told["words"]
                for value in values or ():
                    assert DECLARED[name].check(value) == value
                    assert str(value) in told["words"]
