"""What one sampler or scheduler of a real WebUI does with mixing, measured from outside.

At weight 1 every blended state is z' of its noise level, whatever the model makes of it: so a state that is z' was
blended, once and at the right level, and one that isn't was not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import hosts
import numpy as np
import torch
from payloads import hires, mixing

from itermix.steps.parametrisation import ve, vp

STEPS = 6
STEPS_OF = {"Restart": 20}
"""Below 20 steps Restart doesn't restart."""
DENOISE = 0.6
DENOISE_OF = {"DPM adaptive": 0.2}
"""DPM adaptive takes hundreds of steps with random weights."""
PASSES = ("img2img", "hires")
TIED = {"blending": "addition", "lowest": 1.0, "detail": 0.0}
SIZE = {"width": 64, "height": 64}


def request(where: str, sampler: str, scheduler: str, **settings: Any) -> tuple[str, dict[str, Any]]:
    """The path and the payload of a small picture."""
    steps = STEPS_OF.get(sampler, STEPS)
    settings["denoise"] = denoise = DENOISE_OF.get(sampler, DENOISE)
    if where == "img2img":
        return where, mixing(settings, sampler=sampler, scheduler=scheduler, steps=steps, denoising_strength=denoise)
    second = {"hr_sampler_name": sampler, "hr_scheduler": scheduler, "hr_second_pass_steps": steps}
    return "txt2img", hires(settings, hr_scale=1.5, steps=1, denoising_strength=denoise, **second)


def measure(webui: hosts.WebUI, where: str, sampler: str, scheduler: str = "Automatic") -> dict[str, Any]:
    """One row of the matrix.

    Returns:
        {"sampler", "scheduler", "pass", "status": "mixed", "refused", "failed" where the WebUI fails or gives NaN
        without mixing too, or "error", "reason": the sentence, "calls_per_step", "blends_per_step", "finite": whether
        the model's outputs are, "effective": whether the picture is another than without mixing}; the last four are
        None if nothing was mixed.
    """
    (webui.data / "probe.pt").unlink(missing_ok=True)
    tied = webui.post(*request(where, sampler, scheduler, **TIED))
    # In the hires pass an error leaves the picture of the first.
    made = tied.status_code == 200 and "Itermix unfinished" not in tied.json()["info"]
    seen = Seen.read(webui) if made else None
    free = webui.post(*request(where, sampler, scheduler, enabled=False))
    row = {"sampler": sampler, "scheduler": scheduler, "pass": where}
    if seen is None:
        answer = tied.json()
        reason = answer.get("detail") or answer.get("errors") or "it fails while it samples, see img2img"
        works_alone = free.status_code == 200 and Seen.read(webui).finite
        status = "refused" if "Use another sampler" in reason else "error" if works_alone else "failed"
        nothing = dict.fromkeys(("calls_per_step", "blends_per_step", "finite", "effective"))
        return {**row, "status": status, "reason": reason, **nothing}
    pictures = [hosts.decoded(answer.json()["images"][0]) for answer in (tied, free)]
    return {
        **row,
        "status": "mixed",
        "reason": "",
        "calls_per_step": round(seen.calls / seen.steps, 2),
        "blends_per_step": round(seen.blends / seen.steps, 2),
        "finite": seen.finite,
        "effective": bool(np.abs(pictures[0] - pictures[1]).mean() > 1),
    }


@dataclass(frozen=True)
class Seen:
    """What the probe saw of one sampling: how many model calls, steps, and states that are z' of their level."""

    calls: int
    steps: int
    blends: int
    finite: bool

    @classmethod
    def read(cls, webui: hosts.WebUI) -> Seen:
        probe = torch.load(webui.data / "probe.pt", weights_only=True)
        parametrisation = vp(probe["alphas_cumprod"].double()) if probe["timesteps"] else ve()

        def is_noised(x: torch.Tensor, level: float) -> bool:
            if x.shape != probe["latent"].shape:  # some samplers call the model at other sizes
                return False
            signal, amount = parametrisation.amounts(torch.tensor(level, dtype=torch.float64))
            noised = signal * probe["latent"] + amount * probe["noise"]
            return bool((x - noised).abs().max() < 1e-3 * noised.abs().max())

        calls, states = probe["calls"], probe["states"]
        inputs = [(x, level) for x, level, _ in calls]
        # UniPC's state is seen in its callback only, after a step, at the level of the next call.
        shown = [(x, calls[i + 1][1]) for i, x in states if i + 1 < len(calls)]
        blends = {k for k, seen in enumerate(inputs) if is_noised(*seen)}
        if len(probe["starts"]) > 1:  # run one step at a time
            blends = {k for k, seen in enumerate(probe["starts"]) if is_noised(*seen)}
        elif len(blends) == 1:
            blends |= {k for k, seen in enumerate(shown, 1) if is_noised(*seen)}
        return cls(
            calls=len(calls),
            steps=len({i for i, _ in states}) or len(probe["starts"]),  # some have no callback
            blends=len(blends),
            finite=all(bool(torch.isfinite(output).all()) for _, _, output in calls),
        )
