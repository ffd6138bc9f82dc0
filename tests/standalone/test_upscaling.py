"""Sources and methods with the built-in model: sizes, seeds and pairing."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import itermix.standalone.upscaling as up
from itermix import Settings, SettingsError
from itermix.picture.enlarging import means
from itermix.standalone.upscaling import Method, Model, phases

METHODS = [
    Method("mixing", Settings()),
    Method("hires fix", 0.5),
    Method("direct", None),
]


def result(model: Model, method: Method, sources: up.Sources, size=(64, 64)) -> torch.Tensor:
    *_, last = phases(model, method, sources, size)
    return last


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
@pytest.mark.parametrize("sampler", up.SAMPLERS)
def test_a_picture_depends_on_its_own_seed_alone(model, method, sampler, monkeypatch):
    """Not on the others in its batch, nor on how many are sampled at once, nor on torch's global generator."""
    model = dataclasses.replace(model, sampler=sampler)
    sources = up.true_sources(3, seed=40)
    together = result(model, method, sources)
    torch.manual_seed(1)
    alone = dataclasses.replace(sources, pictures=sources.pictures[1:2], labels=sources.labels[1:2], seed=41)
    assert torch.allclose(result(model, method, alone)[0], together[1], atol=1e-5)
    monkeypatch.setattr(up, "BATCH_PIXELS", 2 * 64 * 64)
    assert torch.allclose(result(model, method, sources), together, atol=1e-5)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_results_have_the_size_and_the_range(model, method):
    found = result(model, method, up.true_sources(2, seed=0), (40, 64))
    assert found.shape == (2, 3, 64, 40)
    assert found.abs().max() <= 1


def test_mixing_with_full_weight_to_the_end_stays_with_the_source(model):
    sources = up.true_sources(2, seed=0)
    found = result(model, Method("tied", Settings(denoise=1.0, blending="addition", lowest=1.0)), sources)
    free = result(model, Method("free", Settings(denoise=1.0, clamp=0.0)), sources)
    enlarged = up.enlarge(sources.pictures, (64, 64))
    assert (found - enlarged).square().mean() < 0.2 * (free - enlarged).square().mean()


def test_strength_0_only_enlarges(model):
    sources = up.true_sources(2, seed=0)
    assert torch.equal(result(model, Method("enlarged", 0.0), sources), up.enlarge(sources.pictures, (64, 64)))


def test_a_noise_seed_in_the_settings_takes_the_place_of_the_pictures(model):
    one, other = up.true_sources(1, seed=0), dataclasses.replace(up.true_sources(1, seed=0), seed=999)
    assert not torch.equal(result(model, METHODS[0], one), result(model, METHODS[0], other))
    seeded = Method("seeded", Settings(seed=2**32 - 1))
    assert torch.equal(result(model, seeded, one, (128, 128)), result(model, seeded, other, (128, 128)))


def test_the_cutoff_follows_the_scale_of_the_phase(model, monkeypatch):
    seen = []
    monkeypatch.setattr(up, "mix", lambda model, enlarged, labels, settings, *_: seen.append(settings) or enlarged)
    sources = up.true_sources(1, seed=0)
    for cutoff in (0.0, 3.0):
        one_phase = Settings(cutoff=cutoff, max_scale_per_phase=4.0)
        result(model, Method("one phase", one_phase), sources, (128, 128))
    result(model, Method("two phases", Settings()), sources, (128, 128))
    assert [settings.cutoff for settings in seen] == [4.0, 3.0, 2.0, 2.0]


def test_a_clean_up_follows_the_last_phase_alone(model, monkeypatch):
    runs = []
    monkeypatch.setattr(up, "sampled_again", lambda model, x, labels, sampling, seed: runs.append(sampling) or x)
    sources = up.true_sources(1, seed=0)
    settings = Settings(cleanup=0.2, cleanup_steps=3, cleanup_sampler="euler")
    result(model, Method("cleaned", settings), sources, (128, 128))
    (light,) = runs
    assert (light.sampler, light.steps, light.denoise) == ("euler", 3, 0.2)
    monkeypatch.undo()
    with pytest.raises(SettingsError, match=r"cleanup_sampler = 'Euler'.*euler_ancestral"):
        result(model, Method("cleaned", settings.replace(cleanup_sampler="Euler")), sources)


