"""The controls that choose a preset, and save, rename and delete one's own."""

from __future__ import annotations

import functools
import html
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from itermix.parameters import SettingsError
from itermix.settings.presets import AUTOMATIC, DECIDED, PRESETS, REASONS, PresetFileError
from itermix.webui import checkpoints
from itermix.webui.presets import OWN, automatic, filled_in, fills_in

INFO = "Fills in all settings but the seed."
QUIET = {"show_progress": "hidden"}
LAST = {"trigger_mode": "always_last"} if gr.__version__ >= "4" else {}
"""Of clicks while one is being answered, gradio 4 would leave out all; gradio 3 answers all."""

MOST_NAMED = 4  # settings in a sentence
log = logging.getLogger(__name__)


def choice(prefix: str) -> tuple[Any, Any]:
    """The list of presets, and where to tell why to choose the one that is chosen.

    The list fills other controls, so it is no setting itself and ui-config.json has none of it.
    """
    with gr.Row(elem_classes=["itermix-row"]):
        start = next(iter(PRESETS))
        preset = unsaved(gr.Dropdown(names(), value=start, label="Preset", info=INFO, elem_id=f"{prefix}_preset"))
        refresh = for_script("Refresh", f"{prefix}_preset_refresh")
        refresh.click(lambda: gr.update(choices=names()), None, [preset], **QUIET)
        return preset, gr.HTML(shown(REASONS[start], f"{prefix}_preset_reason"))


def connect(prefix: str, preset: Any, reason: Any, controls: Mapping[str, Any]) -> None:
    """Let the list fill the controls and follow them, and make those that change the list."""
    settings = [controls[parameter.name] for parameter in DECIDED]
    with gr.Row():
        name = unsaved(gr.Textbox(label="Preset name", max_lines=1, elem_id=f"{prefix}_preset_name"))
    with gr.Row():
        save, rename, delete = (
            unsaved(gr.Button(f"{verb} preset", elem_id=f"{prefix}_preset_{verb.lower()}", size="sm"))
            for verb in ("Save", "Rename", "Delete")
        )
    with gr.Row():
        bind, unbind = (
            unsaved(gr.Button(label, elem_id=f"{prefix}_preset_{verb}", size="sm"))
            for verb, label in (("bind", "Bind to this checkpoint"), ("unbind", "Unbind from this checkpoint"))
        )
    told, wrong = f"{prefix}_preset_reason", f"{prefix}_preset_message"
    message = gr.HTML(shown("", wrong))
    follow = for_script("Follow", f"{prefix}_preset_follow")
    again = for_script("Fill in again", f"{prefix}_preset_again")
    for event in (preset.input, again.click):
        event(functools.partial(filled, told), [preset], [*settings, reason], **QUIET)
    follow.click(functools.partial(in_force, told), [preset, *settings], [preset, reason], **QUIET, **LAST)
    save.click(functools.partial(saved, wrong), [name, *settings], [preset, message], **QUIET)
    rename.click(functools.partial(renamed, wrong), [preset, name], [preset, message], **QUIET)
    delete.click(functools.partial(deleted, wrong), [preset], [preset, message], **QUIET)
    bind.click(functools.partial(bound, wrong), [preset], [preset, message], **QUIET)
    unbind.click(functools.partial(unbound, wrong), [preset], [preset, message], **QUIET)


def for_script(label: str, elem_id: str) -> Any:
    """A button out of sight, which the page's script presses."""
    return unsaved(gr.Button(label, elem_id=elem_id, elem_classes=["itermix-unseen"]))


def unsaved(control: Any) -> Any:
    """A control of which ui-config.json keeps nothing."""
    control.do_not_save_to_config = True
    return control


def names() -> list[str]:
    """Of all presets; of the built-in ones where the file of the user's own can't be read."""
    try:
        return [AUTOMATIC, *PRESETS, *OWN.load()]
    except PresetFileError as error:
        log.error("%s", error)
        return [AUTOMATIC, *PRESETS]


def filled(place: str, preset: str) -> list[Any]:
    """The values of a preset and why to choose it; no changes and what is wrong instead, if there is no such one."""
    try:
        name = automatic() if preset == AUTOMATIC else preset
        values = filled_in({} if name in PRESETS else OWN.load())[name]
    except (KeyError, PresetFileError) as error:
        text = f"There is no preset {preset!r} any more." if isinstance(error, KeyError) else str(error)
        return [*(gr.update() for _ in DECIDED), shown(text, place)]
    return [*values.values(), shown(reason_of(preset), place)]


