"""How errors get past the WebUI to the person who made the request."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from itermix.parameters import SettingsError
from itermix.settings.presets import PresetFileError
from itermix.steps.samplers import SamplerRefused

USER_ERRORS = (SettingsError, SamplerRefused, PresetFileError)
log = logging.getLogger(__name__)


class Refused(HTTPException):
    """What the user got wrong: HTTP 422 with the sentence in `detail`. WebUIs print no traceback of this kind."""

    def __init__(self, error: Exception):
        super().__init__(status_code=422, detail=str(error))

    def __str__(self) -> str:
        return self.detail


@contextmanager
def as_client_errors() -> Iterator[None]:
    """Requests that can't be fulfilled become `Refused`, and a line in the log; other errors pass unchanged.

    All of them get to the page.
    """
    try:
        yield
    except USER_ERRORS as error:
        log.error("%s", error)
        # Under its own name, which answers of the API have as "error".
        refused: Exception = type(type(error).__name__, (Refused,), {})(error)
        keep_for_page(refused)
        raise refused from None
    except Exception as error:
        keep_for_page(error)
        raise


class Failed:
    """In the place of a task's result: raises its error where the WebUI unpacks that, which shows it on the page."""

    def __init__(self, error: Exception):
        self._error = error

    def __iter__(self) -> Iterator[Any]:
        raise self._error


def keep_for_page(error: Exception) -> None:
    """Let the page show an error that is about to leave a task of the WebUI's main thread.

    reForge and Forge Classic print what a task raises and take None for its result, and then show that None can't be
    unpacked. Forge and Forge Neo keep the error themselves, and A1111 has no such thread.
    """
    main_thread: Any = sys.modules.get("modules_forge.main_thread")
    if main_thread is None or hasattr(main_thread, "last_exception"):
        return
    frame = inspect.currentframe()
    while frame:
        task = frame.f_locals.get("self")
        if isinstance(task, main_thread.Task):
            task.result = Failed(error)
        frame = frame.f_back


def kept(function: Callable[..., Any], *args: Any) -> Any:
    """The function's result, or its exception as a value.

    The WebUI logs what an always-on script raises and generates without it: a plain picture in silence. So exceptions
    are kept, and raised inside the sampling, where the WebUI shows them.
    """
    try:
        return function(*args)
    except Exception as error:
        return error
