"""Vector pictures whose truth is known at every size: Fluent Emoji (Microsoft, MIT), rendered by resvg.

Training takes the whole package (npm's `@iconify-json/fluent-emoji`); the benchmark the pictures that were held out,
which are kept beside the weights. Nothing of a held-out picture was trained on, nor its variants of other skin tones.
"""

from __future__ import annotations

import io
import json
import lzma
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HELD_OUT = 300
SEED = 16
"""Chooses the pictures that are held out, and each one's background."""

HELD_OUT_FILE = Path(__file__).with_name("held_out.json.xz")

BACKGROUNDS = {
    "white": (255, 255, 255),
    "grey": (176, 178, 182),
    "blue": (176, 208, 240),
    "green": (190, 222, 184),
    "pink": (244, 200, 210),
    "yellow": (248, 226, 160),
}
"""{name in the prompt: its colour in RGB}."""

TONE = re.compile(r"-(default|light|medium-light|medium|medium-dark|dark)$")

Split = dict[str, list[str]]


def family(name: str) -> str:
    """The name without its skin tone: pictures of one family are nearly the same."""
    return TONE.sub("", name)


def split(names: Iterable[str]) -> Split:
    """{"training", "tuning", "confirmation"}: names, the last two 150 families each, with one picture of each."""
    chooser = random.Random(SEED)
    families: dict[str, list[str]] = {}
    for name in sorted(names):
        families.setdefault(family(name), []).append(name)
    chosen = chooser.sample(sorted(families), HELD_OUT)
    held_out = [chooser.choice(families[of]) for of in chosen]
    training = [name for of in families for name in families[of] if of not in set(chosen)]
    return {"training": training, "tuning": held_out[: HELD_OUT // 2], "confirmation": held_out[HELD_OUT // 2 :]}


def background(name: str) -> str:
    """The background that a held-out picture always has."""
    return random.Random(f"{SEED} {name}").choice(sorted(BACKGROUNDS))


def prompt(name: str, background: str) -> str:
    """What a picture is called in training and by the benchmark."""
    return f"{name.replace('-', ' ')} {background} background"


def read_package(file: Path) -> dict[str, str]:
    """{name: SVG elements in a box of 32 x 32} of the package's icons.json."""
    return {name: icon["body"] for name, icon in json.loads(file.read_text(encoding="utf-8"))["icons"].items()}


def write_held_out(bodies: dict[str, str], file: Path = HELD_OUT_FILE) -> None:
    """Keep the held-out pictures of the package as the benchmark needs them."""
    parts = split(bodies)
    kept = {part: {name: bodies[name] for name in parts[part]} for part in ("tuning", "confirmation")}
    file.write_bytes(lzma.compress(json.dumps(kept).encode(), preset=9))


def held_out(part: str) -> dict[str, str]:
    """{name: SVG elements} of the pictures for "tuning" or "confirmation"."""
    return json.loads(lzma.decompress(HELD_OUT_FILE.read_bytes()))[part]


def render(body: str, size: int) -> NDArray[np.uint8]:
    """A picture [size, size, 4] in RGBA, drawn at that size."""
    import resvg_py  # an extra: only who renders needs it

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">{body}</svg>'
    png = resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size, skip_system_fonts=True)
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))


def composed(rgba: NDArray[np.uint8], colour: Sequence[int]) -> NDArray[np.uint8]:
    """A picture [H, W, 3] of one [H, W, 4] on a background."""
    alpha = rgba[..., 3:].astype(np.float32) / 255
    return np.rint(rgba[..., :3] * alpha + np.asarray(colour, np.float32) * (1 - alpha)).astype(np.uint8)


def truth(name: str, body: str, size: int) -> NDArray[np.uint8]:
    """A held-out picture [size, size, 3] on its background, drawn at that size."""
    return composed(render(body, size), BACKGROUNDS[background(name)])
