"""What ControlNets get in the parts of a picture, with networks that give back what they were shown."""

from types import SimpleNamespace

import pytest
import torch

from itermix import Settings
from itermix.model.parts import WHOLE
from itermix.model.windows import Windows

FACTOR = 8


@pytest.fixture
def controlnet(webui, monkeypatch):
    module = webui("controlnet")
    monkeypatch.setattr(module, "latent_pixels", lambda: FACTOR)
    return module


def random(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def put_together(model, x, **settings):
    windows = Windows(Settings(window=16, window_batch=3, **settings))
    return windows.put_together(model, x)


def kept(owner):
    return {name: id(value) for name, value in vars(owner).items()}


class Network:
    """A ControlNet of Forge's kind, which keeps the hint that it has made fit."""

    def __init__(self, hint, previous=None, more=0):
        self.cond_hint_original, self.cond_hint, self.advanced_mask_weighting = hint, None, None
        self.previous_controlnet, self.transformer_options, self.more = previous, {}, more

    def get_control(self, x, timestep, c, chunks, *more):
        assert len(more) == self.more
        assert "control" not in c
        if self.cond_hint is None:
            self.cond_hint = self.cond_hint_original
        assert self.cond_hint.shape == (len(x), 1, x.shape[2] * FACTOR, x.shape[3] * FACTOR)
        own = self.cond_hint[..., ::FACTOR, ::FACTOR]
        if self.advanced_mask_weighting is not None:
            own = own * self.advanced_mask_weighting
        before = self.previous_controlnet and self.previous_controlnet.get_control(x, timestep, c, chunks, *more)
        return own if before is None else own + before


def enlarged(x):
    return x.repeat_interleave(FACTOR, -1).repeat_interleave(FACTOR, -2)


@pytest.mark.parametrize("more", [0, 1])
def test_networks_of_forge_see_the_hints_of_the_parts(controlnet, more):
    first, second, mask = random(1, 1, 40, 24, seed=2), random(1, 1, 40, 24, seed=3), random(1, 1, 40, 24, seed=4)
    last = Network(enlarged(second), Network(enlarged(first), more=more), more=more)
    last.advanced_mask_weighting = mask
    before = kept(last), kept(last.previous_controlnet)
    stand_in = controlnet.InParts(last)
    x = random(4, 3, 40, 24)
    assert stand_in.get_control(x, None, {}, 2, *[{}] * more) is None  # not run on the whole picture

    def model(shown, parts):
        c = {"transformer_options": {"of": "parts"}}
        return stand_in.of_parts(parts, shown, None, c, 2).expand(-1, 3, -1, -1)

    wanted = (second * mask + first).expand(4, 3, -1, -1)
    torch.testing.assert_close(put_together(model, x), wanted, rtol=0, atol=1e-5)
    assert (kept(last), kept(last.previous_controlnet)) == before


def test_what_else_is_asked_of_the_networks_is_theirs(controlnet):
    last = Network(random(1, 1, 8, 8))
    last.get_models = lambda: ["model"]
    stand_in = controlnet.InParts(last)
    assert stand_in.get_models() == ["model"]
    assert stand_in.previous_controlnet is last
    assert (stand_in.pre_run("model", "sigmas"), stand_in.cleanup()) == (None, None)
    with pytest.raises(AttributeError):
        stand_in.nothing  # noqa: B018


class Unit:
    """As sd-webui-controlnet has it: another hint makes it forget the one that was chosen."""

    def __init__(self, hint, of_hires=None):
        self._hint, self.hr_hint_cond, self.used = hint, of_hires, None
        self.effective_region_mask, self.control_model = None, None

    @property
    def hint_cond(self):
        return self._hint

    @hint_cond.setter
    def hint_cond(self, hint):
        self._hint, self.used = hint, None

    def hires(self, x):
        """Whether it takes this for a hires pass; and the hint that it shows then."""
        if self.hr_hint_cond is None:
            return False, self.hint_cond
        height = x.shape[2] * FACTOR
        nearer = abs(height - self.hint_cond.shape[2]) < abs(height - self.hr_hint_cond.shape[2])
        return not nearer, self.hint_cond if nearer else self.hr_hint_cond


@pytest.mark.parametrize("hires", [True, False])
def test_units_of_the_extension_see_the_hints_of_the_parts(controlnet, hires):
    hint, region = random(1, 1, 32, 32, seed=2), random(1, 1, 32, 32, seed=3)
    unit = Unit(enlarged(random(1, 1, 16, 16)), enlarged(hint)) if hires else Unit(enlarged(hint))
    unit.effective_region_mask = region
    other = Unit({"an": "embedding"})
    network = SimpleNamespace(control_params=[unit, other])
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[SimpleNamespace(latest_network=network), object()]))
    before = kept(unit)

    def model(shown, parts):
        with controlnet.hints_of_parts(p, parts):
            of_hires, seen = unit.hires(shown)
            assert of_hires is hires
            assert seen.shape == (len(shown), 1, shown.shape[2] * FACTOR, shown.shape[3] * FACTOR)
            return seen[..., ::FACTOR, ::FACTOR] * unit.effective_region_mask

    torch.testing.assert_close(put_together(model, random(2, 1, 32, 32)), (hint * region).expand(2, -1, -1, -1))
    assert kept(unit) == before
    assert other.hint_cond == {"an": "embedding"}


