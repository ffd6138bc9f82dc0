"""Reading how a picture was made."""

from __future__ import annotations

import io

import pytest
from PIL import ExifTags, Image

from itermix.standalone.generation import (
    Generation,
    exif_of,
    fields_of,
    generation_of,
    is_infotext,
    orientation_of,
    parsed,
)

INFOTEXT = """a face, with a hat
in two lines, Steps: not here
Negative prompt: blurred,
Negative prompt: no second one
Steps: 30, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 5.5, Seed: 1234, Size: 64x64, Model: tiny, \
Variation seed: 3, Variation seed strength: 0.25, Clip skip: 2, Lora hashes: "a: b, Seed: 5, \\"Steps: 6", \
Itermix enabled: True, Itermix alpha: 0.9, Itermix scale: 2.0, Version: v1.10.1"""
FIELDS = {
    "prompt": "a face, with a hat\nin two lines, Steps: not here",
    "negative_prompt": "blurred,\nNegative prompt: no second one",
    "steps": 30,
    "sampler_name": "DPM++ 2M",
    "scheduler": "Karras",
    "cfg_scale": 5.5,
    "seed": 1234,
    "subseed": 3,
    "subseed_strength": 0.25,
}


@pytest.mark.parametrize(
    ("infotext", "expected"),
    [
        (None, {}),
        (INFOTEXT, FIELDS),
        ("just a prompt", {}),
        ("p\nSteps: 5, Seed: 3", {"prompt": "p", "negative_prompt": "", "steps": 5, "seed": 3}),
        ("\nSteps: 5, Seed: 3", {"prompt": "", "negative_prompt": "", "steps": 5, "seed": 3}),
        ('p\nSteps: 5, Note: "a, Seed: b"', {"prompt": "p", "negative_prompt": "", "steps": 5}),
        ("p\nSteps: 5, Seed: none", {"prompt": "p", "negative_prompt": "", "steps": 5}),
        (
            "Steps: 5, Distilled CFG Scale: 3.5",
            {"prompt": "", "negative_prompt": "", "steps": 5, "distilled_cfg_scale": 3.5},
        ),
    ],
)
def test_infotexts(infotext, expected):
    image = Image.new("RGB", (8, 8))
    if infotext is not None:
        image.info["parameters"] = infotext
    assert generation_of(image).fields == expected


COMMENTS = {
    "WebUIs": b"UNICODE\0" + INFOTEXT.encode("utf-16-be"),
    "little-endian": b"UNICODE\0" + INFOTEXT.encode("utf-16-le"),
    "ASCII": b"ASCII\0\0\0" + INFOTEXT.encode(),
    "undefined": b"\0" * 8 + INFOTEXT.encode(),
}


@pytest.mark.parametrize("comment", COMMENTS.values(), ids=COMMENTS)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_infotexts_in_exif(format, comment):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, format, exif=exif)
    with Image.open(data) as image:
        assert generation_of(image).fields == FIELDS


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG", "BMP", "TIFF"])
def test_a_picture_without_one_gives_nothing(format):
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, format)
    with Image.open(data) as image:
        assert generation_of(image).fields == {}


def jpeg(comment: object) -> Image.Image:
    """A picture with this EXIF comment, or without EXIF if it is None."""
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "JPEG", **({} if comment is None else {"exif": exif}))
    return Image.open(data)


def with_text(text: object) -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.info["parameters"] = text
    return image


