"""Pictures of every kind, and payloads at the edges, given to both scripts of real WebUIs."""

import base64
import io
import json
import random

import pytest
import requests
from payloads import SIZE, mixing, photograph, upscale
from PIL import Image


def data_of(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return data_of(photograph(SIZE).resize((SIZE, 48)), "JPEG", exif=exif.tobytes())


def pictures():
    """{kind: data of a file}."""
    whole = photograph(SIZE)
    found = {f"{w}x{h}": data_of(whole.resize((w, h))) for w, h in ((1, 1), (3, 5), (1, 64), (200, 1))}
    found |= {mode: data_of(whole.convert(mode)) for mode in ("1", "L", "LA", "P", "RGBA")}
    found["16 bits"] = data_of(Image.new("I;16", (SIZE, SIZE), 40_000))
    found["CMYK"] = data_of(whole.convert("CMYK"), "JPEG")
    found["transparent palette"] = data_of(whole.convert("P"), transparency=0)
    found |= {f"EXIF {orientation}": turned(orientation) for orientation in (0, 3, 6, 99)}
    found |= {f"cut off at {at}": data_of(whole)[:at] for at in (0, 20, 60, 2000)}
    found["not a picture"] = b"<script>alert(1)</script>"
    return found


PICTURES = pictures()
SENT = [(request, kind) for kind in PICTURES for request in (mixing, upscale)]
BODIES = 20


def post(webui, body):
    """(status, answer) of an img2img request that ends; the body as text, since NaN is no JSON for requests."""
    headers = {"Content-Type": "application/json"}
    answer = requests.post(f"{webui.url}/sdapi/v1/img2img", data=json.dumps(body), headers=headers, timeout=60)
    return answer.status_code, answer.json()


def ends_well(status, answer):
    """A picture, or an error that can be read: a sentence, or the fields that the WebUI itself refuses."""
    if status == 200:
        return bool(answer["images"])
    detail = answer["detail"]
    return status in (404, 422) and bool(detail) and "Traceback" not in str(detail)


def small(request_of, settings, picture):
    """A request that takes no time: one step."""
    return {**request_of(settings), "init_images": [base64.b64encode(picture).decode()], "steps": 2}


def test_fuzz_of_pictures(webui):
    """What the WebUI refuses without mixing, or fails at, may be refused with it; nothing else may."""
    failures = []
    for request_of, kind in SENT:
        status, answer = post(webui, small(request_of, {"scale": 1.5} if request_of is upscale else {}, PICTURES[kind]))
        if not ends_well(status, answer):
            plain = {k: v for k, v in small(mixing, {}, PICTURES[kind]).items() if k != "alwayson_scripts"}
            if post(webui, plain)[0] == 200:
                failures.append((request_of.__name__, kind, status, answer))
    assert failures == []


@pytest.mark.parametrize("request_of", [mixing, upscale])
def test_fuzz_of_payloads(webui, request_of):
    """Each with one to three things at an edge or beyond."""
    chance = random.Random(7)
    edges = {
        "self": 1,
        "": 1,
        "\ud800": "\ud800",
        "alpha": 10**400,
        "seed": 2**32,
        "scale": 8,
        "width": 16384,
        "height": 8,
        "max_scale_per_phase": 1.25,
        "start_at_step": 1,
        "end_at_step": 1,
        "cutoff": 8,
        "normalize_fraction": 1,
        "cleanup": 0.05,
        "cleanup_sampler": "x" * 10_000,
        "upscaler": "../../etc/passwd",
        "preset": ["Creative"],
        "noise": "inverted",
        "inversion_prompt": False,
        "stop": 4,
        "x" * 50_000: 1,
    }
    failures = []
    for _ in range(BODIES):
        names = chance.sample(list(edges), chance.randint(1, 3))
        settings = {"end_at_step": 2, **{name: edges[name] for name in names}}
        status, answer = post(webui, small(request_of, settings, PICTURES["3x5"]))
        if not ends_well(status, answer):
            failures.append((names, status, str(answer)[-300:]))
    assert failures == []


def test_fuzz_of_sizes_that_are_too_large(webui):
    """Refused before anything is made, also where the request would change the limit."""
    large = small(upscale, {"width": 16384, "height": 16384}, PICTURES["L"])
    large["init_images"] = [base64.b64encode(data_of(Image.new("RGB", (2048, 2048)))).decode()]
    for request in (large, {**large, "override_settings": {"itermix_max_megapixels": 1000}}):
        status, answer = post(webui, request)
        assert status == 422
        assert "target size = '16384x16384' is not possible. Allowed: at most 100 megapixels, " in answer["detail"]
    requests.post(f"{webui.url}/sdapi/v1/options", json={"itermix_max_megapixels": 1000}, timeout=30)
    assert webui.get("options").get("itermix_max_megapixels") in (None, 100)


def test_fuzz_of_other_sites(webui):
    """The WebUI doesn't tell browsers that other sites may send JSON, which our writing routes ask for."""
    file = webui.data / "itermix-presets.json"
    before = file.read_bytes() if file.exists() else None
    ask = {"Origin": "http://example.org", "Access-Control-Request-Method": "POST"}
    ask["Access-Control-Request-Headers"] = "content-type"
    answer = requests.options(f"{webui.url}/itermix/v1/presets/save", headers=ask, timeout=10)
    assert "Access-Control-Allow-Origin" not in answer.headers
    body = json.dumps({"name": "Sharp", "settings": {}})
    answer = requests.post(f"{webui.url}/itermix/v1/presets/save", data=body, timeout=10)
    assert answer.status_code == 415
    assert (file.read_bytes() if file.exists() else None) == before
