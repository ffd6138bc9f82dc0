"""Make the picture of docs/inversion.md, and print its numbers: python tools/make_inversion.py"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from itermix import Settings
from itermix.standalone import upscaling
from itermix.standalone.evaluation import SEEDS
from itermix.standalone.images import to_image
from itermix.standalone.network import WEIGHTS, Guided, load
from itermix.standalone.upscaling import Model, Sources, enlarge, mix

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "inversion.png"
MODEL = Model(Guided(load(WEIGHTS)), "euler", steps=25)
COUNT, SHOWN = 8, 2
SIDE = 64
ALONE = Settings(denoise=1.0, steps=0, highest=0.0, fidelity=0.0, detail=0.0)  # the start, and nothing mixed after it
ADDITION = Settings(denoise=1.0, steps=0, blending="addition", alpha=1.0, fidelity=0.0, detail=0.0)
KINDS: Mapping[str, dict[str, object]] = {
    "shared": {},
    "inverted": {"noise": "inverted"},
    "inverted, no prompt": {"noise": "inverted", "inversion_prompt": False},
}


def error(made: Tensor, source: Tensor) -> float:
    """Root of the mean square of the difference; pictures are in [-1, 1]."""
    return float((made - source).square().mean().sqrt())


def print_errors(sources: Sources) -> None:
    """How far from its source a picture is that was sampled from the source's own noise, without mixing."""
    print(f"{'steps':>5}  {'noise':20}  {'32 px':>6}  enlarged to {SIDE} px")
    for steps in (10, 25, 50):
        model = Model(MODEL.denoiser, "euler", steps)
        for name, values in KINDS.items():
            settings = ALONE.replace(**values)
            errors = []
            for pictures in (sources.pictures, enlarge(sources.pictures, (SIDE, SIDE))):
                errors.append(error(mix(model, pictures, sources.labels, settings, 0), pictures))
            print(f"{steps:5}  {name:20}  {errors[0]:6.3f}  {errors[1]:6.3f}")


def draw_sheet(sources: Sources) -> None:
    """Rows: pictures, without mixing and with it. Columns: the source and the kinds of noise."""
    enlarged = enlarge(sources.pictures, (SIDE, SIDE))[:SHOWN]
    labels = sources.labels[:SHOWN]
    rows = [
        (which, [mix(MODEL, enlarged, labels, settings.replace(**values), 0) for values in KINDS.values()])
        for which, settings in (("not mixed", ALONE), ("addition, alpha 1", ADDITION))
    ]
    figure = Figure(figsize=(9, 9.6), dpi=90, layout="constrained")
    axes = figure.subplots(SHOWN * len(rows), 1 + len(KINDS))
    for k in range(SHOWN):
        for j, (which, made) in enumerate(rows):
            row = axes[k * len(rows) + j]
            row[0].set_ylabel(which)
            for cell, picture in zip(row, [enlarged, *made]):
                cell.imshow(to_image(picture[k]), interpolation="nearest")
                cell.set(xticks=[], yticks=[])
    for cell, title in zip(axes[0], ["enlarged", *KINDS]):
        cell.set_title(title, fontsize="medium")
    figure.savefig(PICTURE)


if __name__ == "__main__":
    found = upscaling.model_sources(Model(MODEL.denoiser, steps=25), COUNT, SEEDS["demo"])
    draw_sheet(found)
    print_errors(found)
