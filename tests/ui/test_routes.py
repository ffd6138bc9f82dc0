"""What a stranger may send to the routes, on both versions of the server that WebUIs have."""

import json

import pytest
import requests

JSON = {"Content-Type": "application/json"}
SAVE = json.dumps({"name": "Sharp", "settings": {}})


@pytest.fixture
def call(server):
    """call(path, body, headers) -> (status, detail); the folder of the presets may not change."""
    before = sorted(path.name for path in server.data.rglob("*"))

    def send(path, body=None, headers=JSON, method=None):
        method = method or ("GET" if body is None else "POST")
        answer = requests.request(method, f"{server.url}/itermix/v1/{path}", data=body, headers=headers, timeout=10)
        return answer.status_code, answer.json().get("detail")

    yield send
    assert sorted(path.name for path in server.data.rglob("*")) == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_page_of_another_site_cannot_write(call, kind):
    """Without asking first a browser lets it send these kinds alone, or none; not JSON."""
    status, detail = call("presets/save", SAVE, {"Content-Type": kind})
    assert status == 415
    assert detail.endswith("is not possible. Allowed: application/json.")


@pytest.mark.parametrize(
    "path", ["presets/save", "presets/rename", "presets/delete", "presets/bind", "presets/unbind", "weights"]
)
def test_nothing_is_done_by_get(call, path):
    assert call(f"{path}?name=Sharp&settings={{}}", method="GET")[0] in (404, 405)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_body_is_not_read(call, chunked):
    whole = json.dumps({"name": "Sharp", "settings": {"upscaler": "x" * 200_000}}).encode()
    body = iter([whole[:50_000], whole[50_000:]]) if chunked else whole
    status, detail = call("presets/save", body)
    assert (status, detail) == (
        413,
        "Iterative Mixing: the body of the request is too large. Allowed: at most 100000 bytes.",
    )


DEEP = [10, 200, 500, 700, 800, 900, 950, 1000, 49_000]


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize("where", ['{"name": %s, "settings": {}}', '{"name": "a", "settings": %s}', "%s"])
def test_deep_nesting_is_a_client_error(call, depth, where):
    status, detail = call("presets/save", where % ("[" * depth + "]" * depth))
    assert status in (400, 422)
    assert isinstance(detail, str)


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "a", "settings": {"alpha": NaN}}',
        '{"name": "a", "settings": {"alpha": Infinity}}',
        '{"name": "a", "settings": {"alpha": -1e999}}',
        '{"name": "a", "settings": {"alpha": 1%s}}' % ("0" * 400),
        '{"name": "a", "settings": {"seed": 1%s}}' % ("0" * 9000),
        '{"name": "a", "settings": {"cleanup_sampler": "\\ud800"}}',
        '{"name": "a", "settings": {"cleanup_sampler": "%s"}}' % ("x" * 300),
        '{"name": "a", "settings": {"\\ud800": 1}}',
        '{"name": "a", "settings": {"%s": 1}}' % ("x" * 90_000),
        '{"name": "\\ud800", "settings": {}}',
        '{"name": "a\\u0000", "settings": {}}',
        '{"name": "a\\r\\n", "settings": {}}',
        '{"name": "%s", "settings": {}}' % ("x" * 90_000),
        '{"name": "../../evil\\n", "settings": {}}',
        '{"name": null, "settings": {}}',
        '{"name": {}, "settings": {}}',
        '{"name": "a", "settings": "__import__"}',
        "\xff\xfe",
        "",
    ],
)
def test_values_that_break_parsers_are_client_errors_that_can_be_read(call, body):
    status, detail = call("presets/save", body.encode("latin-1"))
    assert status in (400, 422)
    assert isinstance(detail, str)
    assert len(detail) < 2500
    assert detail.isprintable()


