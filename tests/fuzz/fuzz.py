"""What the fuzz tests share: how many cases, what values, and what counts as a readable error.

As part of all tests they run a few cases, always the same; tests/fuzz/run.py runs as many as one likes, new ones each
time.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from itermix.parameters import Parameter
from itermix.settings import UpscaleSettings
from itermix.settings.presets import PRESETS

CASES = int(os.environ.get("ITERMIX_FUZZ_CASES", "0"))
"""Of all targets together; 0: the few of the fast tests."""

SHARES = {
    "settings": 10,
    "routes": 10,
    "infotexts": 10,
    "preset files": 10,
    "pictures": 8,
    "command line": 8,
    "sampling": 10,
    "metadata": 8,
    "names": 5,
    "lists": 5,
    "addresses": 4,
    "answers": 8,
    "servers": 4,
}
"""{target: its share of the cases, in percent}."""

QUICK = 40
HANG = 60
"""Seconds of the processor after which a case counts as one that never ends."""

ran: dict[str, list[float]] = {}
"""{target: the seconds of the processor for each case}."""


def cases(target: str, part: float = 1.0, quick: int = QUICK) -> Callable:
    """Run a hypothesis test with its target's share of the cases, or that part of it, and count them.

    `quick` is how many the share is in the fast tests.
    """
    count = max(1, round((CASES * SHARES[target] / 100 if CASES else quick) * part))

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def counted(*args: Any, **options: Any) -> None:
            start = time.process_time()
            test(*args, **options)
            ran.setdefault(target, []).append(time.process_time() - start)
            assert ran[target][-1] < HANG

        return hypothesis_settings(
            max_examples=count,
            deadline=None,
            derandomize=not CASES,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )(counted)

    return decorate


def readable(error: Exception | str, has: str = "", lacks: str = "\n") -> None:
    """Asserts that it is a sentence for the person who asked, not longer than a screen; and what it has and lacks."""
    text = str(error)
    assert has in text
    assert lacks not in text
    assert text
    assert len(text) < 4000
    assert text.isprintable()
    assert "Traceback" not in text


NASTY = [
    "",
    " ",
    "\x00",
    "\n",
    "\ud800",
    "\u202e",
    "../../etc/passwd",
    "<img src=x onerror=alert(1)>",
    "{0.__class__}",
    "%s%n",
    "true",
    "nan",
    "1e999",
    "9" * 400,
    "x" * 300,
    "Euler, \"a\": 'b'",
]
NUMBERS = [0, -1, 0.05, 1e-320, 1e308, 2**31, 2**53 + 1, 2**64, 10**400, float("nan"), float("inf"), -float("inf")]

texts = st.sampled_from(NASTY) | st.text(max_size=20)
scalars = st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
"""Whatever JSON can hold, and some that it can't."""


def possible(parameter: Parameter) -> st.SearchStrategy:
    """Values that the parameter allows, if the others do."""
    if parameter.type is bool:
        return st.booleans()
    if parameter.type is str:
        return st.sampled_from(parameter.choices or ("Lanczos", parameter.default))
    if parameter.type is int:
        return st.integers(int(parameter.low or 0), int(parameter.high or 0))
    return st.floats(parameter.low, parameter.high) | st.sampled_from([parameter.low, parameter.high])


PARAMETERS = UpscaleSettings.parameters()
names = st.sampled_from([*(p.name for p in PARAMETERS), "alhpa", "self", "cls", "name", "args"]) | texts
valid = st.fixed_dictionaries({}, optional={p.name: possible(p) for p in PARAMETERS})
"""Settings each of which is allowed by itself."""

payloads = st.builds(
    lambda good, bad, preset: {**good, **bad, **preset},
    valid,
    st.dictionaries(names, values, max_size=2),
    st.just({}) | st.fixed_dictionaries({"preset": st.sampled_from([*PRESETS, "Creativ"]) | values}),
)
"""Dicts as the API gets them: mostly allowed, with something else among it."""


@st.composite
def mutated(draw: Callable, data: bytes) -> bytes:
    """The data cut off, or with bytes exchanged, put in, or left out."""
    shares = st.floats(0, 1)  # of its length, which may be another when an encoder runs again
    for _ in range(draw(st.integers(0, 4))):
        at = int(draw(shares) * len(data))
        to = at + draw(st.integers(0, 8))
        data = data[:at] + draw(st.binary(max_size=8) | st.sampled_from([b'"', b"{", b"}", b",", b"NaN"])) + data[to:]
    return data[: int(draw(shares) * len(data))] if draw(st.integers(0, 3)) == 0 else data


def as_json(value: Any) -> bytes:
    """Also of what JSON has no form for: clients send NaN and halves of characters, too."""
    return json.dumps(value).encode()
