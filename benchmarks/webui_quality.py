"""Picture quality in a real WebUI, through its API: mixing against hires fix, img2img and two other extensions.

    python benchmarks/webui_quality.py --server http://127.0.0.1:7860 --pictures tune --out OUT
    python benchmarks/webui_quality.py ... --methods "mixing*" "hires fix*" --samplers "Euler a" --steps 20 --count 4

The WebUI runs with --api, this extension and the small latent model. Nothing is started here: docs/development.md says
how.

The pictures are those of the package that the model was not trained on, or of a folder, which has `pictures.json`,
{name: prompt}, and for each name the source, `NAME-256.png`, and native renders of the same picture in the sizes that
are asked for, `NAME-512.png` and `NAME-1024.png`. There are three kinds of sources: *renders* are these, whose truth
is known; *soft* are those of the package, soft at their own pixels as in `itermix bench`; *samples* are the model's own
pictures of the same prompts, which are made first.

Hires fix and mixing are the WebUI's hires pass for samples. No hires pass takes a render: it is enlarged by Lanczos and
goes through img2img that runs all steps, which is the same; for mixing the upscale script does so. The other methods
count their steps as the WebUI does: img2img and Ultimate SD upscale run their denoise's share of them.
Tiled Diffusion's DemoFusion starts from noise for samples, as it is meant to be used, and is measured against the
picture of its own first phase. A picture has the same seed in all methods. At 4x mixing has two phases, each with the
steps that are asked for, the first at half the size.

OUT/pictures gets the results. A run that is stopped goes on where it was; what had been asked for otherwise, or
of other weights, is made anew. New code of an extension wants --again. OUT/quality.json gets the numbers of
`itermix.standalone.latent.metrics` for every picture, their means with standard errors, and how far they are from the
first mixing's, paired; OUT/quality.md the tables; OUT/sheets the pictures side by side, whole, and a part of each in
full size. With --package REPORT, the report.json of `itermix bench --model latent` over the same pictures, the tables
say beside each other what was measured here and there of the methods that both have, and whether they rank them alike.
"""

from __future__ import annotations

import argparse
import base64
import fnmatch
import hashlib
import itertools
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import facts
import numpy as np
import requests
import torch
from PIL import Image, PngImagePlugin
from scipy import ndimage, stats
from webui_methods import (
    DEFAULT,
    MIXING,
    SCHEDULE,
    STRENGTHS,
    Method,
    Picture,
    Request,
    Run,
    first_pass,
    hires_name,
    methods_of,
)

from itermix.standalone.cells import cell, finite
from itermix.standalone.images import opened, to_image, to_picture
from itermix.standalone.latent import bench, metrics, model
from itermix.standalone.latent import pictures as package
from itermix.standalone.latent.bench import PARTS
from itermix.standalone.sheets import Block, Row, contact_sheet

RENDERS, SOFT, SAMPLES = "renders", "soft", "samples"
KINDS = {RENDERS: "true", SOFT: "soft", SAMPLES: "model"}
"""{kind of sources: its name in `itermix bench`}."""

SAMPLERS = ("DPM++ 2M", "DPM++ 2M SDE", "Euler a")
STEPS = (8, 12, 20, 40)
SCALES = (2, 4)

DIGEST = "request"  # the PNG text chunk in which a result keeps what it was asked for with
TIMEOUT = 3600  # seconds
SHOWN, CELL = 6, 256
"""Pictures side by side on a sheet, and the side of each in pixels."""

LESS = "less the first mixing"
RANKED = ("psnr_source", "psnr", "detail_16", "structure", "grain")
"""Metrics by which methods are ranked here and in the package."""

Numbers = dict[str, dict[str, float]]
"""{picture: {metric: value}}."""


class Refused(Exception):
    """The WebUI gave no picture, or another than was asked for; the message says why."""


