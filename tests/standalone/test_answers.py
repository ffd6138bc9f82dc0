"""What is made of an answer of a server: a picture, what the server has, or one sentence."""

from __future__ import annotations

import base64
import json

import pytest
from PIL import Image

from itermix import __version__
from itermix.settings import UpscaleSettings
from itermix.standalone import images, server, sources
from itermix.standalone.server import OF_THE_SERVER, ServerError

URL = "http://u:secret@host:7860"
SHOWN = "http://host:7860"
PNG = images.png(Image.new("RGB", (6, 4), "red"), "a hat\nSteps: 2")


def answer(content: object, status: int = 200) -> tuple[int, bytes]:
    return status, json.dumps(content).encode()


def picture(data: bytes, infotext: str = "told", before: str = "") -> tuple[int, bytes]:
    image = before + base64.b64encode(data).decode()
    return answer({"images": [image], "info": json.dumps({"infotexts": [infotext]})})


def error_of(reply: tuple[int, bytes]) -> ServerError:
    with pytest.raises(ServerError) as error:
        server.result(URL, reply, (6, 4))
    return error.value


@pytest.mark.parametrize("before", ["", "data:image/png;base64,"])
def test_a_png_with_its_infotext_is_taken_as_it_is(before):
    assert server.result(URL, picture(PNG, before=before), (6, 4)) == PNG


def test_a_picture_without_an_infotext_gets_that_of_the_answer():
    bare = images.png(Image.new("RGB", (6, 4), "blue"))
    data = server.result(URL, picture(bare), (6, 4))
    found = images.opened(data, "")
    assert (found.format, found.info["parameters"], found.getpixel((0, 0))) == ("PNG", "told", (0, 0, 255))


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer({}), "KeyError: 'info'"),
        (answer([]), "TypeError: list indices must be integers or slices, not str"),
        (answer({"info": "{}"}), "KeyError: 'infotexts'"),
        (answer({"info": '{"infotexts": []}'}), "IndexError: list index out of range"),
        (answer({"info": '{"infotexts": ["x"]}', "images": [5]}), "AttributeError: 'int' object has no attribute"),
        (answer({"info": '{"infotexts": ["x"]}', "images": ["a b!"]}), "Error: Only base64 data is allowed"),
        (answer({"info": "x"}), "JSONDecodeError: Expecting value"),
        (picture(b"no picture"), "PictureError: The picture can't be read as a picture"),
    ],
)
def test_what_holds_no_picture(reply, reason):
    error = error_of(reply)
    assert str(error).startswith(f"The answer of {SHOWN} holds no picture: {reason}")
    assert not error.refused


def test_a_picture_of_another_size():
    with pytest.raises(ServerError, match=f"^The picture of {SHOWN} is of 6x4 in the place of 7x5$"):
        server.result(URL, picture(PNG), (7, 5))
    for size in ((6, 5), (7, 4)):
        with pytest.raises(ServerError, match="in the place of"):
            server.result(URL, picture(PNG), size)


def test_what_was_not_finished():
    server.check_finished(PNG, (6, 4))
    unfinished = images.png(Image.new("RGB", (6, 4)), 'x\nSteps: 2, Itermix unfinished: "phase 2 failed, a lot"')
    with pytest.raises(ServerError, match=r"^The picture was not finished: phase 2 failed, a lot$"):
        server.check_finished(unfinished, (6, 4))


