"""Matching of colours: the statistics are the reference's, and only where they are to be."""

import pytest
import torch

from itermix import Settings
from itermix.picture.colour import anchor_of, match_anchor, match_statistics


def drifted(dtype=torch.float64):
    g = torch.Generator().manual_seed(1)
    reference = torch.randn(2, 4, 9, 7, generator=g, dtype=torch.float64) * 0.7 + 0.3
    return (0.5 * torch.randn(2, 4, 9, 7, generator=g, dtype=torch.float64) - 2).to(dtype), reference.to(dtype)


@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.float16, 5e-3)])
def test_each_channel_of_each_image_gets_mean_and_deviation_of_its_reference(dtype, within):
    x, reference = drifted(dtype)
    matched = match_statistics(x, reference)
    assert matched.dtype == dtype
    for statistic in (torch.mean, torch.std):
        a, b = (statistic(v.double(), dim=(2, 3)) for v in (matched, reference))
        assert (a - b).abs().max() < within


def test_the_deviation_is_that_of_a_sample():
    mean, deviation = anchor_of(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
    assert (float(mean), float(deviation)) == (2.0, pytest.approx(2**0.5))
    mean, deviation = anchor_of(torch.full((1, 1, 1, 1), 3.0))
    assert (float(mean), float(deviation)) == (3.0, 0.0)


def test_what_already_matches_stays():
    x, _ = drifted()
    assert torch.allclose(match_statistics(x, x), x)


def test_a_flat_channel_gets_the_mean():
    _, reference = drifted()
    assert torch.allclose(
        match_statistics(torch.zeros_like(reference), reference).mean(dim=(2, 3)), reference.mean(dim=(2, 3))
    )


def test_outside_of_the_mask_nothing_counts_and_nothing_changes():
    x, reference = drifted()
    where = torch.zeros(9, 7)
    where[:, :4] = 1
    matched = match_statistics(x, reference, where)
    assert torch.equal(matched[..., 4:], x[..., 4:])
    assert torch.allclose(matched[..., :4].mean(dim=(2, 3)), reference[..., :4].mean(dim=(2, 3)))
    other = reference.clone()
    other[..., 4:] += 5
    assert torch.equal(match_statistics(x, other, where), matched)


def test_a_faint_mask_changes_that_share():
    x, reference = drifted()
    got = match_statistics(x, reference, torch.full((9, 7), 0.01))
    torch.testing.assert_close(got, torch.lerp(x, match_statistics(x, reference), 0.01))


def test_the_whole_of_each_image_gets_the_one_mean_and_deviation_of_the_anchor():
    """Of a picture of another size, and of channels that differ: what lies between them stays, but for one factor."""
    x, reference = drifted()
    x[:, 1] += 3
    matched = match_anchor(x, anchor_of(reference[..., :5]))
    for image, wanted in zip(matched, reference[..., :5]):
        assert torch.allclose(image.mean(), wanted.mean())
        assert torch.allclose(image.std(), wanted.std())
    between = matched.mean(dim=(2, 3)) - matched.mean(dim=(2, 3))[:, :1]
    before = x.mean(dim=(2, 3)) - x.mean(dim=(2, 3))[:, :1]
    gain = torch.stack([wanted.std() / image.std() for wanted, image in zip(reference[..., :5], x)])
    assert torch.allclose(between, before * gain[:, None])


def test_one_anchor_is_enough_for_a_batch_and_a_mask_holds_for_it_too():
    x, reference = drifted()
    where = torch.zeros(9, 7)
    where[2:] = 1
    matched = match_anchor(x, anchor_of(reference[:1]), where)
    assert torch.equal(matched[..., :2, :], x[..., :2, :])
    for image in matched:
        assert torch.allclose(image[:, 2:].mean(), reference[0].mean())
    free = x.clone()
    free[..., :2, :] += 5
    assert torch.equal(match_anchor(free, anchor_of(reference[:1]), where)[..., 2:, :], matched[..., 2:, :])


@pytest.mark.parametrize(("formulas", "asked"), [("channels", 0), ("DemoFusion", 1)])
def test_what_a_pass_is_matched_to_is_what_the_settings_say(formulas, asked):
    x, latent = drifted()
    before = 3 * latent[..., :5] + 1
    calls = []
    settings = Settings(match_colours=True, colour_formulas=formulas)
    found = settings.finished(x, latent, first=lambda: calls.append(1) or before)
    expected = match_anchor(x, anchor_of(before)) if asked else match_statistics(x, latent)
    assert torch.equal(found, expected)
    assert len(calls) == asked
    assert torch.equal(settings.replace(match_colours=False).finished(x, latent), x)
    where = torch.linspace(0, 1, 7).expand(9, 7)
    within = match_anchor(x, anchor_of(before), where) if asked else match_statistics(x, latent, where)
    assert torch.equal(settings.finished(x, latent, where, first=lambda: before), within)
    alone = match_anchor(x, anchor_of(latent)) if asked else expected
    assert torch.equal(settings.finished(x, latent), alone)
