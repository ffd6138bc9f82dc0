"""Presets decide what they should, and a file of one's own is never lost."""

import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itermix import Settings, SettingsError
from itermix.settings import UpscaleSettings
from itermix.settings.infotext import DETAIL_ON_STATE, VERSION
from itermix.settings.presets import (
    DECIDED,
    LATER,
    MAX_FILE,
    MAX_NAME,
    MAX_PRESETS,
    PRESETS,
    REASONS,
    UNDECIDED,
    PresetFile,
    PresetFileError,
    decided,
    expanded,
)

NAMES = [parameter.name for parameter in UpscaleSettings.parameters()]
FOR_OTHERS = {
    "DemoFusion paper": (1.0, "addition", "cosine", 3.0, "shared", "noise level"),
    "DemoFusion complete": (1.0, "addition", "cosine", 3.0, "shared", "noise level"),
    "ComfyUI node": (1.0, "addition", "comfy-cosine", 2.4, "independent", "comfy-steps"),
}


@pytest.fixture
def file(tmp_path):
    return PresetFile(tmp_path / "itermix-presets.json")


@pytest.mark.parametrize("name", PRESETS)
def test_a_built_in_preset_is_possible_and_says_why(name):
    assert Settings(**PRESETS[name])
    assert not set(PRESETS[name]) & UNDECIDED
    assert REASONS[name].endswith(".")


def test_every_setting_is_a_presets_or_the_users():
    assert {parameter.name for parameter in DECIDED} | UNDECIDED == set(NAMES)
    of_the_user = {"enabled", "seed", "analysis", "seamless", "scale", "width", "height", "upscaler", "back_projection"}
    assert of_the_user == UNDECIDED


@pytest.mark.parametrize(("name", "values"), FOR_OTHERS.items())
def test_presets_that_stand_for_other_projects_do_not_lean_on_the_defaults(name, values):
    assert tuple(PRESETS[name][key] for key in ("denoise", "blending", "curve", "alpha", "noise", "progress")) == values


def test_the_complete_demofusion_names_all_of_it():
    windows = {parameter.name for parameter in DECIDED if parameter.group == "Windows"}
    windows -= {"window_batch", "window_overlap"}
    assert {*PRESETS["DemoFusion paper"], *windows, "match_colours", "colour_formulas"} == PRESETS[
        "DemoFusion complete"
    ].keys()


def test_a_preset_decides_what_it_does_not_name_too():
    values = decided(PRESETS["ComfyUI node"])
    assert (values["alpha"], values["stop"], len(values)) == (2.4, 1.0, len(DECIDED))


FIRST_SAVED = {
    "denoise": 1.0,
    "curve": "cosine",
    "alpha": 0.6,
    "start": 0.0,
    "stop": 1.0,
    "clamp": 1.0,
    "lowest": 0.0,
    "highest": 1.0,
    "progress": "steps",
    "blending": "clean wavelet",
    "cutoff": 0.0,
    "noise": "shared",
    "normalize_fraction": 0.0,
    "start_at_step": 0,
    "end_at_step": 10000,
    "max_scale_per_phase": 2.0,
    "save_phases": False,
    "match_colours": False,
    "cleanup": 0.0,
    "cleanup_steps": 0,
    "cleanup_sampler": "Use same sampler",
}
"""All that a preset held when presets were first saved. It stays as it is when settings are added."""


@pytest.mark.parametrize("later", [{}, {"detail": 0.1}, {"detail": 0.0, "fidelity": 0.25}])
def test_a_whole_preset_from_before_some_settings_means_what_it_did(file, later):
    file.path.write_text(json.dumps({"Old": {**FIRST_SAVED, **later}, "Written by hand": {"alpha": 0.6}}))
    today = {"detail": round(DETAIL_ON_STATE * later.get("detail", 0.0), 2)}
    nothing = {"fidelity": 0.0, "steps": 0, "window_auto": False, "window_overlap": 0.5, "denoise_in": "steps"}
    assert file.load()["Old"] == {**decided({**FIRST_SAVED, **nothing}), **later, **today}
    assert file.load()["Written by hand"] == decided({"alpha": 0.6})


