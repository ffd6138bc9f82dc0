"""What the parts of the settings say of a phase: each adds its own, and hands on to the others what it was told."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from PIL import Image

from itermix.mixing.masks import values_of
from itermix.parameters import Known, Part, Sampling
from itermix.picture.cleanup import SAME_SAMPLER, CleanupSettings
from itermix.picture.colour import match_statistics
from itermix.picture.phases import Phase, walk
from itermix.settings import Settings

CALLS = {
    "of_phase": ((8, 16), (24, 32), (4, 8), "last"),
    "begins": (7,),
    "before_phase": (7,),
    "after_phase": (7,),
    "finished": ("samples", "latent", "where", "first"),
    "unguided": (),
    "calls": (3, 5, 7),
    "pixels_seen": (3, 5),
    "words_of_phase": (7,),
    "words_of_all": (7, [(8, 16)], Known(64)),
    "of_model": ((8, 16), Known(64)),
}
"""{method of a part: arguments that tell each other apart}."""


@dataclass(frozen=True, init=False)
class Last(Part):
    """Stands below all parts, and keeps what it is told."""


@dataclass(frozen=True, init=False)
class Told(Settings, Last):
    """All settings, above that."""


@pytest.mark.parametrize("method", CALLS)
def test_every_part_hands_on_what_it_was_told(method, monkeypatch):
    told = []
    own = getattr(Part, method)
    monkeypatch.setattr(Last, method, lambda self, *args: told.append(args) or own(self, *args), raising=False)
    getattr(Told(cleanup=0.0), method)(*CALLS[method])
    assert told == [CALLS[method]]


def test_a_part_alone_asks_for_nothing():
    part = Part()
    assert part.of_phase((8, 8), (16, 16)) is part
    assert part.begins(5) == [0]
    assert part.before_phase(5) == part.after_phase(5) == []
    assert part.unguided() is part
    assert part.calls(3, 5, 7) == 7
    assert part.pixels_seen(3, 5) == 15
    assert part.finished("samples", "latent") == "samples"
    assert (part.words_of_phase(5), part.words_of_all(5, [(8, 8)])) == ("", "")


def test_the_last_phase_is_what_a_phase_is_taken_for():
    for settings in (Settings(cleanup=0.2), CleanupSettings(cleanup=0.2)):
        assert settings.of_phase((8, 8), (16, 16)).cleanup == 0.2


def test_an_inversion_comes_before_each_phase():
    inverted = Settings(noise="inverted")
    assert inverted.before_phase(5) == [Sampling("inversion", 5, inverted, None, 1.0)]
    assert Settings().before_phase(5) == []


@pytest.mark.parametrize(("sampler", "asked"), [(SAME_SAMPLER, ""), ("Euler", "Euler")])
def test_the_clean_up_has_a_sampler_of_its_own_where_it_asks_for_one(sampler, asked):
    (cleanup,) = Settings(cleanup=0.1, cleanup_sampler=sampler).after_phase(20)
    assert cleanup.sampler == asked


def test_the_clean_up_has_one_step_more_where_a_share_of_one_is_left_but_for_errors_of_rounding():
    steps = {steps: Settings(cleanup=0.07).after_phase(steps)[0].steps for steps in (99, 100, 101)}
    assert steps == {99: 7, 100: 7, 101: 8}


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, 7),
        ({"window": 64, "window_batch": 4, "dilated": 0.0}, 7 * 3),  # 3 x 3 crops, in 3 calls
        (
            {"window": 64, "window_batch": 4, "dilated": 1.0, "progress": "steps"},
            7 * (3 + 1) - 3,
        ),  # and 4 sub-grids, first alone
        ({"window": 64, "window_batch": 4, "dilated": 1.0, "progress": "noise level"}, 7 * (3 + 1)),
        ({"window": 128}, 7),
    ],
)
def test_calls_and_pixels_of_a_run_in_windows(settings, calls):
    asked = Settings(**settings)
    assert asked.calls(128, 128, 7) == calls
    crops, thinned = (9 if calls > 7 else 0), (calls > 7 and asked.dilated > 0)
    assert asked.pixels_seen(128, 128) == (crops * 64**2 + thinned * 128**2 if crops else 128**2)


def test_the_plan_says_what_windows_cost_only_where_they_do():
    windows = Settings(window=64)
    assert windows.words_of_all(5, []) == windows.words_of_all(5, [(512, 512)]) == ""
    assert windows.words_of_all(5, [(519, 519)]) == ""  # 64.9 latent pixels are 64
    assert windows.words_of_all(5, [(512, 512), (1024, 1024)]) == ", 1, then 3 calls of the model in the place of one"


@pytest.mark.parametrize(("known", "factor"), [(64, 8), (128, 8), (64, 16)])
def test_a_window_comes_by_itself_where_the_picture_is_larger_than_a_call_of_crops(known, factor):
    """A call of four crops shows the model as much as the whole picture of twice the size that it knows."""
    told, double = Known(known, factor), 2 * known * factor
    settings = Settings()
    assert settings.of_model((double, double), told) is settings
    larger = settings.of_model((double, double + factor), told)
    assert larger == settings.replace(window=known)
    assert larger.of_model((double, double), told) is larger  # one that is there stays
    assert settings.of_model((double, double + factor), None) is settings
    for other in ({"window_auto": False}, {"window": 32}):
        assert Settings(**other).of_model((4 * double, 4 * double), told) == Settings(**other)
    assert Settings(window_batch=9).of_model((3 * double // 2,) * 2, told).window == 0


def test_the_plan_says_what_a_window_costs_that_comes_by_itself():
    sizes = [(1024, 1024), (2048, 2048)]
    assert Settings().words_of_all(8, sizes, Known(64)) == ", 1, then 7 calls of the model in the place of one"
    assert Settings().words_of_all(8, sizes, Known(128)) == ""
    assert Settings().words_of_all(8, sizes) == ""
    assert Settings().words_of_all(8, [(size[0] * 2, size[1] * 2) for size in sizes], Known(64, 16)) == (
        ", 1, then 7 calls of the model in the place of one"
    )


def test_colours_are_matched_where_it_is_wanted():
    generator = torch.Generator().manual_seed(0)
    samples, latent = torch.randn(2, 1, 4, 8, 8, generator=generator)
    where = torch.rand(8, 8, generator=generator)
    matched = Settings(match_colours=True).finished(samples, latent, where)
    assert torch.equal(matched, match_statistics(samples, latent, where))
    assert not torch.equal(matched, Settings(match_colours=True).finished(samples, latent))
    assert Settings().finished(samples, latent, where) is samples


def test_the_walk_goes_from_size_to_size_and_knows_its_begin():
    first, second = walk((8, 16), [(16, 32), (24, 48)])
    assert first == Phase(1, 2, (8, 16), (8, 16), (16, 32))
    assert second == Phase(2, 2, (8, 16), (16, 32), (24, 48))
    assert (str(second), first.last, second.last) == ("phase 2 of 2", False, True)


def test_a_phase_hands_its_sizes_to_the_settings():
    whole = Settings(deep_shrink=0.35, cleanup=0.2)
    for phase in walk((512, 512), [(768, 768), (1536, 1536)]):
        expected = whole.of_phase(phase.source, phase.target, first=phase.first, last=phase.last)
        assert phase.settings(whole) == expected != whole


def test_values_of_a_mask_are_those_of_its_picture():
    picture = Image.new("L", (3, 2))
    picture.putpixel((2, 1), 255)
    transparent = Image.merge("LA", (picture, Image.new("L", picture.size, 0)))
    deep = Image.fromarray((np.asarray(picture) > 0).astype(np.uint16) * 65535)
    for image in (picture, transparent, picture.convert("RGB"), deep):
        values = values_of(image)
        assert values.shape == (1, 1, 2, 3)
        assert values.dtype == torch.float32
        assert values.sum() == values[0, 0, 1, 2] == 1
    assert values_of(Image.new("L", (1, 1), 51)).item() == pytest.approx(0.2)
    assert values_of(Image.fromarray(np.full((1, 1), 13107, np.uint16))).item() == pytest.approx(0.2)


def test_levels_of_a_mask_outside_of_16_bits_are_black_or_white():
    levels = np.array([[-70000, 0, 65535, 70000]], np.int32)
    assert values_of(Image.fromarray(levels)).flatten().tolist() == [0, 0, 1, 1]
