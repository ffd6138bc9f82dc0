"""Settings, infotexts and files of presets, as strangers write them."""

import json
import re

import pytest
from fuzz import NASTY, PARAMETERS, as_json, cases, mutated, payloads, readable, texts, valid, values
from hypothesis import assume, given
from hypothesis import strategies as st

from itermix import Settings, SettingsError, plan
from itermix.settings import UpscaleSettings
from itermix.settings.infotext import VERSION_KEY, read, written
from itermix.settings.presets import PRESETS, PresetFile, PresetFileError, expanded


@given(payload=payloads, kind=st.sampled_from([Settings, UpscaleSettings]))
@cases("settings", 0.6)
def test_dicts_of_settings(payload, kind):
    try:
        settings = kind(**{"enabled": True, **expanded(payload)})
    except SettingsError as error:
        readable(error)
        return
    assert kind(**settings.changed()) == settings


@given(given_values=st.lists(values, max_size=30))
@cases("settings", 0.1)
def test_lists_of_settings(given_values):
    try:
        Settings.from_list(given_values)
    except SettingsError as error:
        readable(error)


@given(settings=valid, width=st.integers(1, 5000), height=st.integers(1, 5000))
@cases("settings", 0.3)
def test_sizes(settings, width, height):
    try:
        checked = UpscaleSettings(**settings)
        target = checked.target(width, height)
        sizes = plan(width, height, target=target, max_scale_per_phase=checked.max_scale_per_phase)
    except SettingsError as error:
        readable(error)
        return
    assert sizes[-1] == target
    assert len(sizes) < 30


def parsed(text):
    """{key: value} as a WebUI parses the last line of an infotext."""
    found = {}
    for key, value in re.findall(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)', text.split("\n")[-1]):
        if value[:1] == value[-1:] == '"':
            try:
                value = json.loads(value)
            except ValueError:
                value = value[1:-1]
        size = re.fullmatch(r"(\d+)x(\d+)", str(value))
        found |= {f"{key}-1": size[1], f"{key}-2": size[2]} if size else {key: value}
    return found


@given(
    settings=valid,
    version=st.none() | st.integers(-1, 99) | texts,
    others=st.dictionaries(texts, texts),
    data=st.data(),
)
@cases("infotexts")
def test_infotexts_of_any_version(settings, version, others, data):
    try:
        keys = written(UpscaleSettings(**settings))
    except SettingsError:
        assume(False)
    if version is None:
        del keys[VERSION_KEY]
    else:
        keys[VERSION_KEY] = version
    known = [parameter.key for parameter in PARAMETERS]
    keys |= others | data.draw(st.dictionaries(st.sampled_from([*known, f"{known[0]}-1"]), texts, max_size=3))
    text = "a photograph\nSteps: 5, " + ", ".join(f"{key}: {value}" for key, value in keys.items())
    changed = data.draw(mutated(text.encode("utf-8", "replace"))).decode("utf-8", "replace")
    for parameters in (parsed(changed), keys):
        found = read(parameters)
        assert {name: type(value) for name, value in found.items()} == {p.name: p.type for p in PARAMETERS}
        assert all(p.check(found[p.name]) == found[p.name] for p in PARAMETERS)


NAMES = st.sampled_from(["Sharp", "sharp", "Balanced", *NASTY]) | st.text(max_size=5)
FILES = st.dictionaries(NAMES, payloads | valid | values, max_size=4) | values


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("presets") / "presets.json"


@given(content=FILES, data=st.data(), name=NAMES | values, settings=payloads)
@cases("preset files")
def test_files_of_presets(path, content, data, name, settings):
    raw = as_json(content)
    path.write_bytes(data.draw(mutated(raw) | st.just(raw) | st.just(b"[" * 10**5) | st.binary(max_size=50)))
    before = path.read_bytes()
    file = PresetFile(path)
    try:
        presets = file.load()
    except PresetFileError as error:
        readable(error)
        presets = None
    for change in (lambda: file.save(name, settings), lambda: file.rename(name, "New"), lambda: file.delete("New")):
        try:
            change()
        except (SettingsError, PresetFileError) as error:
            readable(error)
    assert list(path.parent.iterdir()) == [path]
    if presets is None:
        assert path.read_bytes() == before
    else:
        kept = file.load()
        assert all(kept[each] == presets[each] for each in presets if each not in (name, "New"))
    assert not set(PRESETS) & set(presets or ())
