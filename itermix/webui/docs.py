"""The pages of docs/ for a browser, so that the page can link to them without a network.

Of Markdown they have headings, paragraphs, tables, lists, code, pictures, links and emphasis, which is what is here.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path

from itermix.parameters import SettingsError

FOLDER = Path(__file__).parents[2] / "docs"
TYPES = {".md": "text/html; charset=utf-8", ".png": "image/png"}

STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.6 system-ui, sans-serif; }
:root { color-scheme: light dark; }
img { max-width: 100%; height: auto; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #8888; padding: 0.2em 0.6em; text-align: left; vertical-align: top; }
pre { overflow-x: auto; padding: 0.6em; background: #8882; }
"""

INLINE = (
    (re.compile(r"!\[([^]]*)\]\(([^)]+)\)"), r'<img alt="\1" src="\2">'),
    (re.compile(r"\[([^]]+)\]\(([^)]+)\)"), r'<a href="\2">\1</a>'),
    (re.compile(r"\*\*([^*]+)\*\*"), r"<b>\1</b>"),
    (re.compile(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])"), r"<i>\1</i>"),
)


def file(path: str) -> tuple[bytes, str]:
    """What a browser gets of a page or a picture of docs/, and its type. Raises SettingsError if there is none."""
    known = {str(each.relative_to(FOLDER).as_posix()): each for kind in TYPES for each in FOLDER.rglob(f"*{kind}")}
    if path not in known:
        raise SettingsError("page", path, "Allowed: a page or a picture of the folder docs.")
    found = known[path]
    data = found.read_bytes()
    return (page(data.decode()) if found.suffix == ".md" else data), TYPES[found.suffix]


def page(text: str) -> bytes:
    title = text.partition("\n")[0].lstrip("# ")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    return f"<!doctype html>{head}<style>{STYLE}</style>{''.join(blocks(text))}".encode()


def blocks(text: str) -> Iterator[str]:
    """HTML of each block of a Markdown text, which blank lines part."""
    parts = re.split(r"(```.*?```)", text, flags=re.DOTALL)
    for part in parts:
        if part.startswith("```"):
            code = part.strip("`").partition("\n")[2]
            yield f"<pre>{html.escape(code)}</pre>"
            continue
        for block in re.split(r"\n\s*\n", part.strip("\n")):
            if block.strip():
                yield of_block(block)


def of_block(block: str) -> str:
    if block.startswith("    "):
        return f"<pre>{html.escape(re.sub('^    ', '', block, flags=re.MULTILINE))}</pre>"
    if heading := re.fullmatch(r"(#+) (.*)", block.strip()):
        level = len(heading[1])
        return f"<h{level}>{inline(heading[2])}</h{level}>"
    lines = block.splitlines()
    if lines[0].startswith("|"):
        return table(lines)
    if marker := re.match(r"(-|\d+\.) ", lines[0]):
        kind = "ul" if marker[1] == "-" else "ol"
        items = re.split(r"^(?:-|\d+\.) ", block, flags=re.MULTILINE)[1:]
        return f"<{kind}>{''.join(f'<li>{inline(item)}</li>' for item in items)}</{kind}>"
    return f"<p>{inline(block)}</p>"


def table(lines: list[str]) -> str:
    rows = [[inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
    head = "".join(f"<th>{cell}</th>" for cell in rows[0])
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows[2:])
    return f"<table><tr>{head}</tr>{body}</table>"


def inline(text: str) -> str:
    """HTML of a text with links, emphasis and code; what is in code stays as it is."""
    parts = re.split(r"`([^`]+)`", html.escape(text))
    for k in range(0, len(parts), 2):
        for pattern, replacement in INLINE:
            parts[k] = pattern.sub(replacement, parts[k])
    return "".join(f"<code>{part}</code>" if k % 2 else part for k, part in enumerate(parts))