@dataclass(frozen=True)
class Server:
    """A WebUI that runs with --api."""

    url: str

    def get(self, path: str) -> Any:
        response = requests.get(f"{self.url}/sdapi/v1/{path}", timeout=60)
        response.raise_for_status()
        return response.json()

    def pictures(self, request: Request) -> list[Image.Image]:
        """Raises Refused with the WebUI's own words."""
        path, payload = request
        response = requests.post(f"{self.url}/sdapi/v1/{path}", json=payload, timeout=TIMEOUT)
        if response.status_code != 200:
            raise Refused(response.text[:500])
        return [opened(base64.b64decode(each), "The answer").convert("RGB") for each in response.json()["images"]]

    @cached_property
    def scripts(self) -> set[str]:
        """Titles of what it has, in small letters."""
        return {title.lower() for titles in self.get("scripts").values() for title in titles}

    @cached_property
    def model(self) -> str:
        """The checkpoint's name, and a digest of what it makes of noise, which other weights make otherwise."""
        request = {"prompt": "frog", "seed": 1, "steps": 2, "width": 64, "height": 64, "save_images": False}
        (picture,) = self.pictures(("txt2img", request | {"sampler_name": "Euler", "scheduler": SCHEDULE}))
        digest = hashlib.sha256(picture.tobytes()).hexdigest()
        return f"{self.get('options')['sd_model_checkpoint']} {digest[:8]}"


@dataclass(frozen=True)
class Results:
    """The folder of results, and where they come from.

    `again` are patterns of names of methods whose results are made anew.
    """

    folder: Path
    server: Server
    again: Sequence[str] = ()

    def sample(self, picture: Picture, cfg: float) -> Picture:
        """The model's own picture of a picture's prompt, in its place. Raises Refused."""
        _, last = self._made((SAMPLES, "first pass", picture.name), first_pass(picture, cfg), again=False)
        return Picture(picture.name, picture.prompt, picture.seed, last)

    def of(self, method: Method, picture: Picture, run: Run) -> tuple[Image.Image, Image.Image]:
        """The source that a method's result is measured against, and the result. Raises Refused."""
        width, height = (side * run.scale for side in picture.source.size)
        if method.request is None:
            return picture.source, picture.source.resize((width, height), Image.Resampling.LANCZOS)
        parts = (kind_of(picture), f"{run.scale}x", run.sampler, f"{run.steps} steps", method.name, picture.name)
        again = any(fnmatch.fnmatchcase(method.name, pattern) for pattern in self.again)
        first, last = self._made(parts, method.request(picture, run), again)
        if last.size != (width, height):
            raise Refused(f"The result is {last.width} x {last.height} px, not {width} x {height}.")
        return (first if method.own_source and picture.sampled else picture.source), last

    def _made(self, parts: Iterable[str], request: Request, again: bool) -> tuple[Image.Image, Image.Image]:
        """The first and the last picture of the answer to a request, which is only sent if they aren't here."""
        digest = hashlib.sha256(json.dumps([self.server.model, *request], sort_keys=True).encode()).hexdigest()
        file = self.folder.joinpath(*(re.sub(r"[^\w+.=-]+", "-", part) for part in parts))
        files = [file.with_name(f"{file.name}{end}.png") for end in (" first", "")]
        if files[1].exists() and not again:
            kept = [Image.open(each) for each in files if each.exists()]
            if kept[-1].info.get(DIGEST) == digest:
                return kept[0].convert("RGB"), kept[-1].convert("RGB")
        answered = self.server.pictures(request)
        file.parent.mkdir(parents=True, exist_ok=True)
        files[0].unlink(missing_ok=True)
        if len(answered) > 1:
            answered[0].save(files[0])
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text(DIGEST, digest)
        answered[-1].save(files[1], pnginfo=chunks)
        return answered[0], answered[-1]


def kind_of(picture: Picture) -> str:
    return SAMPLES if picture.sampled else SOFT if picture.soft else RENDERS