def test_a_preset_of_before_is_brought_up_to_date_once(file):
    """Whatever is written, all of the file is. One by hand means what it would mean today."""
    by_hand = {"alpha": 0.6, "detail": 0.1}
    file.path.write_text(json.dumps({"Old": {**FIRST_SAVED, "detail": 0.1}, "Written by hand": by_hand}))
    for number in range(3):
        file.save(f"New {number}", {"detail": 0.2})
    details = {name: values["detail"] for name, values in file.load().items()}
    assert details == {
        "Old": round(0.1 * DETAIL_ON_STATE, 2),
        "Written by hand": 0.1,
        **{f"New {number}": 0.2 for number in range(3)},
    }


@pytest.mark.parametrize("version", ["4", 4.5, True, []])
def test_a_version_that_is_none_is_refused(file, version):
    file.path.write_text(json.dumps({"Mine": {"alpha": 0.6, "version": version}}))
    with pytest.raises(PresetFileError) as error:
        file.load()
    assert f": in 'Mine', version = {version!r} is not possible. Allowed: a whole number. The" in str(error.value)


def test_every_setting_that_came_later_is_known_as_such():
    assert LATER.keys() == {parameter.name for parameter in DECIDED} - FIRST_SAVED.keys()


def test_what_is_named_beside_a_preset_stands_above_it():
    values = {**decided({"denoise": 0.6, "blending": "wavelet", "fidelity": 0.0}), "alpha": 0.5, "scale": 3.0}
    assert expanded({"preset": "Creative", "alpha": 0.5, "scale": 3.0}) == values
    assert expanded({"alpha": 0.5}) == {"alpha": 0.5}
    assert expanded({"preset": "Mine"}, {"Mine": {"curve": "linear"}}) == decided({"curve": "linear"})


@pytest.mark.parametrize("value", ["Creativ", "", None, 3, ["Creative"], {}])
def test_an_unknown_preset_is_an_error_with_the_nearest_one(value):
    with pytest.raises(SettingsError) as error:
        expanded({"preset": value})
    assert f"preset = {value!r}" in str(error.value)
    assert all(name in str(error.value) for name in PRESETS)
    assert ("Did you mean Creative?" in str(error.value)) == (value in ("Creativ", ["Creative"]))


def test_a_preset_that_cannot_be_meant_has_no_suggestion():
    with pytest.raises(SettingsError) as error:
        expanded({"preset": "?"})
    assert error.value.allowed == f"Allowed: {', '.join(PRESETS)}."


def test_own_presets_are_saved_renamed_and_deleted(file):
    assert file.load() == {}
    file.save("Sharp", {"alpha": 0.5, "scale": 4.0, "seed": 3, "enabled": True})
    file.save("für Leinwand · 画", {"curve": "linear"})
    assert file.load() == {"Sharp": decided({"alpha": 0.5}), "für Leinwand · 画": decided({"curve": "linear"})}
    file.save("Sharp", {"alpha": 0.75})
    file.rename("Sharp", "sharp")
    assert next(iter(file.load().items())) == ("sharp", decided({"alpha": 0.75}))
    file.delete("sharp")
    assert list(file.load()) == ["für Leinwand · 画"]
    assert os.listdir(file.path.parent) == [file.path.name]


def test_a_checkpoint_has_one_preset_and_a_preset_many_checkpoints(file):
    file.save("Mine", {"alpha": 0.6})
    file.save("Other", {"alpha": 0.7})
    assert file.bound() == {}
    file.bind("Mine", "6ce0161689")
    file.bind("Mine", "cafe")
    assert file.bound() == {"6ce0161689": "Mine", "cafe": "Mine"}
    file.bind("Other", "cafe")
    assert file.bound() == {"6ce0161689": "Mine", "cafe": "Other"}
    file.bind("Other", "cafe")  # once more, and once in the file
    assert json.loads(file.path.read_text())["Other"]["checkpoints"] == ["cafe"]
    assert file.load() == {"Mine": decided({"alpha": 0.6}), "Other": decided({"alpha": 0.7})}


