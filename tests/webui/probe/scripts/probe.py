"""A test extension: writes down what the sampler's model is called with, for a comparison with a hand-written loop.

It also counts the calls of every sampling (runs.json), lets a call fail that fail.json names, and switches mixing on
with the settings in settings.json, as another extension would.
"""

import json
import os
from pathlib import Path

import torch
from modules import scripts, shared
from modules.sd_samplers_cfg_denoiser import CFGDenoiser

FOLDER = Path(os.environ["ITERMIX_PROBE"])
RUNS, FAIL, SETTINGS = (FOLDER / name for name in ("runs.json", "fail.json", "settings.json"))


def count(module, inputs):
    """One more call: [width, height, calls, job text, hints] of each sampling since the tests removed the file.

    The hints are the sizes [width, height] of what a ControlNet was shown: its first layer makes 16 channels of 3.
    """
    if isinstance(module, torch.nn.Conv2d) and module.weight.shape[:2] == (16, 3):
        runs = json.loads(RUNS.read_text())
        runs[-1][4].append(inputs[0].shape[:1:-1])
        RUNS.write_text(json.dumps(runs))
    if not isinstance(module, CFGDenoiser):
        return
    runs = json.loads(RUNS.read_text()) if RUNS.exists() else []
    if module.step == 0:
        runs.append([8 * inputs[0].shape[3], 8 * inputs[0].shape[2], 0, shared.state.job, []])
    runs[-1][2] += 1
    RUNS.write_text(json.dumps(runs))
    fail = json.loads(FAIL.read_text()) if FAIL.exists() else {}
    if [len(runs), runs[-1][2]] == [fail.get("run"), fail.get("call")]:
        if fail["how"] == "nan":
            inputs[0].fill_(torch.nan)
        elif fail["how"] in ("interrupt", "skip"):
            getattr(shared.state, fail["how"])()
        else:
            raise torch.cuda.OutOfMemoryError("out of memory, on purpose")


torch.nn.modules.module.register_module_forward_pre_hook(count)


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
        calls, states = [], []
        noise = kwargs["noise"].detach().clone().cpu()
        sampler, denoiser = p.sampler, p.sampler.model_wrap_cfg

        def write():
            latent = denoiser.init_latent
            seen = {
                "latent": latent.detach().clone().cpu() if latent is not None else None,
                "noise": noise,
                "calls": calls,
                "states": states,
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

        sampler.callback_state = show
        for hook in getattr(denoiser, "probe_hooks", []):
            hook.remove()
        denoiser.probe_hooks = [denoiser.register_forward_hook(record)]
