"""The ComfyUI Iterative Mixing nodes, as loops of our own from the formulas of their pages and papers."""

import itertools
import math

import k_diffusion.sampling as kd
import pytest
import torch
from parity import Model, apart, euler, karras, noises, picture, row, sample_euler

from itermix import NoisedLatents, Settings, sample, weights
from itermix.mixing import perlin
from itermix.mixing.blending import BLENDINGS, Guide
from itermix.mixing.masks import mask_of
from itermix.picture.colour import match_statistics
from itermix.picture.phases import plan
from itermix.settings import UpscaleSettings
from itermix.settings.presets import expanded
from itermix.steps.parametrisation import ve
from itermix.steps.schedule import run_by_host

ORDER = 4
SECTION = """## The ComfyUI Iterative Mixing nodes

The preset *ComfyUI node* has their values as they come: *Denoise* 1, *Weight curve* comfy-cosine, *Creativity*
2.4, *Progress in* comfy-steps, *Blending* addition, *Noise* independent, and neither *Detail* nor *Fidelity*. It
stands for both nodes that mix, which differ from it, and from each other, in what the first two rows say. The nodes'
weight is that of the sampler's state, ours that of z': one is 1 minus the other.
"""
HEADS = ("node", "here", "note")

NODE = Settings(**expanded({"preset": "ComfyUI node"}))
STEPS = 20


def cosine(i, n, alpha, start, stop):
    """The weight of the sampler's state. NaN where the node divides by 0."""
    if stop == 0:
        return math.nan if i == 0 else 1.0
    return 1.0 if i > stop else (0.5 * (1 + math.cos(math.pi * (stop - i) / stop))) ** alpha


def linear(i, n, alpha, start, stop):
    stop = stop or n
    return 0.0 if i < start else 1.0 if i > stop else i / stop


def logistic(i, n, alpha, start, stop):
    """NaN where the node fails: at a stop of 0."""
    if stop == 0:
        return math.nan
    if i < start or i > stop:
        return 0.0 if i < start else 1.0
    middle = (stop + start) / 2 / (n - 1)
    return 1 / (1 + math.exp(-5 * alpha * (i / (n - 1) - middle)))


SCHEDULES = {"cosine": cosine, "linear": linear, "logistic": logistic}
OURS = {"cosine": "comfy-cosine", "linear": "linear", "logistic": "logistic"}


def schedule(name, n, alpha=2.4, start=0.0, stop=1.0, clamp=1.0, blend_min=0.0, blend_max=1.0):
    """[n] weights of the sampler's state."""
    found = [SCHEDULES[name](i, n, alpha, int(start * n), int(stop * n)) for i in range(n)]
    clamped = [1.0 if i >= int(clamp * n) else c for i, c in enumerate(found)]
    return [blend_min + (blend_max - blend_min) * c for c in clamped]


def check_curve(name, n, **shares):
    """Ours is that of the node, at each step at which the node has one."""
    theirs = torch.tensor(schedule(name, n, **shares), dtype=torch.float64)
    named = {key: value for key, value in shares.items() if not key.startswith("blend")}
    ends = {"highest": 1 - shares.get("blend_min", 0.0), "lowest": 1 - shares.get("blend_max", 1.0)}
    ours = weights(NODE.replace(curve=OURS[name], **named, **ends), n)
    assert torch.isfinite(ours).all()
    known = ~theirs.isnan()
    torch.testing.assert_close(ours[known].double(), 1 - theirs[known], atol=1e-6, rtol=0)
    assert bool((ours[~known] >= 0).all())


def mixed(model, z0, sigmas, settings, sampler=sample_euler, **given):
    return sample(sampler, model, z0, sigmas, settings, **given)


