"""The command line, ``python -m itermix`` or ``itermix``."""

from __future__ import annotations

import argparse
import io
import json
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from itermix.mixing.masks import values_of as values_of_image
from itermix.parameters import MAX_SEED, SettingsError
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.infotext import written
from itermix.settings.presets import expanded
from itermix.settings.schema import json_schema
from itermix.standalone import files
from itermix.standalone.calibrate import arguments as calibrate
from itermix.standalone.client import AddressError, address
from itermix.standalone.options import (
    MIXING_HELP,
    REQUEST_OPTIONS,
    UsageError,
    add_model,
    add_out,
    add_request,
    add_settings,
    add_weights,
    method_of,
    mixing_of,
    request_of,
    settings_of,
    whole,
)
from itermix.steps.samplers import SamplerRefused

if TYPE_CHECKING:
    from itermix.analysis.record import Analysis
    from itermix.standalone.upscaling import Method, Model

    Commands = argparse._SubParsersAction["Parser"]

INTRODUCTION = """\
Upscale pictures with diffusion models past their training resolution, by iterative mixing.

The picture you have is enlarged and noised along the sampler's schedule, and at every step mixed into what is being
sampled: its layout stays, and the model adds the detail. Everything here but `upscale --server`, `batch` and
`calibrate` runs on the CPU with a small built-in model, so no WebUI and no checkpoint is needed to see what mixing
does.
"""

EXAMPLES = """\
examples:
  itermix demo --out demo
      see it: pictures of the built-in model, upscaled 2x and 4x in every way, on demo/contact-sheet.png

  itermix upscale photo.png --out large.png --server http://127.0.0.1:7860 --scale 2 --preset Faithful
      upscale a picture through a WebUI that runs with --api; prompt and seed come from the picture if it has them

  itermix batch photos large --server http://gpu1:7860 --server http://gpu2:7860 --scale 2
      upscale a folder of pictures through one or many WebUIs

  itermix calibrate --server http://127.0.0.1:7860 --budget 20 --out mine
      which settings suit the checkpoint that a WebUI has loaded: numbers, a sheet, and a preset with --keep NAME

  itermix upscale --out large.png --scale 4
      upscale a picture of the built-in model

  itermix plot --out curves.png --alpha 3 --mixing "curve=linear" --mixing "stop=0.5"
      compare weight curves, and see what is mixed in

  itermix bench --out bench --quick
  itermix bench --out bench --pictures 64 --seeds confirm --mixing "blending=slerp alpha=0.5"
      measure mixing against hires fix: report.md, report.json, front.png and contact-sheet.png

  itermix schema
      JSON Schema of all settings, as the API takes them

Every command explains its options: itermix demo --help
"""

BATCH_INTRODUCTION = """\
Upscale the pictures of a folder through one or many WebUIs that run with --api and have the extension.

Prompt, seed, sampler, schedule and CFG scale come from each picture's own infotext, if it has one; options
stand above it. Results are PNG files with their infotext, in the same sub-folders. A journal in OUT lets the same
command go on where it ended, however it ended.
"""

BATCH_EXAMPLES = """\
examples:
  itermix batch photos large --server http://127.0.0.1:7860 --scale 2 --preset Faithful
      a folder through one WebUI

  itermix batch photos large --server http://gpu1:7860 --server http://gpu2:7860 --prompt "a photograph" --dry-run
      through two WebUIs: what will be done and how many model calls it takes; then the same without --dry-run

  itermix batch list.txt large --server http://127.0.0.1:7860
      the pictures of a list

docs/batch.md tells of failures, the journal and Ray.
"""

USAGE_ERROR, INTERRUPTED, NOBODY_LISTENS = 2, 130, 141
"""Exit codes."""

RAW = argparse.RawDescriptionHelpFormatter

PICTURE_SEED = 300_000
"""Seed of the built-in model's picture, where none is given."""


BUILT_IN_STEPS = 25
"""Of its picture, and of what samples without mixing or with steps = 0."""

BUILT_IN_FIELDS = {"sampler_name", "seed", "cfg_scale"}
"""Fields that the built-in model has, too."""


