"""Make the picture of docs/demofusion.md, and print what it says of it: python tools/make_demofusion.py"""

from __future__ import annotations

from pathlib import Path

from itermix.settings import Settings
from itermix.settings.presets import PRESETS
from itermix.standalone import network, upscaling
from itermix.standalone.parts import count_parts
from itermix.standalone.sheets import Block, Row, contact_sheet
from itermix.standalone.upscaling import Method, Model

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "demofusion.png"
COUNT, STEPS = 3, 16
SEED = 300_000
SIDE = 4 * network.RESOLUTION
WINDOW = {"window": network.RESOLUTION, "window_batch": 16}
PAPER, COMPLETE = PRESETS["DemoFusion paper"], PRESETS["DemoFusion complete"]
METHODS = {
    "paper's curve": Settings(**PAPER),
    "complete": Settings(**{**COMPLETE, **WINDOW}),
    "complete, clean": Settings(**{**COMPLETE, **WINDOW, "window_formulas": "clean picture"}),
    "default": Settings(),
    "default, windows": Settings(**WINDOW),
}


def main() -> None:
    model = Model(network.Guided(network.load()), steps=STEPS)
    sources = upscaling.model_sources(model, COUNT, SEED)
    rows = []
    for name, recipe in METHODS.items():
        *_, pictures = upscaling.phases(model, Method(name, recipe), sources, (SIDE, SIDE))
        exact = sum(count_parts(picture).exact for picture in pictures)
        print(f"{name}: {exact} of {COUNT} with exactly the right parts", flush=True)
        rows.append(Row(name, pictures, f"{exact} of {COUNT} right"))
    contact_sheet([Block(f"4 times, {network.RESOLUTION} to {SIDE} px, built-in model", rows)]).save(PICTURE)


if __name__ == "__main__":
    main()
