"""The fuzzer finds each kind of fault: with its mending taken out, some case fails."""

import os
import re
from pathlib import Path

import pytest
import test_batches as fuzz
from PIL import ExifTags

from itermix.standalone import client, files, generation, server, sources
from itermix.standalone.batch import journal, plan, scheduler


def read_at_once(what, problems, read, otherwise):
    return read()


def orientation_as_it_is(image):
    return generation.exif_of(image).get(ExifTags.Base.Orientation, 1)


def beside_by_name(path):
    return path.with_name(f".{path.name}.part")


def any_line(line, root):
    return Path(os.path.normpath(root / line.strip())) if line.strip() else None


def said_of_fields(content, depth=0):
    detail = content.get("detail")
    return "; ".join(str(field.get("msg")) for field in detail) if isinstance(detail, list) else str(detail)


def given_up_at_once(self, job, server, reason):
    self._batch.failed(job.picture, reason, for_good=True)


MENDINGS = {
    "metadata that raises": (fuzz.test_metadata, [(generation, "_tried", read_at_once)]),
    "an orientation that is no number": (fuzz.test_metadata, [(sources, "orientation_of", orientation_as_it_is)]),
    "chunks that Pillow refuses": (fuzz.test_metadata, [(sources, "without_metadata", lambda data: data)]),
    "a text that is no infotext": (fuzz.test_metadata, [(generation, "is_infotext", lambda text: True)]),
    "names too long by a few bytes": (
        fuzz.test_names,
        [(files, "beside", beside_by_name), (journal, "beside", beside_by_name)],
    ),
    "names that aren't UTF-8": (fuzz.test_names, [(journal, "_stored", lambda path: path.as_posix())]),
    "names that can't be printed": (fuzz.test_names, [(fuzz, "shown", str)]),
    "results taken for sources": (fuzz.test_names, [(plan, "results_in", lambda folder: set())]),
    "lines that name no file": (fuzz.test_lists, [(plan, "_named_in", any_line)]),
    "addresses that are none": (fuzz.test_addresses, [(client, "_plain", lambda text, parts: True)]),
    "logins that are printed": (fuzz.test_addresses, [(client, "_without_secrets", ascii)]),
    "details of any shape": (fuzz.test_answers, [(server, "_said", said_of_fields)]),
    "404 with a reason": (fuzz.test_answers, [(server, "NO_ROUTE", re.compile(r"(?s).*"))]),
    "one bad server": (fuzz.test_servers, [(scheduler.Scheduler, "_refuse", given_up_at_once)]),
}


@pytest.mark.parametrize("kind", MENDINGS)
def test_the_fuzzer_finds(kind, monkeypatch, tmp_path_factory):
    test, patches = MENDINGS[kind]
    needs = {fuzz.test_metadata: {"folder": tmp_path_factory.mktemp("finds")}, fuzz.test_names: {}}
    needs[fuzz.test_names] = {"tmp_path_factory": tmp_path_factory}
    needs[fuzz.test_lists] = needs[fuzz.test_metadata]
    for owner, name, without in patches:
        monkeypatch.setattr(owner, name, without)
    try:
        test(**needs.get(test, {}))
    except (Exception, AssertionError):  # whatever the fault makes of it
        return
    pytest.fail(f"it doesn't find {kind}")
