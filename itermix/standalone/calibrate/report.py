"""report.json and report.md: settings, versions and numbers that can be shown to anybody.

No prompt, picture, address or path is in them; prompts are where they are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

import itermix
from itermix.standalone.calibrate import numbers, search
from itermix.standalone.calibrate.run import ENLARGED, Found, Wanted
from itermix.standalone.calibrate.search import Candidate
from itermix.standalone.cells import cell, finite
from itermix.standalone.generation import parsed
from itermix.standalone.images import INFOTEXT
from itermix.standalone.latent.metrics import mean_and_error

FIELDS = ("steps", "sampler_name", "scheduler", "cfg_scale")
"""Of the requests, that a report tells where all pictures have the same."""

OF_SOURCES = {"prompts": "pictures of its own", "pictures": "pictures that were given"}

COSTS = {"calls": ("model calls", 0), "seconds": ("seconds", 1)}

LEGEND = """\
- **score**: what settings are ranked by: 100 for the source's edges and no others, more for detail, less for what has
  changed (docs/calibrate.md). It sees the source alone, so it can't tell detail that is right from detail that is not.
- **behind**: the best row's score less this one's, picture by picture.
- **fidelity**: of the result to the source in the bands that a latent of the source's size holds. **PSNR to source**:
  in all.
- **detail**: strength of the finest octave that the model paints, as a share of the enlarged source's. **over hires
  fix**: how much more that is than in hires fix of equal fidelity; a dash is beyond its strengths.
- **precision**, **recall**: of the edges, pooled to the source's size. **spurious**: area around edges of which the
  source has nothing near. **contrast**, **mean**: drifts. **grain**, **flecks**: where the source is flat.
- After ± one standard error over the pictures.
"""


def report(
    found: Found, wanted: Wanted, facts: Mapping[str, Any], spent: float, prompts: bool = False
) -> dict[str, Any]:
    """All that is told of a calibration.

    Args:
        facts: of the WebUI: {"checkpoint", "hash", "network", "version"}, what isn't known None.
        spent: seconds.
        prompts: whether to tell the prompts.
    """
    pictures = found.shared()
    ranked = found.ranked()
    rows = [row(found, name, pictures, ranked) for name in found.readings]
    rows.sort(key=lambda each: (each["n"] < len(pictures), -(each["score"] or 0)))
    made: dict[str, Any] = {
        "itermix": itermix.__version__,
        "webui": webui_of(found),
        **{name: facts.get(name) for name in ("checkpoint", "hash", "network")},
        "scale": wanted.scale,
        "sources": "pictures" if wanted.pictures else "prompts",
        "sizes": sorted({f"{source.size[0]}x{source.size[1]}" for source in found.sources}),
        "pictures": len(pictures),
        **same(found),
        "minutes": round(spent / 60, 1),
        "complete": found.complete,
        "refused": found.failed,
        "best": ranked[0] if ranked else None,
        "rows": rows,
    }
    if prompts:
        made["prompts"] = [source.generation.fields["prompt"] for source in found.sources]
    return made


def row(found: Found, name: str, pictures: Sequence[int], ranked: Sequence[str]) -> dict[str, Any]:
    """One way to enlarge, over the pictures of `pictures` that it was tried on, or over all of its own if of none."""
    seen = sorted(set(pictures) & set(found.readings[name])) or sorted(found.readings[name])
    readings = found.arrays(name, seen)
    candidate = found.candidates[name]
    made: dict[str, Any] = {"name": name, "kind": kind(candidate), "n": len(seen), **asked_for(candidate)}
    for metric in (*numbers.MEASURED, *COSTS):
        mean, error = mean_and_error(readings[metric])
        made |= {metric: finite(mean), f"{metric}_se": finite(error)}
    front = [other for other in (ENLARGED, *(each.name for each in search.hires_fix())) if other in found.readings]
    front = [other for other in front if set(seen) <= set(found.readings[other])]
    gain, error = numbers.over_hires_fix(readings, [found.arrays(other, seen) for other in front])
    made |= {"over_hires_fix": finite(gain), "over_hires_fix_se": finite(error)}
    scores = found.scores(name, seen)
    mean, error = mean_and_error(scores)
    made |= {"score": finite(mean), "score_se": finite(error)}
    if ranked and set(seen) <= set(found.readings[ranked[0]]):
        behind, error = mean_and_error(found.scores(ranked[0], seen) - scores)
        made |= {"behind": finite(behind), "behind_se": finite(error)}
    return made


def kind(candidate: Candidate) -> str:
    if candidate.name == ENLARGED:
        return ENLARGED
    if not candidate.mixes:
        return "hires fix"
    return "preset" if candidate.name in search.PRESETS else "search"


def asked_for(candidate: Candidate) -> dict[str, Any]:
    """Settings that aren't at their defaults."""
    if not candidate.values:
        return {"strength": candidate.strength} if candidate.strength else {}
    changed = dict(candidate.settings(1.0).changed())
    return {"settings": {name: value for name, value in changed.items() if name not in ("enabled", "scale")}}


