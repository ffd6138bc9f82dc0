"""How errors get to the page of a WebUI whose main thread loses them."""

import importlib
import logging
import sys
from types import ModuleType

import pytest

from itermix.parameters import SettingsError
from itermix.steps.samplers import SamplerRefused


class HTTPException(Exception):
    """As fastapi's, which is a WebUI's."""

    def __init__(self, status_code, detail):
        super().__init__()
        self.status_code, self.detail = status_code, detail


@pytest.fixture(autouse=True)
def as_client_errors(monkeypatch):
    fastapi = ModuleType("fastapi")
    fastapi.HTTPException = HTTPException
    monkeypatch.setitem(sys.modules, "fastapi", fastapi)
    monkeypatch.delitem(sys.modules, "itermix.webui.errors", raising=False)
    yield importlib.import_module("itermix.webui.errors").as_client_errors
    sys.modules.pop("itermix.webui.errors", None)


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


@pytest.fixture
def failing(as_client_errors):
    def task(error):
        def run():
            with as_client_errors():
                raise error

        return Task(run)

    return task


def worked(task):
    """The task after its work, as the main thread leaves it, and what it raised."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  # whichever it is, it is printed
        task.work()
    return task, raised.value


WRONG = SettingsError("alpha", 99, "Allowed: less.")


@pytest.mark.parametrize("error", [WRONG, RuntimeError("out of memory")])
def test_an_error_is_raised_where_the_result_of_its_task_is_unpacked(main_thread, failing, error):
    task, raised = worked(failing(error))
    with pytest.raises(type(raised)) as unpacked:
        list(task.result)
    assert unpacked.value is raised
    assert str(raised) == str(error)


def test_a_webui_that_keeps_errors_itself_is_left_alone(main_thread, failing):
    main_thread.last_exception = None
    assert worked(failing(RuntimeError("out of memory")))[0].result is None


@pytest.mark.parametrize("error", [WRONG, SamplerRefused("it can't")])
def test_what_the_user_got_wrong_is_422_and_one_line_in_the_log(as_client_errors, caplog, error):
    with caplog.at_level(logging.ERROR), pytest.raises(HTTPException) as raised, as_client_errors(), as_client_errors():
        raise error
    assert (raised.value.status_code, raised.value.detail, str(raised.value)) == (422, str(error), str(error))
    assert type(raised.value).__name__ == type(error).__name__
    assert [record.getMessage() for record in caplog.records] == [str(error)]
    assert raised.value.__suppress_context__  # nothing that was raised before is shown


def test_a_fault_stays_what_it_is(main_thread, as_client_errors, caplog):
    error = RuntimeError("out of memory")
    with caplog.at_level(logging.ERROR), pytest.raises(RuntimeError), as_client_errors():
        raise error
    assert not vars(error)
    assert not caplog.records
