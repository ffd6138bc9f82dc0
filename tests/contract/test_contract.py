"""All that is used of a WebUI exists in each of those on record, and takes the arguments that it is given."""

import ast
import inspect
import json

import pytest
from record import DATA, VALUE, Checkout, written
from uses import Call, Use, used, uses_in

HOSTS = {path.stem: json.loads(path.read_text())["names"] for path in sorted(DATA.glob("*.json"))}
WITH_GUARD = {
    "modules.sd_models.SkipWritingToConfig",
    "modules.sd_models.reload_model_weights",
    "p.hr_additional_modules",
}
"""What some WebUI doesn't have, so that itermix/webui/host.py asks for it first."""


def problems(use: Use, names: dict[str, str | None]) -> list[str]:
    """What is wrong with one use in a WebUI of which this is the record."""
    if use.path not in names:
        return [f"{use.where}: {use.path} isn't on record; run tests/contract/record.py on each WebUI"]
    found = names[use.path]
    if found is None:
        by_host = use.guarded and use.where.startswith("host.py:")
        return [] if by_host else [f"{use.where}: there is no {use.path}; let itermix/webui/host.py ask for it first"]
    try:
        if use.call:
            check_call(found, use)
        if use.override:
            check_override(found, use)
    except TypeError as error:
        return [f"{use.where}: {use.path}{found}: {error}"]
    return []


def check_call(signature: str, use: Use) -> None:
    """Raises TypeError if the call doesn't fit."""
    if signature == VALUE:
        raise TypeError("it isn't on record as something to be called; run tests/contract/record.py on each WebUI")
    call = use.call
    parsed = signature_of(signature)
    bind = parsed.bind_partial if call.more else parsed.bind
    bind(*[None] * call.positional, **dict.fromkeys(call.keywords))


def check_override(signature: str, use: Use) -> None:
    """Raises TypeError if our method doesn't take all that the WebUI may give the one that it stands for."""
    ours, theirs = signature_of(written(use.override, skip_first=True)), signature_of(signature).parameters.values()
    given = [None for each in theirs if each.kind in (each.POSITIONAL_OR_KEYWORD, each.VAR_POSITIONAL)]
    more = {"more": None} if any(each.kind is each.VAR_KEYWORD for each in theirs) else {}
    ours.bind(*given, **more)


def signature_of(text: str) -> inspect.Signature:
    """The signature that `written` wrote."""
    arguments = ast.parse(f"lambda {text[1:-1]}: 0", mode="eval").body.args
    kind, default = inspect.Parameter, inspect.Parameter.empty
    required = len(arguments.args) - len(arguments.defaults)
    found = [
        kind(each.arg, kind.POSITIONAL_OR_KEYWORD, default=default if k < required else ...)
        for k, each in enumerate(arguments.args)
    ]
    if arguments.vararg:
        found.append(kind(arguments.vararg.arg, kind.VAR_POSITIONAL))
    for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults):
        found.append(kind(each.arg, kind.KEYWORD_ONLY, default=... if value else default))
    if arguments.kwarg:
        found.append(kind(arguments.kwarg.arg, kind.VAR_KEYWORD))
    return inspect.Signature(found)


def test_the_webuis_of_the_family_are_on_record():
    assert set(HOSTS) == {"a1111", "forge", "reforge", "forge-classic", "forge-neo"}


@pytest.mark.parametrize("host", HOSTS)
def test_everything_used_is_there_and_takes_its_arguments(host):
    assert [problem for use in used() for problem in problems(use, HOSTS[host])] == []


def test_what_is_not_everywhere_is_listed():
    assert {path for names in HOSTS.values() for path, found in names.items() if found is None} == WITH_GUARD


def test_nothing_is_on_record_that_is_not_used():
    assert {path for names in HOSTS.values() for path in names} == {use.path for use in used()}


