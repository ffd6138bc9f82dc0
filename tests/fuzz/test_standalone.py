"""Pictures and the command line."""

import io

import pytest
import torch
from fuzz import NASTY, PARAMETERS, cases, mutated, possible, readable, texts, values
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from itermix.parameters import SettingsError
from itermix.standalone import cli, images
from itermix.standalone.generation import generation_of
from itermix.standalone.options import UsageError, flag_of, mixing_of

MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]
SIZES = [(1, 1), (1, 4000), (4000, 1), (3, 5), (17, 8)]
FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM"]


@st.composite
def picture_files(draw):
    """The data of a file: of any mode, size and format that Pillow writes together, turned by EXIF, and damaged."""
    image = Image.linear_gradient("L").resize(draw(st.sampled_from(SIZES)))
    mode, kind = draw(st.sampled_from(MODES)), draw(st.sampled_from(FORMATS))
    options = {}
    if draw(st.booleans()):
        exif = Image.Exif()
        exif[0x0112] = draw(st.integers(0, 9))  # orientation
        options["exif"] = exif.tobytes()
    out = io.BytesIO()
    try:
        image = Image.new(mode, image.size, 1) if mode in ("I;16", "PA", "LAB") else image.convert(mode)
        image.save(out, kind, **options)
    except (OSError, ValueError, KeyError):  # a format that doesn't have this mode
        out = io.BytesIO()
        image.convert("RGB").save(out, "PNG")
    return out.getvalue()


@given(data=st.data(), infotext=texts)
@cases("pictures")
def test_pictures(data, infotext):
    whole = data.draw(picture_files())
    try:
        image = images.opened(data.draw(st.just(whole) | mutated(whole) | st.binary(max_size=60)), "It")
    except images.PictureError as error:
        readable(error)
        return
    picture = images.to_picture(image)
    assert picture.shape == (3, image.height, image.width)
    assert torch.isfinite(picture).all()
    assert -1 <= picture.min() <= picture.max() <= 1
    image.info["parameters"] = infotext
    assert isinstance(generation_of(image).fields, dict)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out") / "x.png"


@pytest.fixture(scope="module", autouse=True)
def without_a_model():
    """What the model makes of the options is tested elsewhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "built_in_upscale", lambda options, settings, given, analyses: b"picture")
        yield


flags = st.sampled_from([*map(flag_of, PARAMETERS), "--preset", "--steps", "--cfg", "--sampler", "--no-such"])
words = st.sampled_from(PARAMETERS).flatmap(possible).map(str) | texts | values.map(str)
words = words.map(lambda text: text.encode("utf-8", "replace").decode())  # stderr escapes the others, pytest's doesn't


@given(options=st.lists(st.tuples(flags, words), max_size=4), further=st.lists(words, max_size=1))
@cases("command line", 0.7)
def test_flags(out, capsys, options, further):
    argv = ["upscale", "--replace", "--out", str(out)]
    argv += [f"{flag}={word}" for flag, word in options] + further
    try:
        code = cli.main(argv)
    except SystemExit as done:
        code = done.code
    printed = capsys.readouterr()
    assert (code, printed.err) == (0, "") or (code == 2 and printed.out == "")
    assert not code or printed.err.startswith("itermix: ")


mixings = st.lists(st.tuples(st.sampled_from([p.name for p in PARAMETERS] + ["preset", ""]), words), max_size=4)


@given(text=mixings.map(lambda pairs: " ".join(f"{name}={value}" for name, value in pairs)) | texts)
@cases("command line", 0.3)
def test_mixings(text):
    try:
        mixing_of(text)
    except (UsageError, SettingsError) as error:
        readable(error)


@pytest.mark.parametrize("text", [*NASTY, "a=" + "b " * 5000 + "=", "=".join(["bbbbbbbb"] * 40) + "="])
def test_mixings_that_would_take_forever(text):
    with pytest.raises((UsageError, SettingsError)):
        mixing_of(text)