def states_of_the_ksampler(model, z0, sigmas, c, drawn):
    """Each state is brought to the level of the next z', and blended with it there. It ends at the last of them."""
    noised = [z0 + sigma * e for sigma, e in zip(sigmas[:-1], drawn)]
    states = noised[:1]
    for i in range(1, len(noised)):
        x = euler(states[-1], model(states[-1], sigmas[i - 1].expand(1)), sigmas[i - 1], sigmas[i])
        states.append((1 - c[i]) * noised[i] + c[i] * x)
    return states


@row(
    "Iterative Mixing KSampler (Advanced) with Batch Unsampler",
    "the preset *ComfyUI node*",
    "The first of the nodes. Its *steps* are those of the Batch Unsampler, 20 there are 20 here. All its states, to "
    "1e-5, but for two things that make its grain. It adds new noise before every step, so that the model is shown "
    "up to {shown:.1f} times the noise that it is told (20 steps, Karras); here none is added. And it ends a step "
    "above 0, with the noise of that level left; here the last step is taken.",
    shown=2.1,
)
def test_the_first_node(sizes):
    z0, sigmas = picture(), karras(STEPS)
    c = schedule("cosine", STEPS)
    theirs = states_of_the_ksampler(Model(), z0, sigmas, c, noises(z0, STEPS))
    ours = Model()
    mixed(ours, z0, sigmas, NODE)
    assert apart(ours.states, theirs) < 1e-5
    # With a model that knows the picture what isn't it is noise: its deviation in the states, and with the new noise.
    amounts = [float(sigmas[0])]
    for i in range(1, STEPS):
        stepped = math.hypot(amounts[-1], sigmas[i - 1]) * float(sigmas[i] / sigmas[i - 1])
        amounts.append(math.hypot((1 - c[i]) * float(sigmas[i]), c[i] * stepped))
    shown = [math.hypot(amount, sigma) / float(sigma) for amount, sigma in zip(amounts, sigmas)]
    assert max(shown) == pytest.approx(sizes["shown"], abs=0.05)


def states_of_the_sampler_node(model, z0, sigmas, c, drawn):
    """After each step, at the level that follows, it is blended with z' of the level before."""
    noised = [z0 + sigma * e for sigma, e in zip(sigmas[:-1], drawn)]
    x = noised[0]
    for i, z in enumerate(noised):
        x = (1 - c[i]) * z + c[i] * euler(x, model(x, sigmas[i].expand(1)), sigmas[i], sigmas[i + 1])
    return x


@row(
    "IterativeMixingSampler (with SamplerCustom, *add_noise* off)",
    "the preset *ComfyUI node*",
    "The newer node mixes a level late: after a step it blends in z' of the level before it. So the model is shown "
    "up to {shown:.2f} times the noise that it is told (20 steps, Karras), and each weight comes a step later. Here "
    "z' has the level of the state that it is mixed into, as in the paper.",
    shown=1.28,
)
def test_the_newer_node_is_a_level_late(sizes):
    z0, sigmas, c = picture(), karras(STEPS), schedule("cosine", STEPS)
    amounts = [float(sigmas[0])]
    for i in range(STEPS - 1):
        stepped = amounts[-1] * float(sigmas[i + 1] / sigmas[i])
        amounts.append(math.hypot((1 - c[i]) * float(sigmas[i]), c[i] * stepped))
    shown = [amount / float(sigma) for amount, sigma in zip(amounts, sigmas)]
    assert max(shown) == pytest.approx(sizes["shown"], abs=0.005)
    # A run that does the same, with z' of the level before and its weight, is the node's to the end.
    late = Model()
    states_of_the_sampler_node(late, z0, sigmas, c, noises(z0, STEPS))
    again, drawn = Model(), noises(z0, STEPS)
    x = z0 + sigmas[0] * drawn[0]
    for i in range(STEPS):
        if i:
            x = (1 - c[i - 1]) * (z0 + sigmas[i - 1] * drawn[i - 1]) + c[i - 1] * x
        x = euler(x, again(x, sigmas[i].expand(1)), sigmas[i], sigmas[i + 1])
    assert apart(again.states, late.states) < 1e-9
    ours = Model()
    mixed(ours, z0, sigmas, NODE)
    assert apart(ours.states, late.states) > 0.1


