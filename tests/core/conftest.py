"""The modules of itermix.webui without a WebUI: its modules, gradio and fastapi are stood in for."""

import importlib
import importlib.abc
import importlib.machinery
import sys
import types

import pytest

FAKED = ("modules", "gradio", "fastapi")


class Control:
    """Any control, container or other class of a faked module: remembers what it was made with."""

    def __init__(self, *args, **options):
        self.args = args
        self.__dict__.update(options)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **options: None


class FakeModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") or self.__name__ == "modules":
            raise AttributeError(name)
        return type(name, (Control,), {})


class Fakes(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FAKED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        return FakeModule(spec.name)

    def exec_module(self, module):
        if module.__name__ == "modules.paths_internal":
            module.data_path = "/nowhere"
        if module.__name__ == "gradio":
            module.__version__ = "3.41.2"
        if module.__name__ == "modules.shared":
            module.cmd_opts = types.SimpleNamespace(ui_config_file="/nowhere/ui-config.json")


def forget():
    for name in list(sys.modules):
        if name.partition(".")[0] in FAKED or name.startswith("itermix.webui"):
            del sys.modules[name]


@pytest.fixture
def webui(monkeypatch):
    """webui(name) -> a module of itermix.webui, as in a WebUI."""
    forget()
    monkeypatch.setattr(sys, "meta_path", [Fakes(), *sys.meta_path])
    yield lambda name: importlib.import_module(f"itermix.webui.{name}")
    forget()


@pytest.fixture
def job(webui, monkeypatch):
    """itermix.webui.job, where what has no hires steps is img2img, and the WebUI counts the steps."""
    module = webui("job")
    monkeypatch.setattr(module.host, "is_img2img", lambda p: not hasattr(p, "hr_second_pass_steps"))
    monkeypatch.setattr(module.shared, "opts", types.SimpleNamespace(img2img_fix_steps=False), raising=False)
    return module