def held_out(part: str, size: int, scales: Iterable[int], seed: int, count: int | None = None) -> list[Picture]:
    """The first pictures of a part of those that the package has; seeds count from `seed`."""
    found = []
    for k, (name, body) in enumerate(list(package.held_out(part).items())[:count]):
        images = {scale: Image.fromarray(package.truth(name, body, size * scale)) for scale in (1, *scales)}
        prompt = package.prompt(name, package.background(name))
        found.append(Picture(name, prompt, seed + k, images.pop(1), images))
    return found


def softened(pictures: Sequence[Picture], part: str, size: int) -> list[Picture]:
    """The pictures of `held_out` with sources that are soft at their own pixels."""
    bodies = package.held_out(part)
    sources = bench.softened(model.load(), {picture.name: bodies[picture.name] for picture in pictures}, size)
    return [replace(picture, source=to_image(source), soft=True) for picture, source in zip(pictures, sources)]


def read_pictures(folder: Path, size: int, scales: Iterable[int], seed: int, count: int | None = None) -> list[Picture]:
    """The first of a folder; seeds count from `seed`. Raises OSError: a file is missing."""
    found = []
    prompts = json.loads((folder / "pictures.json").read_text(encoding="utf-8"))
    for k, (name, prompt) in enumerate(list(prompts.items())[:count]):
        files = {scale: folder / f"{name}-{size * scale}.png" for scale in (1, *scales)}
        images = {scale: Image.open(file).convert("RGB") for scale, file in files.items()}
        found.append(Picture(name, prompt, seed + k, images.pop(1), images))
    return found


def measured(source: Image.Image, result: Image.Image, truth: Image.Image | None) -> dict[str, float]:
    def tensor(image: Image.Image) -> torch.Tensor:
        return (to_picture(image)[None] + 1) / 2

    found = metrics.measured(tensor(result), None if truth is None else tensor(truth), tensor(source))
    return {name: float(value[0]) for name, value in found.items()}


def compared(
    results: Results, methods: Iterable[Method], pictures: Sequence[Picture], run: Run
) -> tuple[dict[str, Numbers], dict[str, list[Image.Image]]]:
    """What the methods' results measure, and the first few of them, by the methods' names; refusals are printed."""
    found: dict[str, Numbers] = {}
    shown: dict[str, list[Image.Image]] = {}
    for method in methods:
        for picture in pictures:
            try:
                source, result = results.of(method, picture, run)
            except Refused as refusal:
                print(f"{method.name}, {run}, {picture.name}: {refusal}", file=sys.stderr)
                continue
            truth = picture.truths.get(run.scale)
            found.setdefault(method.name, {})[picture.name] = measured(source, result, truth)
            if picture in pictures[:SHOWN]:
                shown.setdefault(method.name, []).append(result)
    return found, shown


def rows_of(found: Mapping[str, Numbers]) -> list[dict[str, Any]]:
    """A row for each method as `itermix bench` has it, with what it has more than the first mixing, paired, and the
    numbers of every picture."""
    default = next((numbers for name, numbers in found.items() if name.startswith(MIXING)), {})
    front = [found[name] for name in map(hires_name, STRENGTHS) if name in found]
    rows = []
    for method, numbers in found.items():
        row: dict[str, Any] = {"method": method, **bench.summary(readings(numbers, numbers))}
        in_all = [picture for picture in numbers if all(picture in others for others in front)]
        if in_all:
            row |= bench.gains(readings(numbers, in_all), [readings(others, in_all) for others in front])
        shared = [picture for picture in numbers if picture in default]
        if shared:
            ours, others = readings(default, shared), readings(numbers, shared)
            row[LESS] = bench.summary({name: others[name] - ours[name] for name in others})
        row["pictures"] = {picture: {name: finite(of[name]) for name in of} for picture, of in numbers.items()}
        rows.append(row)
    return rows