@row(
    "alpha_1",
    "*Creativity*",
    "From 0.05 to 100, as there; sliders of the page end at 10. In the paper's curve, *cosine*, more is less guidance.",
)
@pytest.mark.parametrize("alpha", [0.05, 0.5, 2.4, 10.0, 100.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_alpha(name, alpha):
    check_curve(name, STEPS, alpha=alpha)


@row(
    "blending_schedule cosine, linear, logistic",
    "*Weight curve* comfy-cosine, linear, logistic with *Progress in* comfy-steps",
    "To 1e-6 at every step. With *Progress in* steps the curves run smoothly between start and stop instead: up to "
    "{apart:.2f} of weight away from these where there is a start.",
    apart=0.99,
)
def test_the_curves(sizes):
    farthest = 0.0
    for name in SCHEDULES:
        for n in (5, 20, 40):
            check_curve(name, n)
            for start, stop in ((0.0, 1.0), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.97, 1.0)):
                values = NODE.replace(curve=OURS[name], start=start, stop=stop)
                smooth, whole = (weights(values.replace(progress=p), n) for p in ("steps", "comfy-steps"))
                farthest = max(farthest, float((smooth - whole).abs().max()))
    assert farthest == pytest.approx(sizes["apart"], abs=0.005)


@row(
    "start_blending_at_pct, stop_blending_at_pct",
    "*Start*, *Stop* with *Progress in* comfy-steps",
    "To 1e-6 at every step: rounded down to whole steps, without a start for the cosine, linear full up to the start "
    "and 1 - i / stop from there, logistic along one step less. A start above 1 is 1. At a stop of less than one "
    "step the node's cosine begins with NaN and its logistic curve fails; here they begin at full weight.",
)
@pytest.mark.parametrize("steps", [5, 20, 40])
@pytest.mark.parametrize("name", SCHEDULES)
def test_start_and_stop(name, steps):
    for start in (0.0, 0.13, 0.25, 0.5, 0.79, 0.99, 1.0):
        for stop in (0.0, 0.02, 0.1, 0.33, 0.5, 0.77, 0.99, 1.0, 1.28, 2.0, 80.0):
            check_curve(name, steps, start=start, stop=stop)


@row(
    "clamp_blending_at_pct",
    "*Clamp* with *Progress in* comfy-steps",
    "To 1e-6 at every step.",
)
@pytest.mark.parametrize("steps", [5, 20, 40])
@pytest.mark.parametrize("name", SCHEDULES)
def test_clamp(name, steps):
    for clamp in (0.0, 0.07, 0.3, 0.55, 0.98, 1.0):
        for start, stop in ((0.0, 1.0), (0.4, 0.9), (0.0, 2.0)):
            check_curve(name, steps, clamp=clamp, start=start, stop=stop)


@row(
    "blend_min, blend_max",
    "1 - *Highest weight*, 1 - *Lowest weight*",
    "Applied after the clamp, as there; the minimum may lie above the maximum. Values outside of 0 to 1 are refused.",
)
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (0.2, 0.9), (0.9, 0.1), (0.5, 0.5)])
def test_minimum_and_maximum(low, high):
    for name in SCHEDULES:
        check_curve(name, STEPS, blend_min=low, blend_max=high, clamp=0.8)
    with pytest.raises(ValueError, match="from 0 to 1"):
        NODE.replace(highest=1.2)


def addition(z, x, c):
    return (1 - c) * z + c * x


def norm_only(z, x, c):
    return z + c * (x / x.norm() * z.norm() - z)


def slerp(z, x, c):
    angle = math.acos(float((z / z.norm() * (x / x.norm())).sum()))
    return (math.sin((1 - c) * angle) * z + math.sin(c * angle) * x) / math.sin(angle)