AT = f"{SHOWN}/sdapi/v1/img2img"
SENT_ON = "which is not followed: name the address at which the WebUI itself is."
LOGIN = "Is there a login page or a proxy before it?"
SENTENCES = [
    ((0, b"refused\n"), f"No WebUI answers at {AT}: refused\\n"),
    ((0, b"x" * 2000), f"No WebUI answers at {AT}: {'x' * 1000}"),
    ((0, b"\xff"), f"No WebUI answers at {AT}: \ufffd"),
    ((300, b"http://me:pw@x/login?a=b?c"), f"{AT} sends on to http://x/login (status 300), {SENT_ON}"),
    ((307, b"http://x/\xff"), f"{AT} sends on to http://x/\ufffd (status 307), {SENT_ON}"),
    ((399, b""), f"{AT} sends on to nowhere (status 399), {SENT_ON}"),
    ((404, b'{"detail": "Not Found"}'), f"The WebUI has no API at {AT}: start it with --api."),
    ((404, b""), f"The WebUI has no API at {AT}: start it with --api."),
    ((404, b"404 not found"), f"The WebUI has no API at {AT}: start it with --api."),
    ((404, b'{"detail": "Sampler not found"}'), "Sampler not found"),
    (
        (401, b""),
        f"The WebUI at {AT} asks for a user and password, or doesn't know those given: give them as "
        "http://user:password@host:port.",
    ),
    ((400, b""), f"The WebUI at {AT} refused the request with status 400."),
    ((201, b"x"), f"The WebUI at {AT} refused the request with status 201: x"),
    ((500, b"a text"), f"The WebUI at {AT} refused the request with status 500: a text"),
    ((500, b'["a", "b"]'), f"The WebUI at {AT} refused the request with status 500: a; b"),
    ((500, b' {"errors": "out of memory"}'), "out of memory"),
    ((500, b"{}"), f"The WebUI at {AT} refused the request with status 500."),
    ((200, b""), f"No WebUI answers at {AT}, but something else: the answer is empty. {LOGIN}"),
    (
        (200, b"<title>Sign\nin</title>"),
        f"No WebUI answers at {AT}, but something else: what answers says: Sign in. {LOGIN}",
    ),
    (
        (200, b"<p>"),
        f"No WebUI answers at {AT}, but something else: Expecting value: line 1 column 1 (char 0). {LOGIN}",
    ),
]


@pytest.mark.parametrize(("reply", "sentence"), SENTENCES)
def test_sentences(reply, sentence):
    assert str(error_of(reply)) == sentence


@pytest.mark.parametrize("status", [0, 200, 301, *sorted(OF_THE_SERVER), 400, 418, 422, 499, 500, 503])
def test_which_statuses_are_about_the_request(status):
    error = error_of((status, b'{"detail": "Sampler not found"}' if status != 200 else b"<p>"))
    assert error.refused == (status in (400, 404, 418, 422, 499))


def test_no_route_is_not_about_the_request():
    assert not error_of((404, b"Not Found")).refused


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"detail": "a", "error": "b"}, "a"),
        ({"errors": "a", "error": "b", "message": "c"}, "a"),
        ({"detail": "", "errors": None, "error": "b"}, "b"),
        ({"message": "c"}, "c"),
        ({"detail": [{"loc": ["body", 3], "msg": "m"}, {"msg": "n"}]}, "body.3: m; : n"),
        ({"detail": {"loc": "x", "msg": "m"}}, "x: m"),
        ({"detail": {"loc": None, "msg": "m"}}, ": m"),
        ({"detail": ["a", None, [], "b"]}, "a; b"),
        ({"detail": list(range(1, 30))}, "; ".join(map(str, range(1, 21)))),
        ({"detail": 5}, "5"),
        ({"detail": "a\n\t b"}, "a b"),
    ],
)
def test_words_of_an_answer(content, words):
    assert str(error_of(answer(content, 422))).removeprefix(f"The WebUI at {AT} refused the request: ") == words


@pytest.mark.parametrize("depth", [7, 8, 9])
@pytest.mark.parametrize("wrapped", [lambda inner: [inner], lambda inner: {"detail": inner}])
def test_words_that_lie_too_deep_are_not_looked_for(depth, wrapped):
    content: object = "deep"
    for _ in range(depth):
        content = wrapped(content)
    said = server._said({"detail": content})
    assert said == ("deep" if depth < 9 else "")