def test_a_binding_outlasts_saving_and_renaming_and_goes_with_its_preset(file):
    file.save("Mine", {"alpha": 0.6})
    file.bind("Mine", "cafe")
    file.save("Mine", {"alpha": 0.7})
    file.rename("Mine", "Sharp")
    assert file.bound() == {"cafe": "Sharp"}
    assert file.load()["Sharp"]["alpha"] == 0.7
    file.unbind("cafe")
    assert file.bound() == {}
    assert "checkpoints" not in json.loads(file.path.read_text())["Sharp"]
    file.bind("Sharp", "cafe")
    file.delete("Sharp")
    assert file.bound() == {}


@pytest.mark.parametrize("checkpoint", ["", "a b", "../a", "a" * 65, None, 7, ["a"]])
def test_what_is_no_hash_is_refused(file, checkpoint):
    file.save("Mine", {})
    with pytest.raises(SettingsError) as error:
        file.bind("Mine", checkpoint)
    assert (error.value.name, error.value.value) == ("checkpoint", checkpoint)
    assert error.value.allowed == "Allowed: a hash of at most 64 letters and digits, as GET facts tells it."


def test_the_longest_hash_is_one(file):
    file.save("Mine", {})
    file.bind("Mine", "a" * 64)
    assert file.bound() == {"a" * 64: "Mine"}


def test_what_cannot_be_bound_or_unbound_is_told(file):
    with pytest.raises(SettingsError, match="name = 'Mine' is not possible"):
        file.bind("Mine", "cafe")
    file.save("Mine", {})
    with pytest.raises(SettingsError) as error:
        file.unbind("cafe")
    assert error.value.allowed == "Allowed: none, since no preset is bound to a checkpoint."
    file.bind("Mine", "cafe")
    file.bind("Mine", "f00d")
    with pytest.raises(SettingsError) as error:
        file.unbind("beef")
    assert (error.value.name, error.value.value, error.value.allowed) == ("checkpoint", "beef", "Allowed: cafe, f00d.")
    assert file.bound() == {"cafe": "Mine", "f00d": "Mine"}


def test_there_are_at_most_200_bound_checkpoints(file):
    file.path.write_text(json.dumps({"Mine": {"checkpoints": [f"a{k}" for k in range(MAX_PRESETS)]}}))
    with pytest.raises(SettingsError) as error:
        file.bind("Mine", "cafe")
    assert (error.value.name, error.value.value) == ("checkpoint", "cafe")
    assert error.value.allowed == "Allowed: at most 200 checkpoints with a preset; unbind one first."
    file.bind("Mine", "a7")  # of those that are


@pytest.mark.parametrize(
    ("checkpoints", "what"),
    [
        ("cafe", "checkpoints = 'cafe' is not possible. Allowed: a list of hashes. The file"),
        ([7], "checkpoint = 7 is not possible. Allowed: a hash of"),
        (["cafe", "a b"], "checkpoint = 'a b' is not possible. Allowed: a hash of"),
        ({}, "checkpoints = {} is not possible. Allowed: a list of hashes. The file"),
    ],
)
def test_a_file_whose_checkpoints_are_none_is_left_alone(file, checkpoints, what):
    file.path.write_text(json.dumps({"Mine": {"alpha": 0.6, "checkpoints": checkpoints}}))
    with pytest.raises(PresetFileError) as error:
        file.bound()
    assert f": in 'Mine', {what}" in str(error.value)


def test_an_own_preset_holds_what_was_a_default_when_it_was_saved(file):
    file.save("Mine", {})
    assert json.loads(file.path.read_text())["Mine"] == {**{p.name: p.default for p in DECIDED}, "version": VERSION}


def test_the_file_can_be_read_and_edited_by_hand(file):
    file.save("für Leinwand · 画", {})
    assert file.path.read_text(encoding="utf-8").startswith('{\n  "für Leinwand · 画": {\n    "denoise": 0.5,\n')


def test_the_longest_name_is_possible(file):
    file.save("x" * 60, {})
    assert list(file.load()) == ["x" * 60]


