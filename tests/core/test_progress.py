"""What the WebUI's bar shows of a request: the work that is done over that which there is to do."""

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def state(monkeypatch):
    """The WebUI's state."""
    state = SimpleNamespace(job_count=-1, job_no=0, job="", textinfo="", sampling_step=0, sampling_steps=20)
    modules, shared = ModuleType("modules"), ModuleType("modules.shared")
    modules.shared = shared
    shared.state = state
    for name, module in (("modules", modules), ("modules.shared", shared)):
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "itermix.webui.progress", raising=False)
    yield state
    sys.modules.pop("itermix.webui.progress", None)  # which has this state


def shown(state):
    """As WebUIs compute it."""
    return (state.job_no + state.sampling_step / state.sampling_steps) / state.job_count


def test_steps_that_are_left_out_are_no_work(state):
    module = importlib.import_module("itermix.webui.progress")
    tasks = [module.Task("one", 20.0, steps=20), module.Task("two", 40.0, steps=20)]
    with module.shared_out(tasks, jobs=1) as progress:
        progress.begin()
        progress.skip(5)  # of 20
        assert shown(state) == pytest.approx(0)
        state.sampling_step = 10
        assert shown(state) == pytest.approx(5 / (15 + 40))
        state.sampling_step = 0
        progress.begin()
        assert shown(state) == pytest.approx(15 / (15 + 40))
        progress.skip(10)
        assert shown(state) == pytest.approx(15 / (15 + 20))
        state.sampling_step = 20
        assert shown(state) == pytest.approx(1)


def test_steps_that_are_run_again_are_work(state):
    module = importlib.import_module("itermix.webui.progress")
    with module.shared_out([module.Task("rewound", 20.0, runs=1.5, steps=20)], jobs=1) as progress:
        progress.begin()
        state.sampling_step = 20
        assert shown(state) == pytest.approx(20 / 30)
        progress.rewind(10, 20 - 10)
        assert shown(state) == pytest.approx(20 / 30)
        state.sampling_step = 20
        assert shown(state) == pytest.approx(1)