def readings(numbers: Numbers, pictures: Iterable[str]) -> dict[str, np.ndarray]:
    """{metric: [N]} of some of the pictures."""
    chosen = [numbers[picture] for picture in pictures]
    return {name: np.array([each[name] for each in chosen]) for name in chosen[0]}


def tables(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows of one run, and what each has more than the first mixing."""
    paired = [{"method": row["method"], **row[LESS]} for row in rows if LESS in row]
    return bench.table(rows) + (f"\n\n{LESS}:\n\n{bench.table(paired)}" if paired else "")


def beside(rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]) -> str:
    """Means of the methods of one run that rows of `itermix bench` have, too, here / there, and in the last line how
    alike both rank them (Spearman); empty if there are fewer than three."""
    there = {row["method"]: row for row in others}
    named = [(row, name_in_package(row["method"])) for row in rows]
    pairs = [(row, there[name]) for row, name in named if name in there]
    if len(pairs) < 3:
        return ""
    ranked = [
        metric for metric in RANKED if all(pair[side].get(metric) is not None for pair in pairs for side in (0, 1))
    ]
    lines = [["here / in the package", *(metrics.SHOWN[metric][0] for metric in ranked)], ["---"] * (1 + len(ranked))]
    for row, other in pairs:
        cells = [" / ".join(cell(of[m], of[f"{m}_se"], metrics.SHOWN[m][1]) for of in (row, other)) for m in ranked]
        lines.append([row["method"], *cells])
    alike = [stats.spearmanr(*([pair[side][metric] for pair in pairs] for side in (0, 1))) for metric in ranked]
    lines.append(["rank correlation", *(cell(finite(found.statistic), None, 2) for found in alike)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_in_package(method: str) -> str:
    """What `itermix bench` calls a method, if it has it."""
    names = {"Lanczos": bench.ENLARGED.name, **{hires_name(s): f"hires fix {s:g}" for s in STRENGTHS}}
    return names.get(method, method.removeprefix(MIXING))


def sheets(
    title: str,
    pictures: Sequence[Picture],
    shown: Mapping[str, Sequence[Image.Image]],
    rows: Iterable[Mapping[str, Any]],
) -> list[Image.Image]:
    """The results side by side: whole, and the most detailed part of each in full size. Below the truth, if known."""
    pictures = pictures[:SHOWN]
    size = next(iter(shown.values()))[0].size
    known: dict[str, Sequence[Image.Image]] = {
        "source": [picture.source.resize(size, Image.Resampling.NEAREST) for picture in pictures]
    }
    truths = [truth for picture in pictures for truth in picture.truths.values() if truth.size == size]
    known |= {"truth": truths} if truths else {}
    notes = {
        row["method"]: "\n".join(
            f"{metrics.SHOWN[name][0]} {cell(row[name], row[f'{name}_se'], metrics.SHOWN[name][1])}"
            for name in ("psnr_source", "detail_16", "structure")
        )
        for row in rows
    }
    parts = [box_of_detail(picture.source, size) for picture in pictures]
    made = []
    for full_size in (False, True):
        stacked = []
        for name, images in {**known, **shown}.items():
            cut = [
                image.crop(box) if full_size else image.resize((CELL, CELL), Image.Resampling.LANCZOS)
                for image, box in zip(images, parts)
            ]
            stacked.append(Row(name, torch.stack([to_picture(image) for image in cut]), notes.get(name, "")))
        made.append(contact_sheet([Block(title, stacked)], cell=CELL))
    return made


def box_of_detail(source: Image.Image, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an enlarged picture, CELL pixels wide, where the source has the strongest edges."""
    side = min(source.size) * CELL // min(size)
    grey = np.asarray(source.convert("L"), np.float32)
    strength = ndimage.uniform_filter(ndimage.gaussian_gradient_magnitude(grey, 1), side)
    middle = np.unravel_index(strength.argmax(), strength.shape)
    top, left = (int(np.clip(at - side // 2, 0, length - side)) for at, length in zip(middle, grey.shape))
    scale = size[0] // source.width
    return left * scale, top * scale, left * scale + CELL, top * scale + CELL


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="URL", required=True, help="a WebUI that runs with --api")
    parser.add_argument(
        "--pictures", metavar="|".join([*PARTS, "FOLDER"]), required=True, help="a part of the package's, or a folder"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, help="as many of the pictures (default all)")
    parser.add_argument("--size", type=int, default=256, help="of the sources in pixels (default %(default)s)")
    parser.add_argument("--kinds", nargs="+", default=[RENDERS, SAMPLES], choices=tuple(KINDS))
    parser.add_argument(
        "--mixing",
        nargs="+",
        default=[DEFAULT, "preset=Faithful", "preset=Creative"],
        help="settings, as of `itermix bench`",
    )
    parser.add_argument(
        "--methods", nargs="+", default=["*"], metavar="PATTERN", help='such as "hires fix*"; all by default'
    )
    parser.add_argument("--samplers", nargs="+", default=SAMPLERS)
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS)
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES)
    parser.add_argument("--cfg", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1, help="of the first picture; the others count on")
    parser.add_argument("--again", nargs="+", default=[], metavar="PATTERN", help="methods whose results are made anew")
    parser.add_argument(
        "--package", type=Path, metavar="REPORT", help="report.json of `itermix bench` to set beside it"
    )
    options = parser.parse_args()
    part = PARTS.get(options.pictures, "")
    if SOFT in options.kinds and not part:
        parser.error(f"--kinds {SOFT} wants a part of the package's pictures: --pictures {'|'.join(PARTS)}.")
    of_package = json.loads(options.package.read_text()) if options.package else []

    server = Server(options.server.rstrip("/"))
    results = Results(options.out / "pictures", server, options.again)
    methods = [
        method
        for method in methods_of(options.mixing)
        if any(fnmatch.fnmatchcase(method.name, pattern) for pattern in options.methods)
    ]
    for method in methods:
        if method.script not in {"", *server.scripts}:
            print(f"{method.name} is left out: the WebUI has no {method.script}.")
    methods = [method for method in methods if method.script in {"", *server.scripts}]
    chosen = options.size, options.scales, options.seed, options.count
    renders = held_out(part, *chosen) if part else read_pictures(Path(options.pictures), *chosen)
    page, rows = "", []
    for kind, scale, sampler, steps in itertools.product(
        options.kinds, options.scales, options.samplers, options.steps
    ):
        run = Run(scale, sampler, steps, options.cfg)
        pictures = renders
        if kind == SOFT:
            pictures = softened(renders, part, options.size)
        elif kind == SAMPLES:
            pictures = [results.sample(picture, options.cfg) for picture in renders]
        of_kind = [method for method in methods if kind != SAMPLES or not method.renders_only]
        found, shown = compared(results, of_kind, pictures, run)
        if not found:
            continue
        of_run = rows_of(found)
        title = f"{kind}, {scale}x, {sampler} {SCHEDULE}, {steps} steps"
        same = {"kind": KINDS[kind], "scale": scale, "steps": steps}
        others = [row for row in of_package if same.items() <= row["case"].items()]
        text = f"## {title}\n\n{tables(of_run)}\n\n{beside(of_run, others)}\n\n"
        print(text, flush=True)
        page += text
        rows += [{"kind": kind, "scale": scale, "sampler": sampler, "steps": steps, **row} for row in of_run]
        facts.write(options.out / "quality.json", facts={"checkpoint": server.model}, cfg=options.cfg, rows=rows)
        (options.out / "quality.md").write_text(page, encoding="utf-8")
        folder = options.out / "sheets"
        folder.mkdir(exist_ok=True)
        for name, sheet in zip(("whole", "parts"), sheets(title, pictures, shown, of_run)):
            sheet.save(folder / f"{re.sub('[^0-9a-zA-Z+]+', '-', title)} {name}.png")


if __name__ == "__main__":
    main()