@pytest.mark.parametrize(
    "name", ["", " a", "a ", "a\nb", "a\x00", "x" * 61, 3, None, ["a"], "Balanced", "balanced", "SHARP", "\u202e"]
)
def test_a_name_that_is_not_possible_is_refused(file, name):
    file.save("Sharp", {})
    file.save("Other", {})
    for change in (lambda: file.save(name, {}), lambda: file.rename("Other", name)):
        with pytest.raises(SettingsError) as error:
            change()
        assert (error.value.name, error.value.value) == ("name", name)
    assert list(file.load()) == ["Sharp", "Other"]


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("a ", "Allowed: 1 to 60 printable characters, without blanks at the ends."),
        ("balanced", "Allowed: a name of its own; Balanced is a built-in preset."),
        ("SHARP", "Allowed: a name of its own; Sharp is another preset."),
    ],
)
def test_a_refused_name_is_told_why(file, name, allowed):
    file.save("Sharp", {})
    with pytest.raises(SettingsError) as error:
        file.save(name, {})
    assert error.value.allowed == allowed


@pytest.mark.parametrize("values", [{"alhpa": 1}, {"alpha": 999}, {"start": 0.5, "stop": 0.2}, {"width": 7}])
def test_settings_that_are_not_possible_are_not_saved(file, values):
    with pytest.raises(SettingsError):
        file.save("Mine", values)
    assert not file.path.exists()


def test_a_preset_that_is_not_there_can_neither_be_renamed_nor_deleted(file):
    file.save("Sharp", {})
    for change in (lambda: file.rename("Shrap", "A"), lambda: file.delete("Shrap")):
        with pytest.raises(SettingsError, match=r"name = 'Shrap'.*Did you mean Sharp\?"):
            change()
    file.delete("Sharp")
    with pytest.raises(SettingsError) as error:
        file.delete("Sharp")
    assert error.value.allowed == "Allowed: none, since there are no presets."


def test_there_are_at_most_200(file):
    file.path.write_text(json.dumps({str(k): {} for k in range(MAX_PRESETS)}))
    file.save("7", {"alpha": 0.5})
    with pytest.raises(SettingsError) as error:
        file.save("one more", {})
    assert (error.value.name, error.value.value) == ("name", "one more")
    assert error.value.allowed == "Allowed: at most 200 presets; delete one first."


def test_as_many_as_are_allowed_can_be_read_and_are(file, monkeypatch):
    monkeypatch.setattr(sys.modules[PresetFile.__module__], "MAX_PRESETS", 2)
    file.save("A", {})
    file.save("B", {})
    file.save("B", {"alpha": 0.5})
    assert list(file.load()) == ["A", "B"]
    with pytest.raises(SettingsError, match=r"name = 'C' is not possible\. Allowed: at most 2 presets; delete one"):
        file.save("C", {})


def test_the_largest_file_can_be_read(file):
    file.path.write_bytes(b'{"Sharp": {}}'.ljust(MAX_FILE))
    assert list(file.load()) == ["Sharp"]


def test_the_largest_presets_can_be_read_again(file):
    """Every text is limited, so that requests can't fill the disk, nor make a file that is too large to be read."""
    large = {p.name: p.high if p.high else p.choices[-1] if p.choices else p.default for p in DECIDED}
    large |= {"cleanup_sampler": "\U00010900" * 255, "start": 0.123456789012345678, "start_at_step": 9999}
    values = {f"{k:03}" + "\U00010900" * (MAX_NAME - 3): large for k in range(MAX_PRESETS - 1)}
    file.path.write_text(json.dumps(values, indent=2, ensure_ascii=False), encoding="utf-8")
    file.save("\U00010900" * MAX_NAME, large)
    assert len(file.load()) == MAX_PRESETS
    for text in ("x" * 256, "a\nb", "\ud800", "\x00"):
        with pytest.raises(SettingsError, match="at most 255 printable characters"):
            file.save("Mine", {"cleanup_sampler": text})


