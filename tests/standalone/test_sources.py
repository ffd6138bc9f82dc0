"""Picture files as they come: metadata of any kind, animations, many levels, and what of them is sent."""

from __future__ import annotations

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import ExifTags, Image, PngImagePlugin

from itermix.settings import UpscaleSettings
from itermix.standalone import images, server, sources
from itermix.standalone.generation import fields_of, generation_of, is_infotext, orientation_of

INFOTEXT = "a hat\nNegative prompt: blurred\nSteps: 5, Sampler: Euler, Seed: 3, Size: 8x8"
FIELDS = {"prompt": "a hat", "negative_prompt": "blurred", "steps": 5, "sampler_name": "Euler", "seed": 3}
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, IFD = 1, 2, 3, 4, 5, 7, 13


def exif(tag: int, kind: int, count: int, value: bytes, inside: bool) -> bytes:
    """EXIF of one tag, written by hand since Pillow doesn't write wrong ones; `inside` the EXIF sub-folder."""

    def folder(at: int, tag: int, kind: int, count: int, value: bytes) -> bytes:
        inline = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack("<I", at + 18)
        return struct.pack("<HHHI", 1, tag, kind, count) + inline + bytes(4) + (value if len(value) > 4 else b"")

    if not inside:
        return b"Exif\0\0II*\0\x08\0\0\0" + folder(8, tag, kind, count, value)
    first = folder(8, ExifTags.IFD.Exif, LONG, 1, struct.pack("<I", 26))
    return b"Exif\0\0II*\0\x08\0\0\0" + first + folder(26, tag, kind, count, value)


def file_of(image: Image.Image, kind: str, **options) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def picture(kind: str = "PNG", **options) -> bytes:
    return file_of(Image.new("RGB", (16, 8), "red"), kind, **options)


COMMENT = ExifTags.Base.UserComment
WRONG = {
    "no TIFF header": b"garbage!",
    "nothing": b"Exif\0\0",
    "half a header": b"Exif\0\0II*\0",
    "a folder far away": b"Exif\0\0II*\0\xff\xff\xff\x7f",
    "a folder in itself": b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
    "comment of SHORT": exif(COMMENT, SHORT, 2, struct.pack("<HH", 65, 66), inside=True),
    "comment of one SHORT": exif(COMMENT, SHORT, 1, struct.pack("<H", 65), inside=True),
    "comment of LONG": exif(COMMENT, LONG, 3, struct.pack("<III", 1, 2, 3), inside=True),
    "comment of RATIONAL": exif(COMMENT, RATIONAL, 1, struct.pack("<II", 1, 0), inside=True),
    "comment of IFD": exif(COMMENT, IFD, 1, struct.pack("<I", 8), inside=True),
    "comment far away": exif(COMMENT, UNDEFINED, 2**31, b"", inside=True),
    "comment of nothing": exif(COMMENT, UNDEFINED, 0, b"", inside=True),
    "comment of an unknown type": exif(COMMENT, 99, 1, b"a", inside=True),
    "orientation as text": exif(ExifTags.Base.Orientation, ASCII, 2, b"6\0", inside=False),
    "orientation of 0/0": exif(ExifTags.Base.Orientation, RATIONAL, 1, bytes(8), inside=False),
    "orientation 99": exif(ExifTags.Base.Orientation, SHORT, 1, struct.pack("<H", 99), inside=False),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_no_metadata_ends_anything(tmp_path, kind, data):
    file = tmp_path / "a"
    file.write_bytes(picture(kind, exif=data))
    source = sources.read(file)
    assert source.size == (16, 8)
    assert source.generation.fields == {}
    body = json.loads(server.request(source, UpscaleSettings(), {}))
    assert (body["width"], body["height"]) == (16, 8)


def test_what_of_the_metadata_cannot_be_read_is_said(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(picture(exif=b"garbage!"))
    assert sources.read(file, pixels=False).notes == ("its EXIF can't be read: SyntaxError",)
    file.write_bytes(picture(exif=WRONG["comment of SHORT"]))
    assert sources.read(file).notes == ("its EXIF comment is no text",)


@pytest.mark.parametrize("orientation", range(10))
def test_orientations(orientation):
    image = Image.new("RGB", (16, 8))
    image.getexif()[ExifTags.Base.Orientation] = orientation
    assert orientation_of(image) == (orientation if 1 <= orientation <= 8 else 1)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


BROKEN_CHUNKS = {
    "too long a text": chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 2**21)),
    "a wrong checksum": chunk(b"tEXt", b"parameters\0hat", crc=1),
    "a profile that is none": chunk(b"iCCP", b"name\0\0" + b"not packed"),
    "a text without an end": chunk(b"iTXt", b"parameters"),
    "no pixels a metre": chunk(b"pHYs", b"\0"),
    "a gamma of nothing": chunk(b"gAMA", b""),
    "an animation of nothing": chunk(b"acTL", b"\0"),
}