@row(
    "blending_function addition, norm_only, slerp",
    "*Blending* addition, norm-only, slerp",
    "To 1e-6.",
)
@pytest.mark.parametrize("function", [addition, norm_only, slerp])
def test_blendings(function):
    z, x = picture(), 3 * picture(seed=2)
    for c in (0.0, 0.2, 0.5, 0.9, 1.0):
        ours = x.clone()
        BLENDINGS[function.__name__.replace("_", "-")](ours, z.clone(), 1 - c, Guide())
        torch.testing.assert_close(ours, function(z, x, c), atol=1e-6, rtol=0)


@row(
    "one noise for each step",
    "*Noise* independent",
    "A new draw each step, here from the picture's seed and the step's number, so that it is the same again.",
)
def test_noise():
    z0, sigmas = picture(), karras(5)
    made = NoisedLatents(z0, kind="independent")
    drawn = [(made.at(i, sigma) - z0) / sigma for i, sigma in enumerate(sigmas[:-1])]
    assert apart(drawn, noises(z0, 5)) < 1e-9
    flat = torch.stack(drawn).flatten(1)
    assert float((torch.corrcoef(flat) - torch.eye(5)).abs().max()) < 0.3
    assert float(flat.std()) == pytest.approx(1, abs=0.05)


@row(
    "normalize_on_mean",
    "*Match colours*",
    "To 1e-6: each channel gets the mean and the deviation of the latent that came in. (The node's page calls it "
    "without effect; its code does this.)",
)
def test_normalize_on_mean():
    x, source = 2 * picture(seed=2) + 1, picture()
    axes = {"dim": (2, 3), "keepdim": True}
    expected = (x - x.mean(**axes)) / x.std(**axes) * source.std(**axes) + source.mean(**axes)
    torch.testing.assert_close(match_statistics(x, source), expected, atol=1e-6, rtol=0)


@row(
    "normalize_fraction of Batch Unsampler",
    "*Normalize fraction*",
    "As the node's page describes it: the mean of that share of the noisiest latents is taken off all of them. Its "
    "code never had it.",
)
def test_normalize_fraction():
    z0, sigmas = picture(), karras(8)[:-1]
    made = NoisedLatents(z0, kind="independent")
    made.normalize(sigmas, 0.5)
    whole = [z0 + sigma * e for sigma, e in zip(sigmas, noises(z0, 8))]
    mean = torch.stack(whole[:4]).mean()
    assert apart([made.at(i, sigma).clone() for i, sigma in enumerate(sigmas)], [z - mean for z in whole]) < 1e-9


@row(
    "steps and denoise of the schedulers",
    "*Hires steps* and *Denoise* in the hires pass",
    "The same: n steps of a schedule of int(n / denoise). So it is in img2img with the WebUI's option to do exactly "
    "the steps of the slider; without it img2img runs int(n denoise) + 1 of n.",
)
@pytest.mark.parametrize("steps", [5, 20, 40])
@pytest.mark.parametrize("denoise", [0.05, 0.3, 0.55, 0.7, 0.95, 1.0])
def test_denoise(steps, denoise):
    whole = int(steps / denoise)
    first_of_node = len(karras(whole)) - (steps + 1)
    assert run_by_host(denoise, steps, exact=True) == (whole, first_of_node)
    left, skipped = run_by_host(denoise, steps, exact=False)
    assert left - skipped == min(int(steps * denoise) + 1, steps)


