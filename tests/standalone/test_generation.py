"""Reading how a picture was made."""

from __future__ import annotations

import io

import pytest
from PIL import ExifTags, Image

from itermix.standalone.generation import generation_of

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
