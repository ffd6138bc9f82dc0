"""The routes with whatever strangers send, on both versions of the server."""

import requests
from fuzz import as_json, cases, mutated, payloads, readable, texts, values
from hypothesis import given
from hypothesis import strategies as st

OF_PRESETS = ["save", "rename", "delete", "bind", "unbind"]
POSTS = [*(f"presets/{verb}" for verb in OF_PRESETS), "calibration/keep", "weights"]
bodies = st.fixed_dictionaries(
    {},
    optional={
        "name": texts | values,
        "new_name": texts | values,
        "checkpoint": texts | values,
        "row": texts | values,
        "settings": payloads | values,
        "steps": st.integers(-1, 1100) | values,
        "scheduler": texts | values,
        "hires": st.booleans() | values,
    },
)
kinds = st.sampled_from(["application/json"] * 8 + ["application/json; charset=utf-16", "text/plain", "x", ""])
query = st.dictionaries(
    st.sampled_from(["width", "height", "steps", "scale", "target_width", "target_height", "max_scale_per_phase"]),
    st.integers(-8, 20000) | st.floats(0, 9) | values.map(str).filter(lambda text: text.isprintable()),
)
session = requests.Session()
HANG = 60
"""Seconds after which a request counts as one that never ends."""


def check(answer):
    assert answer.status_code in (200, 400, 413, 415, 422), answer.text
    body = answer.json()
    if not answer.ok:
        readable(body["detail"])


@given(path=st.sampled_from(POSTS), body=bodies | values, kind=kinds, data=st.data())
@cases("routes", 0.4)
def test_bodies(server, path, body, kind, data):
    raw = as_json(body)
    sent = data.draw(st.just(raw) | mutated(raw))
    headers = {"Content-Type": kind}
    check(session.post(f"{server.url}/itermix/v1/{path}", data=sent, headers=headers, timeout=HANG))


@given(params=query, sure=st.booleans())
@cases("routes", 0.1)
def test_queries(server, params, sure):
    params = {**({"width": 64, "height": 64, "steps": 3} if sure else {}), **params}
    check(session.get(f"{server.url}/itermix/v1/plan", params=params, timeout=HANG))