@row(
    "start_at_step, end_at_step",
    "*Start at step*, *End at step*",
    "The same states, and the curve runs over the steps that are left, as there. But the node hands on a latent with "
    "the noise of the last level, for another node; here the last step goes to 0.",
)
def test_start_at_step_and_end_at_step():
    z0, sigmas, (first, last) = picture(), karras(STEPS), (4, 15)
    part = sigmas[first : last + 1]
    theirs = states_of_the_ksampler(Model(), z0, part, schedule("cosine", last - first), noises(z0, last - first))
    ours = Model()
    result = mixed(ours, z0, sigmas, NODE.replace(start_at_step=first, end_at_step=last))
    assert apart(ours.states, theirs) < 1e-5
    denoised = Model()(theirs[-1], part[-2].expand(1))
    assert apart([result], [denoised]) < 1e-5
    handed_on = euler(theirs[-1], denoised, part[-2], part[-1])
    left = (handed_on - result) / (theirs[-1] - result)
    torch.testing.assert_close(left, torch.full_like(left, float(part[-1] / part[-2])), atol=1e-5, rtol=0)


@row(
    "a batch of latents",
    "the WebUI's *Batch size*",
    "The node refuses more than one; here each is mixed by itself.",
)
def test_batches():
    pair, sigmas = picture(batch=2), karras(STEPS)
    both = mixed(Model(), pair, sigmas, NODE.replace(seed=5))
    alone = [mixed(Model(), pair[k : k + 1], sigmas, NODE.replace(seed=5 + k)) for k in range(2)]
    assert apart([both], [torch.cat(alone)]) < 1e-6


@row(
    "sampler euler, dpmpp_2m",
    "the WebUI's *Euler*, *DPM++ 2M*",
    "The same formulas, with z' at the level of the state, to 1e-5.",
)
@pytest.mark.parametrize("denoised_before", [False, True])
def test_samplers(denoised_before):
    z0, sigmas, model = picture(), karras(STEPS), Model()
    c, drawn, old = schedule("cosine", STEPS), noises(z0, STEPS), None
    x = z0 + sigmas[0] * drawn[0]
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        x = (1 - c[i]) * (z0 + sigma * drawn[i]) + c[i] * x
        estimate = denoised = model(x, sigma.expand(1))
        if denoised_before and old is not None and following:
            h, before = math.log(sigma / following), math.log(sigmas[i - 1] / sigma)
            estimate = (1 + h / (2 * before)) * denoised - h / (2 * before) * old
        x = following / sigma * x + (1 - following / sigma) * estimate
        old = denoised
    ours = Model()
    options = {"disable": True} if denoised_before else {}
    result = mixed(ours, z0, sigmas, NODE, kd.sample_dpmpp_2m if denoised_before else sample_euler, **options)
    assert apart([*ours.states, result], [*model.states, x]) < 1e-5


def sample_lcm(model, x, sigmas, extra_args=None, callback=None):
    """Known to the mixing by its name: the estimate, with the noise of the next level."""
    for i, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        denoised = model(x, sigma.expand(len(x)))
        callback({"i": i, "x": x, "sigma": sigma, "denoised": denoised})
        x = denoised + following * torch.randn_like(x)
    return x


@row(
    "sampler lcm",
    "the WebUI's *LCM*",
    "Another formula. The node blends z', noise and all, into the clean estimate and then adds the noise of the next "
    "level, so the model is shown up to {shown:.1f} times the noise that it is told. Here the state is blended, as "
    "with every sampler.",
    shown=2.4,
)
def test_lcm(sizes):
    sigmas, c = karras(8), schedule("cosine", 8)
    theirs = [math.hypot((1 - c[i]) * sigmas[i], sigmas[i + 1]) / float(sigmas[i + 1]) for i in range(7)]
    assert max(theirs) == pytest.approx(sizes["shown"], abs=0.05)
    seen = []

    def knowing(x, sigma):
        seen.append(float((x - z0).std() / sigma[0]))
        return z0.clone()

    z0 = picture(32, 32)
    mixed(knowing, z0, sigmas, NODE, sample_lcm)
    assert len(seen) == 8
    assert max(seen) < 1.05


def ranges(steps, least, most):
    """Each range begins that share of what is left later, up to a share of all steps."""
    found = [0]
    while found[-1] < (start := found[-1] + int((steps - found[-1]) * least)) <= int(steps * most) and start < steps:
        found.append(start)
    return found