class Adapter:
    """Of sd-webui-controlnet: its own way of laying a region over tokens is for pictures with one region."""

    image_emb = None

    def apply_effective_region_mask(self, tokens):
        raise AssertionError("repeats the region for each of the rows")


@pytest.mark.parametrize("smaller", [1, 2, 4])
def test_an_ip_adapter_of_the_extension_acts_in_the_region_of_the_parts(controlnet, smaller):
    """At each of the sizes at which attention looks at the picture."""
    region = torch.zeros(1, 1, 64, 40)
    region[..., :20, 8:32] = 1
    unit = Unit({"an": "embedding"})
    unit.effective_region_mask, unit.control_model = region, Adapter()
    network = SimpleNamespace(control_params=[unit])
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[SimpleNamespace(latest_network=network)]))
    before = kept(unit), kept(unit.control_model)

    def model(shown, parts):
        with controlnet.hints_of_parts(p, parts):
            height, width = (side // smaller for side in shown.shape[-2:])
            tokens = torch.ones(len(shown), height * width, 5)
            acting = unit.control_model.apply_effective_region_mask(tokens)[..., :1]
            planes = acting.transpose(1, 2).unflatten(2, (height, width))
            return planes.repeat_interleave(smaller, -1).repeat_interleave(smaller, -2)

    acting = put_together(model, torch.zeros(2, 1, 64, 40), window_jitter=False)
    torch.testing.assert_close(acting, region.expand(2, -1, -1, -1))
    assert (kept(unit), kept(unit.control_model)) == before


def test_ip_adapters_of_forge_act_in_the_masks_of_the_parts(controlnet):
    """A patch of attention has a mask [B, H, W] for each of its adapters, or none."""
    mask = random(1, 128, 96)
    patch, other = SimpleNamespace(masks=[None, mask]), SimpleNamespace()
    options = {"patches_replace": {"attn2": {("middle", 0): patch, ("input", 1): other}}}

    def model(shown, parts):
        with controlnet.masks_of_parts(options, parts):
            none, part = patch.masks
            assert none is None
            assert part.shape == (len(shown), *shown.shape[-2:])
            return part[:, None]

    seen = put_together(model, torch.zeros(2, 1, 64, 48))
    torch.testing.assert_close(
        seen, torch.nn.functional.interpolate(mask[None], (64, 48), mode="nearest-exact").expand(2, 1, -1, -1)
    )
    assert patch.masks == [None, mask]
    with controlnet.masks_of_parts({}, WHOLE):
        pass


def test_what_fits_into_the_window_sees_the_whole_hint(controlnet):
    unit = Unit(random(1, 1, 64, 64))
    p = SimpleNamespace(
        scripts=SimpleNamespace(
            alwayson_scripts=[SimpleNamespace(latest_network=SimpleNamespace(control_params=[unit]))]
        )
    )
    whole = unit.hint_cond
    with controlnet.hints_of_parts(p, WHOLE):
        assert unit.hint_cond is whole


def test_what_forge_says_of_each_row_is_said_of_each_of_its_parts(webui):
    options = {
        "cond_mark": torch.tensor([0.0, 1.0]),
        "cond_indices": [0],
        "uncond_indices": [1],
        "cond_or_uncond": [0, 1],
    }
    of_rows = webui("crops").of_rows(options, 3)
    assert of_rows.pop("cond_mark").tolist() == [0, 0, 0, 1, 1, 1]
    assert of_rows == {"cond_indices": [0, 1, 2], "uncond_indices": [3, 4, 5], "cond_or_uncond": [0, 1]}
    assert options["cond_mark"].tolist() == [0, 1]
