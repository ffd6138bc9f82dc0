"""Metadata, names, lists, addresses and answers, as a folder of a thousand pictures and a row of servers bring them."""

import base64
import contextlib
import io
import json
import os
import struct
import zlib
from concurrent.futures import Future
from contextlib import closing
from pathlib import PurePath
from unittest import mock

import pytest
from fuzz import cases, mutated, readable, texts, values
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image

from itermix.settings import UpscaleSettings
from itermix.standalone import client, images, server, sources
from itermix.standalone.batch import journal, plan, scheduler
from itermix.standalone.batch.journal import Journal
from itermix.standalone.batch.scheduler import NoServer, Policy, Scheduler, Server
from itermix.standalone.files import shown

INFOTEXT = "a hat\nNegative prompt: blurred\nSteps: 5, Sampler: Euler, CFG scale: 2.0, Seed: 3, Size: 8x8"
SWARM = json.dumps({"sui_image_params": {"prompt": "a hat", "steps": 20}})
CHARSETS = [b"", b"UNICODE\0", b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8), b"UNICODE", b"unicode\0"]
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""{EXIF's number of a type: its bytes}."""


@st.composite
def comments(draw):
    text = draw(st.sampled_from([INFOTEXT, SWARM, "Screenshot"]) | texts)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-16-le", "latin-1"]))
    return draw(st.sampled_from(CHARSETS)) + text.encode(encoding, "replace")


@st.composite
def exifs(draw):
    """EXIF with one tag of any type in it, or what isn't any."""
    if draw(st.integers(0, 4)) == 0:
        return draw(st.binary(max_size=40) | st.just(b"garbage!"))
    tag = draw(st.sampled_from([ExifTags.Base.Orientation, ExifTags.Base.UserComment, ExifTags.IFD.Exif, 0x010E]))
    kind = draw(st.sampled_from([*SIZES, 0, 99]))
    value = draw(comments() | st.binary(max_size=12))
    count = draw(st.just(len(value) // SIZES.get(kind, 1)) | st.integers(0, 2**32 - 1))

    def folder(at, tag, kind, count, value):
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + 18)
        return struct.pack("<HHHI", 1, tag, kind, count) + inline + bytes(4) + (value if len(value) > 4 else b"")

    whole = draw(st.booleans())
    if whole:
        tag, kind, value = ExifTags.Base.UserComment, 7, draw(comments())
        count = len(value)
    entry = folder(8, tag, kind, count, value)
    if whole or draw(st.booleans()):
        entry = folder(8, ExifTags.IFD.Exif, 4, 1, struct.pack("<I", 26)) + folder(26, tag, kind, count, value)
    return b"Exif\0\0II*\0\x08\0\0\0" + entry


@st.composite
def files_with_metadata(draw):
    """(data, whether its pixels are whole)."""
    kind = draw(st.sampled_from(["PNG", "JPEG", "WEBP"]))
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(out, kind, exif=draw(exifs()))
    data = out.getvalue()
    if kind == "PNG" and draw(st.booleans()):
        name = draw(st.sampled_from([b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"pHYs", b"gAMA", b"acTL", b"sRGB", b"tIME"]))
        text = draw(st.sampled_from([INFOTEXT, SWARM, "x" * 2**21]) | texts).encode("latin-1", "replace")
        packed = b"\0" + zlib.compress(text) if name == b"zTXt" else text[:1000]
        body = draw(st.just(b"parameters\0" + packed) | st.binary(max_size=30))
        checksum = draw(st.just(zlib.crc32(name + body)) | st.integers(0, 2**32 - 1))
        data = data[:33] + struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum) + data[33:]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@given(data=files_with_metadata())
@cases("metadata", quick=200)  # there are many kinds
def test_metadata(folder, data):
    file = folder / "a"
    file.write_bytes(data)
    source = sources.read(file)
    assert source.size == (8, 8)
    fields = source.generation.fields
    assert fields.get("prompt", "a hat") != "Screenshot"
    assert SWARM not in fields.values()
    assert set(fields) in (set(), {"prompt", "negative_prompt"}) or "steps" in fields or "seed" in fields or fields
    for note in source.notes:
        readable(note)
    json.loads(server.request(source, UpscaleSettings(), fields))


NAMES = st.sampled_from(
    [
        "x" * 246,
        "x" * 250,
        "\u732b" * 83,
        "caf\udce9",
        "\udcff\udcfe",
        "a\nb",
        "a\x1b[31m",
        "a'b\"c;--",
        "-",
        "a.b.",
        "A",
    ]
) | st.text(st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=9)
ENDINGS = st.sampled_from([".png", ".jpg", ".JPEG", ".gif", ".jfif"])


def taken(name):
    """Whether the drive takes such a name."""
    try:
        return not name.startswith(".") and len(os.fsencode(name)) <= 255
    except UnicodeEncodeError:
        return False


@given(names=st.lists(st.builds(str.__add__, NAMES, ENDINGS).filter(taken), min_size=1, max_size=4, unique=True))
@cases("names")
def test_names(tmp_path_factory, names):
    root = tmp_path_factory.mktemp("names")
    (root / "in").mkdir()
    (root / "out").mkdir()
    data = images.png(Image.new("RGB", (8, 8)), INFOTEXT)
    for name in names:
        (root / "in" / name).write_bytes(data)
    try:
        found = plan.found(root / "in", root / "out").pictures
    except plan.PlanError as error:
        readable(shown(str(error)), has="would both become")
        return
    with closing(Journal(root / "out")) as kept:
        kept.wait(found.items())
        for target, file in found.items():
            readable(shown(target))
            plan.looked_at(file, target, {})
            kept.failed(target, f"{target} was not made", for_good=False)
            kept.check_free(target)
            kept.done(target, "key", data, "http://a", 1.0)
    with closing(Journal(root / "out")) as kept:
        assert kept.made() == dict.fromkeys(found, "key")
    assert journal.results_in(root / "out") == set(found)
    names_there = {path.name for path in (root / "out").iterdir()}
    assert names_there == {target.name for target in found} | {journal.NAME}
    assert plan.found(root, root / "else").pictures.keys() == {PurePath("in") / target for target in found}


LINES = (
    st.sampled_from([".", "..", "a.png", "./a.png", '"a.png"', "/", "sub/..", "caf\u00e9.png", " a.png\t", "x" * 300])
    | texts
)


@given(
    lines=st.lists(LINES, max_size=4),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
    data=st.data(),
)
@cases("lists")
def test_lists(folder, lines, end, encoding, data):
    file = folder / "list.txt"
    whole = end.join(lines).encode(encoding, "replace")
    file.write_bytes(data.draw(st.just(whole) | mutated(whole) | st.binary(max_size=40)))
    try:
        found = plan.found(file, folder / "out").pictures
    except plan.PlanError as error:
        readable(shown(str(error)))
        return
    for target, source in found.items():
        assert target.suffix == ".png"
        with contextlib.suppress(images.PictureError):
            plan.looked_at(source, target, {})


LOGINS = st.sampled_from(["", "user:hidden@", "user:hid@hidden@", "hidden@", ":hidden@"])
HOSTS = (
    st.sampled_from(["127.0.0.1", "[::1]", "[::1", "localhost", "HOST.", "h\u00f6st", "a..b", "", "x" * 70, "\udce9"])
    | texts
)
PORTS = st.sampled_from(["", ":7860", ":80", ":0", ":99999", ":x", ":"])
PATHS = st.sampled_from(["", "/", "/sd/", "/?token=hidden", "#hidden", "/ x", "/\u00e9"]) | texts


@given(parts=st.tuples(st.sampled_from(["http://", "HTTPS://", "ftp://", "//", ""]), LOGINS, HOSTS, PORTS, PATHS))
@cases("addresses", quick=300)
def test_addresses(parts):
    text = "".join(parts)
    try:
        address = client.address(text)
    except client.AddressError as error:
        readable(error, lacks="hidden")
        return
    assert client.address(address) == address
    assert "hidden" not in client.without_login(address)
    assert client.place(address) == client.place(client.address(f"{address}/"))


RESULT = images.png(Image.new("RGB", (16, 16)), INFOTEXT)


def answer_with(data, infotext=INFOTEXT):
    return {"images": [base64.b64encode(data).decode()], "info": json.dumps({"infotexts": [infotext]})}


GOOD = answer_with(RESULT)
SAID = {b'{"detail": "Sampler not found"}': "Sampler not found", b'{"detail": "Not Found"}': "start it with --api"}
DETAILS = (
    st.sampled_from(["Not Found", "Sampler not found", ["a"], [{"loc": ["b"], "msg": "c"}], {"msg": 1}, [[]]]) | values
)
contents = (
    st.just(GOOD)
    | st.builds(answer_with, st.binary(max_size=30) | mutated(RESULT), values)
    | st.fixed_dictionaries({}, optional={"images": values, "info": values, "detail": DETAILS, "errors": DETAILS})
    | values
)
bodies = contents.map(lambda content: json.dumps(content).encode())
bodies |= st.sampled_from([b"", b"<html><title>Login</title>", b"[" * 10**5, b"\xff\xfe", b"null"]) | bodies.flatmap(
    mutated
)
bodies = st.sampled_from(list(SAID)) | bodies
paths = st.sampled_from([*[server.IMG2IMG] * 3, server.SCRIPTS, server.SCHEMA, server.SAMPLERS])
statuses = st.sampled_from([200, 200, 200, 301, 308, 400, 401, 404, 404, 404, 413, 422, 429, 500, 502, 0])


@given(status=statuses, body=bodies, path=paths)
@cases("answers", quick=600)
def test_answers(status, body, path):
    answer, url = (status, body), "http://user:hidden@127.0.0.1:7860"
    settings = UpscaleSettings(alpha=0.5, upscaler="ESRGAN")
    try:
        if path == server.IMG2IMG:
            data = server.result(url, answer, (16, 16))
            server.check_finished(data, (16, 16))
            assert Image.open(io.BytesIO(data)).size == (16, 16)
        else:
            server.questions(settings, {"sampler_name": "Euler"})[path](url, answer)
    except server.ServerError as error:
        readable(error, lacks="hidden")
        if status == 404 and path == server.IMG2IMG and body in SAID:
            readable(error, has=SAID[body])


FAULTS = [(422, b'{"detail": "no such upscaler"}'), (404, b'{"detail": "Sampler not found"}'), (500, b"{}"),
          (0, b"gone"), (200, b""), (200, b"<html>"), (301, b"http://b"), (429, b"{}"),
          (200, b'{"images": []}')]  # fmt: skip


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@given(
    faults=st.lists(st.lists(st.sampled_from(FAULTS), max_size=6), min_size=1, max_size=2),
    bad=st.none() | st.sampled_from(FAULTS[:2]),
    refused=st.sets(st.integers(0, 9), max_size=2),
)
@cases("servers")
def test_servers(faults, bad, refused):
    """Each but the bad one has its faults first and then none; nothing is lost and nothing made twice."""
    made, lost, clock = {}, {}, Clock()
    left = {f"http://{number}": list(reversed(own)) for number, own in enumerate(faults)}
    if bad:
        left["http://bad"] = []

    class Fake:
        def send(self, url, path, body, timeout):
            future = Future()
            clock.now += 0.3
            if body is None:
                future.set_result((200, b'{"img2img": ["iterative mixing upscale"]}'))
            elif int(body) in refused:
                future.set_result((422, b'{"detail": "of this picture"}'))
            elif url == "http://bad":
                future.set_result(bad)
            else:
                future.set_result(left[url].pop() if left[url] else (200, b"made"))
            return future

        def request(self, picture):
            return str(picture).encode()

        def accept(self, picture, answer, which, seconds):
            if answer != (200, b"made"):
                server.result(which.url, answer, (16, 16))
            assert picture not in made
            made[picture] = which

        def failed(self, picture, reason, for_good):
            readable(reason)
            if for_good:
                assert picture not in lost
                lost[picture] = reason

        def say(self, sentence):
            readable(sentence)

    fleet = [Server(url) for url in left]
    policy = Policy(attempts=20)
    with mock.patch.object(scheduler, "time", clock):
        work = Scheduler(fleet, Fake(), policy, Fake(), {server.SCRIPTS: server.check_script})
        with contextlib.suppress(NoServer):
            work.run(range(10))
    refusals = [fault for own in faults for fault in own if fault in FAULTS[:2]]
    assert refused <= set(lost)
    if not refusals or (len(faults) > 1 and not bad and all(not set(own) & set(FAULTS[:2]) for own in faults[:1])):
        assert set(lost) == refused
        assert set(made) == set(range(10)) - refused
    assert not made.keys() & lost.keys()
    assert sum(each.pictures for each in fleet) == len(made)
    for each in fleet:
        readable("; ".join(each.refused) or "none")
