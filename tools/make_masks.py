"""Make the picture of docs/masks.md, and print its numbers: python tools/make_masks.py"""

from __future__ import annotations

from pathlib import Path

import torch

from itermix.mixing.masks import mask_of
from itermix.settings import Settings
from itermix.standalone import network
from itermix.standalone.sheets import Block, Row, contact_sheet
from itermix.standalone.upscaling import Method, Model, enlarge, model_sources, phases

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "masks.png"
COUNT, SEED, SIDE = 4, 20, 64
FREE = Settings(denoise=1.0, steps=0, blending="addition", highest=0.0, detail=0.0, fidelity=0.0)
TIED = Settings(denoise=1.0, steps=0, blending="addition", lowest=1.0, detail=0.0, fidelity=0.0)
THRESHOLD = Settings(denoise=1.0, steps=0, blending="addition", mask_mode="threshold", detail=0.0, fidelity=0.0)
PERLIN = THRESHOLD.replace(perlin=1.0, perlin_scale=3.0, seed=SEED)
REWIND = Settings(rewind=True, steps=0)


def main() -> None:
    model = Model(network.Guided(network.load(network.WEIGHTS)), steps=20)
    sources = model_sources(model, COUNT, SEED)
    enlarged = enlarge(sources.pictures, (SIDE, SIDE))
    half = torch.zeros(1, 1, SIDE, SIDE)
    half[..., : SIDE // 2] = 1
    ramp = torch.linspace(1, 0, SIDE).expand(1, 1, SIDE, SIDE)

    def row(name: str, settings: Settings, mask: torch.Tensor | None = None) -> Row:
        *_, made = phases(model, Method(name, settings, mask=mask), sources, (SIDE, SIDE))
        left, right = ((made - enlarged).square()[..., part].mean() for part in (slice(28), slice(36, None)))
        print(f"{name:34} mean square from the source: left {left:.4f}, right {right:.4f}")
        return Row(name, made, f"from the source: left {left:.3f}, right {right:.3f}")

    seeds = range(SEED, SEED + COUNT)
    patches = mask_of(PERLIN, enlarged, seeds)
    assert patches is not None
    masks = Block(
        "a mask",
        [
            Row("source, enlarged", enlarged),
            Row("mask, white left of the middle", half.expand(COUNT, 3, -1, -1) * 2 - 1),
            row("weight 1 with it", TIED, half),
            row("weight 1 without", TIED),
            row("weight 0", FREE),
        ],
    )
    others = Block(
        "threshold, Perlin noise, rewinding",
        [
            Row("mask, from white to black", ramp.expand(COUNT, 3, -1, -1) * 2 - 1),
            row("threshold", THRESHOLD, ramp),
            Row("mask of Perlin noise, scale 3", patches.values.expand(-1, 3, -1, -1) * 2 - 1),
            row("threshold with it", PERLIN),
            row("defaults", Settings(steps=0)),
            row("defaults, rewound", REWIND),
        ],
    )
    contact_sheet([masks, others]).save(PICTURE)


if __name__ == "__main__":
    main()
