"""Settings come back from an infotext as they were written into it, also into one of an older version."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from itermix import Settings, SettingsError
from itermix.picture.cleanup import SAME_SAMPLER
from itermix.settings import UpscaleSettings
from itermix.settings.infotext import (
    DETAIL_ON_STATE,
    OLD_DEFAULTS,
    VERSION,
    VERSION_KEY,
    by_upscale_script,
    detail_today,
    read,
    written,
)

DEFAULTS = {p.name: p.default for p in UpscaleSettings.parameters()}
TEXT = """a photograph, of a face: smiling
Negative prompt: blurry
Steps: 5, Sampler: Euler, Schedule type: Karras, CFG scale: 2, Seed: 7, Size: 128x128, """

DEFAULTS_OF_VERSION = {
    0: {
        "enabled": False,
        "denoise": 1.0,
        "curve": "cosine",
        "alpha": 1.0,
        "start": 0.0,
        "stop": 1.0,
        "clamp": 1.0,
        "lowest": 0.0,
        "highest": 1.0,
        "progress": "steps",
        "blending": "addition",
        "cutoff": 0.0,
        "detail": 0.0,
        "noise": "shared",
        "seed": -1,
        "normalize_fraction": 0.0,
        "start_at_step": 0,
        "end_at_step": 10000,
        "max_scale_per_phase": 2.0,
        "save_phases": False,
        "match_colours": False,
        "colour_formulas": "channels",
        "cleanup": 0.0,
        "cleanup_steps": 0,
        "cleanup_sampler": SAME_SAMPLER,
        "fidelity": 0.0,
        "nn_upscaler": False,
        "deep_shrink": 0.0,
        "deep_shrink_factor": 0.0,
        "deep_shrink_block": 3,
        "deep_shrink_method": "bicubic",
        "inversion_prompt": True,
        "window": 0,
        "window_jitter": True,
        "window_batch": 4,
        "window_formulas": "clean picture",
        "dilated": 1.0,
        "gaussian_sigma": 1.0,
        "gaussian_alpha": 1.0,
        "rewind": False,
        "rewind_min": 0.5,
        "rewind_max": 0.8,
        "mask_mode": "multiply",
        "perlin": 0.0,
        "perlin_scale": 10.0,
        "skip_tolerance": 0.0,
        "analysis": False,
        "steps": 0,
        "window_auto": False,
        "window_overlap": 0.5,
        "seamless": False,
        "repairs": "after all",
        "denoise_in": "steps",
        "scale": 2.0,
        "width": 0,
        "height": 0,
        "upscaler": "Lanczos",
        "back_projection": False,
    },
}
"""What a text of this version means by leaving a setting out. Of 0.1.0, before the texts had a version."""

DEFAULTS_OF_VERSION[1] = {**DEFAULTS_OF_VERSION[0], "blending": "clean wavelet", "alpha": 0.35}
DEFAULTS_OF_VERSION[2] = {**DEFAULTS_OF_VERSION[1], "detail": 0.32, "fidelity": 0.5, "back_projection": True}
DEFAULTS_OF_VERSION[3] = {
    **DEFAULTS_OF_VERSION[2],
    "denoise": 0.7,
    "blending": "low-pass",
    "alpha": 0.25,
    "detail": 0.28,
}
DEFAULTS_OF_VERSION[4] = {**DEFAULTS_OF_VERSION[3], "detail": 0.0}
DEFAULTS_OF_VERSION[5] = {**DEFAULTS_OF_VERSION[4], "denoise": 0.5}
DEFAULTS_OF_VERSION[6] = {
    **DEFAULTS_OF_VERSION[5],
    "steps": 8,
    "window_auto": True,
    "window_overlap": 0.25,
    "dilated": 0.0,
}


def as_a_webui_writes(values):
    """The last line of an infotext, whose values are quoted where they hold a comma, a colon or a line break."""

    def quoted(value):
        return json.dumps(value, ensure_ascii=False) if re.search("[,:\n]", str(value)) else str(value)

    return TEXT + ", ".join(f"{key}: {quoted(value)}" for key, value in values.items())


def as_a_webui_parses(text):
    """{key: text}, sizes in halves."""
    found = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', text.splitlines()[-1]):
        if value.startswith('"') and value.endswith('"'):
            value = json.loads(value)
        size = re.fullmatch(r"(\d+)x(\d+)", value)
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return found


def value_of(parameter):
    if parameter.type is bool:
        return st.booleans()
    if parameter.type is str:
        names = st.sampled_from(["DPM++ 2M, SDE", "4x-UltraSharp", "R-ESRGAN 4x+: Anime6B", "2x4", 'a "b"', "画"])
        return st.sampled_from(parameter.choices) if parameter.choices else names
    if parameter.type is int:
        return st.integers(int(parameter.low), int(parameter.high))
    return st.floats(parameter.low, parameter.high)


def some(kind):
    """Some settings of this kind, switched on."""

    def made(values):
        try:
            return kind(**{**values, "enabled": True})
        except SettingsError:
            return None

    values = st.fixed_dictionaries({}, optional={p.name: value_of(p) for p in kind.parameters()})
    return values.map(made).filter(bool)


@given(st.one_of(some(Settings), some(UpscaleSettings)))
def test_what_is_written_comes_back(settings):
    parameters = as_a_webui_parses(as_a_webui_writes(written(settings)))
    values = read(parameters)
    apart = {p.name: p.default for p in settings.parameters() if not p.in_infotext}
    assert type(settings)(**{p.name: values[p.name] for p in settings.parameters()}) == settings.replace(**apart)
    assert all(type(values[p.name]) is p.type for p in UpscaleSettings.parameters())
    assert by_upscale_script(parameters) == isinstance(settings, UpscaleSettings)
    assert parameters["Sampler"] == "Euler"


def test_a_name_that_looks_like_a_size_comes_back():
    """WebUIs split it."""
    assert read({"Itermix upscaler-1": "2", "Itermix upscaler-2": "4"})["upscaler"] == "2x4"
    for halves in ({"Itermix upscaler-1": "2"}, {"Itermix upscaler-2": "4"}):
        assert read(halves)["upscaler"] == "Lanczos"


def test_a_switch_that_was_on_by_default_can_be_off(monkeypatch):
    monkeypatch.setitem(OLD_DEFAULTS, 0, {"match_colours": True})
    assert read({"Itermix enabled": "True", "Itermix match colours": "False"})["match_colours"] is False
    assert read({"Itermix enabled": "True"})["match_colours"] is True


def test_what_has_no_part_in_the_picture_is_left_out():
    assert written(Settings(enabled=True, analysis=True)) == written(Settings(enabled=True))


def test_what_is_at_its_default_is_left_out():
    """But the steps, which say how many were run."""
    always = {"Itermix steps": 8, "Itermix version": VERSION}
    assert written(Settings()) == {"Itermix enabled": False, **always}
    assert written(Settings(enabled=True)) == {"Itermix enabled": True, **always}
    assert written(UpscaleSettings(enabled=True, alpha=0.55)) == {
        "Itermix enabled": True,
        "Itermix alpha": 0.55,
        "Itermix scale": 2.0,
        **always,
    }


def test_a_text_without_our_keys_means_off_and_the_defaults():
    assert read(as_a_webui_parses(TEXT)) == DEFAULTS
    assert read({}) == DEFAULTS
    assert not DEFAULTS["enabled"]


OF_010 = (
    TEXT + "Itermix enabled: True, Itermix denoise: 0.8, Itermix seed: 4294967295, Itermix save phases: True, "
    'Itermix scale: 3.0, Itermix upscaler: "R-ESRGAN 4x+: Anime6B", Version: v1.10.1'
)


def test_a_text_of_an_older_version_means_what_it_meant():
    assert read(as_a_webui_parses(OF_010)) == {
        **DEFAULTS_OF_VERSION[0],
        "enabled": True,
        "denoise": 0.8,
        "seed": 4294967295,
        "save_phases": True,
        "scale": 3.0,
        "upscaler": "R-ESRGAN 4x+: Anime6B",
    }
    assert read({"Itermix enabled": "True"}) == {**DEFAULTS_OF_VERSION[0], "enabled": True}


@pytest.mark.parametrize("version", DEFAULTS_OF_VERSION)
def test_the_defaults_of_every_version_are_known(version):
    """If this fails, a default has changed: write the old one into OLD_DEFAULTS."""
    values = read({"Itermix enabled": "False", VERSION_KEY: str(version)})
    assert values == {**DEFAULTS, **DEFAULTS_OF_VERSION[version]}
    assert set(DEFAULTS_OF_VERSION) == set(range(VERSION))
    assert set(OLD_DEFAULTS) == set(range(VERSION))


@pytest.mark.parametrize("blending", ["addition", "low-pass", "wavelet", "clean low-pass"])
@pytest.mark.parametrize("version", ["2", "3", str(VERSION)])
def test_detail_on_the_state_is_read_as_what_does_as_much_today(blending, version):
    """Where it did nothing then, it is none."""
    text = {"Itermix enabled": "True", "Itermix blending": blending, "Itermix detail": "0.1", VERSION_KEY: version}
    did_something = blending == "clean low-pass" or (version == "3" and blending != "addition")
    in_those_days = round(0.1 * DETAIL_ON_STATE, 2) if did_something else 0.0
    assert read(text)["detail"] == (0.1 if version == str(VERSION) else in_those_days)


def test_detail_of_version_4_is_todays():
    assert detail_today({"blending": "addition", "detail": 0.1}, 4) == 0.1
    assert detail_today({"blending": "addition", "detail": 0.1}, 3) == 0.0


def test_more_detail_on_the_state_than_there_is_today_is_the_most():
    text = {"Itermix enabled": "True", "Itermix detail": "0.5", VERSION_KEY: "3"}
    assert read(text)["detail"] == next(p.high for p in Settings.parameters() if p.name == "detail")


@pytest.mark.parametrize("version", [str(VERSION), f"{VERSION}.0", VERSION, "99"])
def test_a_text_of_today_or_of_the_future_means_todays_defaults(version):
    assert read({"Itermix enabled": "True", VERSION_KEY: version}) == {**DEFAULTS, "enabled": True}


@pytest.mark.parametrize("version", ["", "two", "nan", "inf", None, []])
def test_a_text_with_a_broken_version_is_of_the_oldest(version):
    assert read({"Itermix enabled": "True", VERSION_KEY: version}) == {**DEFAULTS_OF_VERSION[0], "enabled": True}


@pytest.mark.parametrize("value", ["", "ten", "nan", "inf", "-5", "1e9", "0,5", None, [], {}])
def test_a_value_that_is_not_possible_counts_as_left_out(value):
    values = read({"Itermix enabled": "True", **{f"Itermix {key}": value for key in ("alpha", "curve", "width")}})
    assert values == {**DEFAULTS_OF_VERSION[0], "enabled": True}


def test_values_that_are_typed_already_are_taken_too():
    values = read({"Itermix enabled": True, "Itermix end at step": 20.0, "Itermix cutoff": 2, VERSION_KEY: 1})
    assert (values["enabled"], values["end_at_step"], values["cutoff"]) == (True, 20, 2.0)


@given(st.dictionaries(st.sampled_from([p.key for p in UpscaleSettings.parameters()] + [VERSION_KEY]), st.text()))
def test_any_text_gives_values_that_are_possible(parameters):
    values = read(parameters)
    for parameter in UpscaleSettings.parameters():
        assert parameter.check(values[parameter.name]) == values[parameter.name]