@row(
    "rewind, rewind_min, rewind_max",
    "*Rewind*, *Rewind by*, *Rewind up to*",
    "The same ranges; [masks.md](masks.md#rewind).",
)
@pytest.mark.parametrize("steps", [5, 20, 40, 100])
def test_rewind(steps):
    for least in (0.05, 0.3, 0.5, 0.95):
        for most in (0.05, 0.5, 0.8, 0.95):
            ours = Settings(rewind=True, rewind_min=least, rewind_max=most).begins(steps)
            assert ours == ranges(steps, least, most)


@row(
    "perlin_strength of euler_perlin",
    "*Perlin noise*",
    "Another thing: here the weight is lowered in patches, which stay and cost no call. The node's mode *masks* "
    "lowers none: it takes a second step after each, and of that, in patches, as much as the curve still guides; "
    "that is 2 n - 1 calls for n steps. Its modes latents and matched_noise are not built.",
)
def test_perlin_strength():
    z0, settings = picture(), Settings(perlin=0.75, perlin_scale=3.0)
    patches = perlin.perlin(8, 8, 3.0, 7)
    mask = mask_of(settings, z0, [7])
    torch.testing.assert_close(mask.weight(0.6, 0.0)[0, 0], 0.6 * (1 - 0.75 * patches))
    ours = Model()
    mixed(ours, z0, karras(STEPS), NODE.replace(perlin=0.75))
    assert len(ours.states) == STEPS
    # The node: x + P (1 - c') (x' - x), with x' a step further and c' = 1 - strength (1 - c).
    c, theirs, x = schedule("cosine", STEPS), Model(), z0 + karras(STEPS)[0] * picture(seed=3)
    sigmas = karras(STEPS)
    for i in range(STEPS):
        x = euler(x, theirs(x, sigmas[i].expand(1)), sigmas[i], sigmas[i + 1])
        if i < STEPS - 1:
            further = euler(x, theirs(x, sigmas[i + 1].expand(1)), sigmas[i + 1], sigmas[i + 2])
            x = x + patches.double() * 0.75 * (1 - c[i + 1]) * (further - x)
    assert len(theirs.states) == 2 * STEPS - 1


@row(
    "perlin_scale of euler_perlin",
    "*Perlin scale*: the latent's longer side / perlin_scale",
    "There it is the latent pixels of a patch, here how many patches lie along the picture, so that all phases have "
    "the same. The node's exponent of 4 lowers the amplitudes of its octaves to 1, 1/32, 1/1024: they are all but "
    "one octave. Ours are 1, 1/2, 1/4, 1/8; two maps of 0 to 1 that differ in that alone are {apart:.2f} apart (RMS).",
    apart=0.09,
)
def test_perlin_scale(monkeypatch, sizes):
    ours = [perlin.perlin(64, 64, 6.4, seed) for seed in range(8)]
    monkeypatch.setattr(perlin, "PERSISTENCE", 0.5 * 0.5**4)
    theirs = [perlin.perlin(64, 64, 6.4, seed) for seed in range(8)]
    monkeypatch.setattr(perlin, "OCTAVES", 1)
    assert apart(theirs, [perlin.perlin(64, 64, 6.4, seed) for seed in range(8)]) < 0.08
    found = float((torch.stack(ours) - torch.stack(theirs)).square().mean().sqrt())
    assert found == pytest.approx(sizes["apart"], abs=0.005)


class Inpainting(Model):
    """As A1111 does it: outside of the mask the estimate is the source."""

    def __init__(self, mask, source):
        super().__init__()
        self.mask, self.source = mask, source

    def forward(self, x, sigma):
        return self.mask * super().forward(x, sigma) + (1 - self.mask) * self.source


