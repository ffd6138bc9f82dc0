"""A test extension: writes down what the sampler's model is called with, for a comparison with a hand-written loop."""

import os
from pathlib import Path

import torch
from modules import scripts

FOLDER = Path(os.environ["ITERMIX_PROBE"])


class Probe(scripts.Script):
    def title(self):
        return "Probe"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def process_before_every_sampling(self, p, *args, **kwargs):
        """Called before other scripts' or after, so the clean latent is read at the first model call."""
        calls = []
        noise = kwargs["noise"].detach().clone().cpu()
        sampler, denoiser = p.sampler, p.sampler.model_wrap_cfg

        def record(module, inputs, output):
            x, level = inputs[:2]
            calls.append((x.detach().clone().cpu(), float(level.flatten()[0]), output.detach().clone().cpu()))
            torch.save(
                {
                    "latent": module.init_latent.detach().clone().cpu() if module.init_latent is not None else None,
                    "noise": noise,
                    "calls": calls,
                    "alphas_cumprod": getattr(p.sd_model, "alphas_cumprod", torch.zeros(0)).cpu(),
                    # What mixing has on these objects while it runs, and, at the first call of the next run, after it.
                    "hooks": len(denoiser._forward_pre_hooks),
                    "own_attributes": sorted(vars(sampler)),
                },
                FOLDER / "probe.pt",
            )

        for hook in getattr(denoiser, "probe_hooks", []):
            hook.remove()
        denoiser.probe_hooks = [denoiser.register_forward_hook(record)]
