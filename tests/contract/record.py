"""Which of the names and signatures that we use exist in a WebUI, read from its sources without importing them.

    python tests/contract/record.py FOLDER                              # print what is there
    python tests/contract/record.py FOLDER --name a1111 --version 1.10.1    # keep it, in docs/data/contract/a1111.json

To be run for every WebUI when itermix/webui uses something new of them; test_contract.py says when.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
from collections.abc import Iterator
from pathlib import Path

from uses import ROOT, TYPES, used

DATA = ROOT / "docs" / "data" / "contract"
XYZ = ("scripts/xyz_grid.py", "extensions-builtin/xyz/scripts/xyz_grid.py")
FOLDERS = ("", "extensions-builtin/xyz")
"""Where the sources import from."""

ANYTHING = "(*args, **kwargs)"
VALUE = "value"
"""What is recorded for a name that is there and isn't called."""

Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign | ast.alias


class Checkout:
    """The sources of one WebUI."""

    def __init__(self, folder: Path):
        self.folder = folder

    def record(self) -> dict[str, str | None]:
        """{what we use: its signature, VALUE, or None where the WebUI has no such thing}."""
        uses = used()
        called = {use.path for use in uses if use.call or use.override}
        return {path: self.described(path, path in called) for path in sorted({use.path for use in uses})}

    def described(self, path: str, called: bool) -> str | None:
        owner, _, member = path.rpartition(".")
        if owner == "modules":
            return VALUE if self.module(path) else None
        if owner == "modules.shared.cmd_opts":
            return VALUE if f"--{member.replace('_', '-')}" in self.arguments() else None
        if owner == "modules.shared.opts" and member in self.options():
            return VALUE
        owners = TYPES.get(owner, (owner,))
        found = next((found for each in owners if (found := self.member(each, member))), None)
        if found:
            return self.signature(*found, method=owner in TYPES and owner != "xyz_grid") if called else VALUE
        return VALUE if owner == "p" and member in self.given_to_p() else None

    @functools.cache  # noqa: B019  # a checkout lives as long as the program
    def module(self, name: str) -> dict[str, Definition]:
        """{name: what defines it} at the top of a module; empty if there is no such module."""
        stem = name.replace(".", "/")
        files = [f"{folder}/{stem}{end}" for folder in FOLDERS for end in (".py", "/__init__.py")]
        paths = [self.folder / file.lstrip("/") for file in (XYZ if name == "xyz_grid" else files)]
        found = next((path for path in paths if path.is_file()), None)
        return dict(defined(ast.parse(found.read_text(encoding="utf-8")).body)) if found else {}

    def find(self, path: str) -> tuple[str, Definition] | None:
        """(its module, what defines it) of a name at the top of a module, followed through imports."""
        module, _, name = path.rpartition(".")
        return self.followed(module, self.module(module).get(name))

    def followed(self, module: str, node: Definition | None) -> tuple[str, Definition] | None:
        if isinstance(node, ast.alias):  # has where it comes from noted by `defined`
            return self.find(f"{node.source}.{node.name}") or (module, node)  # type: ignore[attr-defined]
        if isinstance(node, ast.Assign) and isinstance(node.value, (ast.Name, ast.Attribute)):
            return self.resolved(module, node.value) or (module, node)
        return (module, node) if node else None

    def resolved(self, module: str, value: ast.expr) -> tuple[str, Definition] | None:
        """What a name, or an attribute of an imported module, means in a module."""
        if isinstance(value, ast.Name):
            return self.find(f"{module}.{value.id}")
        if isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name):
            imported = self.module(module).get(value.value.id)
            if isinstance(imported, ast.alias):
                return self.find(f"{imported.source}.{imported.name}.{value.attr}")  # type: ignore[attr-defined]
        return None

    def member(self, owner: str, name: str) -> tuple[str, Definition] | None:
        """(module, definition) of a member of a module, or of a class or one of its bases."""
        if self.module(owner):
            return self.find(f"{owner}.{name}")
        found = self.find(owner)
        return found and next(
            ((module, members[name]) for module, node in self.classes(*found) if name in (members := of_class(node))),
            None,
        )

    def classes(self, module: str, node: Definition) -> Iterator[tuple[str, Definition]]:
        """A class and its bases, with their modules."""
        yield module, node
        for base in getattr(node, "bases", ()):
            if found := self.resolved(module, base):
                yield from self.classes(*found)

    def signature(self, module: str, node: Definition, method: bool) -> str:
        if isinstance(node, ast.FunctionDef):
            static = any(ast.unparse(each) == "staticmethod" for each in node.decorator_list)
            return written(node.args, skip_first=method and not static)
        if not isinstance(node, ast.ClassDef):
            return ANYTHING
        if any("dataclass" in ast.unparse(each) for each in node.decorator_list):
            return "(" + ", ".join(dict.fromkeys(self.fields(module, node))) + ")"
        for _, each in self.classes(module, node):
            if init := of_class(each).get("__init__"):
                return written(init.args, skip_first=True)  # type: ignore[union-attr]
            if fields := namedtuple_fields(each):
                return f"({', '.join(fields)})"
        return ANYTHING

    def fields(self, module: str, node: Definition) -> Iterator[str]:
        for _, each in reversed(list(self.classes(module, node))):
            for statement in getattr(each, "body", ()):
                if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                    yield statement.target.id + ("=..." if statement.value else "")

    @functools.cache  # noqa: B019
    def options(self) -> set[str]:
        """Names of the WebUI's own options: keys of dicts whose values are made by OptionInfo."""
        return {
            key.value
            for dictionary in self.nodes("shared_options.py", ast.Dict)
            for key, value in zip(dictionary.keys, dictionary.values)
            if isinstance(key, ast.Constant) and "OptionInfo" in ast.unparse(value)
        }

    @functools.cache  # noqa: B019
    def arguments(self) -> set[str]:
        """The flags of its command line."""
        calls = (
            node for node in self.nodes("cmd_args.py", ast.Call) if ast.unparse(node.func).endswith("add_argument")
        )
        return {arg.value for call in calls for arg in call.args if isinstance(arg, ast.Constant)}

    @functools.cache  # noqa: B019
    def given_to_p(self) -> set[str]:
        """What is set on processing objects from outside of their classes."""
        attributes = (node for node in self.nodes("processing.py", ast.Attribute) if isinstance(node.ctx, ast.Store))
        return {node.attr for node in attributes if ast.unparse(node.value) == "p"}

    def nodes(self, file: str, kind: type) -> Iterator:
        tree = ast.parse((self.folder / "modules" / file).read_text(encoding="utf-8"))
        return (node for node in ast.walk(tree) if isinstance(node, kind))


