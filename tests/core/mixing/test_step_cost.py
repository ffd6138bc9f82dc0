"""What a step of mixing does besides its arithmetic: it allocates nothing of a latent's size and waits for no GPU.

But for detail, which gives the sampler another tensor in the place of the model's output.
"""

import gc
import math

import k_diffusion.sampling as kd
import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import itermix
from itermix import NoisedLatents, Settings
from itermix.mixing.blending import BLENDINGS, Guide
from itermix.mixing.filters import Workspace
from itermix.mixing.mixer import Mixer
from itermix.mixing.run import Run, features_of
from itermix.steps.parametrisation import flow, ve, vp
from itermix.steps.samplers import one_call
from itermix.steps.schedule import Schedule

SHAPE = (2, 4, 16, 24)
ALPHAS = torch.linspace(0.9999, 0.005, 1000)
WEIGHTS = torch.tensor([1.0, 0.8, 0.6, 0.4, 0.2])


def run_of(levels, blending, detail, parametrisation):
    settings = Settings(blending=blending, detail=detail)
    plan, features = Schedule({}, levels, one_call), features_of(settings, {})
    return Run(kd.sample_euler, plan, WEIGHTS, settings, parametrisation, features=features)


PARAMETRISATIONS = {
    "ve": (ve(), torch.tensor([14.0, 7.0, 3.0, 1.0, 0.3])),
    "vp": (vp(ALPHAS), torch.tensor([950.0, 700.5, 400.0, 200.0, 50.0])),
    "flow": (flow(), torch.tensor([0.99, 0.7, 0.4, 0.2, 0.1])),
}


class Watch(TorchDispatchMode):
    """Sizes in bytes of the storages that operations make, and the operations that read a value back to the host."""

    def __init__(self):
        super().__init__()
        self.made, self.read = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.read.append(func)
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        given = {t.untyped_storage().data_ptr() for t in tensors}
        new = [t.untyped_storage() for t in tree_flatten(out)[0] if isinstance(t, torch.Tensor)]
        self.made += [storage.nbytes() for storage in new if storage.data_ptr() not in given]
        return out


def watched_steps(parametrisation, levels, blending, noise="shared", dtype=torch.float32, detail=0.0):
    """A `Watch` over what the mixer does in the steps from the third on; the first two fill what is kept."""
    generator = torch.Generator().manual_seed(0)
    latent, x = (torch.randn(SHAPE, generator=generator).to(dtype) for _ in range(2))
    noised = NoisedLatents(latent, parametrisation, noise, seeds=[3, 4])
    mixer = Mixer(run_of(levels, blending, detail, noised.parametrisation), noised)
    watch = Watch()
    for step, level in enumerate(levels):
        batch, output = level.expand(len(x)), 0.5 * x
        if step < 2:
            mixer.before_call(x, batch)
            mixer.after_call(x, batch, output)
            continue
        before = x.clone()
        with watch:
            mixer.before_call(x, batch)
            mixer.after_call(x, batch, output)
        assert not torch.equal(x, before)
    return watch


def test_the_watch_sees_what_it_is_for():
    with Watch() as watch:
        x = torch.zeros(100)
        x.add_(1)
        float(x[0])
    assert watch.made == [400]
    assert len(watch.read) == 1
    with Watch() as watch:
        bool(torch.ones(3)[torch.tensor(1)] > 0)
    assert len(watch.read) == 2


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
@pytest.mark.parametrize("name", PARAMETRISATIONS)
def test_a_step_reads_nothing_back_and_allocates_no_latent(name, blending):
    watch = watched_steps(*PARAMETRISATIONS[name], blending)
    assert not watch.read
    assert max(watch.made, default=0) <= 64  # bytes: levels, and a factor for each image