BROKEN = {
    "too large": (b'{"Sharp": {}}' + b" " * MAX_FILE, "it is larger than"),
    "cut off": (b'{"Sharp": {"alpha"', "it isn't JSON, Expecting ':' delimiter: line 1 column 19 (char 18)"),
    "empty": (b"", "it isn't JSON, Expecting value: line 1 column 1 (char 0)"),
    "not text": (b"\xff\xfe{}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "a list": (b"[]", "its shape isn't {name: {setting: value}}"),
    "a number for a preset": (b'{"Sharp": 3}', "its shape isn't {name: {setting: value}}"),
    "an unknown setting": (b'{"Sharp": {"alhpa": 1}}', "in 'Sharp', alhpa = 1 is not possible. Did you mean alpha?"),
    "a value out of range": (
        b'{"Sharp": {"alpha": 999}}',
        "in 'Sharp', alpha = 999 is not possible. Allowed: a number from 0.05 to 100.",
    ),
    "no number": (b'{"Sharp": {"alpha": NaN}}', "in 'Sharp', alpha = nan is not possible."),
    "a setting that is the user's": (
        b'{"Sharp": {"seed": 3}}',
        "in 'Sharp', seed = 3 is not possible. Allowed: settings that a preset decides.",
    ),
    "a contradiction": (
        b'{"Sharp": {"start": 0.5, "stop": 0.2}}',
        "in 'Sharp', stop = 0.2 is not possible. Allowed: more than start, which is 0.5.",
    ),
    "a built-in's name": (b'{"balanced": {}}', "in 'balanced', name = 'balanced' is not possible. Allowed: a name"),
    "a name twice": (b'{"Sharp": {}, "sharp": {}}', "in 'sharp', name = 'sharp' is not possible. Allowed: a name"),
    "too many": (
        json.dumps({str(k): {} for k in range(MAX_PRESETS + 1)}).encode(),
        "it holds 201 presets, more than 200",
    ),
    "too deep": (b"[" * 100_000, "it isn't JSON, maximum recursion depth exceeded"),
}


@pytest.mark.parametrize(("data", "why"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_reported_and_kept_byte_for_byte(file, data, why):
    file.path.write_bytes(data)
    for change in (
        file.load,
        lambda: file.save("New", {}),
        lambda: file.rename("Sharp", "New"),
        lambda: file.delete("Sharp"),
    ):
        with pytest.raises(PresetFileError) as error:
            change()
        message = str(error.value)
        assert message.startswith(f"Iterative Mixing: the presets in {file.path} can't be used: {why}")
        end = ". The file is left as it is, and nothing is saved to it until it is mended or moved away."
        assert message.endswith(end)
        assert not message.endswith("." + end)
    assert file.path.read_bytes() == data
    assert os.listdir(file.path.parent) == [file.path.name]


def test_the_new_file_is_made_beside_the_old_one(file, monkeypatch):
    """From another file system it couldn't take its place as a whole."""
    replaced = []
    monkeypatch.setattr(os, "replace", lambda new, old: replaced.append((os.path.dirname(new), old)))
    file.save("Sharp", {})
    assert replaced == [(str(file.path.parent), file.path)]


def test_what_is_wrong_in_a_file_is_told_in_a_sentence_that_can_be_read(file):
    file.path.write_text(json.dumps({"Sharp": {"\x1f" + "x" * 10_000: 1}}))
    with pytest.raises(PresetFileError, match=r"in 'Sharp', '\\x1fx") as error:
        file.load()
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1500


def test_what_cannot_be_written_leaves_the_file_as_it_was(file, monkeypatch):
    file.save("Sharp", {})
    before = file.path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, full)
            with pytest.raises(PresetFileError, match=r"presets.json can't be written: No space left on device\."):
                file.save("New", {})
    assert file.path.read_bytes() == before
    assert os.listdir(file.path.parent) == [file.path.name]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "presets.json").symlink_to(tmp_path / "elsewhere" / "presets.json")
    PresetFile(tmp_path / "presets.json").save("Sharp", {})
    assert (tmp_path / "presets.json").is_symlink()
    assert "Sharp" in (tmp_path / "elsewhere" / "presets.json").read_text()


@given(st.text(max_size=70))
def test_every_name_is_either_refused_or_comes_back(tmp_path_factory, name):
    file = PresetFile(tmp_path_factory.mktemp("presets") / "presets.json")
    try:
        file.save(name, {})
    except SettingsError:
        assert not file.path.exists()
    else:
        assert list(file.load()) == [name]