def reason_of(preset: str) -> str:
    """Why to choose a preset; of Automatic, which one it is."""
    if preset != AUTOMATIC:
        return REASONS.get(preset, "Your own.")
    chosen = checkpoints.chosen()
    if not chosen.hashes or not any(each in OWN.bound() for each in chosen.hashes):
        return f"No preset is bound to {chosen.name or 'the checkpoint'}, so this is {automatic()}."
    return f"{automatic()}, which is bound to {chosen.name}."


def in_force(place: str, chosen: str | None, *values: Any) -> tuple[Any, str]:
    """The preset that these values are, the chosen one first, and why to choose it; or else none, and in what they
    differ from the nearest."""
    known = all_presets()
    if chosen == AUTOMATIC:
        if fills_in(dict(zip((parameter.name for parameter in DECIDED), values))):
            return gr.update(), shown(reason_of(AUTOMATIC), place)
        known[AUTOMATIC] = known[automatic()]
    order = sorted(known, key=lambda name: name != chosen)
    differing = {name: differences(known[name], values) for name in order}
    nearest = min(order, key=lambda name: len(differing[name]))
    if not differing[nearest]:
        return gr.update(value=nearest), shown(reason_of(nearest), place)
    labels, more = differing[nearest][:MOST_NAMED], len(differing[nearest]) - MOST_NAMED
    rest = f" and {more} more" if more > 0 else ""
    return gr.update(value=None), shown(f"{nearest}, but for {', '.join(labels)}{rest}.", place)


def differences(preset: Mapping[str, Any], values: Sequence[Any]) -> list[str]:
    """Labels of the settings whose values aren't those of a preset."""
    return [parameter.label for parameter, value in zip(DECIDED, values) if value != preset[parameter.name]]


def all_presets() -> dict[str, dict[str, Any]]:
    """{name: the values of all that it decides}; the built-in ones where the file of the user's own can't be read."""
    try:
        own = OWN.load()
    except PresetFileError:
        own = {}
    return filled_in(own)


def saved(place: str, name: str, *values: Any) -> tuple[Any, str]:
    settings = {parameter.name: value for parameter, value in zip(DECIDED, values)}
    return changed(place, lambda: OWN.save(name, settings), name, f"Saved {name}.")


def renamed(place: str, preset: str | None, name: str) -> tuple[Any, str]:
    return changed(place, lambda: OWN.rename(preset or "", name), name, f"Renamed {preset} to {name}.")


def deleted(place: str, preset: str | None) -> tuple[Any, str]:
    return changed(place, lambda: OWN.delete(preset or ""), None, f"Deleted {preset}.")


def bound(place: str, preset: str | None) -> tuple[Any, str]:
    if not (chosen := checkpoints.chosen()).hashes:
        return no_checkpoint(place)
    done = f"Automatic takes {preset} with {chosen.name}."
    return changed(place, lambda: OWN.bind(preset or "", chosen.hashes[0]), preset, done)


def unbound(place: str, preset: str | None) -> tuple[Any, str]:
    """Whichever preset it is that is bound to the checkpoint."""
    if not (chosen := checkpoints.chosen()).hashes:
        return no_checkpoint(place)

    def change() -> None:
        known = OWN.bound()
        OWN.unbind(next((each for each in chosen.hashes if each in known), chosen.hashes[0]))

    return changed(place, change, preset, f"No preset is bound to {chosen.name} any more.")


def no_checkpoint(place: str) -> tuple[Any, str]:
    return gr.update(), shown("The WebUI has no checkpoint that a preset could be bound to.", place)


def changed(place: str, change: Callable[[], None], chosen: str | None, done: str) -> tuple[Any, str]:
    """The list with `chosen` after a change and what was done; the list as it was and what is wrong otherwise."""
    try:
        change()
    except (SettingsError, PresetFileError) as error:
        return gr.update(), shown(str(error), place)
    return gr.update(choices=names(), value=chosen), shown(done, place)


def shown(text: str, elem_id: str) -> str:
    """A text that screen readers are told of. The id is of its own, since gradio 3 would give it to two elements."""
    return f'<p id="{elem_id}" role="status">{html.escape(text)}</p>'
