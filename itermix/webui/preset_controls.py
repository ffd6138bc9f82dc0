"""The controls that choose a preset, and save, rename and delete one's own."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Mapping
from typing import Any

import gradio as gr

from itermix.parameters import SettingsError
from itermix.settings.presets import DECIDED, PRESETS, REASONS, PresetFileError, decided
from itermix.webui import options
from itermix.webui.presets import OWN

INFO = "Fills in all settings but the seed."
QUIET = {"show_progress": "hidden"}
log = logging.getLogger(__name__)


def choice(prefix: str) -> tuple[Any, Any]:
    """The list of presets, and where to tell why to choose the one that is chosen.

    The list fills other controls, so it is no setting itself and ui-config.json has none of it.
    """
    with gr.Row(elem_classes=["itermix-row"]):
        preset = unsaved(gr.Dropdown(names(), label="Preset", info=INFO, elem_id=f"{prefix}_preset"))
        refresh = unsaved(gr.Button("Refresh", elem_id=f"{prefix}_preset_refresh", elem_classes=["itermix-refresh"]))
        refresh.click(lambda: gr.update(choices=names()), None, [preset], **QUIET)  # by the page's script
        return preset, gr.HTML(elem_id=f"{prefix}_preset_reason")


def connect(prefix: str, preset: Any, reason: Any, controls: Mapping[str, Any]) -> None:
    """Let the list fill the controls, and make those that change the list."""
    settings = [controls[parameter.name] for parameter in DECIDED]
    with gr.Row():
        name = unsaved(gr.Textbox(label="Preset name", max_lines=1, elem_id=f"{prefix}_preset_name"))
    with gr.Row():
        save, rename, delete = (
            unsaved(gr.Button(f"{verb} preset", elem_id=f"{prefix}_preset_{verb.lower()}", size="sm"))
            for verb in ("Save", "Rename", "Delete")
        )
    message = gr.HTML(elem_id=f"{prefix}_preset_message")
    preset.input(filled, [preset], [*settings, reason], **QUIET)
    save.click(saved, [name, *settings], [preset, message], **QUIET)
    rename.click(renamed, [preset, name], [preset, message], **QUIET)
    delete.click(deleted, [preset], [preset, message], **QUIET)


def unsaved(control: Any) -> Any:
    """A control of which ui-config.json keeps nothing."""
    control.do_not_save_to_config = True
    return control


def names() -> list[str]:
    """Of all presets; of the built-in ones where the file of the user's own can't be read."""
    try:
        return [*PRESETS, *OWN.load()]
    except PresetFileError as error:
        log.error("%s", error)
        return list(PRESETS)


def filled(preset: str) -> list[Any]:
    """The values of a preset and why to choose it; no changes and what is wrong instead, if there is no such one."""
    try:
        values = PRESETS[preset] if preset in PRESETS else OWN.load()[preset]
    except (KeyError, PresetFileError) as error:
        text = f"There is no preset {preset!r} any more." if isinstance(error, KeyError) else str(error)
        return [*(gr.update() for _ in DECIDED), shown(text)]
    return [*decided({**options.defaults(), **values}).values(), shown(REASONS.get(preset, "Your own."))]


def saved(name: str, *values: Any) -> tuple[Any, str]:
    settings = {parameter.name: value for parameter, value in zip(DECIDED, values)}
    return changed(lambda: OWN.save(name, settings), name, f"Saved {name}.")


def renamed(preset: str | None, name: str) -> tuple[Any, str]:
    return changed(lambda: OWN.rename(preset or "", name), name, f"Renamed {preset} to {name}.")


def deleted(preset: str | None) -> tuple[Any, str]:
    return changed(lambda: OWN.delete(preset or ""), None, f"Deleted {preset}.")


def changed(change: Callable[[], None], chosen: str | None, done: str) -> tuple[Any, str]:
    """The list with `chosen` after a change and what was done; the list as it was and what is wrong otherwise."""
    try:
        change()
    except (SettingsError, PresetFileError) as error:
        return gr.update(), shown(str(error))
    return gr.update(choices=names(), value=chosen), shown(done)


def shown(text: str) -> str:
    return f'<p role="status">{html.escape(text)}</p>'
