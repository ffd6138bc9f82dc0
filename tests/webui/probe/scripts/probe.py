"""A test extension: writes down what the sampler's model is called with, for a comparison with a hand-written loop.

It also counts the calls of every sampling (runs.json), lets a call fail that fail.json names or takes away what
fidelity keeps to, switches mixing on with the settings in settings.json, as another extension would, gives the crops of
either half the prompts in prompts.json, has an IP-Adapter of Forge act in a mask (adapter.json), lets a calibration
make smaller sources (side.json), and has routes that reload the UI and compare our noising with that of the WebUI.
"""

import functools
import json
import os
from pathlib import Path
from types import SimpleNamespace

import torch
from modules import script_callbacks, scripts, shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser

UNETS = ("UNetModel", "IntegratedUNet2DConditionModel")  # A1111's and reForge's, Forge's
FOLDER = Path(os.environ["ITERMIX_PROBE"])
FILES = ("runs", "fail", "settings", "prompts", "adapter", "side")
RUNS, FAIL, SETTINGS, PROMPTS, ADAPTER, SIDE = (FOLDER / f"{name}.json" for name in FILES)


def count(module, inputs):
    """One more call: [width, height, calls, job text, hints, parts, steps] of each sampling since the tests removed the
    file.

    The hints are the sizes [width, height] of what a ControlNet was shown: its first layer makes 16 channels of 3.
    The parts are the shapes [B, C, H, W] of what the U-Net was shown.
    The steps are what the WebUI counts of them, by which it schedules prompts.
    """
    if type(module).__name__ in UNETS and RUNS.exists():
        runs = json.loads(RUNS.read_text())
        runs[-1][5].append(inputs[0].shape)
        RUNS.write_text(json.dumps(runs))
        fail_if_told(inputs, [len(runs), len(runs[-1][5])], "part")
    if isinstance(module, torch.nn.Conv2d) and module.weight.shape[:2] == (16, 3):
        runs = json.loads(RUNS.read_text())
        runs[-1][4].append(inputs[0].shape[:1:-1])
        RUNS.write_text(json.dumps(runs))
    if type(module).__name__ == "Decoder" and RUNS.exists():
        fail_if_told(inputs, [len(json.loads(RUNS.read_text())), "all"], "decoding")
    if not isinstance(module, CFGDenoiser):
        return
    runs = json.loads(RUNS.read_text()) if RUNS.exists() else []
    inverts = "inversion" in (shared.state.job or "")  # which begins at the last step
    if module.step == 0 or not runs or inverts != ("inversion" in (runs[-1][3] or "")):
        runs.append([8 * inputs[0].shape[-1], 8 * inputs[0].shape[-2], 0, shared.state.job, [], [], []])
    runs[-1][2] += 1
    runs[-1][6].append(module.step)
    RUNS.write_text(json.dumps(runs))
    fail_if_told(inputs, [len(runs), runs[-1][2]], "call")


def fail_if_told(inputs, where, what):
    """Fail in the way that fail.json says, if it names this run and this "call" or "part" of it, or its "decoding"."""
    fail = json.loads(FAIL.read_text()) if FAIL.exists() else {}
    if where == [fail.get("run"), fail.get(what)]:
        if fail["how"] == "nan":
            inputs[0].fill_(torch.nan)
        elif fail["how"] in ("interrupt", "skip"):
            getattr(shared.state, fail["how"])()
        elif fail["how"] == "memory":
            raise torch.cuda.OutOfMemoryError("out of memory, on purpose")
        else:
            raise ValueError("an error, on purpose")


counting = torch.nn.modules.module.register_module_forward_pre_hook(count)
script_callbacks.on_script_unloaded(counting.remove)


def noising_errors():
    """{model kind: largest difference between our z' and what the WebUI's own noising function makes}."""
    from itermix.mixing.noising import NoisedLatents
    from itermix.webui import host

    latent, noise = torch.randn(2, 16, 8, 8), torch.randn(2, 16, 8, 8)

    def error(sigmas, by_host, predictor=None):
        model_wrap = SimpleNamespace(sigmas=sigmas, predictor=predictor)
        noised = NoisedLatents(latent, host.parametrisation(SimpleNamespace(model_wrap=model_wrap)), noise=noise)
        levels = sigmas[torch.linspace(0, len(sigmas) - 1, 9).long()]
        return max(float((noised.at(0, s) - by_host(s, noise, latent)).abs().max() / (1 + s)) for s in levels)

    try:
        from backend.modules import k_prediction
    except ImportError:
        from modules.models.sd3.sd3_model import SD3Inferencer

        shared.sd_model.add_noise_to_latent = functools.partial(SD3Inferencer.add_noise_to_latent, None)
        try:
            return {
                "SD3": error(
                    torch.linspace(0.01, 1, 1000), lambda s, e, z: shared.sd_model.add_noise_to_latent(z, e, s)
                )
            }
        finally:
            del shared.sd_model.add_noise_to_latent
    if hasattr(k_prediction, "PredictionEDM"):
        predictors = {
            "eps": k_prediction.Prediction(prediction_type="epsilon"),
            "v": k_prediction.Prediction(prediction_type="v_prediction"),
            "EDM": k_prediction.PredictionEDM(prediction_type="edm"),
            "SD3": k_prediction.PredictionDiscreteFlow(shift=3.0),
            "Flux": k_prediction.PredictionFlux(),
        }
    else:  # Forge Neo
        linear = {"beta_schedule": "linear", "linear_start": 0.00085, "linear_end": 0.012, "timesteps": 1000}
        flow = SimpleNamespace(sampling_settings={"shift": 3.0})
        predictors = {
            "eps": k_prediction.Prediction(1.0, "epsilon", **linear),
            "v": k_prediction.Prediction(1.0, "v_prediction", **linear),
            "SD3": k_prediction.PredictionDiscreteFlow(flow),
            "Flux": k_prediction.PredictionFlux(flow),
        }
    return {name: error(p.sigmas.float(), p.noise_scaling, p) for name, p in predictors.items()}


