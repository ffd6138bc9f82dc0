"""Routes of our own under /itermix/v1."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException

from itermix.phases import described, plan
from itermix.settings import Settings, SettingsError, UpscaleSettings


def add_routes(_: Any, app: FastAPI) -> None:
    """Called by the WebUI with its page and its server when it has started."""
    app.add_api_route("/itermix/v1/plan", plan_route, methods=["GET"])


def plan_route(
    width: int,
    height: int,
    steps: int,
    scale: float = UpscaleSettings().scale,
    target_width: int = 0,
    target_height: int = 0,
    max_scale_per_phase: float = Settings().max_scale_per_phase,
) -> dict[str, Any]:
    """The phases to a scale or a target: {"phases": [[width, height], ...], "text": the same in words}.

    A wrong value is HTTP 422 with a sentence in `detail`.
    """
    try:
        settings = UpscaleSettings(
            scale=scale, width=target_width, height=target_height, max_scale_per_phase=max_scale_per_phase
        )
        sizes = plan(width, height, target=settings.target(width, height), max_scale_per_phase=max_scale_per_phase)
    except SettingsError as error:
        raise HTTPException(status_code=422, detail=str(error)) from error
    return {"phases": sizes, "text": described((width, height), sizes, steps)}
