"""When a setting has an effect, as its declaration says, in words: for the page, the schema and the docs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itermix.parameters import ON, Parameter, Values
from itermix.settings import UpscaleSettings

FACTS = {
    ("network", ("U-Net",)): "a model of Stable Diffusion 1, 2 or XL",
    ("flow", ON): "a model of flow matching",
    ("tab", ("txt2img",)): "hires fix in txt2img",
    ("mask", ON): "a mask",
}
"""{(name, values): words} of what no setting says: the loaded model, the tab, and whether there is a mask."""

LABELS = {parameter.name: parameter.label for parameter in UpscaleSettings.parameters()}


def needs(parameter: Parameter) -> list[dict[str, Any]]:
    """[{"any": {name: values, or None for all but 0 and false}, "words": the same}], of which all have to hold.

    What a need names of a feature that isn't there is left out of it.
    """
    known = (
        {name: values for name, values in need.items() if name in LABELS or (name, values) in FACTS}
        for need in parameter.needs
    )
    return [
        {"any": {name: None if values is None else list(values) for name, values in need.items()}, "words": words(need)}
        for need in known
    ]


def words(need: Mapping[str, Values]) -> str:
    """As they follow "Has no effect without": *Blending* low-pass or wavelet, or *Detail*."""
    return ", or ".join(_words(name, values) for name, values in need.items())


def _words(name: str, values: Values) -> str:
    if fact := FACTS.get((name, values)):
        return fact
    *most, last = map(str, values or [""])
    listed = f"{', '.join(most)} or {last}" if most else last
    return f"{LABELS[name]} {listed}".strip()