class Parser(argparse.ArgumentParser):
    """Errors are one sentence, without the list of options."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE_ERROR, f"itermix: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0; 1 if a batch left pictures out; 2 for input that can't be used; 130 for Ctrl-C; 141 if what it
        prints goes nowhere any longer, as before `| head`.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files, on terminals of few characters
    options = parser().parse_args(argv)
    # k-diffusion imports clip, which imports pkg_resources, which is what it warns of.
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated")
    warnings.filterwarnings("ignore", message="Image size")  # Pillow's, of pictures that it opens all the same
    options.command_line = shlex.join(["itermix", *(sys.argv[1:] if argv is None else argv)])
    try:
        return options.run(options)
    except ModuleNotFoundError as error:
        print(
            f"itermix: {error.name} is missing. Install it with: pip install 'sd-webui-itermix[standalone]'",
            file=sys.stderr,
        )
    except (SettingsError, SamplerRefused, UsageError) as error:
        _say(str(error).removeprefix("Iterative Mixing: "))
    except KeyboardInterrupt:
        _say("stopped")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python fails when it ends
        return NOBODY_LISTENS
    except OSError as error:
        _say(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    return USAGE_ERROR


def _say(sentence: str) -> None:
    print(f"itermix: {files.shown(sentence)}", file=sys.stderr)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(prog="itermix", description=INTRODUCTION, epilog=EXAMPLES, formatter_class=RAW, allow_abbrev=False)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for add in (add_demo, add_upscale, add_batch, add_calibrate, add_plot, add_bench, add_schema):
        add(commands)
    return top


def command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int], help: str) -> Parser:
    """A command without options; `run` takes the parsed ones and returns the exit code."""
    sub = commands.add_parser(name, help=help, description=help, allow_abbrev=False)
    sub.set_defaults(run=run)
    return sub


def add_demo(commands: Commands) -> None:
    demo = command(commands, "demo", run_demo, "See what mixing does: pictures of the built-in model, upscaled in "
                   "every way.")  # fmt: skip
    add_out(demo, "DIR", "Directory for contact-sheet.png and metrics.json.")
    add_model(demo, steps=12)
    demo.add_argument("--pictures", type=whole, default=3, metavar="N", help="Number of pictures (default 3).")
    demo.add_argument("--analysis", action="store_true", help="Also what the default mixing of the first picture went "
                      "through, step by step.")  # fmt: skip


def add_upscale(commands: Commands) -> None:
    upscale = command(commands, "upscale", run_upscale, "Upscale a picture, through a WebUI or of the built-in model.")
    upscale.add_argument("picture", nargs="?", type=Path, help="Picture to upscale, with --server.")
    add_out(upscale, "FILE", "PNG file to write.")
    upscale.add_argument("--replace", action="store_true", help="Write over a file that is there already.")
    upscale.add_argument("--server", metavar="URL", help="Address of a WebUI that runs with --api.")
    upscale.add_argument("--mask", type=Path, metavar="FILE", help="Picture of how much each part is guided: white as "
                         "the settings say, black not at all. It is stretched over the result.")  # fmt: skip
    add_weights(upscale)
    add_request(upscale)
    add_settings(upscale, UpscaleSettings, enabled=True)


def add_batch(commands: Commands) -> None:
    batch = command(commands, "batch", run_batch, "Upscale the pictures of a folder through one or many WebUIs.")
    batch.description, batch.epilog, batch.formatter_class = BATCH_INTRODUCTION, BATCH_EXAMPLES, RAW
    batch.add_argument("source", metavar="IN", type=Path, help="A folder, with its sub-folders; or a text file with "
                       "the path of a picture on each line, taken from the file's folder on.")  # fmt: skip
    batch.add_argument("out", metavar="OUT", type=Path, help="Folder for the results, PNG files under the same names.")
    batch.add_argument("--server", action="append", required=True, metavar="URL", help="Address of a WebUI that runs "
                       "with --api; once for each. With --api-auth: http://user:password@host:port.")  # fmt: skip
    batch.add_argument("--dry-run", action="store_true", help="Print the plan and the model calls, and make nothing.")
    batch.add_argument("--replace", action="store_true", help="Make results anew that a batch made from other pictures "
                       "or with other settings. Without it they are an error.")  # fmt: skip
    failures = batch.add_argument_group("Failures")
    failures.add_argument("--attempts", type=whole, default=5, metavar="N", help="How often a picture is tried, on "
                          "whichever servers (default 5).")  # fmt: skip
    failures.add_argument("--timeout", type=whole, default=3600, metavar="SECONDS", help="Time for a picture, after "
                          "which its server counts as gone (default 3600).")  # fmt: skip
    failures.add_argument("--give-up", type=whole, default=600, metavar="SECONDS", help="End when no server has been "
                          "usable for this long (default 600).")  # fmt: skip
    batch.add_argument("--ray-address", metavar="ADDRESS", help="Run on this Ray cluster, such as auto or "
                       "10.0.0.1:6379. Default: several servers start Ray here, one needs none.")  # fmt: skip
    add_request(batch)
    add_settings(batch, UpscaleSettings, enabled=True)


def add_calibrate(commands: Commands) -> None:
    help = "Try a WebUI's checkpoint, and keep what is best for it."
    calibrate.add_arguments(command(commands, "calibrate", calibrate.run, help))


def add_plot(commands: Commands) -> None:
    plot = command(commands, "plot", run_plot, "Plot weight curves, and a strip of what is mixed in.")
    add_out(plot, "FILE", "PNG file to write.")
    plot.add_argument("--picture", type=Path, help="Picture for the strip; else one of the built-in model's kind.")
    plot.add_argument("--mixing", action="append", default=[], help=f"A further curve. {MIXING_HELP}")
    add_settings(plot, Settings)


def add_bench(commands: Commands) -> None:
    bench = command(commands, "bench", run_bench, "Measure mixing against a sweep of hires fix and direct sampling.")
    add_out(bench, "DIR", "Directory for report.md, report.json, front.png and contact-sheet.png.")
    add_model(bench, steps=None)
    bench.set_defaults(cfg=None)
    bench.add_argument(
        "--model",
        choices=("pixel", "latent"),
        default="pixel",
        help="The built-in model that paints pixels at 32 px (default), or the latent one of 256 px, measured against "
        "the native renders of held-out pictures; it takes CFG 3 if --cfg names no other, and hours if not --quick.",
    )
    bench.add_argument("--quick", action="store_true", help="6 pictures and 12 steps: minutes, not an hour.")
    bench.add_argument("--pictures", type=whole, metavar="N", help="Pictures per row (default 64).")
    bench.add_argument("--seeds", default="tune", help="tune, confirm, or a first seed (default tune).")
    bench.add_argument(
        "--sources",
        choices=("model", "true", "soft", "both"),
        default="both",
        help="What is upscaled: samples of the model, true renders, with the latent model also soft renders, or both "
        "(default): samples and true renders, with the latent model soft and true renders.",
    )
    bench.add_argument("--scales", choices=("2", "4", "8", "both"), default="both", help="2, 4, 8, or both: 2 and 4 "
                       "(default).")  # fmt: skip
    bench.add_argument(
        "--strengths",
        type=float,
        nargs="*",
        metavar="DENOISE",
        help="Of hires fix, from weak to strong, or none; with the latent model alone. Default: 0.2 to 0.7.",
    )
    bench.add_argument(
        "--mixing",
        action="append",
        default=[],
        help=f"Measure this in place of the default and its rivals. {MIXING_HELP} Also back_projection=false.",
    )


def add_schema(commands: Commands) -> None:
    command(commands, "schema", run_schema, "Print the JSON Schema of all settings.")


def run_demo(options: argparse.Namespace) -> int:
    from itermix.standalone import demo

    model = model_of(options)
    demo.run(model, options.out, options.pictures)
    print(f"\nSee {options.out / 'contact-sheet.png'}")
    if options.analysis:
        print(*demo.analyse(model, options.out), sep="\n")
    return 0


def run_upscale(options: argparse.Namespace) -> int:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("itermix").setLevel(logging.INFO)  # how many steps are left out
    settings = UpscaleSettings(**expanded({"enabled": True, **settings_of(options, UpscaleSettings)}))
    given = request_of(options)
    analyses: list[Analysis] = []
    check_out(options)
    if options.server is None:
        if options.picture is not None:
            raise UsageError(
                "A picture needs --server URL: without it the built-in model upscales a picture of its own."
            )
        for flag, (field, _, _) in REQUEST_OPTIONS.items():
            if field in given and field not in BUILT_IN_FIELDS:
                raise UsageError(f"{flag} needs --server URL: the built-in model has no such option.")
        data = built_in_upscale(options, settings, given, analyses)
    else:
        from itermix.standalone import server

        if options.picture is None:
            raise UsageError("--server needs a picture to upscale.")
        try:
            url = address(options.server)
        except AddressError as error:
            raise UsageError(str(error)) from error
        mask = options.mask and options.mask.read_bytes()
        data, source = server.upscale(url, options.picture, settings, given, mask)
        for note in source.notes:
            _say(f"{options.picture}: {note}")
    files.write(options.out, data)
    print(files.shown(options.out))
    if analyses:
        print(*written_beside(options.out, analyses), sep="\n")
    return 0


def check_out(options: argparse.Namespace) -> None:
    """Find out before anything is made whether the result can be written.

    Raises:
        UsageError: it would be of another format, or write over a file.
        OSError, which names the file: it can't be written.
    """
    out, picture = options.out, options.picture
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out {out} is not possible. Allowed: a name that ends in .png, since it will be one.")
    if picture is not None and out.exists() and picture.exists() and out.samefile(picture):
        raise UsageError(f"--out {out} is not possible. Allowed: another file than the picture itself.")
    if os.path.lexists(out) and not out.is_dir() and not options.replace:
        raise UsageError(f"--out {out} is not possible. Allowed: a new file, or --replace to write over this one.")
    files.check_place(out)


def run_batch(options: argparse.Namespace) -> int:
    from itermix.standalone.batch import plan, run
    from itermix.standalone.batch.scheduler import Policy

    settings = UpscaleSettings(**expanded({"enabled": True, **settings_of(options, UpscaleSettings)}))
    try:
        return run.run(
            run.Order(options.source, options.out, settings, request_of(options), options.replace),
            options.server,
            Policy(options.attempts, options.timeout, options.give_up),
            ray_address=options.ray_address,
            dry_run=options.dry_run,
        )
    except plan.PlanError as error:
        raise UsageError(str(error)) from error


def run_plot(options: argparse.Namespace) -> int:
    from itermix.standalone import images, plots, upscaling

    given = settings_of(options, Settings)
    label = " ".join(f"{name}={value}" for name, value in given.items()) or "default"
    curves = {label: Settings(**expanded(given))}
    curves |= {text: mixing_of(text) for text in options.mixing}
    if options.picture is None:
        picture = upscaling.true_renders(1, PICTURE_SEED, 128)[0]
    else:
        picture = images.to_picture(images.opened(options.picture.read_bytes(), options.picture))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plots.mixing_plot(curves, picture, options.out)
    print(options.out)
    if curves[label].analysis:
        analysis = plots.noised_analysis(curves[label], picture)
        print(*written_beside(options.out, [analysis], other="z'"), sep="\n")
    return 0


def run_bench(options: argparse.Namespace) -> int:
    from itermix.standalone import bench, evaluation

    effort = bench.QUICK if options.quick else bench.FULL
    options.steps = options.steps or effort.steps
    other = "soft" if options.model == "latent" else "model"
    kinds = (other, "true") if options.sources == "both" else (options.sources,)
    scales = (2, 4) if options.scales == "both" else (int(options.scales),)
    mixings = [method_of(text) for text in dict.fromkeys(options.mixing)]
    if options.model == "latent":
        return bench_latent(options, kinds, scales, mixings)
    if "soft" in kinds:
        raise SettingsError("sources", "soft", "Allowed with the pixel model: model, true, both.")
    if options.strengths is not None:
        raise SettingsError("strengths", options.strengths, "Allowed with the pixel model: none; it has all of them.")
    options.cfg = 1.0 if options.cfg is None else options.cfg
    model = model_of(options)
    count, seed = options.pictures or effort.pictures, evaluation.seed_of(options.seeds)
    bench.run(
        model,
        options.out,
        sources=(bench.SOURCES[kind](model, count, seed) for kind in kinds),
        scales=scales,
        mixings=mixings or evaluation.mixings(),
        references=effort.references,
        command=options.command_line,
    )
    return 0


def bench_latent(
    options: argparse.Namespace, kinds: Sequence[str], scales: Sequence[int], mixings: list[Method]
) -> int:
    """The benchmark of the latent model."""
    from itermix.standalone.latent import bench, model, pictures

    cfg = bench.CFG if options.cfg is None else options.cfg
    if options.seeds not in bench.PARTS:
        raise SettingsError("seeds", options.seeds, f"Allowed with the latent model: {', '.join(bench.PARTS)}.")
    count = options.pictures or (6 if options.quick else 24)
    strengths = bench.STRENGTHS if options.strengths is None else options.strengths
    if not all(0 < strength <= 1 for strength in strengths):
        raise SettingsError("strengths", strengths, "Allowed: numbers above 0, up to 1.")
    if count > pictures.HELD_OUT // 2:
        raise SettingsError("pictures", count, f"Allowed with the latent model: at most {pictures.HELD_OUT // 2}.")
    bench.run(
        model.load(options.weights or model.WEIGHTS),
        options.out,
        chosen=bench.subjects(bench.PARTS[options.seeds], count),
        cases=[
            bench.Case(kind, scale, options.sampler, options.schedule, options.steps, cfg)
            for kind in kinds
            for scale in scales
        ],
        mixings=mixings or bench.mixings(),
        command=options.command_line,
        sweep=bench.sweep_of(strengths),
    )
    return 0


def run_schema(options: argparse.Namespace) -> int:
    print(json.dumps(json_schema(), indent=2))
    return 0


def built_in_upscale(
    options: argparse.Namespace, settings: UpscaleSettings, given: Mapping[str, Any], analyses: list[Analysis]
) -> bytes:
    """PNG data of one of the built-in model's pictures, upscaled. `analyses` gets those of its phases, if wanted."""
    from itermix.standalone import images, network, upscaling

    options.sampler = given.get("sampler_name", upscaling.SAMPLERS[0])
    options.steps = BUILT_IN_STEPS
    options.cfg = given.get("cfg_scale", 1.0)
    options.schedule = "karras"
    seed = given.get("seed", PICTURE_SEED)
    if not 0 <= seed <= MAX_SEED:
        raise SettingsError("picture-seed", seed, f"Allowed: a whole number from 0 to {MAX_SEED}.")
    model = model_of(options)
    recipe = settings if settings.enabled else settings.denoise
    mask = options.mask and values_of_image(images.opened(options.mask.read_bytes(), options.mask))
    method = upscaling.Method("upscale", recipe, settings.upscaler, settings.back_projection, mask)
    sources = upscaling.model_sources(model, 1, seed)
    size = settings.target(network.RESOLUTION, network.RESOLUTION)
    *_, result = upscaling.phases(model, method, sources, size, analyses if settings.analysis else None)
    image = images.to_image(result[0])
    facts = {
        "Steps": settings.steps or model.steps,
        "Sampler": model.sampler,
        "Schedule type": "Karras",
        "CFG scale": model.cfg,
        "Seed": seed,
        "Size": f"{image.width}x{image.height}",
        "Model": "itermix built-in",
        **written(settings),
    }
    return images.png(image, "\n" + ", ".join(f"{key}: {value}" for key, value in facts.items()))


def written_beside(picture: Path, analyses: list[Analysis], other: str = "x") -> list[Path]:
    """The names of the files of analyses, once they are written beside a picture."""
    from itermix.analysis import sheet

    return sheet.write(analyses, 0, picture, other)


def model_of(options: argparse.Namespace) -> Model:
    """The built-in model with the sampling that the options ask for."""
    from itermix.standalone import network, upscaling

    denoiser = network.Guided(network.load(options.weights or network.WEIGHTS))
    return upscaling.Model(denoiser, options.sampler, options.steps, options.cfg, options.schedule)
