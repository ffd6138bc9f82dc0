"""What itermix/webui and scripts/ use of a WebUI, found in their sources with `ast`; nothing is imported.

A use is a path: `modules.images.resize_image`, or `p.steps` for a member of an object that the WebUI hands over. `()`
stands for the result of a call, `[]` for an element. Of which class an object is can't be read from our sources, so
OBJECTS and TYPES say it; which of its members are used, and how, is found.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES = sorted([*(ROOT / "itermix" / "webui").glob("*.py"), *(ROOT / "scripts").glob("*.py")])

OWN = "itermix"
"""Names of ours on objects of the WebUI begin so."""

OBJECTS = {
    "p": "p",
    "q": "p",
    "_p": "p",
    "sampler": "p.sampler",
    "_sampler": "p.sampler",
    "processed": "processed",
    "result": "processed",
    "first": "processed",
    "other": "processed",
    "pp": "pp",
    "accordion": "modules.scripts.Script",
    "module": "xyz_grid",
}
"""{variable or attribute of self: the object of the WebUI that it always is in our sources}."""

TYPES = {
    "p": (
        "modules.processing.StableDiffusionProcessing",
        "modules.processing.StableDiffusionProcessingTxt2Img",
        "modules.processing.StableDiffusionProcessingImg2Img",
    ),
    "p.sampler": ("modules.sd_samplers_kdiffusion.KDiffusionSampler",),
    "p.scripts": ("modules.scripts.ScriptRunner",),
    "processed": ("modules.processing.Processed",),
    "pp": ("modules.scripts.PostprocessImageArgs",),
    "modules.scripts.Script": ("modules.scripts.Script",),
    "modules.scripts.scripts_data[]": ("modules.scripts.ScriptClassData",),
    "modules.shared.state": ("modules.shared_state.State",),
    "modules.shared.opts": ("modules.options.Options",),
    "modules.shared.cmd_opts": (),
    "modules.shared.sd_upscalers[]": ("modules.upscaler.UpscalerData",),
    "modules.shared.OptionInfo()": ("modules.options.OptionInfo",),
    "modules.shared.OptionInfo().info()": ("modules.options.OptionInfo",),
    "modules.sd_samplers.all_samplers[]": ("modules.sd_samplers_common.SamplerData",),
    "xyz_grid": ("xyz_grid",),
}
"""{object: the classes of which it can be one}. Members of other objects, such as the model's, are not looked at."""

SAME = {"modules.scripts.scripts_data[].module": "xyz_grid", "modules.processing.process_images()": "processed"}


@dataclass(frozen=True)
class Call:
    """The arguments of a call: how many by position, which by name, and whether there are more (`*` or `**`)."""

    positional: int
    keywords: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class Use:
    """Attributes:
    path: what is used.
    where: file and line.
    guarded: whether the function asks first if it is there.
    call: how it is called, if it is.
    override: the arguments with which the WebUI may call our method of this name; None if it isn't one.
    """

    path: str
    where: str
    guarded: bool = False
    call: Call | None = None
    override: ast.arguments | None = None


def used() -> list[Use]:
    """All uses in our sources."""
    return [use for path in FILES for use in uses_in(path.read_text(), path.name)]


def uses_in(source: str, name: str) -> list[Use]:
    """The uses in one source file."""
    found = Finder(name)
    found.visit(ast.parse(source))
    return [use for use in found.uses if is_checked(use.path)]


def is_checked(path: str) -> bool:
    """Whether the path is of a member of the WebUI, not of ours, whose owner is known."""
    owner, _, member = path.rpartition(".")
    is_module = owner.startswith("modules") and owner.count(".") <= 1
    return bool(owner) and not member.startswith(OWN) and (is_module or owner in TYPES) and member.isidentifier()