SHORT = "p\nSteps: 5, Seed: 3"
OF_SHORT = {"prompt": "p", "negative_prompt": "", "steps": 5, "seed": 3}


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (jpeg(None), Generation({})),
        (with_text(""), Generation({})),
        (with_text("\0\0"), Generation({})),
        (with_text(5), Generation({})),
        (with_text(f"\0{SHORT}\0"), Generation(OF_SHORT, "PNG text")),
        (with_text(SHORT.encode()), Generation(OF_SHORT, "PNG text")),
        (with_text("a note"), Generation({}, "PNG text, which is no infotext")),
        (jpeg(b"ASCII\0\0\0" + SHORT.encode()), Generation(OF_SHORT, "EXIF comment")),
        (jpeg(b"ASCII\0\0\0" + SHORT.encode() + bytes(3)), Generation(OF_SHORT, "EXIF comment")),
        (jpeg(b"ASCII\0\0\0X" + SHORT.encode()), Generation({**OF_SHORT, "prompt": "Xp"}, "EXIF comment")),
        (with_text(f"X{SHORT}"), Generation({**OF_SHORT, "prompt": "Xp"}, "PNG text")),
        (
            jpeg(b"ASCII\0\0\0" + f"caf\u00e9{SHORT}".encode("latin-1")),
            Generation({**OF_SHORT, "prompt": "caf\u00e9p"}, "EXIF comment"),
        ),
        (jpeg(b"ASCII\0\0\0a note"), Generation({}, "EXIF comment, which is no infotext")),
        (jpeg(b"ASCII\0\0\0"), Generation({})),
        (jpeg(b""), Generation({})),
    ],
)
def test_what_is_found_and_where(image, expected):
    assert generation_of(image) == expected


def test_what_cannot_be_read_is_told_beside_what_can():
    image = with_text(SHORT)
    image.getexif = None
    assert generation_of(image) == Generation(OF_SHORT, "PNG text", ("its EXIF can't be read: TypeError",))
    image.info["parameters"] = "a note"
    found = generation_of(image)
    assert (found.place, found.problems) == ("PNG text, which is no infotext", ("its EXIF can't be read: TypeError",))
    assert orientation_of(image) == 1


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("Seed: 18446744073709551615", {"seed": 2**64 - 1}),
        ("Seed: 18446744073709551616", {}),
        ("Seed: -18446744073709551616", {}),
        ("Seed: -1", {"seed": -1}),
        ("CFG scale: 1e19", {"cfg_scale": 1e19}),
        ("CFG scale: -1e20", {}),
        ("Steps: 1", {"steps": 1}),
        ("Steps: 10000", {"steps": 10_000}),
        ("Steps: 10001", {}),
        ("Steps: 0", {}),
        ("Steps: 0, Sampler: x, Seed: 4", {"sampler_name": "x", "seed": 4}),
    ],
)
def test_numbers_at_their_limits(value, kept):
    line = value if "Steps" in value else f"Steps: 7, {value}"
    steps = {} if "Steps" in value else {"steps": 7}
    assert fields_of(f"p\n{line}") == {"prompt": "p", "negative_prompt": "", **steps, **kept}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ("", "", {})),
        ("  p  ", ("p", "", {})),
        ("p\nq\nNegative prompt: n\nm\nSteps: 5", ("p\nq", "n\nm", {"Steps": "5"})),
        ("p, Negative prompt: n\nSteps: 5", ("p, Negative prompt: n", "", {"Steps": "5"})),
        ("Negative prompt:n\nSteps: 5", ("", "n", {"Steps": "5"})),
        ("p\nSteps: 5, A b: c d , E: \"f, \\\"g\\\", h\", I: j", ("p", "", {"Steps": "5", "A b": "c d",
                                                                           "E": 'f, \\"g\\", h', "I": "j"})),
        ("p\nSteps: 1, A: 1\nx\nSteps: 2, B: 2\nTemplate: t", ("p\nSteps: 1, A: 1\nx", "", {"Steps": "2", "B": "2"})),
        ("p\r\nq\rSteps: 5", ("p\nq", "", {"Steps": "5"})),
        ("p\nSteps: 5 up", ("p\nSteps: 5 up", "", {})),
        ("p\nSteps: 5  ", ("p", "", {"Steps": "5"})),
        ('p\nSteps: 5, A: "X, X"', ("p", "", {"Steps": "5", "A": "X, X"})),
        ("p\nSteps: 5, A:b, C: d", ("p", "", {"Steps": "5", "C": "d"})),
    ],
)  # fmt: skip
def test_parts_of_an_infotext(text, expected):
    assert parsed(text) == expected
    assert is_infotext(text) == bool(expected[2])


def test_exif_behind_the_pixels_of_a_png_is_not_looked_for(monkeypatch):
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")
    with Image.open(data) as image:
        monkeypatch.setattr(image, "load", None)  # which would be called
        assert dict(exif_of(image)) == {}
        assert orientation_of(image) == 1
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    with_exif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(with_exif, "PNG", exif=exif)
    with Image.open(with_exif) as image:
        assert orientation_of(image) == 3