def test_matched_colours_are_those_of_the_source(model):
    sources = up.true_sources(2, seed=0)
    enlarged = up.enlarge(sources.pictures, (64, 64))

    def drift(**settings):
        found = result(model, Method("mixing", Settings(denoise=1.0, alpha=10.0, **settings)), sources)
        return (found - enlarged).mean(dim=(2, 3)).abs().max()

    assert drift(match_colours=True) < 0.02 < drift()


def test_demofusions_colours_are_those_of_each_picture_before_it_was_enlarged(model, monkeypatch):
    """In every phase, and whichever pictures are sampled at once."""
    settings = Settings(denoise=1.0, alpha=10.0, fidelity=0.0, match_colours=True, colour_formulas="DemoFusion")
    sources = up.true_sources(3, seed=0)
    sources = up.Sources("true", sources.pictures / 2, sources.labels, sources.seed)  # so that nothing is clamped
    monkeypatch.setattr(up, "BATCH_PIXELS", 2 * 64 * 64)
    for found in up.phases(model, Method("mixing", settings), sources, (128, 128)):
        for picture, source in zip(found, sources.pictures):
            assert float(picture.mean()) == pytest.approx(float(source.mean()), abs=0.02)
            assert float(picture.std()) == pytest.approx(float(source.std()), abs=0.02)


def lacking(found, sources, side):
    """How far the means over areas of `side` pixels of the source are from the source's, without the picture's edge."""
    areas = [each // side for each in sources.pictures.shape[-2:]]
    return float((means(found, areas) - means(sources.pictures, areas))[..., 1:-1, 1:-1].abs().mean())


@pytest.mark.parametrize("cleanup", [0.0, 0.2])
@pytest.mark.parametrize("factor", [1, 4])
def test_fidelity_acts_on_every_finished_phase_by_the_first_source(model, factor, cleanup):
    """In areas of as many pixels of the source as a latent pixel would have, and after the clean-up."""
    model = dataclasses.replace(model, space=dataclasses.replace(up.PIXELS, factor=factor))
    sources = up.true_sources(2, seed=0)
    free = Settings(highest=0.0, fidelity=0.0, cleanup=cleanup)
    without, with_it = (
        [lacking(found, sources, factor) for found in phases(model, Method("free", settings), sources, (128, 128))]
        for settings in (free, free.replace(fidelity=1.0))
    )
    assert len(without) == 2
    for before, after in zip(without, with_it):
        assert after < 0.3 * before


def test_fidelity_leaves_free_what_is_finer_than_a_latent_pixel(model):
    """Within an area the picture moves as a whole."""
    sources = up.true_sources(2, seed=0)
    settings = Settings(highest=0.0, fidelity=0.0)
    method = Method("free", settings)
    plain = result(model, method, sources)
    moved = {
        factor: up.kept_to(sources.pictures, plain, settings.replace(fidelity=1.0), 0, factor=factor) - plain
        for factor in (1, 8)
    }
    within = {factor: float((each - enlarged_means(each, 16)).std()) for factor, each in moved.items()}
    assert within[8] < 0.6 * within[1]
    assert float(enlarged_means(moved[8], 16).std()) > 0.6 * float(enlarged_means(moved[1], 16).std())


def enlarged_means(x, side):
    return torch.nn.functional.avg_pool2d(x, side).repeat_interleave(side, -1).repeat_interleave(side, -2)


def test_fidelity_puts_nothing_back_where_a_mask_is_black(model):
    sources = up.true_sources(2, seed=0)
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., :8] = 1
    with_it, without = (
        result(model, Method("masked", Settings(fidelity=share), mask=mask), sources) for share in (1.0, 0.0)
    )
    assert torch.equal(with_it[..., 36:], without[..., 36:])
    assert not torch.equal(with_it[..., :28], without[..., :28])


def test_the_perlin_noise_of_fidelity_is_that_of_the_mixing(model):
    """Each picture by its own seed, so that it doesn't matter which others are with it."""
    sources = up.true_sources(2, seed=40)
    settings = Settings(perlin=1.0, fidelity=1.0, highest=0.0)
    pictures = torch.zeros(2, 3, 64, 64)
    together = up.kept_to(sources.pictures, pictures, settings, 40)
    alone = up.kept_to(sources.pictures[1:], pictures[1:], settings, 41)
    torch.testing.assert_close(together[1:], alone)
    assert not torch.allclose(together[1:], up.kept_to(sources.pictures[1:], pictures[1:], settings, 40))