def defined(body: list[ast.stmt]) -> Iterator[tuple[str, Definition]]:
    """(name, what defines it) of statements, also inside of `if`, `try` and `with`."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if isinstance(name, ast.Name):
                        yield name.id, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                alias.source = getattr(node, "module", None)  # type: ignore[attr-defined]
                yield alias.asname or alias.name, alias
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With, ast.ExceptHandler)):
                yield from defined(getattr(node, part, []))


def of_class(node: Definition) -> dict[str, Definition]:
    """{name: what defines it} of a class's members, those that its methods set on self among them."""
    if not isinstance(node, ast.ClassDef):
        return dict.fromkeys(namedtuple_fields(node), node)
    own = {
        each.attr: ast.Assign([each], each)
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self"
    }
    inherited = {name: node for base in node.bases for name in namedtuple_fields(base)}
    return {**inherited, **own, **dict(defined(node.body))}


def namedtuple_fields(node: ast.AST) -> list[str]:
    """The fields, if it is a call of namedtuple, or an assignment of one."""
    value = getattr(node, "value", node)
    if not isinstance(value, ast.Call) or not ast.unparse(value.func).endswith("namedtuple"):
        return []
    names = ast.literal_eval(value.args[1])
    return names.split() if isinstance(names, str) else list(names)


def written(arguments: ast.arguments, skip_first: bool = False) -> str:
    """A signature without annotations, with ... for defaults."""
    positional = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    optional = len(positional) - len(arguments.defaults)
    parts = [f"{name}=..." if k >= optional else name for k, name in enumerate(positional)][skip_first:]
    if arguments.vararg:
        parts.append(f"*{arguments.vararg.arg}")
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [
        f"{each.arg}=..." if value else each.arg for each, value in zip(arguments.kwonlyargs, arguments.kw_defaults)
    ]
    if arguments.kwarg:
        parts.append(f"**{arguments.kwarg.arg}")
    return f"({', '.join(parts)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the WebUI")
    parser.add_argument("--name", help="of the file to keep it in")
    parser.add_argument("--version", default="", help="of the WebUI, to be kept with it")
    options = parser.parse_args()
    names = Checkout(options.folder).record()
    for path, found in names.items():
        print(f"{path:70} {found or 'MISSING'}")
    if options.name:
        DATA.mkdir(parents=True, exist_ok=True)
        data = {"version": options.version, "names": names}
        (DATA / f"{options.name}.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