def same(found: Found) -> dict[str, Any]:
    """{field: value} of the requests; None where the pictures have several."""
    values = {name: {source.generation.fields.get(name) for source in found.sources} for name in FIELDS}
    return {name: next(iter(some)) if len(some) == 1 else None for name, some in values.items()}


def webui_of(found: Found) -> str | None:
    """The WebUI's version, as the infotext of a result tells it."""
    for file in found.files.values():
        with Image.open(file) as image:
            return parsed(image.info.get(INFOTEXT, ""))[2].get("Version")
    return None


def markdown(told: Mapping[str, Any]) -> str:
    """The report as a page."""
    checkpoint = [told["hash"] or "no hash", told["network"] or "network not known"]
    program = [f"WebUI {told['webui'] or 'not known'}", f"itermix {told['itermix']}"]
    sources = f"{told['scale']}x, {told['pictures']} {OF_SOURCES[told['sources']]} of {', '.join(told['sizes'])}"
    time = f"{told['minutes']:g} minutes" + ("" if told["complete"] else ", not all that was planned")
    lines = [
        f"# Calibration of {told['checkpoint'] or 'a checkpoint'}",
        "",
        ", ".join([*checkpoint, *program]),
        "",
        "; ".join([sources, generation(told), time]),
        "",
        best(told),
        "",
        table(told["rows"]),
        "",
        LEGEND,
    ]
    if told["refused"]:
        lines += [f"- {name} was refused: {why}" for name, why in told["refused"].items()]
    if "prompts" in told:
        lines += ["", "Prompts:", "", *(f"- {prompt}" for prompt in told["prompts"])]
    return "\n".join(lines).rstrip() + "\n"


def generation(told: Mapping[str, Any]) -> str:
    sampler = " ".join(str(told[name]) for name in ("sampler_name", "scheduler") if told[name])
    parts = [sampler or "several samplers"]
    parts += [f"{told['steps']} steps" if told["steps"] else "several numbers of steps"]
    parts += [f"CFG {told['cfg_scale']:g}" if told["cfg_scale"] else "several CFG scales"]
    return ", ".join(parts)


def best(told: Mapping[str, Any]) -> str:
    """A sentence on the best row, and on those that can't be told from it."""
    if told["best"] is None:
        return "Nothing was compared yet: that takes a picture by every method."
    first = next(each for each in told["rows"] if each["name"] == told["best"])
    level = [
        each["name"]
        for each in told["rows"]
        if each["kind"] in ("preset", "search")
        and each["name"] != told["best"]
        and each["n"] == first["n"]
        and each.get("behind") is not None
        and each["behind"] <= (each.get("behind_se") or 0)
    ]
    also = f" Within a standard error of it: {'; '.join(level)}." if level else ""
    return f"**Best by the numbers: {told['best']}**, score {cell(first['score'], first['score_se'], 1)}.{also}"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown with a line for each way, the best first."""
    columns = {"score": ("score", 1), "behind": ("behind", 1), **numbers.SHOWN, **COSTS}
    heads = ["", "n", *(heading for heading, _ in columns.values())]
    lines = [heads, ["---"] * len(heads)]
    for each in rows:
        cells = [
            cell(each.get(metric), None if metric in COSTS else each.get(f"{metric}_se"), digits)
            for metric, (_, digits) in columns.items()
        ]
        lines.append([each["name"], str(each["n"]), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