@pytest.mark.parametrize(
    ("query", "part"),
    [
        (f"width=1{'0' * 400}&height=8&steps=3", "width"),
        ("width=16385&height=8&steps=3", "width = 16385 is not possible. Allowed: a whole number from 1 to 16384."),
        ("width=8&height=-8&steps=3", "height = -8"),
        ("width=8&height=8&steps=100000", "steps = 100000"),
        ("width=8&height=8&steps=3&scale=nan", "scale = nan"),
        ("width=8&height=8&steps=3&scale=1e999", "scale = inf"),
        ("width=8&height=8&steps=3&max_scale_per_phase=1", "max_scale_per_phase = 1.0"),
        ("width=64&height=64&steps=3&window=12", "window = 12 is not possible. Allowed: a multiple of 8, or 0."),
        ("width=4000&height=4000&steps=3&scale=8", "target size = '32000x32000' is not possible. Allowed: at most 100"),
        ("width=8000&height=8000&steps=3&target_width=16384", "target size = '16384x16384'"),
    ],
)
def test_a_plan_that_would_exhaust_the_server_is_refused(call, query, part):
    status, detail = call(f"plan?{query}")
    assert status == 422
    assert part in detail


def test_a_plan_tells_what_windows_cost(server):
    query = "width=1024&height=1024&scale=4&steps=20&mixing_steps=11&window=128&dilated=1&window_overlap=0.5"
    answer = requests.get(f"{server.url}/itermix/v1/plan?{query}", timeout=30).json()
    assert answer["text"].endswith("4096x4096, 11 steps each, 4, then 17 calls of the model in the place of one")


def test_a_plan_takes_every_setting_and_checks_it(call, server):
    query = "width=64&height=64&steps=20"
    answer = requests.get(
        f"{server.url}/itermix/v1/plan?{query}&noise=inverted&rewind=false&target_width=96", timeout=30
    )
    assert answer.json() == {"phases": [[96, 96]], "text": "64x64 -> 96x96, 8 steps and an inversion of 8 calls"}
    status, detail = call(f"plan?{query}&alpha=-1")
    assert (status, "alpha = -1.0 is not possible" in detail) == (422, True)


def test_a_plan_of_the_hires_pass_goes_to_what_it_is_resized_to(call, server):
    query = "width=64&height=64&steps=20&hires=true&scale=2"
    for resize, size in (("", [128, 128]), ("&hr_resize_x=80&hr_resize_y=100", [80, 96])):
        answer = requests.get(f"{server.url}/itermix/v1/plan?{query}{resize}", timeout=30).json()
        assert answer["phases"] == [size]
    status, detail = call(f"plan?{query}&hr_resize_y=-8")
    assert (status, "hr_resize_y = -8 is not possible" in detail) == (422, True)


def test_the_largest_curve_has_20000_steps(server):
    """tests/core/test_curve.py counts what such a curve takes."""
    for own, of_tab in ((0, 1000), (1000, 20)):
        settings = {"denoise": 0.05, "progress": "noise level", "steps": own}
        body = {"settings": settings, "steps": of_tab, "hires": True}
        answer = requests.post(f"{server.url}/itermix/v1/weights", json=body, timeout=10)
        assert answer.json()["steps"] == 20_000
    assert requests.post(f"{server.url}/itermix/v1/weights", json={"steps": 100_000}, timeout=10).status_code == 422


@pytest.mark.parametrize("name", ["../../evil", "/etc/passwd", "C:\\evil", "a/b.json", "<img src=x onerror=alert(1)>"])
def test_a_name_of_a_preset_is_never_a_path(server, name):
    before = sorted(path for path in server.data.parent.rglob("*"))
    saved = requests.post(f"{server.url}/itermix/v1/presets/save", json={"name": name, "settings": {}}, timeout=10)
    assert list(saved.json()["own"]) == [name]
    assert saved.headers["content-type"] == "application/json"
    created = set(server.data.parent.rglob("*")) - set(before)
    assert created <= {server.data / "itermix-presets.json"}
    requests.post(f"{server.url}/itermix/v1/presets/delete", json={"name": name}, timeout=10)
    (server.data / "itermix-presets.json").unlink()


def test_a_flood_of_presets_ends(server):
    file = server.data / "itermix-presets.json"
    file.write_text(json.dumps({str(k): {} for k in range(200)}))
    answer = requests.post(f"{server.url}/itermix/v1/presets/save", data=SAVE, headers=JSON, timeout=10)
    file.unlink()
    assert answer.status_code == 422
    assert "at most 200 presets" in answer.json()["detail"]
