"""The denoiser, its guidance, its committed weights and its training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from itermix.standalone import network, train
from itermix.standalone.network import CROP, MULTIPLE, NULL, WEIGHTS, Denoiser, Guided, load
from itermix.standalone.parts import exact_rate, memberships
from itermix.standalone.pictures import HAT_COLOURS, render, sample_scenes


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    return load()


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (32, 48), (40, 9 * MULTIPLE)])
def test_every_size_that_is_a_multiple(denoiser: Denoiser, height: int, width: int) -> None:
    x = noise(2, 3, height, width)
    assert denoiser(x, torch.tensor([0.1, 5.0]), torch.tensor([0, NULL])).shape == x.shape


def test_untrained_network_keeps_the_optimal_part_of_the_input() -> None:
    """The last layer starts at zero, which leaves c_skip * x (Karras et al. 2022, table 1)."""
    x, sigma = noise(3, 3, 32, 32), torch.tensor([0.01, 0.5, 10.0])
    denoised = Denoiser()(x, sigma, torch.tensor([0, 1, CROP]))
    assert torch.allclose(denoised, x * (0.25 / (sigma**2 + 0.25))[:, None, None, None])


def test_pictures_in_a_batch_do_not_interact(denoiser: Denoiser) -> None:
    x, sigma, label = noise(3, 3, 32, 32), torch.tensor([0.1, 1.0, 8.0]), torch.tensor([0, 1, 2])
    together = denoiser(x, sigma, label)
    for i in range(3):
        assert torch.allclose(denoiser(x[i : i + 1], sigma[i : i + 1], label[i : i + 1])[0], together[i], atol=1e-4)


def test_guidance_extrapolates(denoiser: Denoiser) -> None:
    guided = Guided(denoiser)
    x, sigma, label = noise(2, 3, 32, 32), torch.full((2,), 2.0), torch.tensor([0, 2])
    conditional, unconditional = denoiser(x, sigma, label), denoiser(x, sigma, torch.full_like(label, NULL))
    assert torch.equal(guided(x, sigma, label), conditional)
    expected = unconditional + 2.5 * (conditional - unconditional)
    assert torch.allclose(guided(x, sigma, label, cfg=2.5), expected, atol=1e-4)


def test_committed_weights(denoiser: Denoiser) -> None:
    assert WEIGHTS.stat().st_size < 4_000_000
    with safe_open(WEIGHTS, framework="pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    assert metadata["command"].startswith("python -m itermix.standalone.train --out denoiser.safetensors")
    assert int(metadata["steps"]) == train.STEPS
    assert not denoiser.training
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in denoiser.parameters())


@pytest.mark.parametrize("resolution", [32, 64, 128])
@pytest.mark.parametrize(("sigma", "limit"), [(0.05, 0.035), (0.2, 0.10), (0.5, 0.18)])
def test_denoises_at_every_size(denoiser: Denoiser, resolution: int, sigma: float, limit: float) -> None:
    scenes = sample_scenes(4, torch.Generator().manual_seed(1))
    clean = render(scenes, resolution)
    denoised = denoiser(clean + sigma * noise(*clean.shape), torch.full((4,), sigma), scenes.label)
    assert (denoised - clean).square().mean().sqrt() < limit


def test_samples_have_the_right_parts_and_hats(denoiser: Denoiser) -> None:
    pytest.importorskip("k_diffusion")
    samples = train.sample(denoiser, count=6, resolution=network.RESOLUTION, cfg=1.5, seed=0)
    assert exact_rate(samples) >= 5 / 6
    for i, picture in enumerate(samples):
        colour = (picture[:, torch.from_numpy(memberships(picture).hat > 0.5)].mean(1) + 1) / 2
        assert (torch.tensor(HAT_COLOURS) - colour).norm(dim=1).argmin() == i % 3


def test_samples_beyond_the_training_size_are_broken(denoiser: Denoiser) -> None:
    """What iterative mixing is for: like every diffusion model, this one duplicates parts in larger pictures."""
    pytest.importorskip("k_diffusion")
    assert exact_rate(train.sample(denoiser, count=3, resolution=2 * network.RESOLUTION, cfg=1.5, seed=0)) <= 1 / 3


def test_training_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "BATCH", 2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second, other = (train.train(2, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_continued_run_equals_one_in_a_single_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "BATCH", 2)
    monkeypatch.setattr(train, "SAVE_EVERY", 3)
    whole = train.train(4, 0, tmp_path / "state.pt").state_dict()
    continued = train.train(4, 0, tmp_path / "state.pt").state_dict()
    assert all(torch.equal(whole[name], continued[name]) for name in whole)


def test_saved_weights_load_again(tmp_path: Path) -> None:
    denoiser = Denoiser()
    train.save(denoiser, tmp_path / "weights.safetensors", steps=5, seed=6)
    again = load(tmp_path / "weights.safetensors").state_dict()
    assert all(torch.equal(tensor.half().float(), again[name]) for name, tensor in denoiser.state_dict().items())


def test_learning_rate_warms_up_stays_and_decays() -> None:
    rates = [train.learning_rate(step, 1000) for step in range(1001)]
    assert rates[0] == pytest.approx(train.LEARNING_RATE / train.WARMUP)
    assert rates[train.WARMUP : 600] == pytest.approx([train.LEARNING_RATE] * 500)
    assert rates[800] == pytest.approx(train.LEARNING_RATE / 2)
    assert rates[1000] == pytest.approx(0.0, abs=1e-9)


def test_training_pictures_are_labelled() -> None:
    x, label = train.sample_pictures(300, torch.Generator().manual_seed(0))
    assert x.shape == (300, 3, 32, 32)
    shares = label.bincount(minlength=network.LABELS) / 300
    assert shares[NULL] == pytest.approx(train.UNLABELLED, abs=0.05)
    assert shares[CROP] == pytest.approx(train.CROPS * (1 - train.UNLABELLED), abs=0.06)