@row(
    "a noise mask of the latent (VAE Encode for Inpainting, Set Latent Noise Mask)",
    "the WebUI's inpaint mask",
    "White is painted and black stays, in both. With *Noise* shared a mask of black and white gives the same states, "
    "to 1e-5. It is not *Mask*, in which white is guided and black painted freely.",
)
def test_the_noise_mask():
    z0, sigmas = picture(), karras(STEPS)
    mask = torch.zeros(8, 8, dtype=torch.float64)
    mask[:, 5:] = 1
    c, noise, model = schedule("cosine", STEPS), noises(z0, 1)[0], Model()
    x = z0 + sigmas[0] * noise
    for i, sigma in enumerate(sigmas[:-1]):
        noised = z0 + sigma * noise
        x = mask * ((1 - c[i]) * noised + c[i] * x) + (1 - mask) * noised
        x = euler(x, model(x, sigma.expand(1)), sigma, sigmas[i + 1])
    expected = mask * x + (1 - mask) * z0
    ours = Inpainting(mask, z0)
    result = mixed(ours, z0, sigmas, NODE.replace(noise="shared"))
    assert apart([*ours.states, result], [*model.states, expected]) < 1e-5
    assert torch.allclose(result[..., :5], z0[..., :5])


@row(
    "Differential Diffusion",
    "*Mask*: the negative of the node's; *Mask mode* threshold, *Progress in* noise level, *Denoise* 1",
    "What is kept at each step is the same, but for greys within 0.002 of that step's threshold: ComfyUI counts 999 "
    "timesteps, here they are 1000. There the curve guides what is painted already; here the threshold stands in its "
    "place, so that is free.",
)
def test_differential_diffusion():
    training = ((1 - (a := torch.linspace(0.9999, 0.005, 1000, dtype=torch.float64))) / a).sqrt()
    sigmas = torch.cat([training[torch.linspace(999, 0, STEPS).round().long()], torch.zeros(1)])
    grey = (torch.arange(64, dtype=torch.float64) * 0.015 + 0.0045).view(1, 1, 8, 8)
    z0, noise, model = picture(), noises(picture(), 1)[0], Model()
    timesteps = [int((training.log() - sigma.log()).abs().argmin()) for sigma in sigmas[:-1]]
    x = z0 + sigmas[0] * noise
    for i, sigma in enumerate(sigmas[:-1]):
        threshold = (timesteps[i] - timesteps[-1]) / (timesteps[0] - timesteps[-1])
        assert float((grey - threshold).abs().min()) > 0.002
        x = torch.where(grey >= threshold, x, z0 + sigma * noise)
        x = euler(x, model(x, sigma.expand(1)), sigma, sigmas[i + 1])
    settings = NODE.replace(noise="shared", mask_mode="threshold", progress="noise level")
    ours = Model()
    ours.sigmas = training
    result = mixed(ours, z0, sigmas, settings, mask=(1 - grey).float())
    assert apart([*ours.states, result], [*model.states, x]) < 1e-5
    assert ve(training).progress(sigmas[:1]) < 0.002


@row(
    "a chain of nodes for 4x",
    "*Scale* 4",
    "Phases of 2 times, each with all steps, are made by themselves.",
)
def test_a_chain():
    assert plan(512, 768, scale=4.0) == [(1024, 1536), (2048, 3072)]
    assert UpscaleSettings().max_scale_per_phase == 2.0


@row(
    "a second KSampler, denoise 0.05 to 0.25",
    "*Clean-up* 0.05 to 0.25, *Clean-up steps*",
    "So many steps within that share, as the node runs them. 0 takes the share of the pass's own steps.",
)
@pytest.mark.parametrize("denoise", [0.05, 0.15, 0.25])
def test_clean_up(denoise):
    (own,) = Settings(cleanup=denoise, cleanup_steps=20).after_phase(30)
    (share,) = Settings(cleanup=denoise).after_phase(40)
    assert (own.steps, own.denoise) == (20, denoise)
    assert (share.steps, share.denoise) == (round(40 * denoise), denoise)