def references():
    """The shapes of what an edit model of Forge Neo is shown beside its state."""
    try:
        from backend.args import dynamic_args
    except ImportError:
        return []
    return [tuple(latent.shape) for latent in getattr(dynamic_args, "ref_latents", [])]


def use_model(kind: str):
    """Put a small model of this kind in the place of Forge's or Forge Neo's, or that again for "none"."""
    import probe_models

    probe_models.use(kind)


def told_side(trained_side):
    """The function that tells the side of the pictures that a model was trained for, which side.json knows better."""
    return lambda: json.loads(SIDE.read_text()) if SIDE.exists() else trained_side()


def add_routes(demo, app):
    from itermix.webui import sides

    sides.trained_side = told_side(sides.trained_side)
    app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])
    app.add_api_route("/probe/noising", noising_errors, methods=["GET"])
    app.add_api_route("/probe/model/{kind}", use_model, methods=["POST"])


script_callbacks.on_app_started(add_routes)


def seen_to_start(func, starts):
    """The sampler function, which writes down each state that it is started from, and its noise level."""

    @functools.wraps(func)
    def start(model, x, *args, **kwargs):
        level = kwargs["sigmas"][0] if "sigmas" in kwargs else kwargs["timesteps"][-1] if "timesteps" in kwargs else 0
        starts.append((x.detach().clone().cpu(), float(level)))
        return func(model, x, *args, **kwargs)

    start.of_probe = True
    return start


def adapt(model):
    """Let an IP-Adapter with made-up keys and values act in the left half."""
    from lib_ipadapter.IPAdapterPlus import CrossAttentionPatch

    class Patch(CrossAttentionPatch):
        def __call__(self, queries, *args, **kwargs):
            layer = functools.partial(self.made_up, size=queries.shape[-1])
            self.ipadapters[0].ip_layers.to_kvs = {self.k_key: layer, self.v_key: layer}
            return super().__call__(queries, *args, **kwargs)

        def made_up(self, cond, size):
            return cond.expand(-1, -1, size)

    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    adapter, cond = SimpleNamespace(ip_layers=SimpleNamespace()), torch.full((1, 4, 1), 5.0)
    patch = Patch(1.0, adapter, 0, cond, 0 * cond, "original", mask, 1e9, 0.0)
    unet = model.forge_objects.unet = model.forge_objects.unet.clone()
    unet.set_model_attn2_replace(patch, "middle", 0)


class Probe(scripts.Script):
    def title(self):
        return "Probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def setup(self, p, *args):
        if SETTINGS.exists():
            p.itermix_settings = json.loads(SETTINGS.read_text())
        if PROMPTS.exists():
            halves = json.loads(PROMPTS.read_text())
            p.itermix_prompts = lambda left, top, right, bottom: halves[left + right >= 1]

    def process_before_every_sampling(self, p, *args, **kwargs):
        """Called before other scripts' or after, so the clean latent is read later."""
        if FAIL.exists() and json.loads(FAIL.read_text()).get("how") == "source":
            p.itermix.kept_to = torch.zeros(7, 3, 4, 4)  # of too many pictures
        if ADAPTER.exists():
            adapt(p.sd_model)
        calls, states, starts, numbers, shown = [], [], [], [], []
        noise = kwargs["noise"].detach().clone().cpu()
        sampler, denoiser = p.sampler, p.sampler.model_wrap_cfg

        def write():
            latent = denoiser.init_latent
            seen = {
                "latent": latent.detach().clone().cpu() if latent is not None else None,
                "noise": noise,
                "calls": calls,
                "states": states,
                "starts": starts,
                "references": shown,  # at each call
                "numbers": numbers,  # of the steps, as the denoiser counts them
                "timesteps": not hasattr(sampler.model_wrap, "sigmas"),
                "alphas_cumprod": getattr(p.sd_model, "alphas_cumprod", torch.zeros(0)).cpu(),
                # What mixing has on these objects while it runs, and, at the first call of the next run, after it.
                "hooks": len(denoiser._forward_pre_hooks),
                "own_attributes": sorted(vars(sampler)),
            }
            torch.save(seen, FOLDER / "probe.pt")

        def record(module, inputs, output):
            x, level = inputs[:2]
            shown.append(references())
            numbers.append(denoiser.step - 1)  # it has counted this call
            calls.append((x.detach().clone().cpu(), float(level.flatten()[0]), output.detach().clone().cpu()))
            write()

        def show(info):
            states.append((int(info["i"]), info["x"].detach().clone().cpu()))
            write()
            return type(sampler).callback_state(sampler, info)

        func = sampler.func  # of an iteration before, where the sampler is kept
        sampler.func = seen_to_start(func.__wrapped__ if hasattr(func, "of_probe") else func, starts)
        sampler.callback_state = show
        for hook in getattr(denoiser, "probe_hooks", []):
            hook.remove()
        denoiser.probe_hooks = [denoiser.register_forward_hook(record)]