def test_the_first_sources_are_those_with_all_parts(model, monkeypatch):
    exact = iter([False, True, False, True, True, False])
    monkeypatch.setattr(up, "count_parts", lambda picture: type("Parts", (), {"exact": next(exact)}))
    sources = up.model_sources(model, 3, seed=10)
    assert len(sources) == 3
    expected = up.direct(model, torch.arange(6) % 3, (32, 32), 10, up.SOURCE_CFG)
    assert torch.allclose(sources.pictures, expected[[1, 3, 4]], atol=1e-5)
    assert sources.labels.tolist() == [1, 0, 1]


def test_without_exact_pictures_there_still_are_sources(model):
    assert len(up.model_sources(model, 2, seed=0)) == 2


def test_true_sources_and_renders_show_the_same_scenes():
    sources, large = up.true_sources(2, seed=3), up.true_renders(2, seed=3, side=64)
    pooled = torch.nn.functional.avg_pool2d(large, 2)
    assert (pooled - sources.pictures).abs().mean() < 0.05


@pytest.mark.parametrize(("field", "value"), [("sampler", "dpm_adaptive"), ("steps", 0)])
def test_a_model_that_cannot_sample_is_an_error(model, field, value):
    with pytest.raises(SettingsError, match=f"{field} = {value!r}.*Allowed"):
        dataclasses.replace(model, **{field: value})


@pytest.mark.parametrize(("field", "value"), [("nn_upscaler", True), ("deep_shrink", 0.35)])
def test_what_needs_another_model_is_an_error(field, value):
    with pytest.raises(SettingsError, match=f"{field} = {value!r}.*with the built-in model"):
        Method("mixing", Settings(**{field: value}))


def test_an_unknown_upscaler_is_an_error():
    with pytest.raises(SettingsError, match=r"upscaler = 'ESRGAN'.*Lanczos, Bicubic, Nearest"):
        Method("enlarged", 0.0, upscaler="ESRGAN")


@pytest.mark.parametrize("cleanup", [0.0, 0.25])
def test_windows_bound_what_the_model_is_shown(model, cleanup):
    shapes = []
    hook = model.denoiser.denoiser.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    sources = up.true_sources(2, seed=0)
    settings = Settings(window=32, window_batch=3, cleanup=cleanup, cleanup_steps=2)
    found = result(model, Method("windows", settings), sources, (64, 48))
    hook.remove()
    assert found.shape == (2, 3, 48, 64)
    assert max(rows for rows, *_ in shapes) == 2 * 3
    assert max(max(shape[2:]) for shape in shapes) == 32
    assert not torch.equal(found, result(model, Method("whole", settings.replace(window=0)), sources, (64, 48)))


def test_sub_grids_that_the_model_does_not_take_are_an_error(model):
    sources = up.true_sources(1, seed=0)
    method = Method("windows", Settings(window=32, dilated=1.0))
    with pytest.raises(SettingsError, match=r"window = 32.*at 64x36: 0, .*Thinned out 2 times, .* no multiples of 4"):
        result(model, method, sources, (64, 36))
    assert result(model, Method("crops", Settings(window=32, dilated=0.0)), sources, (64, 36)).shape[-2:] == (36, 64)


@pytest.mark.parametrize("schedule", up.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 7, 10, 20])
def test_every_schedule_falls_to_0_in_as_many_steps(schedule, steps):
    sigmas = up.SCHEDULES[schedule](steps)
    assert len(sigmas) == steps + 1
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    if steps > 1:
        assert (float(sigmas[0]), float(sigmas[-2])) == pytest.approx((15.0, 0.03), rel=0.05)


def test_align_your_steps_is_its_table_where_it_has_as_many_levels():
    expected = [14.615, 6.475, 3.861]
    assert up.align_your_steps(11)[:3].tolist() == pytest.approx(expected)


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(SettingsError, match=r"schedule = 'simple'.*karras, exponential, align-your-steps"):
        up.Model(None, schedule="simple")


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("sampler", up.SAMPLERS)
@pytest.mark.parametrize("recipe", [Settings(), Settings(rewind=True, cleanup=0.05), 0.05, None])
def test_every_sampler_with_few_steps(model, sampler, steps, recipe):
    few = dataclasses.replace(model, sampler=sampler, steps=steps)
    made = result(few, Method("few", recipe), up.model_sources(few, 1, seed=4))
    assert made.shape == (1, 3, 64, 64)
    assert torch.isfinite(made).all()