def test_an_answer_that_nests_without_end_says_what_it_is():
    assert "RecursionError" not in str(error_of((422, b"[" * 10**5)))
    assert error_of((422, b"[" * 10**5)).refused


def test_a_page_says_its_title_and_a_text_itself():
    assert server._words(b"<TITLE lang=x>a &lt; b</TITLE>") == "a < b"
    assert server._words(b"<b>bold</b>") == server._words(b"x" * 199 + b"<b>") == ""
    assert server._words(b"x" * 200 + b"<b>").startswith("xxx")
    assert server._words(b"a & b") == "a & b"
    assert server._words(b"\xff") == "\ufffd"


def check(path: str, reply: tuple[int, bytes], given: dict | None = None, **settings: object) -> str:
    """What is wrong with an answer to one of the questions; empty if nothing is."""
    questions = server.questions(UpscaleSettings(**settings), given or {})
    try:
        questions[path](URL, reply)
    except ServerError as error:
        return str(error)
    return ""


def test_which_questions_are_asked():
    asked = {
        (): {},
        (server.UPSCALERS,): {"upscaler": "ESRGAN"},
        (server.SAMPLERS,): {"sampler_name": "Euler"},
        (server.SCHEDULERS,): {"scheduler": "Karras"},
    }
    for paths, wanted in asked.items():
        settings = UpscaleSettings(**{name: value for name, value in wanted.items() if name == "upscaler"})
        questions = server.questions(settings, wanted)
        assert tuple(questions) == (server.SCRIPTS, server.SCHEMA, *paths)
    assert server.UPSCALERS not in server.questions(UpscaleSettings(upscaler="Latent (bicubic)"), {})


def test_whether_a_server_has_the_script():
    assert check(server.SCRIPTS, answer({"img2img": ["x", "iterative mixing upscale"]})) == ""
    missing = f"The WebUI at {SHOWN} has no script Iterative Mixing upscale: install the extension there."
    for content in ({"img2img": ["x"]}, {"img2img": "iterative mixing upscale"}, {}, ["iterative mixing upscale"], 5):
        assert check(server.SCRIPTS, answer(content)) == missing
    assert check(server.SCRIPTS, (0, b"gone")) == f"No WebUI answers at {SHOWN}{server.SCRIPTS}: gone"
    assert check(server.SCRIPTS, (404, b"")).startswith("The WebUI has no API at")


def test_whether_a_server_knows_the_settings():
    other = f"the extension there is not of version {__version__}, which this is. Update it."
    known = {"properties": {"alpha": {}, "curve": {"enum": ["linear"]}, "scale": {"enum": 5}}}
    assert check(server.SCHEMA, answer(known)) == ""
    assert check(server.SCHEMA, answer(known), alpha=0.5, curve="linear", scale=3.0) == ""
    assert check(server.SCHEMA, answer(known), detail=0.1) == f"The WebUI at {SHOWN} has no setting detail: {other}"
    sentence = f"The WebUI at {SHOWN} has no curve logistic: {other}"
    assert check(server.SCHEMA, answer(known), alpha=0.5, curve="logistic") == sentence


SAMPLERS = [{"name": "Euler a", "aliases": ["k_euler_a"]}, {"label": "DPM++ 2M"}, {"aliases": None}, 5]


@pytest.mark.parametrize("name", ["euler A", "K_euler_a", "DPM++ 2M", "DPM++ 2M Karras"])
def test_a_sampler_that_a_server_has(name):
    assert check(server.SAMPLERS, answer(SAMPLERS), {"sampler_name": name}) == ""


@pytest.mark.parametrize(
    ("name", "shown"), [("DPM++ 2MKarras", "DPM++ 2MKarras"), ("Euler", "Euler"), ("Euler\n", "Euler\\n")]
)
def test_a_sampler_that_a_server_lacks(name, shown):
    said = check(server.SAMPLERS, answer(SAMPLERS), {"sampler_name": name})
    assert said == f"The WebUI at {SHOWN} has no sampler {shown}."