@pytest.mark.parametrize("broken", BROKEN_CHUNKS.values(), ids=BROKEN_CHUNKS)
def test_a_png_whose_metadata_is_broken_is_sent_without_it(tmp_path, broken):
    whole = picture()
    file = tmp_path / "a.png"
    file.write_bytes(whole[:33] + broken + whole[33:])
    source = sources.read(file)
    with Image.open(io.BytesIO(source.sent())) as image:
        assert image.tobytes() == Image.new("RGB", (16, 8), "red").tobytes()
    assert not source.bare or source.notes == ("its metadata is broken, and left out",)


def test_pixels_that_are_broken_are_no_matter_of_metadata(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(picture()[:50])
    with pytest.raises(images.PictureError, match="can't be read as a picture"):
        sources.read(file)


ENCODED = {
    "big": b"UNICODE\0" + INFOTEXT.encode("utf-16-be"),
    "little": b"UNICODE\0" + INFOTEXT.encode("utf-16-le"),
    "with a byte order mark": b"UNICODE\0" + INFOTEXT.encode("utf-16"),
    "with the other mark": b"UNICODE\0\xfe\xff" + INFOTEXT.encode("utf-16-be"),
    "UTF-8 called UNICODE": b"UNICODE\0" + INFOTEXT.encode(),
    "UTF-8 with a mark": b"UNICODE\0\xef\xbb\xbf" + INFOTEXT.encode(),
    "cut off": b"UNICODE\0" + INFOTEXT.encode("utf-16-le") + b"a",
    "ASCII": b"ASCII\0\0\0" + INFOTEXT.encode(),
    "JIS": b"JIS\0\0\0\0\0" + INFOTEXT.encode(),
    "undefined": bytes(8) + INFOTEXT.encode(),
    "no name of an encoding": INFOTEXT.encode(),
    "no name, and wide": INFOTEXT.encode("utf-16-le"),
    "ends with zeros": b"ASCII\0\0\0" + INFOTEXT.encode() + bytes(9),
    "lines of Windows": b"ASCII\0\0\0" + INFOTEXT.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("data", ENCODED.values(), ids=ENCODED)
def test_comments_of_every_encoding(data):
    image = Image.open(io.BytesIO(picture("JPEG", exif=exif(COMMENT, UNDEFINED, len(data), data, inside=True))))
    assert generation_of(image).fields == FIELDS
    assert generation_of(image).place == "EXIF comment"


@pytest.mark.parametrize("name", ["\u732b, \u5e3d\u5b50", "\u0448\u043b\u044f\u043f\u0430", "caf\u00e9", "\U0001f3a9"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-8"])
def test_comments_of_every_script(name, encoding):
    data = b"UNICODE\0" + INFOTEXT.replace("a hat", name).encode(encoding)
    image = Image.open(io.BytesIO(picture("WEBP", exif=exif(COMMENT, UNDEFINED, len(data), data, inside=True))))
    assert generation_of(image).fields == {**FIELDS, "prompt": name}


SWARM = json.dumps({"sui_image_params": {"prompt": "a hat", "steps": 20, "seed": 1}}, indent=2)
FOOOCUS = json.dumps({"prompt": "a hat", "steps": 30, "metadata_scheme": "fooocus", "Steps": "5, 6"})
NONE = {
    "a camera's": "oplus_131072",
    "a screenshot's": "Screenshot",
    "SwarmUI's": SWARM,
    "Fooocus's": FOOOCUS,
    "a prompt alone": "a hat\nNegative prompt: blurred",
    "steps in a sentence": "How to climb\nSteps: 2 up, 3 down",
    "steps that are none": "a hat\nSteps: many, Seed: 1",
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_infotext_is_left_alone(tmp_path, text):
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("parameters", text)
    (tmp_path / "a.png").write_bytes(picture(pnginfo=chunks))
    comment = b"ASCII\0\0\0" + text.encode()
    (tmp_path / "a.jpg").write_bytes(picture("JPEG", exif=exif(COMMENT, UNDEFINED, len(comment), comment, inside=True)))
    assert sources.read(tmp_path / "a.png").generation.fields == {}
    assert sources.read(tmp_path / "a.png").generation.place == "PNG text, which is no infotext"
    assert sources.read(tmp_path / "a.jpg").generation.fields == {}
    assert sources.read(tmp_path / "a.jpg").generation.place == "EXIF comment, which is no infotext"


def test_an_infotext_in_the_comment_counts_where_the_text_is_none():
    image = Image.open(
        io.BytesIO(picture("WEBP", exif=exif(COMMENT, UNDEFINED, len(INFOTEXT), INFOTEXT.encode(), inside=True)))
    )
    image.info["parameters"] = SWARM
    assert generation_of(image).fields == FIELDS


def test_lines_that_extensions_put_after_the_parameters_are_no_prompt():
    text = f"{INFOTEXT}\nTemplate: a __colour__ hat\nNegative Template: b\nSteps: two"
    assert fields_of(text) == FIELDS


def test_lines_end_where_programs_end_them_and_nowhere_else():
    assert fields_of("a\u2028b\x0bc\x85\nSteps: 5, Seed: 3")["prompt"] == "a\u2028b\x0bc\x85".strip()
    assert fields_of("a\rb\r\nSteps: 5, Seed: 3")["prompt"] == "a\nb"
    assert not is_infotext("a\u2028Steps: 5, Seed: 3")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Steps: 5, CFG scale: nan, Seed: 3", {"steps": 5, "seed": 3}),
        ("Steps: 5, CFG scale: inf, Variation seed strength: -inf", {"steps": 5}),
        (f"Steps: 5, Seed: {'9' * 400}", {"steps": 5}),
        (f"Steps: 5, Seed: {'9' * 9000}", {"steps": 5}),
        ("Steps: 0, Seed: 3", {"seed": 3}),
        (f"Steps: {10**9}, Seed: 3", {"seed": 3}),
        ("Steps: 5, CFG scale: 1e999", {"steps": 5}),
    ],
)
def test_numbers_that_are_none_are_left_out(line, kept):
    assert fields_of(f"p\n{line}") == {"prompt": "p", "negative_prompt": "", **kept}


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_many_pictures_the_first_is_sent_and_it_is_said(tmp_path, kind):
    first, second = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (16, 8), "blue")
    file = tmp_path / "a"
    file.write_bytes(file_of(first, kind, save_all=True, append_images=[second, first]))
    source = sources.read(file)
    assert source.notes == ("the first of its 3 pictures is taken alone",)
    sent = Image.open(io.BytesIO(source.sent()))
    assert getattr(sent, "n_frames", 1) == 1
    assert np.allclose(np.asarray(sent.convert("RGB"))[0, 0], (255, 0, 0), atol=3)


def test_a_photograph_with_a_preview_is_one_picture(tmp_path):
    photograph = Image.new("RGB", (16, 8), "red")
    file = tmp_path / "a.jpg"
    file.write_bytes(file_of(photograph, "MPO", save_all=True, append_images=[Image.new("RGB", (8, 4))]))
    source = sources.read(file)
    assert source.notes == ()
    assert source.sent() == file.read_bytes()


LEVELS = np.array([[0, 1, 128, 257], [32768, 40000, 65278, 65535]])


@pytest.mark.parametrize(
    ("name", "levels", "expected"),
    [
        ("16 bits.png", LEVELS.astype(np.uint16), [[0, 0, 0, 1], [128, 156, 254, 255]]),
        ("16 bits.tif", LEVELS.astype(np.uint16), [[0, 0, 0, 1], [128, 156, 254, 255]]),
        ("32 bits.tif", LEVELS.astype(np.int32), [[0, 0, 0, 1], [128, 156, 254, 255]]),
        ("small.tif", np.array([[0, 200, 255]], np.int32), [[0, 200, 255]]),
        ("to 1.tif", np.array([[0.0, 0.5, 1.0]], np.float32), [[0, 128, 255]]),
        ("to 255.tif", np.array([[0.0, 128.0, 255.0]], np.float32), [[0, 128, 255]]),
    ],
)
def test_many_levels_become_256_and_not_white(tmp_path, name, levels, expected):
    file = tmp_path / name
    file.write_bytes(file_of(Image.fromarray(levels), "PNG" if name.endswith("png") else "TIFF"))
    source = sources.read(file)
    assert source.notes == ("its levels become those of 8 bits",)
    sent = Image.open(io.BytesIO(source.sent()))
    assert sent.mode == "L"
    assert np.asarray(sent).tolist() == expected


@pytest.mark.parametrize("level", [-1.0, 1e9, float("nan"), float("inf")])
def test_levels_of_which_white_cannot_be_told_are_an_error(tmp_path, level):
    file = tmp_path / "a.tif"
    file.write_bytes(file_of(Image.fromarray(np.array([[0.5, level]], np.float32)), "TIFF"))
    with pytest.raises(images.PictureError, match="so white can't be told"):
        sources.read(file).sent()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_what_every_webui_reads_is_sent_as_it_is(tmp_path, kind):
    file = tmp_path / "a"
    file.write_bytes(picture(kind))
    assert sources.read(file).sent() == file.read_bytes()


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_other_kinds_are_sent_as_png_and_upright(tmp_path, orientation):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = orientation
    file = tmp_path / "a.jp2"
    try:
        file.write_bytes(picture("AVIF", exif=turned))
    except (KeyError, OSError):
        pytest.skip("Pillow has no AVIF here")
    source = sources.read(file)
    sent = Image.open(io.BytesIO(source.sent()))
    assert (sent.format, sent.size) == ("PNG", source.size)
    assert source.size == ((8, 16) if orientation == 6 else (16, 8))


def test_the_request_has_the_size_that_is_shown(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 8
    file = tmp_path / "a.jpg"
    file.write_bytes(picture("JPEG", exif=turned))
    body = json.loads(server.request(sources.read(file), UpscaleSettings(), {}))
    assert (body["width"], body["height"]) == (8, 16)


@pytest.mark.parametrize("name", ["nowhere.png", "", "nul\0.png", "x" * 300, "caf\udce9.png"])
def test_files_that_cannot_be_read_are_named(tmp_path, name):
    with pytest.raises(images.PictureError, match="can't be read") as error:
        sources.read(tmp_path / name)
    assert str(error.value).isprintable()
