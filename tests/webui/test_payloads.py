"""Hundreds of wrong settings, each kind of error for each parameter, sent to both scripts of real WebUIs."""

import json
import math

import pytest
import requests
from payloads import PRIMER, mixing, plain, upscale
from test_img2img import equal

from itermix.settings import Settings, UpscaleSettings


def wrong_values(parameter):
    """{kind of error: value}."""
    wrong = {"null": None, "a list": [parameter.default], "an object": {"value": parameter.default}}
    if parameter.type is not str:
        wrong["a text"] = str(parameter.default)
    if parameter.type is bool:
        return {**wrong, "a number": 1}
    if parameter.type is str:
        return {**wrong, "a number": 3, "a boolean": True, "an unknown choice": "no such choice", "empty": ""}
    wrong |= {"a boolean": True, "NaN": math.nan, "infinite": math.inf}
    wrong |= {"too low": parameter.low - 1, "too high": parameter.high + 1}
    return {**wrong, "a fraction": parameter.low + 0.5} if parameter.type is int else wrong


def payloads():
    """(request function, name, value, what the answer must say)."""
    for request_of, settings in ((mixing, Settings), (upscale, UpscaleSettings)):
        for parameter in settings.parameters():
            for value in wrong_values(parameter).values():
                yield request_of, parameter.name, value, parameter.choices or ["Allowed: "]
            yield (
                request_of,
                f"{parameter.name}x",
                parameter.default,
                [f"Did you mean {parameter.name}?", "Known settings: "],
            )
        yield request_of, "preset", "Creativ", ["Did you mean Creative?", "Balanced, Faithful"]


PAYLOADS = list(payloads())


def test_wrong_settings_are_named_and_change_nothing(webui, plain_pictures):
    assert len(PAYLOADS) >= 200
    failures = []
    webui.generate(*PRIMER)
    for request_of, name, value, parts in PAYLOADS:
        # Not by `json=`, which refuses NaN, as other clients don't.
        body = json.dumps(request_of({name: value}))
        answer = requests.post(
            f"{webui.url}/sdapi/v1/img2img", data=body, headers={"Content-Type": "application/json"}, timeout=60
        )
        detail = answer.json().get("detail", "")
        if answer.status_code != 422 or not all(part in detail for part in (f"{name} = {value!r}", *parts)):
            failures.append((request_of.__name__, name, value, answer.status_code, detail))
    assert failures == []
    assert equal(plain(webui, "img2img"), plain_pictures["img2img"])


@pytest.mark.parametrize("args", [{"alpha": 0.5}, ["alpha"], [[]], [None], ["true"], [1, 2], [True] * 100])
def test_arguments_that_are_no_settings_give_no_picture(webui, args):
    for request in (mixing(), upscale()):
        if "script_args" in request:
            request["script_args"] = args
        else:
            request["alwayson_scripts"]["Iterative Mixing"]["args"] = args
        answer = webui.post("img2img", request)
        assert "images" not in answer.json()
