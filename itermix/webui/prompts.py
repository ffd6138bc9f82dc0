"""The prompts of crops: a list or a callable beside the settings, encoded by the WebUI as it does its own.

The model gets them in the place of the request's prompt, while the negative prompt is the same for all crops. Which
rows of a call are of which, the WebUIs say in two ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from modules import prompt_parser, sd_samplers, shared
from torch import Tensor

from itermix.model.parts import Parts, Place
from itermix.model.prompts import NAME, Grid, PromptOf, checked, with_rows
from itermix.parameters import SettingsError
from itermix.webui import controlnet

KEY = "Itermix prompts"
"""In the infotext."""

CONTEXTS, VECTORS = ("c_crossattn", "crossattn"), ("y", "vector")
"""What the tokens of a prompt are called in a model's conditioning, and what else SDXL is told of it."""


def given(args: Sequence[Any], p: Any) -> PromptOf | None:
    """What another extension has put on the request as `p.itermix_prompts`, or beside the settings in
    `p.itermix_settings`; or else what is in an API dict. Raises SettingsError for what can't be used."""
    own = args[0] if args and isinstance(args[0], dict) else {}
    changes = getattr(p, "itermix_settings", None) or {}
    wanted = getattr(p, "itermix_prompts", None)
    return checked({**own, **changes}.get(NAME) if wanted is None else wanted)


def check_model(prompt_of: PromptOf) -> None:
    """Raises SettingsError if the model that is loaded takes prompts together with the picture, so that their lengths
    matter: transformers."""
    if not any(getattr(shared.sd_model, name, False) for name in ("is_sd1", "is_sd2", "is_sdxl")):
        allowed = "Allowed with Stable Diffusion 1, 2 and XL: this model is of another kind."
        raise SettingsError(NAME, words(prompt_of), allowed)


def words(prompt_of: PromptOf) -> str:
    return str(prompt_of) if isinstance(prompt_of, Grid) else "by another extension"


def note(p: Any, prompt_of: PromptOf, crops: bool) -> None:
    """Say in the infotext what the crops were told; and on the page, too, if there were none to tell it."""
    if not crops:
        p.comment(f"Iterative Mixing: {NAME} have no effect, since the model is shown the picture as a whole.")
    p.extra_generation_params[KEY] = words(prompt_of) if crops else "none, the picture was shown as a whole"


class Prompts:
    """The prompts of the crops in one sampling.

    Attributes:
        acts: whether they are in the place of the request's.
    """

    def __init__(self, p: Any, texts: Mapping[Place, str]):
        self._p = p
        self._texts = texts
        self._encoded: dict[str, Any] = {}
        self._left = self._rows = 0  # positive prompts still to come in a call of A1111's denoiser, and of its model
        self.acts = True

    def encode(self) -> None:
        """By the model that is loaded, before it samples: to encode later Forge might move it off the graphics card."""
        texts = list(dict.fromkeys(self._texts.values()))
        self._encoded = dict(zip(texts, encoded(self._p, texts)))

    @contextmanager
    def counting(self, denoiser: Any) -> Iterator[None]:
        """Inside, `of_call` knows which rows of prompts A1111's denoiser asks its model for: first the positive ones,
        then the negative ones, all at once or in several calls."""

        def begin(_: Any, args: tuple, kwargs: dict[str, Any]) -> None:
            self._left = sum(len(prompts) for prompts in kwargs["cond"].batch)

        def count(_: Any, args: tuple[Tensor, ...]) -> None:
            self._rows = min(self._left, len(args[0]))
            self._left -= self._rows

        hooks = [
            denoiser.register_forward_pre_hook(begin, with_kwargs=True),
            denoiser.inner_model.register_forward_pre_hook(count),
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def of_call(self, parts: Parts, own: dict[str, Any]) -> dict[str, Any]:
        """What the parts get in a call of A1111's model, which would get `own`."""
        return own | {"cond": self._of_parts(parts, range(self._rows), own["cond"])}

    def of_chunks(self, parts: Parts, chunks: Sequence[int], c: dict[str, Any]) -> dict[str, Any]:
        """The same in Forge's kin: each of the chunks has a row for every picture, 0 is a positive one."""
        count = 0 if parts.x is None else len(parts.x) // len(chunks)
        positive = [k * count + row for k, kind in enumerate(chunks) if not kind for row in range(count)]
        return self._of_parts(parts, positive, c)

    def _of_parts(self, parts: Parts, positive: Iterable[int], c: dict[str, Any]) -> dict[str, Any]:
        own = {k: self._texts[place] for k, place in enumerate(parts.places) if place in self._texts}
        step, count = self._p.sampler.model_wrap_cfg.step, len(parts.views)
        now = {text: prompt_parser.reconstruct_cond_batch([self._encoded[text]], step) for text in own.values()}
        rows = {row * count + k: now[text] for row in positive for k, text in own.items()}
        return {name: replaced(name, value, rows) for name, value in c.items()} if rows and self.acts else c


def encoded(p: Any, texts: Sequence[str]) -> list[Any]:
    """What the WebUI makes of each text for the sampling that comes next, with its changes on the way."""
    hires = getattr(p, "is_hr_pass", False)
    width, height = (p.hr_upscale_to_x, p.hr_upscale_to_y) if hires else (p.width, p.height)
    steps = None
    if hires:
        steps = p.hr_second_pass_steps or p.steps
        config = sd_samplers.find_sampler_config(p.hr_sampler_name or p.sampler_name)
        steps = config.total_steps(steps) if config else steps
    prompts = prompt_parser.SdConditioning(texts, width=width, height=height)
    learned = prompt_parser.get_learned_conditioning
    return p.get_conds_with_caching(learned, prompts, p.firstpass_steps, [[None, None]], None, steps)


def replaced(name: str, value: Any, rows: Mapping[int, Any]) -> Any:
    """What the model is told under a name, with rows of other prompts in it: tensors [1, t, C], or SDXL's dicts."""
    if name in VECTORS:
        vectors = value.clone()
        for k, row in rows.items():
            vectors[k] = row["vector"][0].to(vectors)
        return vectors
    if name not in CONTEXTS:
        return value
    if isinstance(value, list):
        return [replaced(name, context, rows) for context in value]
    marks = controlnet.marks(value)
    tokens = {k: (row["crossattn"] if isinstance(row, dict) else row)[0] for k, row in rows.items()}
    return torch.cat([value[:, :marks], with_rows(value[:, marks:], tokens)], dim=1)
