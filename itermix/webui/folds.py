"""The drawers of the page, one for each task, with a button that resets what is in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gradio as gr

from itermix.parameters import Parameter

FOLDS = {
    "Curve and blending": ("Main", "Curve", "Blending", "Steps"),
    "Noise": ("Noise",),
    "Phases and clean-up": ("Phases", "Clean-up", "Hires pass"),
    "Tiles": ("Windows",),
    "Deep Shrink": ("Deep Shrink",),
    "Masks and rewind": ("Mask", "Rewind"),
    "Analysis": ("Analysis",),
}
"""{fold: groups of settings in it}; a group that is in none is one of its own."""


def folded(parameters: Sequence[Parameter]) -> dict[str, list[Parameter]]:
    """{fold: the settings in it, group after group}, without those that are always in sight."""
    of_group = {group: fold for fold, groups in FOLDS.items() for group in groups}
    found: dict[str, list[Parameter]] = {fold: [] for fold in FOLDS}
    for parameter in parameters:
        if not parameter.main:
            found.setdefault(of_group.get(parameter.group, parameter.group), []).append(parameter)
    for members in found.values():
        groups = list(dict.fromkeys(parameter.group for parameter in members))
        members.sort(key=lambda parameter: groups.index(parameter.group))
    return {fold: members for fold, members in found.items() if members}


@contextmanager
def fold(name: str, prefix: str) -> Iterator[str]:
    """A closed drawer; gives its elem_id. The page's script writes on its label whether something in it was changed."""
    elem_id = f"{prefix}_fold_{'_'.join(name.lower().replace('-', '').split())}"
    with gr.Accordion(name, open=False, elem_id=elem_id, elem_classes=["itermix-fold"]):
        yield elem_id


def reset_button(elem_id: str, defaults: Mapping[str, Any], controls: Mapping[str, Any]) -> None:
    """A button that sets these controls {name: control} to their `defaults`."""
    values = [defaults[name] for name in controls]
    button = gr.Button("Reset", elem_id=f"{elem_id}_reset", size="sm", elem_classes=["itermix-reset"])
    button.do_not_save_to_config = True
    # One value alone would be taken for a list of values if it were given as one.
    button.click(
        lambda: values if len(values) > 1 else values[0], None, list(controls.values()), show_progress="hidden"
    )