def test_uses_of_every_kind_are_found():
    found = {use.path: use for use in used()}
    assert Call(6, ("info", "p", "suffix")) in {use.call for use in used() if use.path == "modules.images.save_image"}
    for path in (
        "modules.paths_internal.data_path",  # imported itself
        "p.truncate_x",  # by a name in a constant, read in a loop
        "p.sample_hr_pass",  # put in the place of
        "p.sampler.func",  # of an object kept on self
        "processed.all_subseeds",
        "modules.shared.sd_upscalers[].name",  # of elements
        "modules.shared.state.textinfo",  # written through a variable
        "modules.scripts.Script.process_before_every_sampling",  # a hook of ours
        "xyz_grid.AxisOption",
    ):
        assert path in found


WRONG = {
    "a module": "from modules import no_such_module",
    "a name of a module": "from modules import shared\nshared.no_such_name",
    "an imported name": "from modules.images import no_such_name",
    "an option": "from modules import shared\nshared.opts.no_such_option",
    "a member of p": "def f(p: Any):\n    return p.no_such_member",
    "a member by its name": "def f(p):\n    for name in ('steps', 'no_such_member'):\n        getattr(p, name)",
    "a result's member": "from modules import processing\nr = processing.process_images(p)\nr.no_such_member",
    "an element's member": "from modules import shared\n[u.no_such_member for u in shared.sd_upscalers]",
    "a hook": "from modules import scripts\nclass Own(scripts.Script):\n    def no_such_hook(self, p): ...",
    "an argument too many": "from modules import images\nimages.flatten(1, 2, 3)",
    "an argument too few": "from modules import images\nimages.flatten(1)",
    "an argument's name": "from modules import images\nimages.flatten(1, background=2)",
    "an argument's name among others": "from modules import images\nimages.resize_image(0, *args, upscaler=2)",
    "a method's argument": "def f(p):\n    p.comment('a', 'b')",
    "a hook's parameters": "from modules import scripts\nclass Own(scripts.Script):\n    def process(self, p): ...",
    "a guard outside of host.py": "from modules import sd_models\n"
    "def f():\n    if hasattr(sd_models, 'reload_model_weights'):\n        sd_models.reload_model_weights()",
}


@pytest.mark.parametrize("source", WRONG.values(), ids=WRONG)
def test_a_use_that_a_webui_does_not_have_is_found(source):
    found = [problem for use in uses_in(source, "made_up.py") for problem in problems(use, HOSTS["forge-neo"])]
    assert found
    assert all(problem.startswith("made_up.py:") for problem in found)


def test_a_use_without_a_guard_is_found_in_host_py_too():
    source = "from modules import sd_models\ndef f():\n    sd_models.reload_model_weights()"
    (problem,) = {each for use in uses_in(source, "host.py") for each in problems(use, HOSTS["forge-neo"])}
    assert problem.startswith("host.py:3: there is no modules.sd_models.reload_model_weights")


def test_a_checkout_is_read_without_importing_it(tmp_path):
    sources = {
        "shared.py": "import missing_library\nfrom modules.options import OptionInfo\nif x:\n    state = None",
        "options.py": "class OptionInfo:\n    def __init__(self, default=None, *, section): ...",
        "shared_options.py": "x = {'samples_save': OptionInfo(True)}",
        "cmd_args.py": "parser.add_argument('--api-auth')",
        "processing.py": "class Base:\n    steps: int = 2\n    def comment(self, text): ...\n"
        "class StableDiffusionProcessingImg2Img(Base):\n    def init(self):\n        self.mask = 1\n"
        "def process_images(p):\n    p.seeds = 1",
    }
    (tmp_path / "modules").mkdir()
    for name, source in sources.items():
        (tmp_path / "modules" / name).write_text(source)
    found = Checkout(tmp_path).record()
    there = {path: signature for path, signature in found.items() if signature}
    expected = ["shared", "shared.OptionInfo", "shared.state", "shared.opts.samples_save", "shared.cmd_opts.api_auth"]
    expected += ["processing", "processing.process_images", "processing.StableDiffusionProcessingImg2Img"]
    assert set(there) == {f"modules.{name}" for name in expected} | {
        "p.steps",
        "p.comment",
        "p.mask",
        "p.seeds",
        "p.init",
    }
    assert there["modules.shared.OptionInfo"] == "(default=..., *, section)"
    assert there["p.comment"] == "(text)"
