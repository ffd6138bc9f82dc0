"""How errors get past the WebUI to the person who made the request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from itermix.parameters import SettingsError
from itermix.settings.presets import PresetFileError
from itermix.steps.samplers import SamplerRefused


@contextmanager
def as_client_errors() -> Iterator[None]:
    """Requests that can't be fulfilled become HTTP 422 with the sentence in `detail`; other errors pass unchanged."""
    try:
        yield
    except (SettingsError, SamplerRefused, PresetFileError) as error:
        vars(error).update(status_code=422, detail=str(error))  # what the API's exception handler looks for
        raise


def kept(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, or its exception as a value.

    The WebUI logs what an always-on script raises and generates without it: a plain picture in silence. So exceptions
    are kept, and raised inside the sampling, where the WebUI shows them.
    """
    try:
        return function(*args)
    except Exception as error:
        return error
