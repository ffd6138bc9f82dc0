"""The pages of docs/ as a browser gets them."""

import re

import pytest

from itermix.parameters import SettingsError
from itermix.webui import docs

PAGES = sorted(path.relative_to(docs.FOLDER).as_posix() for path in docs.FOLDER.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_shown_and_leads_to_what_is_there(page):
    content, kind = docs.file(page)
    text = content.decode()
    assert kind.startswith("text/html")
    assert "<h1>" in text
    folder = (docs.FOLDER / page).parent
    linked = re.findall(
        r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', re.sub(r"<(pre|code)>.*?</\1>", "", text, flags=re.DOTALL)
    )
    for target in linked:
        assert (folder / target).resolve().exists(), target
        if (folder / target).suffix in docs.TYPES and (folder / target).resolve().is_relative_to(docs.FOLDER):
            assert docs.file((folder / target).resolve().relative_to(docs.FOLDER).as_posix())[0]
    assert not re.search(r"^\|", text, re.MULTILINE)


def test_a_picture_comes_as_it_is():
    content, kind = docs.file("pictures/curves.png")
    assert (content, kind) == ((docs.FOLDER / "pictures" / "curves.png").read_bytes(), "image/png")


@pytest.mark.parametrize("path", ["../README.md", "/etc/passwd", "data/contract/a1111.json", "", "pictures", "x.md"])
def test_nothing_else_is_given(path):
    with pytest.raises(SettingsError, match="Allowed: a page or a picture"):
        docs.file(path)


def test_what_markdown_becomes():
    text = "# A *b*\n\na `*c*` **d** <e>\n\n| f | g |\n|---|---|\n| 1 | [h](i.md) |\n\n"
    text += "- j\n- k\n\n    l <m>\n\n```\nn\n```\n"
    assert "".join(docs.blocks(text)) == (
        "<h1>A <i>b</i></h1><p>a <code>*c*</code> <b>d</b> &lt;e&gt;</p>"
        '<table><tr><th>f</th><th>g</th></tr><tr><td>1</td><td><a href="i.md">h</a></td></tr></table>'
        "<ul><li>j\n</li><li>k</li></ul><pre>l &lt;m&gt;</pre><pre>n\n</pre>"
    )
