"""The command line: help, flags from the registry, one sentence for bad input, and what the commands write."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from itermix import Settings
from itermix.settings import UpscaleSettings
from itermix.settings.presets import PRESETS
from itermix.standalone import cli
from itermix.standalone.cli import main
from itermix.standalone.evaluation import SEEDS
from itermix.standalone.options import flag_of, mixing_of, settings_of

ROOT = Path(__file__).parents[2]
PARAMETERS = UpscaleSettings.parameters()


def help_of(command: str, capsys) -> str:
    with pytest.raises(SystemExit) as done:
        main([*command.split(), "--help"])
    assert done.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def sentence(capsys, *argv: str) -> str:
    """What is said of bad input: one line, with exit code 2."""
    try:
        code = main(argv)
    except SystemExit as done:
        code = done.code
    assert code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "Traceback" not in printed.err
    return printed.err


def test_the_module_runs_and_its_help_teaches():
    done = subprocess.run(
        [sys.executable, "-m", "itermix", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for command in ("demo", "upscale", "batch", "plot", "bench", "schema"):
        assert f"itermix {command}" in done.stdout


def test_bad_input_has_its_exit_code_and_no_traceback():
    argv = [sys.executable, "-m", "itermix", "upscale", "--out", "x.png", "--alpha", "999"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "itermix: alpha = 999 is not possible. Allowed: a number from 0.05 to 100.\n"


@pytest.mark.parametrize("command", ["demo", "upscale", "batch", "plot", "bench", "schema"])
def test_every_command_explains_itself(command, capsys):
    assert f"usage: itermix {command}" in help_of(command, capsys)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_every_parameter_has_its_flag(parameter, capsys):
    text = help_of("upscale", capsys)
    help = " ".join(parameter.help.split())
    assert f"{flag_of(parameter)} " in text or f"{flag_of(parameter)}," in text
    # argparse breaks lines at hyphens
    assert help.replace(" ", "") in text.replace(" ", "")
    assert parameter.allowed.replace(" ", "") in text.replace(" ", "")


def other_value(parameter):
    if parameter.type is bool:
        return not parameter.default
    if parameter.choices:
        return next(choice for choice in parameter.choices if choice != parameter.default)
    if parameter.type is str:
        return "Nearest"
    return parameter.type(parameter.high)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda p: p.name)
def test_a_flag_sets_its_parameter_alone(parameter):
    value = other_value(parameter)
    flag = flag_of(parameter)
    given = [flag, str(value)] if parameter.type is not bool else [flag if value else flag.replace("--", "--no-")]
    options = cli.parser().parse_args(["upscale", "--out", "x.png", *given])
    assert settings_of(options, UpscaleSettings) == {parameter.name: value}


@pytest.mark.parametrize("parameter", [p for p in PARAMETERS if p.low is not None or p.choices], ids=lambda p: p.name)
@pytest.mark.parametrize("value", ["none", "1e12"])
def test_a_bad_setting_is_named_with_what_is_allowed(parameter, value, capsys, tmp_path):
    said = sentence(capsys, "upscale", "--out", str(tmp_path / "x.png"), flag_of(parameter), value)
    assert parameter.name in said
    assert parameter.allowed in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "required: COMMAND"),
        ("paint", "invalid choice: 'paint'"),
        ("demo", "required: --out"),
        ("demo --out x --pictures 0", "argument --pictures: '0' is not possible. Allowed: a whole number from 1."),
        ("demo --out x --weights missing.file", "missing.file"),
        ("demo --out x --weights WEIGHTS --sampler magic", "sampler = 'magic' is not possible. Allowed: dpmpp_2m,"),
        ("upscale photo.png --out x.png", "A picture needs --server URL"),
        ("upscale --out x.png --server http://127.0.0.1:1", "--server needs a picture"),
        ("upscale missing.png --out x.png --server http://127.0.0.1:1", "missing.png can't be read: No such file"),
        ("upscale --out x.png --prompt hat", "--prompt needs --server URL"),
        ("upscale --out x.png --start 0.9 --stop 0.5", "stop = 0.5 is not possible. Allowed: more than start"),
        ("upscale --out x.png --weights WEIGHTS --upscaler ESRGAN", "upscaler = 'ESRGAN' is not possible. Allowed"),
        ("upscale --out x.png --weights WEIGHTS --picture-seed -2", "picture-seed = -2 is not possible. Allowed"),
        ("plot --out x.png --mixing alpha", "--mixing 'alpha' is not possible. Allowed: \"name=value"),
        ("plot --out x.png --mixing alhpa=1", "alhpa = '1' is not possible. Did you mean alpha?"),
        ("plot --out x.png --preset Creativ", "preset = 'Creativ' is not possible. Did you mean Creative?"),
        ("upscale --out x.png --weights WEIGHTS --preset Mine", "preset = 'Mine' is not possible. Allowed: Balanced,"),
        ("bench --out x --weights WEIGHTS --seeds some", "seeds = 'some' is not possible. Allowed: tune, confirm,"),
        ("bench --out x --strengths 0.3", "strengths = [0.3] is not possible. Allowed with the pixel model: none"),
        (
            "bench --out x --model latent --strengths 0.3 1.5",
            "strengths = [0.3, 1.5] is not possible. Allowed: num",
        ),
    ],
)
def test_bad_input_is_one_sentence(argv, message, capsys, untrained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in sentence(capsys, *argv.replace("WEIGHTS", str(untrained)).split())
    assert list(tmp_path.iterdir()) == []


def test_upscale_writes_a_picture_of_the_built_in_model_with_its_infotext(untrained, tmp_path):
    out = tmp_path / "new" / "large.png"
    argv = ["upscale", "--out", str(out), "--weights", str(untrained), "--steps", "2", "--picture-seed", "5"]
    assert main([*argv, "--scale", "1.5", "--alpha", "0.6"]) == 0
    with Image.open(out) as image:
        assert image.size == (48, 48)
        infotext = image.info["parameters"]
    assert "Steps: 2, Sampler: dpmpp_2m, Schedule type: Karras" in infotext
    assert "Seed: 5, Size: 48x48" in infotext
    assert "Itermix alpha: 0.6, Itermix steps: 2, Itermix scale: 1.5" in infotext


def test_a_preset_holds_where_no_flag_says_otherwise(untrained, tmp_path):
    out = tmp_path / "large.png"
    argv = ["upscale", "--out", str(out), "--weights", str(untrained), "--steps", "2", "--preset", "ComfyUI node"]
    assert main([*argv, "--alpha", "3"]) == 0
    with Image.open(out) as image:
        infotext = image.info["parameters"]
    assert "Itermix curve: comfy-cosine, Itermix alpha: 3.0, Itermix progress: comfy-steps, " in infotext


def test_upscale_says_how_many_steps_are_left_out(untrained, tmp_path, caplog):
    argv = [
        "upscale",
        "--replace",
        "--out",
        str(tmp_path / "x.png"),
        "--weights",
        str(untrained),
        "--steps",
        "8",
        "--sampler",
        "euler",
        "--denoise",
        "1",
    ]
    assert main([*argv, "--blending", "addition", "--lowest", "1", "--detail", "0", "--skip-tolerance", "0.01"]) == 0
    assert "7 of 8 steps are left out; the result is within 0" in caplog.text
    caplog.clear()
    assert main([*argv, "--skip-tolerance", "0.01"]) == 0
    assert "no step is left out, since there is a bound for the blending addition" in caplog.text


def test_without_mixing_upscale_is_hires_fix(untrained, tmp_path):
    data = []
    for flags in ([], ["--no-enabled", "--denoise", "0.3"]):
        out = tmp_path / "x.png"
        assert main(["upscale", "--replace", "--out", str(out), "--weights", str(untrained), "--steps=2", *flags]) == 0
        with Image.open(out) as image:
            data.append(image.tobytes())
    assert data[0] != data[1]


def test_plot_draws_curves_and_strip(tmp_path):
    out = tmp_path / "new" / "curves.png"
    further = ["--mixing", "curve=linear", "--mixing", "progress=noise level stop=0.5"]
    assert main(["plot", "--out", str(out), "--steps", "3", "--alpha", "3", *further]) == 0
    with Image.open(out) as image:
        assert image.width > 1000
    assert main(["plot", "--out", str(tmp_path / "own.png"), "--steps", "1", "--picture", str(out)]) == 0


def test_schema_is_the_registry_s(capsys):
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert list(schema["properties"]) == [p.name for p in PARAMETERS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alpha=2", Settings(alpha=2.0)),
        ("progress=noise level alpha=0.5", Settings(progress="noise level", alpha=0.5)),
        (" blending=norm-only  end_at_step=20 ", Settings(blending="norm-only", end_at_step=20)),
        ("enabled=true", Settings(enabled=True)),
        ("preset=DemoFusion paper alpha=2", Settings(**PRESETS["DemoFusion paper"]).replace(alpha=2.0)),
    ],
)
def test_mixings_written_as_text(text, expected):
    assert mixing_of(text) == expected


@pytest.mark.parametrize("command", ["demo", "bench"])
def test_demo_and_bench_run_from_the_command_line(command, untrained, tmp_path, monkeypatch):
    """With the costly parts replaced; what they do is tested on its own."""
    from itermix.standalone import bench, demo

    seen = []
    monkeypatch.setattr(demo, "run", lambda *args, **options: seen.append((args, options)))
    monkeypatch.setattr(bench, "run", lambda *args, **options: seen.append((args, options)))
    for kind in bench.SOURCES:
        monkeypatch.setitem(bench.SOURCES, kind, lambda model, count, seed, kind=kind: (kind, count, seed))
    flags = ["--quick", "--seeds", "confirm", "--mixing", "alpha=3"] if command == "bench" else []
    argv = [command, "--out", str(tmp_path), "--weights", str(untrained), "--sampler", "euler", "--steps", "7", *flags]
    assert main(argv) == 0
    ((args, options),) = seen
    assert (args[0].sampler, args[0].steps, args[1]) == ("euler", 7, tmp_path)
    if command == "bench":
        first = (bench.QUICK.pictures, SEEDS["confirm"])
        assert list(options["sources"]) == [("model", *first), ("true", *first)]
        assert [method.recipe for method in options["mixings"]] == [Settings(alpha=3.0)]
        assert options["command"].startswith("itermix bench --out")


def test_the_bench_of_the_latent_model_takes_scales_and_strengths(tmp_path, monkeypatch):
    from itermix.standalone.latent import bench

    seen = []
    monkeypatch.setattr(bench, "run", lambda *args, **options: seen.append(options))
    argv = ["bench", "--model", "latent", "--out", str(tmp_path), "--scales", "8", "--pictures", "2"]
    assert main([*argv, "--strengths", "0.3", "0.5"]) == 0
    assert main([*argv, "--strengths"]) == 0
    assert main(argv) == 0
    assert [[method.recipe for method in options["sweep"]] for options in seen] == [[0.3, 0.5], [], [*bench.STRENGTHS]]
    assert {case.scale for options in seen for case in options["cases"]} == {8}
    assert [len(options["chosen"]) for options in seen] == [2, 2, 2]
