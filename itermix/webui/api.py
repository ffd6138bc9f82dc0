"""Routes of our own under /itermix/v1, behind the WebUI's --api-auth.

Wrong input is HTTP 422 with a sentence in `detail`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Body, Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from modules import shared

import itermix
from itermix.model import deep_shrink
from itermix.parameters import SettingsError
from itermix.picture.phases import described
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.presets import PRESETS, REASONS, PresetFileError
from itermix.settings.schema import json_schema
from itermix.steps.schedule import steps_asked, steps_by_host
from itermix.webui import calibration, checkpoints, docs, options, results, sides
from itermix.webui.auth import authorised
from itermix.webui.curve import curve
from itermix.webui.limits import SIDES, STEPS, check_size, checked_body
from itermix.webui.presets import OWN, with_preset


class Route(APIRoute):
    """A route whose errors are sentences."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Any]]:
        handler = super().get_route_handler()

        async def checked(request: Request) -> Any:
            try:
                return await handler(checked_body(request) if request.method == "POST" else request)
            except (SettingsError, PresetFileError) as error:
                raise HTTPException(status_code=422, detail=str(error)) from error
            except RequestValidationError as error:
                wrong = (f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
                raise HTTPException(status_code=422, detail=f"Iterative Mixing: {'; '.join(wrong)}.") from error
            except RecursionError as error:
                detail = "Iterative Mixing: the body of the request is nested too deeply."
                raise HTTPException(status_code=422, detail=detail) from error

        return checked


def add_routes(_: Any, app: FastAPI) -> None:
    """Called by the WebUI with its page and its server when it has started."""
    router = APIRouter(prefix="/itermix/v1", route_class=Route, dependencies=[Depends(authorised)])
    for path, route in {
        "schema": schema,
        "presets": presets,
        "plan": plan_route,
        "facts": facts,
        "docs/{page:path}": page_of_docs,
        "results": last_results,
        "results/{number}/{kind}": picture_of_result,
        "calibration": calibration_route,
        "calibration/sheet": calibration_sheet,
        "version": version,
    }.items():
        router.add_api_route(f"/{path}", route, methods=["GET"])
    for path, route in {
        "presets/save": save_preset,
        "presets/rename": rename_preset,
        "presets/delete": delete_preset,
        "presets/bind": bind_preset,
        "presets/unbind": unbind_preset,
        "weights": weights_route,
        "calibration/start": start_calibration,
        "calibration/stop": stop_calibration,
        "calibration/keep": keep_calibrated,
    }.items():
        router.add_api_route(f"/{path}", route, methods=["POST"])
    app.include_router(router)


def version() -> dict[str, str]:
    return {"version": itermix.__version__}


def schema() -> dict[str, Any]:
    """JSON Schemas of the dicts that the two scripts take."""
    defaults = options.defaults()
    return {"mixing": json_schema(Settings, defaults), "upscale": json_schema(UpscaleSettings, defaults)}


def facts() -> dict[str, Any]:
    """What settings need that no setting says: the kind of the loaded model's network, and whether it is one of flow
    matching; the checkpoint that is chosen, and what it is known by; and the side of the pictures that it was trained
    for. None for what isn't known."""
    network = sides.loaded_network()
    chosen = checkpoints.chosen()
    return {
        "network": network and ("U-Net" if deep_shrink.is_unet(network) else type(network).__name__),
        "flow": checkpoints.is_flow(shared.sd_model) if network else None,
        "checkpoint": {"name": chosen.name, "hash": chosen.hashes[0]} if chosen.hashes else None,
        "side": sides.trained_side(),
    }


def page_of_docs(page: str) -> Response:
    """A page of docs/ as HTML, or one of its pictures."""
    content, kind = docs.file(page)
    return Response(content, media_type=kind)


def last_results() -> list[dict[str, Any]]:
    """The last pictures that the page has made, the newest last, with their settings."""
    return results.LAST.listed()


def picture_of_result(number: int, kind: str) -> Response:
    """A PNG file: the result of that number, or its source."""
    return Response(results.LAST.file(number, kind), media_type="image/png")


def presets() -> dict[str, Any]:
    """{"built_in": {name: {"settings", "reason"}}, "own": {name: {setting: value}}, "bound": {checkpoint: name},
    "error": why none of the own}."""
    built_in = {name: {"settings": values, "reason": REASONS[name]} for name, values in PRESETS.items()}
    try:
        return {"built_in": built_in, "own": OWN.load(), "bound": OWN.bound(), "error": None}
    except PresetFileError as error:
        return {"built_in": built_in, "own": {}, "bound": {}, "error": str(error)}


def save_preset(name: Any = Body(), settings: Any = Body()) -> dict[str, Any]:
    """Keep what a preset decides of these settings under a name; gives all presets."""
    OWN.save(name, given(settings))
    return presets()


def rename_preset(name: Any = Body(), new_name: Any = Body()) -> dict[str, Any]:
    OWN.rename(name, new_name)
    return presets()


def delete_preset(name: Any = Body(embed=True)) -> dict[str, Any]:
    OWN.delete(name)
    return presets()


def bind_preset(name: Any = Body(), checkpoint: Any = Body()) -> dict[str, Any]:
    """Let Automatic take a preset with a checkpoint, of which `facts` tells the hash; gives all presets."""
    OWN.bind(name, checkpoint)
    return presets()


def unbind_preset(checkpoint: Any = Body(embed=True)) -> dict[str, Any]:
    OWN.unbind(checkpoint)
    return presets()


def calibration_route() -> dict[str, Any]:
    """How far the calibration of this WebUI is, and what it has found; see `itermix.webui.calibration`."""
    return calibration.HERE.told()


def calibration_sheet() -> Response:
    """The sheet of the last calibration, a page."""
    return Response(calibration.HERE.sheet(), media_type="text/html")


def start_calibration(request: Request, minutes: Any = Body(), scale: Any = Body()) -> dict[str, Any]:
    """Try the checkpoint that is chosen, through the WebUI's own API."""
    calibration.HERE.start(request.scope["server"], calibration.MINUTES.check(minutes), calibration.SCALE.check(scale))
    return calibration.HERE.told()


def stop_calibration() -> dict[str, Any]:
    """Stop it after the picture at work."""
    calibration.HERE.stop()
    return calibration.HERE.told()


def keep_calibrated(name: Any = Body(), row: Any = Body(None)) -> dict[str, Any]:
    """Keep a row of the last calibration, its best if none is named, as a preset for the checkpoint that it is of."""
    return {"sentence": calibration.HERE.keep(name, row)}


def weights_route(
    settings: Any = Body({}),
    steps: Any = Body(STEPS.default),
    scheduler: str | None = Body(None),
    hires: bool = Body(False),
    hires_steps: Any = Body(0),
) -> dict[str, Any]:
    """The curve of these settings; see `itermix.webui.curve.curve`.

    `hires`: of the hires pass of txt2img, with `hires_steps` of its own unless these are 0.
    """
    checked = UpscaleSettings(**given(settings))
    asked, exact = asked_for(checked, STEPS.check(steps), hires, hires_steps)
    return curve(checked, asked, exact, scheduler)


def asked_for(
    settings: UpscaleSettings, steps: int, hires: bool, hires_steps: Any, sampler: str = ""
) -> tuple[int, bool]:
    """(steps, exact) of `steps_by_host` that a request with these of the tab comes to."""
    exact = hires or shared.opts.img2img_fix_steps
    if hires and hires_steps:
        return STEPS.check(hires_steps), exact
    return steps_asked(settings, steps, sampler, exact), exact


def plan_route(
    width: int,
    height: int,
    steps: int,
    sampler: str = "",
    hires: bool = False,
    **asked: Any,
) -> Any:
    """The phases to a scale or a target: {"phases": [[width, height], ...], "text": the same in words}.

    The text tells the steps that are run with the WebUI's `sampler`, in img2img or in the `hires` pass, where the tab
    has so many `steps` and `hires_steps`, and what the settings that are `asked` for cost. In the hires pass
    hr_resize_x and hr_resize_y, if they aren't 0, stand above the scale, as in the WebUI's own requests.
    """
    width, height = (side.check(value) for side, value in zip(SIDES, (width, height)))
    settings = UpscaleSettings(**{name: asked[TARGETS.get(name, name)] for name in PLANNED})
    across, down = (dataclasses.replace(PLANNED["width"], name=name).check(asked[name]) for name in HIRES[1:])
    if hires:
        sizes = sides.planned_hires(settings, width, height, (across, down))
    else:
        sizes = sides.planned(settings, width, height)
    check_size(*sizes[-1])
    whole, exact = asked_for(settings, STEPS.check(steps), hires, asked[HIRES[0]], sampler)
    run = steps_by_host(settings, whole, sampler, exact)
    return {"phases": sizes, "text": described((width, height), sizes, run, settings, sides.known())}


TARGETS = {"width": "target_width", "height": "target_height", "steps": "mixing_steps"}
"""{setting: what the query of a plan calls it}, where the name is that of the source's or the tab's."""

HIRES = ("hires_steps", "hr_resize_x", "hr_resize_y")
"""What a query may have of the tab's hires fix; 0 where it says nothing."""

PLANNED = {parameter.name: parameter for parameter in UpscaleSettings.parameters()}


def with_settings(function: Callable) -> inspect.Signature:
    """The signature of a function with HIRES and every setting in the place of its last argument, as FastAPI reads."""
    *own, _ = inspect.signature(function).parameters.values()
    more = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=0, annotation=int) for name in HIRES]
    more += [
        inspect.Parameter(
            TARGETS.get(name, name), inspect.Parameter.KEYWORD_ONLY, default=each.default, annotation=each.type
        )
        for name, each in PLANNED.items()
    ]
    return inspect.Signature([*own, *more])


vars(plan_route)["__signature__"] = with_settings(plan_route)


def given(settings: Any) -> dict[str, Any]:
    """The settings of a body, the values of a preset among them; raises SettingsError for what can't be settings."""
    if not isinstance(settings, dict):
        raise SettingsError("settings", settings, "Allowed: {name: value}.")
    return with_preset(settings)