def test_whether_a_server_has_an_upscaler_and_a_scheduler():
    said = check(server.UPSCALERS, answer([{"name": "None"}]), upscaler="ESRGAN")
    assert said == f"The WebUI at {SHOWN} has no upscaler ESRGAN."
    said = check(server.SCHEDULERS, answer([{"name": "karras", "label": "Karras"}]), {"scheduler": "Beta"})
    assert said == f"The WebUI at {SHOWN} has no scheduler Beta."


@pytest.mark.parametrize("status", sorted(OF_THE_SERVER | {422}))
def test_a_server_that_cannot_be_asked_is_not_blamed(status):
    assert check(server.SAMPLERS, (status, b""), {"sampler_name": "Heun"}) == ""
    assert check(server.SCHEMA, (status, b""), detail=0.1) == ""


def test_a_question_that_is_not_answered_is():
    asked = f"{SHOWN}{server.SAMPLERS}"
    assert check(server.SAMPLERS, (0, b"gone"), {"sampler_name": "Heun"}) == f"No WebUI answers at {asked}: gone"
    assert check(server.SAMPLERS, (500, b"broken"), {"sampler_name": "Heun"}).endswith("with status 500: broken")
    said = check(server.SCHEMA, (500, b"broken"))
    assert said == f"The WebUI at {SHOWN}{server.SCHEMA} refused the request with status 500: broken"


def test_a_list_without_names_says_nothing():
    assert check(server.SAMPLERS, answer([{}, {"name": 5}]), {"sampler_name": "Heun"}) == ""


def test_a_request_has_all_that_is_asked_for(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    source = sources.read(tmp_path / "a.png")
    body = json.loads(server.request(source, UpscaleSettings(alpha=0.5), {"steps": 3}, b"mask"))
    assert base64.b64decode(body.pop("init_images")[0]) == PNG
    assert body == {
        "steps": 3,
        "width": 6,
        "height": 4,
        "script_name": "Iterative Mixing upscale",
        "script_args": [{"alpha": 0.5, "mask": base64.b64encode(b"mask").decode()}],
    }
    body = json.loads(server.request(source, UpscaleSettings(analysis=True), {}))
    assert body["save_images"] is True
    assert body["script_args"] == [{"analysis": True}]
    with pytest.raises(ValueError, match="Out of range float"):
        server.request(source, UpscaleSettings(), {"cfg_scale": float("nan")})


def test_a_picture_goes_to_its_server_with_its_own_infotext_under_what_is_given(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(images.png(Image.new("RGB", (6, 4)), "a hat\nSteps: 2, Seed: 7"))
    seen, made = [], images.png(Image.new("RGB", (8, 8)), "a hat\nSteps: 2")
    monkeypatch.setattr(server, "exchange", lambda *args: seen.append(args) or picture(made))
    data, source = server.upscale(URL, tmp_path / "a.png", UpscaleSettings(scale=1.0), {"seed": 8}, b"mask")
    assert (data, source.size) == (made, (6, 4))
    ((url, body, timeout),) = seen
    assert (url, timeout) == (f"{URL}/sdapi/v1/img2img", 3600)
    body = json.loads(body)
    assert (body["prompt"], body["steps"], body["seed"]) == ("a hat", 2, 8)
    assert "mask" in body["script_args"][0]


def test_a_result_may_be_as_large_as_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # and twice as many are refused
    wide = images.png(Image.new("RGB", (12, 2), "red"), "a hat\nSteps: 2")
    assert server.result(URL, picture(wide), (12, 2)) == wide
    server.check_finished(wide, (12, 2))
    with pytest.raises(ServerError, match="holds no picture: PictureError"):
        server.result(URL, picture(wide), (2, 2))
