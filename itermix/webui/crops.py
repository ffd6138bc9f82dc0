"""Crops in the place of the picture, with what belongs to each of hints, masks and prompts, below the WebUI's denoiser.

In A1111 they stand in for `forward` of what makes the denoiser out of the U-Net; in Forge and its kin they are a
wrapper of the model's calls on a clone of its patcher.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

from modules import sd_samplers_common, shared
from torch import Tensor

from itermix.model.parts import Parts
from itermix.model.windows import Windows, attached, replaced
from itermix.settings import Settings
from itermix.webui import controlnet, host
from itermix.webui.prompts import Prompts


@contextmanager
def windowed(p: Any, settings: Settings, prompts: Prompts | None = None) -> Iterator[Windows | None]:
    """Windows on the model of `p.sampler`, if the settings want them, and on a refiner's that follows it; with the
    prompts of their own that crops have.

    They are below the WebUI's denoiser, so that guidance, masks and counted steps are of the whole picture.
    """
    if not settings.window:
        yield None
        return
    denoiser = p.sampler.model_wrap_cfg
    update = denoiser.update_inner_model
    forge = hasattr(shared.sd_model, "forge_objects")
    of_state = host.parametrisation(p.sampler)
    windows = Windows(settings, of_state if of_state.predicts_noise and not forge else None)

    @contextmanager
    def around_call(parts: Parts, own: dict[str, Any]) -> Iterator[dict[str, Any]]:
        check_stop()
        with controlnet.hints_of_parts(p, parts):
            yield prompts.of_call(parts, own) if prompts else own

    @contextmanager
    def on_model() -> Iterator[None]:
        with ExitStack() as stack:
            if prompts:
                prompts.encode()
            if forge:
                stack.enter_context(on_patcher(shared.sd_model, windows, prompts))
            else:
                stack.enter_context(attached(denoiser.inner_model, windows, around_call))
                stack.enter_context(prompts.counting(denoiser) if prompts else nullcontext())
            yield

    def updated() -> None:
        update()
        models.enter_context(on_model())

    with ExitStack() as models:
        models.enter_context(on_model())
        models.enter_context(replaced(denoiser, "update_inner_model", updated))
        yield windows


def check_stop() -> None:
    """Ends the sampling, as the WebUI's denoiser does before each of its calls, if the user wants it to end."""
    if host.stopped():
        raise sd_samplers_common.InterruptedException


@contextmanager
def on_patcher(model: Any, windows: Windows, prompts: Prompts | None) -> Iterator[None]:
    """The windows as a wrapper of the model's calls on a clone of its patcher, as Forge and reForge have it. A wrapper
    that is there gets the parts, and so do its ControlNets."""
    before = model.forge_objects.unet
    inner = before.model_options.get("model_function_wrapper")
    control = before.controlnet_linked_list and controlnet.InParts(before.controlnet_linked_list)

    def in_parts(apply_model: Any, call: dict[str, Any]) -> Tensor:
        def run(shown: Tensor, parts: Parts) -> Tensor:
            check_stop()
            c, level = parts(call["c"]), parts(call["timestep"])
            c["transformer_options"] = of_rows(c["transformer_options"], len(shown) // len(call["input"]))
            if prompts:
                c = prompts.of_chunks(parts, call["cond_or_uncond"], c)
            if control:
                c["control"] = control.of_parts(parts, shown, level, c, len(call["cond_or_uncond"]))
            with controlnet.masks_of_parts(c["transformer_options"], parts), references_of_parts(parts):
                if inner:
                    return inner(apply_model, {**call, "input": shown, "timestep": level, "c": c})
                return apply_model(shown, level, **c)

        return windows.put_together(run, call["input"])

    model.forge_objects.unet = before.clone()
    model.forge_objects.unet.controlnet_linked_list = control
    model.forge_objects.unet.set_model_unet_function_wrapper(in_parts)
    try:
        yield
    finally:
        model.forge_objects.unet = before


@contextmanager
def references_of_parts(parts: Parts) -> Iterator[None]:
    """Inside, an edit model is shown of its references what belongs to the parts, and whole, but once for each part,
    those that are of another size than the picture."""
    kept = host.neo_arguments()
    if kept is None or parts.x is None:
        yield
        return
    count = len(parts.x)
    shown = [parts(whole.expand(count, *whole.shape[1:])) for whole in kept.ref_latents]
    with replaced(kept, "ref_latents", shown):
        yield


def of_rows(options: dict[str, Any], count: int) -> dict[str, Any]:
    """Options of Forge's transformers where each row of the batch has become `count` rows."""
    names = options.keys() & {"cond_indices", "uncond_indices"}
    rows = {name: [row * count + k for row in options[name] for k in range(count)] for name in names}
    if (mark := options.get("cond_mark")) is not None:
        rows["cond_mark"] = mark.repeat_interleave(count)
    return options | rows
