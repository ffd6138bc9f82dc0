"""The numbers of an analysis against closed forms and scipy; and that looking on changes nothing."""

import json

import k_diffusion.sampling as kd
import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

import itermix
from itermix import NoisedLatents, Settings
from itermix.analysis.record import (
    LEAST,
    SAMPLE,
    STEPS_COMPARED,
    STEPS_SHOWN,
    THUMBNAIL,
    Analysis,
    AnalysisSettings,
    Thinned,
    shapiro_wilk,
)
from itermix.mixing.blending import BLENDINGS
from itermix.mixing.noising import NOISES

STEPS = 6
SIGMAS = kd.get_sigmas_karras(STEPS, 0.05, 12.0)
SETTINGS = Settings(denoise=1.0, blending="addition", alpha=1.3, seed=3, detail=0.0, fidelity=0.0)


class Denoiser(nn.Module):
    def forward(self, x, sigma):
        return torch.tanh(x / (1 + sigma.view(-1, 1, 1, 1)))


def source(batch=2, side=8):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(1)).tanh()


def rgb(latents):
    return latents[:, :3]


def sampled(settings=SETTINGS, sampler=kd.sample_euler, analysis=None, latent=None, sigmas=SIGMAS, **options):
    latent = source() if latent is None else latent
    return itermix.sample(sampler, Denoiser(), latent, sigmas, settings, analysis=analysis, **options)


def analysed(settings=SETTINGS, **options):
    analysis = Analysis(rgb)
    sampled(settings, analysis=analysis, **options)
    return analysis


@pytest.mark.parametrize("n", [LEAST, 50, 1000, SAMPLE])
@pytest.mark.parametrize("kind", ["normal", "uniform", "laplace", "shifted"])
def test_normality_is_scipys(n, kind):
    random = np.random.default_rng(n)
    made = {
        "normal": random.normal(size=n),
        "uniform": random.uniform(size=n),
        "laplace": random.laplace(size=n),
        "shifted": 1e3 + 1e-2 * random.normal(size=n),
    }
    w, p = shapiro_wilk(torch.from_numpy(made[kind]))
    expected = scipy.stats.shapiro(made[kind])
    assert w == pytest.approx(expected.statistic, abs=1e-6)
    assert p == pytest.approx(expected.pvalue, rel=2e-3, abs=1e-12)


def test_normality_is_computed_in_double_precision():
    """Against what scipy 1.17.1 gives of the first squares, which earlier versions have in single precision."""
    values = torch.arange(float(LEAST)).square()
    assert shapiro_wilk(values) == pytest.approx((0.897655703043403, 0.1479425449091029), rel=1e-8)


@pytest.mark.parametrize("values", [torch.randn(LEAST - 1), torch.full((100,), 3.0)], ids=["few", "equal"])
def test_what_has_no_normality_has_no_number(values):
    assert np.isnan(shapiro_wilk(values)).all()


def test_the_numbers_of_each_step_are_those_of_an_explicit_loop():
    """Euler's method, written out: x before and after blending, z', and what the model makes of the blended x."""
    numbers = [analysed().numbers(k)["steps"] for k in range(2)]
    z0, weights = source(), itermix.weights(SETTINGS, STEPS)
    noised = NoisedLatents(z0, seeds=[3, 4])
    x = None
    for step, sigma in enumerate(SIGMAS[:-1]):
        z = noised.at(step, sigma).clone()
        before = z if x is None else x
        x = torch.lerp(before, z, float(weights[step]))
        denoised = Denoiser()(x, sigma.repeat(2))
        for image in range(2):
            row = numbers[image][step]
            assert row["step"] == step
            assert row["level"] == pytest.approx(float(sigma), rel=1e-5)
            assert row["weight"] == pytest.approx(float(weights[step]), rel=1e-5)
            cosine = (z[image] * before[image]).sum() / z[image].norm() / before[image].norm()
            assert row["similarity"] == pytest.approx(float(cosine), abs=1e-5)
            for name, latent in (("noised", z), ("state", x), ("denoised", denoised)):
                values = latent[image].flatten().double()
                w, p = scipy.stats.shapiro(values)
                found = row[name]
                assert found["mean"] == pytest.approx(float(values.mean()), abs=1e-5)
                assert found["std"] == pytest.approx(float(values.std(correction=0)), rel=1e-5)
                assert found["shapiro_w"] == pytest.approx(w, abs=1e-5)
                assert found["shapiro_p"] == pytest.approx(p, rel=1e-2, abs=1e-9)
        x = denoised + (x - denoised) / sigma * SIGMAS[step + 1]


