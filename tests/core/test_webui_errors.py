"""How errors get to the page of a WebUI whose main thread loses them."""

import sys
from types import ModuleType

import pytest

from itermix.parameters import SettingsError
from itermix.webui.errors import as_client_errors


class Task:
    """As reForge's: what `function` raises leaves no result."""

    def __init__(self, function):
        self.function = function
        self.result = None

    def work(self):
        self.result = self.function()


@pytest.fixture
def main_thread(monkeypatch):
    """The module of such a WebUI's main thread."""
    module = ModuleType("modules_forge.main_thread")
    module.Task = Task
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def failing(error):
    def run():
        with as_client_errors():
            raise error

    return Task(run)


def worked(task):
    """The task after its work, as the main thread leaves it."""
    with pytest.raises(Exception):  # noqa: B017, PT011  # whichever it is, it is printed
        task.work()
    return task


@pytest.mark.parametrize("error", [SettingsError("alpha", 99, "Allowed: less."), RuntimeError("out of memory")])
def test_an_error_is_raised_where_the_result_of_its_task_is_unpacked(main_thread, error):
    task = worked(failing(error))
    with pytest.raises(type(error)) as raised:
        list(task.result)
    assert raised.value is error


def test_a_webui_that_keeps_errors_itself_is_left_alone(main_thread):
    main_thread.last_exception = None
    assert worked(failing(RuntimeError("out of memory"))).result is None


def test_a_request_of_the_api_has_no_task(main_thread):
    error = SettingsError("alpha", 99, "Allowed: less.")
    with pytest.raises(SettingsError), as_client_errors():
        raise error
    assert error.status_code == 422
    assert error.detail == str(error)


def test_only_what_a_request_can_not_have_becomes_422(main_thread):
    error = RuntimeError("out of memory")
    with pytest.raises(RuntimeError), as_client_errors():
        raise error
    assert not vars(error)