class Finder(ast.NodeVisitor):
    """Follows objects of the WebUI through one file."""

    def __init__(self, file: str):
        self.file = file
        self.uses: list[Use] = []
        self.names: dict[str, str | None] = dict(OBJECTS)  # {variable: path of what it is}
        self.constants: dict[str, list[str]] = {}  # {variable: texts that it runs through}
        self.guards: set[str] = set()

    def use(self, node: ast.AST, path: str, **how: object) -> None:
        guarded = path.rpartition(".")[2] in self.guards
        where = f"{self.file}:{getattr(node, 'lineno', 0)}"
        self.uses.append(Use(path, where, **{"guarded": guarded, **how}))  # type: ignore[arg-type]

    def path(self, node: ast.AST) -> str | None:
        """The path of what an expression gives; None if it is nothing of the WebUI's."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id)
        if isinstance(node, ast.Attribute):
            if is_self(node.value):
                return OBJECTS.get(node.attr)
            owner = self.path(node.value)
            found = owner and f"{owner}.{node.attr}"
        elif isinstance(node, ast.Call):
            if ast.unparse(node.func) == "copy.copy":
                return self.path(node.args[0])
            called = self.path(node.func)
            found = called and f"{called}()"
        elif isinstance(node, ast.Subscript):
            indexed = self.path(node.value)
            found = indexed and f"{indexed}[]"
        else:
            return None
        return SAME.get(found, found) if found else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and node.module.split(".")[0] == "modules":
            for alias in node.names:
                path = f"{node.module}.{alias.name}"
                self.names[alias.asname or alias.name] = path
                self.use(node, path)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in map(self.path, node.bases):
            if base not in TYPES:
                continue
            for method in (each for each in node.body if isinstance(each, ast.FunctionDef)):
                self.use(method, f"{base}.{method.name}", override=method.args)
            for each in ast.walk(node):
                if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and is_self(each.value):
                    self.use(each, f"{base}.{each.attr}")
        self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = self.names.copy(), self.guards
        self.guards = self.guards | set(map(guarded_by, ast.walk(node))) - {None}  # type: ignore[assignment]
        self.generic_visit(node)
        self.names, self.guards = before

    def visit_Assign(self, node: ast.Assign) -> None:
        target = node.targets[0]
        if isinstance(target, ast.Name) and target.id not in OBJECTS:
            self.names[target.id] = self.path(node.value)
            self.constants[target.id] = texts(node.value)
        self.generic_visit(node)

    def visit_For(self, node: ast.For) -> None:
        self.bind(node.target, node.iter)
        self.generic_visit(node)

    def visit_comprehension_of(self, node: ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp) -> None:
        before = self.names.copy()
        for generator in node.generators:
            self.visit(generator.iter)
            self.bind(generator.target, generator.iter, new=True)
        self.generic_visit(node)
        self.names = before

    visit_ListComp = visit_GeneratorExp = visit_SetComp = visit_DictComp = visit_comprehension_of

    def bind(self, target: ast.AST, iterated: ast.expr, new: bool = False) -> None:
        """Note what a loop's variable is; a comprehension's is a `new` one, whatever its name means elsewhere."""
        if not isinstance(target, ast.Name):
            return
        path = self.path(iterated)
        if new or path:
            self.names[target.id] = path and f"{path}[]"
        named = self.constants.get(iterated.id, []) if isinstance(iterated, ast.Name) else []
        self.constants[target.id] = texts(iterated) or named

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if path := self.path(node):
            self.use(node, path)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        either = [node.func.body, node.func.orelse] if isinstance(node.func, ast.IfExp) else [node.func]
        for path in filter(None, map(self.path, either)):
            positional = sum(not isinstance(each, ast.Starred) for each in node.args)
            keywords = tuple(each.arg for each in node.keywords if each.arg)
            more = positional < len(node.args) or len(keywords) < len(node.keywords)
            self.use(node, path, call=Call(positional, keywords, more))
        if ast.unparse(node.func) in ("getattr", "hasattr", "setattr", "Wrapped"):  # by a name in a text
            owner = self.path(node.args[0])
            name = node.args[1]
            for text in texts(name) or (self.constants.get(name.id, []) if isinstance(name, ast.Name) else []):
                if owner:
                    self.use(node, f"{owner}.{text}")
        self.generic_visit(node)


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def guarded_by(node: ast.AST) -> str | None:
    """The attribute that hasattr(x, "name"), or getattr(x, "name", default), asks for."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    if (node.func.id, len(node.args)) in (("hasattr", 2), ("getattr", 3)):
        return next(iter(texts(node.args[1])), None)
    return None


def texts(node: ast.AST) -> list[str]:
    """The texts of a literal: one, or a tuple or list of them."""
    if isinstance(node, ast.Constant):
        return [node.value] if isinstance(node.value, str) else []
    return [text for each in node.elts for text in texts(each)] if isinstance(node, (ast.Tuple, ast.List)) else []