@pytest.mark.parametrize("blending", ["addition", "norm-only", "wavelet", "clean wavelet", "variance-preserving"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nor_does_one_in_half_precision(blending, dtype):
    """But for the lengths of norm-only, which are summed up in single precision without a copy."""
    watch = watched_steps(*PARAMETRISATIONS["ve"], blending, dtype=dtype)
    assert not watch.read
    assert max(watch.made, default=0) <= 64


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_a_step_can_be_recorded_and_played_with_other_numbers(blending, scale):
    """As CUDA graphs and compilers want it. A weight is a number of the host's, so a recording is of one step."""

    def step(x, latent, noise, denoised, level):
        noised = NoisedLatents(latent, noise=noise).at(1, level)
        BLENDINGS[blending](x, noised, 0.3, Guide(scale, latent, denoised, 0.8, Workspace()))
        return x

    def tensors(seed):
        generator = torch.Generator().manual_seed(seed)
        return [torch.randn(SHAPE, generator=generator) for _ in range(4)] + [torch.tensor(float(seed))]

    recorded = make_fx(step)(*tensors(1))
    played, expected = recorded(*tensors(2)), step(*tensors(2))
    torch.testing.assert_close(played, expected)
    assert (played - tensors(2)[0]).abs().max() > 0.1


@pytest.mark.parametrize("name", PARAMETRISATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_with_detail_a_step_allocates_the_new_output_alone(name, dtype):
    watch = watched_steps(*PARAMETRISATIONS[name], "low-pass", dtype=dtype, detail=0.3)
    latent = math.prod(SHAPE) * dtype.itemsize
    assert not watch.read
    assert [size for size in sorted(watch.made) if size > 64] == [latent] * (len(WEIGHTS) - 2)


def test_detail_holds_no_latent_between_the_calls():
    """Of the blending low-pass: one latent for z', and the filter's planes, of which detail needs one more."""

    def held(detail):
        noised = NoisedLatents(torch.zeros(SHAPE), seeds=[3, 4])
        levels = PARAMETRISATIONS["ve"][1]
        mixer = Mixer(run_of(levels, "low-pass", detail, noised.parametrisation), noised)
        x, gc_before = torch.ones(SHAPE), set(map(id, tensors()))
        for level in levels:
            mixer.before_call(x, level.expand(len(x)))
            mixer.after_call(x, level.expand(len(x)), x)
        return sum(t.untyped_storage().nbytes() for t in tensors() if id(t) not in gc_before)

    def tensors():
        return [found for found in gc.get_objects() if type(found) is torch.Tensor]

    plane = 4 * math.prod(SHAPE[-2:])
    assert held(0.3) - held(0.0) <= plane
    assert held(0.3) < 2 * 4 * math.prod(SHAPE)


@pytest.mark.parametrize("noise", ["independent", "cumulative"])
def test_new_noise_is_drawn_one_image_at_a_time(noise):
    watch = watched_steps(*PARAMETRISATIONS["ve"], "addition", noise)
    assert not watch.read
    assert sorted(watch.made)[-1] == 4 * math.prod(SHAPE[1:])


def sample_euler(model, x, sigmas, extra_args=None, callback=None):
    """Euler's method that keeps the precision of x, where k-diffusion's goes on in that of the sigmas."""
    for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:].tolist())):
        denoised = model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i})
        x = x + (x - denoised) * ((following - float(sigma)) / float(sigma))
    return x


class Ideal(nn.Module):
    """The posterior mean where all latents are normal with deviation 1, computed as its input comes."""

    def forward(self, x, sigma):
        return x / (1 + sigma.view(-1, 1, 1, 1).to(x) ** 2)


@pytest.mark.parametrize("blending", sorted(BLENDINGS))
@pytest.mark.parametrize("noise", ["shared", "independent", "cumulative"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.005), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("sampler", [sample_euler, kd.sample_euler], ids=["kept", "left"])
def test_half_precision_holds_up_to_sigma_160(blending, noise, dtype, tolerance, sampler):
    """Against single precision from the same latent; half has a spacing of 1/2 (bfloat16: 4) where sigma is 160."""
    sigmas = kd.get_sigmas_karras(12, 0.03, 160.0)
    latent = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5)).to(dtype)
    settings = Settings(denoise=1.0, blending=blending, noise=noise, seed=1)
    noise_given = itermix.mixing.noising.draw(torch.empty(SHAPE), [1, 2], 0).to(dtype)
    results = [
        itermix.sample(sampler, Ideal(), z, sigmas, settings, noise=e).float()
        for z, e in ((latent, noise_given), (latent.float(), noise_given.float()))
    ]
    assert torch.isfinite(results[0]).all()
    assert (results[0] - results[1]).square().mean().sqrt() < tolerance * results[1].std()