def test_similarities_compare_every_step_with_every_other():
    latent, numbers = source(), analysed().numbers(1)
    found = numbers["similarities"]
    assert found["noised"] == found["state"] == list(range(STEPS))
    values = np.array(found["values"])
    assert values.shape == (STEPS, STEPS)
    assert np.diag(values) == pytest.approx([row["similarity"] for row in numbers["steps"]], abs=1e-5)
    z = NoisedLatents(latent, seeds=[3, 4]).at(2, SIGMAS[2])[1].clone()
    first = NoisedLatents(latent, seeds=[3, 4]).at(0, SIGMAS[0])[1]
    assert values[2, 0] == pytest.approx(float((z * first).sum() / z.norm() / first.norm()), abs=1e-5)


def test_of_many_values_a_sample_is_compared():
    latent = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)).tanh()
    analysis = analysed(latent=latent)
    numbers = analysis.numbers(0)
    estimated = np.diag(numbers["similarities"]["values"])
    assert estimated == pytest.approx([row["similarity"] for row in numbers["steps"]], abs=5 / SAMPLE**0.5)
    assert {len(value[0]) for series in analysis._samples.kept.values() for value in series.values()} == {SAMPLE}


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("blending", BLENDINGS)
def test_looking_on_changes_no_bit(blending, noise):
    settings = Settings(denoise=1.0, blending=blending, noise=noise, clamp=0.6, fidelity=0.0)
    state = torch.get_rng_state()
    with_it = sampled(settings, kd.sample_euler_ancestral, analysis=Analysis(rgb), disable=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(with_it, sampled(settings, kd.sample_euler_ancestral, disable=True))


def test_where_nothing_is_mixed_in_there_is_nothing_to_compare():
    numbers = analysed(SETTINGS.replace(clamp=0.5)).numbers(0)
    *_, last = numbers["steps"]
    assert (last["weight"], last["similarity"], "noised" in last) == (0.0, None, False)
    assert {"state", "denoised"} <= last.keys()
    assert numbers["similarities"]["noised"] == [0, 1, 2]
    assert analysed(SETTINGS.replace(highest=0.0)).numbers(0)["similarities"]["values"] == []


def unknown(model, x, sigmas, extra_args=None, callback=None, disable=None):
    """A sampler that is run one step at a time."""
    return kd.sample_euler(model, x, sigmas, extra_args, callback, disable)


@pytest.mark.parametrize("sampler", [kd.sample_heun, kd.sample_dpmpp_2m, kd.sample_dpm_fast, unknown])
def test_every_step_of_every_sampler_has_a_row(sampler):
    rows = analysed(sampler=sampler, disable=True).numbers(0)["steps"]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    levels = [row["level"] for row in rows]
    assert len(rows) > 1
    assert levels == sorted(levels, reverse=True)
    assert all(row["noised"]["std"] > 0 for row in rows)


def test_a_sampler_that_chooses_its_steps_is_looked_at_too():
    latent = source()
    rows = analysed(sampler=kd.sample_dpm_adaptive, latent=latent, disable=True).numbers(0)["steps"]
    assert rows[0]["level"] == pytest.approx(12.0, rel=1e-4)
    assert all(row["denoised"]["std"] > 0 for row in rows)


def test_the_pictures_are_small_and_few():
    sigmas = kd.get_sigmas_karras(150, 0.05, 12.0)
    analysis = analysed(latent=source(1, 8), sigmas=sigmas, disable=True)
    shown = analysis.pictures(0)
    assert list(shown) == list(range(0, 150, 16))
    assert all(series.keys() == {"noised", "denoised"} for series in shown.values())
    assert len(analysis.numbers(0)["steps"]) == 150
    assert len(analysis.numbers(0)["similarities"]["noised"]) == 38
    large = analysed(latent=source(1, 2 * THUMBNAIL)[..., : THUMBNAIL // 2], sigmas=SIGMAS[-3:])
    (picture, *_) = (series["denoised"] for series in large.pictures(0).values())
    assert (picture.shape, picture.dtype) == ((3, THUMBNAIL, THUMBNAIL // 4), torch.uint8)


def test_a_picture_shows_its_latent():
    """Black to white from -1 to 1; noise that is far above it at a deviation of 1."""
    latent = torch.zeros(1, 3, 8, 8)
    latent[..., :4] = 1.0
    analysis = Analysis(rgb)
    analysis.evaluated(0, 1.0, latent, 2 * latent - 1)
    picture = analysis.pictures(0)[0]["denoised"]
    assert (picture[..., :4] == 255).all()
    assert (picture[..., 4:] == 0).all()
    analysis.guided(0, 1.0, 1.0, 100 * torch.randn(1, 3, 8, 8), latent)
    noise = analysis.pictures(0)[0]["noised"]
    assert ((noise > 0) & (noise < 255)).float().mean() > 0.5


@pytest.mark.parametrize("most", [STEPS_COMPARED, STEPS_SHOWN])
@pytest.mark.parametrize("steps", [1, STEPS_SHOWN, STEPS_SHOWN + 1, 1000])
def test_what_is_kept_has_a_bound_and_is_evenly_spaced(most, steps):
    thinned = Thinned(most)
    for step in range(steps):
        if thinned.keeps(step):
            thinned.add(step, "x", torch.zeros(1))
    kept = list(thinned.kept)
    assert len(kept) <= most
    assert kept == list(range(0, steps, kept[1] if len(kept) > 1 else 1))
    assert 2 * len(kept) > min(most, steps)


def test_json_takes_the_numbers_of_what_has_none():
    analysis = Analysis(rgb)
    analysis.guided(0, 1.0, 1.0, torch.full((1, 3, 2, 2), torch.nan), torch.zeros(1, 3, 2, 2))
    analysis.evaluated(0, 1.0, torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2))
    numbers = analysis.numbers(0)
    json.dumps(numbers, allow_nan=False)
    assert numbers["steps"][0]["state"] == {"mean": 0.0, "std": 0.0, "shapiro_w": None, "shapiro_p": None}
    assert numbers["steps"][0]["similarity"] is None


def test_a_rewound_run_has_rows_for_every_pass():
    looking = Analysis(lambda pictures: pictures[:, :3])
    sigmas = torch.linspace(5, 0, 21)
    settings = Settings(denoise=1.0, blending="addition", rewind=True)
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))

    itermix.sample(kd.sample_euler, Denoiser(), latent, sigmas, settings, analysis=looking, disable=True)
    levels = [row["level"] for row in looking.numbers(0)["steps"]]
    assert levels == pytest.approx([float(s) for first in (0, 10, 15) for s in sigmas[first:-1]])


def halves(low, high):
    """[2, 3, 4, 4]: of the second picture one half has the one value and one the other."""
    latents = torch.full((2, 3, 4, 4), high)
    latents[1, ..., :2] = low
    return latents


def test_a_row_has_what_is_known_of_its_step():
    analysis = Analysis(rgb)
    analysis.guided(0, 3.0, 0.25, halves(-1.0, 1.0), halves(1.0, -1.0))
    analysis.evaluated(0, 3.0, halves(0.0, 1.0), halves(0.0, 0.5))
    analysis.evaluated(1, 2.0, halves(0.0, 1.0), halves(0.0, 0.5))
    numbers = analysis.numbers(1)
    assert numbers["image"] == 1
    first, second = numbers["steps"]
    assert (first["step"], first["level"], first["weight"]) == (0, 3.0, 0.25)
    assert (second["step"], second["level"], second["weight"]) == (1, 2.0, 0.0)
    assert first["similarity"] == pytest.approx(-1)
    for name, mean, deviation in (("noised", 0.0, 1.0), ("state", 0.5, 0.5), ("denoised", 0.25, 0.25)):
        assert (first[name]["mean"], first[name]["std"]) == pytest.approx((mean, deviation))


def test_the_steps_of_a_later_pass_follow_and_a_first_pass_begins_at_0():
    analysis, z = Analysis(rgb), halves(0.0, 1.0)
    for calls, steps in ((0, (0, 1)), (1, (0,)), (2, (0, 2))):
        analysis.next_pass(0, calls, 0)
        for step in steps:
            analysis.guided(step, 1.0, 0.5, z, z)
            analysis.evaluated(step, 1.0, z, z)
    assert [row["step"] for row in analysis.numbers(0)["steps"]] == [0, 1, 2, 3, 5]
    assert all("state" in row and "noised" in row for row in analysis.numbers(0)["steps"])


def test_of_many_steps_every_other_is_compared_and_shown():
    analysis, z = Analysis(rgb), halves(0.0, 1.0)
    for step in range(STEPS_COMPARED + 6):
        analysis.guided(step, 1.0, 0.5, z, z)
        analysis.evaluated(step, 1.0, z, z)
    compared = analysis.numbers(0)["similarities"]
    assert compared["noised"] == compared["state"] == list(range(0, STEPS_COMPARED + 6, 2))
    shown = analysis.pictures(0)
    assert list(shown) == list(range(0, STEPS_COMPARED + 6, 8))
    assert all(series.keys() == {"noised", "denoised"} for series in shown.values())


def test_as_many_as_there_is_room_for_are_kept():
    thinned = Thinned(3)
    for step in range(3):
        thinned.add(step, "x", torch.zeros(1))
    assert list(thinned.kept) == [0, 1, 2]
    assert thinned.keeps(3)
    thinned.add(3, "x", torch.zeros(1))
    assert list(thinned.kept) == [0, 2]


def test_what_is_brighter_than_white_is_white_and_a_line_stays_one():
    latent = torch.zeros(1, 3, 1, 2 * THUMBNAIL)
    latent[..., :THUMBNAIL], latent[..., -2:] = 1.0, -1.0
    analysis = Analysis(lambda latents: 5 * latents)
    analysis.evaluated(0, 1.0, latent, latent)
    shown = analysis.pictures(0)[0]["denoised"]
    assert (shown.shape, shown.dtype) == ((3, 1, THUMBNAIL), torch.uint8)
    assert shown[0, 0, : THUMBNAIL // 2].unique().tolist() == [255]
    assert shown[0, 0, -2:].tolist() == [128, 0]


def test_values_that_are_equal_but_for_a_few_have_a_normality():
    for values in ([0.0] * 11 + [1.0], [0.0] + [1.0] * 11, [0.0, 0.0, *range(1, 11)]):
        expected = scipy.stats.shapiro(values)
        assert shapiro_wilk(torch.tensor(values)) == pytest.approx((expected.statistic, expected.pvalue), rel=1e-3)


def test_values_whose_mean_is_rounded_are_equal_too():
    values = torch.full((101,), 0.1, dtype=torch.float64)
    assert (values - values.mean()).abs().max() > 0
    assert np.isnan(shapiro_wilk(values)).all()


def test_values_that_are_exactly_where_they_are_expected_are_normal_to_the_last_digit():
    """They are the test's coefficients, whose sums are its W of k zeros and n - k ones times k (n - k) / n, rooted."""
    for n in (12, 13, 19, 20, 21):
        sums = [0.0] * (n + 1)
        for k in range(1, n):
            w, _ = shapiro_wilk(torch.tensor([0.0] * k + [1.0] * (n - k)))
            sums[k] = (w * k * (n - k) / n) ** 0.5
        coefficients = torch.tensor(sums, dtype=torch.float64).diff()
        w, p = shapiro_wilk(coefficients)
        assert w == pytest.approx(1, abs=1e-14)
        assert p == pytest.approx(1)
        assert max(w, p) <= 1


def test_who_asks_for_it_gives_what_looks_on():
    analysis = Analysis(rgb)
    assert AnalysisSettings().feature({"analysis": analysis}) is analysis
    assert AnalysisSettings(analysis=True).feature({}) is None
