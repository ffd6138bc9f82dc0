"""`itermix.sample` with schedules, latents and settings at their edges."""

import pytest
import torch
from fuzz import cases, possible, readable
from hypothesis import given
from hypothesis import strategies as st

import itermix
from itermix import Settings, SettingsError
from itermix.steps.samplers import SamplerRefused

k_diffusion = pytest.importorskip("k_diffusion.sampling")
SAMPLERS = ["euler", "euler_ancestral", "heun", "dpmpp_2m", "dpmpp_2s_ancestral", "lms", "dpm_2", "dpm_fast"]


class Denoiser(torch.nn.Module):
    def forward(self, x, sigma):
        return x / (1 + sigma**2)[:, None, None, None].to(x)


falling = st.lists(st.floats(0.015625, 200, width=32), min_size=1, max_size=7, unique=True).map(
    lambda levels: [*sorted(levels, reverse=True), 0.0]
)
any_levels = st.lists(st.floats(width=32) | st.sampled_from([0.0, -1.0, 1.0, 14.6]), max_size=5)
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
possible_settings = st.fixed_dictionaries(
    {}, optional={p.name: possible(p) for p in Settings.parameters() if p.name not in ("start_at_step", "end_at_step")}
)
steps = st.fixed_dictionaries({}, optional={"start_at_step": st.integers(0, 8), "end_at_step": st.integers(1, 8)})


@given(
    settings=st.builds(lambda a, b: {**a, **b}, possible_settings, steps),
    levels=falling | any_levels,
    shape=st.tuples(st.integers(0, 2), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)) | st.just((4, 8)),
    dtype=st.sampled_from(DTYPES) | st.just(torch.int64),
    fill=st.sampled_from([0.0, 1.0, -3.0, 1e4, float("nan"), float("inf")]) | st.none(),
    sampler=st.sampled_from(SAMPLERS),
)
@cases("sampling")
def test_sampling(settings, levels, shape, dtype, fill, sampler):
    generator = torch.Generator().manual_seed(0)
    latent = torch.randn(shape, generator=generator) if fill is None else torch.full(shape, fill)
    before = torch.get_rng_state()
    try:
        result = itermix.sample(
            getattr(k_diffusion, f"sample_{sampler}"),
            Denoiser(),
            latent.to(dtype) if fill is None or dtype != torch.int64 else latent,
            torch.tensor(levels),
            Settings(**settings),
            disable=True,
        )
    except (SettingsError, SamplerRefused) as error:
        readable(error)
        return
    assert result.shape == latent.shape
    assert torch.isfinite(result).all()
    assert torch.equal(torch.get_rng_state(), before)
