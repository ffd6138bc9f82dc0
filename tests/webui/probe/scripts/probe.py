"""A test extension: writes down what the sampler's model is called with, for a comparison with a hand-written loop.

It also counts the calls of every sampling (runs.json), lets a call fail that fail.json names, switches mixing on with
the settings in settings.json, as another extension would, and has a route that reloads the UI.
"""

import functools
import json
import os
from pathlib import Path

import torch
from modules import script_callbacks, scripts, shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser

FOLDER = Path(os.environ["ITERMIX_PROBE"])
RUNS, FAIL, SETTINGS = (FOLDER / name for name in ("runs.json", "fail.json", "settings.json"))


def count(module, inputs):
    """One more call: [width, height, calls, job text] of each sampling since the tests removed the file."""
    if not isinstance(module, CFGDenoiser):
        return
    runs = json.loads(RUNS.read_text()) if RUNS.exists() else []
    if module.step == 0:
        runs.append([8 * inputs[0].shape[3], 8 * inputs[0].shape[2], 0, shared.state.job])
    runs[-1][2] += 1
    RUNS.write_text(json.dumps(runs))
    fail = json.loads(FAIL.read_text()) if FAIL.exists() else {}
    if [len(runs), runs[-1][2]] == [fail.get("run"), fail.get("call")]:
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
script_callbacks.on_app_started(
    lambda demo, app: app.add_api_route("/probe/reload", shared.state.request_restart, methods=["POST"])
)


def seen_to_start(func, starts):
    """The sampler function, which writes down each state that it is started from, and its noise level."""

    @functools.wraps(func)
    def start(model, x, *args, **kwargs):
        level = kwargs["sigmas"][0] if "sigmas" in kwargs else kwargs["timesteps"][-1] if "timesteps" in kwargs else 0
        starts.append((x.detach().clone().cpu(), float(level)))
        return func(model, x, *args, **kwargs)

    start.of_probe = True
    return start


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

    def process_before_every_sampling(self, p, *args, **kwargs):
        """Called before other scripts' or after, so the clean latent is read later."""
        calls, states, starts = [], [], []
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
                "timesteps": not hasattr(sampler.model_wrap, "sigmas"),
                "alphas_cumprod": getattr(p.sd_model, "alphas_cumprod", torch.zeros(0)).cpu(),
                # What mixing has on these objects while it runs, and, at the first call of the next run, after it.
                "hooks": len(denoiser._forward_pre_hooks),
                "own_attributes": sorted(vars(sampler)),
            }
            torch.save(seen, FOLDER / "probe.pt")

        def record(module, inputs, output):
            x, level = inputs[:2]
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
