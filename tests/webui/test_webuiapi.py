"""The client that most scripts use, webuiapi, calls both scripts with a dict."""

from urllib.parse import urlsplit

import pytest
from payloads import SIZE, STEPS, photograph

webuiapi = pytest.importorskip("webuiapi")


@pytest.fixture
def api(webui):
    address = urlsplit(webui.url)
    return webuiapi.WebUIApi(host=address.hostname, port=address.port, sampler="Euler", steps=STEPS)


REQUEST = {"prompt": "a photograph", "seed": 7, "width": SIZE, "height": SIZE}


def test_the_always_on_script(api):
    settings = {"Iterative Mixing": {"args": [{"preset": "Creative", "alpha": 0.6}]}}
    result = api.img2img(images=[photograph(SIZE)], alwayson_scripts=settings, **REQUEST)
    assert result.image.size == (SIZE, SIZE)
    assert "Itermix enabled: True" in result.info["infotexts"][0]
    assert "Itermix blending: wavelet" in result.info["infotexts"][0]


def test_the_upscale_script(api):
    script = {"script_name": "Iterative Mixing upscale", "script_args": [{"scale": 1.5, "alpha": 0.6}]}
    result = api.img2img(images=[photograph(SIZE)], **script, **REQUEST)
    assert result.image.size == (96, 96)
    assert "Itermix scale: 1.5" in result.info["infotexts"][0]


def test_a_wrong_setting_is_an_exception_with_the_sentence(api):
    settings = {"Iterative Mixing": {"args": [{"alhpa": 0.5}]}}
    with pytest.raises(RuntimeError, match="Did you mean alpha") as error:
        api.img2img(images=[photograph(SIZE)], alwayson_scripts=settings, **REQUEST)
    assert error.value.args[0] == 422


def test_the_routes(api):
    api.baseurl = api.baseurl.replace("/sdapi/v1", "/itermix/v1")
    answer = api.session.post(
        f"{api.baseurl}/weights", json={"settings": {"curve": "linear", "steps": 0}, "steps": 2}
    ).json()
    assert answer["weights"] == [1.0, 0.5]
