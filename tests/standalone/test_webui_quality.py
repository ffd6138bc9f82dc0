"""The benchmark through a WebUI's API, with a stand-in for the WebUI that enlarges without a model."""

import base64
import io
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from webui_methods import DEFAULT, MIXING, SCRIPT, Picture, Run, hires_name, methods_of
from webui_quality import (
    LESS,
    Refused,
    Results,
    beside,
    box_of_detail,
    compared,
    held_out,
    kind_of,
    read_pictures,
    rows_of,
    sheets,
    softened,
    tables,
)

from itermix.standalone.images import to_image
from itermix.standalone.latent import bench
from itermix.standalone.latent import model as latent

SIZE = 64
RUN = Run(2, "Euler a", 8, 3.0)
METHODS = {method.name: method for method in methods_of([DEFAULT, "alpha=0.6 denoise=0.5"])}


def drawn(size, seed):
    """The same disc and square at any size."""
    unit = Image.new("RGB", (256, 256), (200, 40 + 10 * seed, 90))
    unit.paste((20, 160, 60), (40 + 8 * seed, 60, 150, 170))
    unit.paste((240, 240, 30), (150, 30, 220, 90))
    return unit.resize((size, size), Image.Resampling.BOX)


@pytest.fixture
def folder(tmp_path):
    """Two pictures with their truth at 2x."""
    for k, name in enumerate(("disc", "square")):
        for size in (SIZE, 2 * SIZE):
            drawn(size, k).save(tmp_path / f"{name}-{size}.png")
    (tmp_path / "pictures.json").write_text(json.dumps({"disc": "a disc", "square": "a square"}))
    return tmp_path


@pytest.fixture
def pictures(folder):
    return read_pictures(folder, SIZE, [2], seed=5)


class FakeServer:
    """Blurs the more, the less denoise there is, so that there is a front; refuses the prompts it is told to."""

    def __init__(self):
        self.model = "weights 1"
        self.asked = []
        self.refused = set()

    def pictures(self, request):
        path, payload = request
        self.asked.append(request)
        if payload["prompt"] in self.refused:
            raise Refused("no")
        if path == "txt2img":
            side = payload["width"] * payload.get("hr_scale", 1)
            return [drawn(payload["width"], payload["seed"] % 2), drawn(side, payload["seed"] % 2)]
        source = Image.open(io.BytesIO(base64.b64decode(payload["init_images"][0])))
        enlarged = source.resize((2 * SIZE, 2 * SIZE), Image.Resampling.LANCZOS)
        if "script_name" in payload:
            return [enlarged]
        return [enlarged.filter(ImageFilter.GaussianBlur(3 - 3 * payload["denoising_strength"]))]


def payload(name, picture, run=RUN):
    return METHODS[name].request(picture, run)[1]


def test_a_picture_has_its_prompt_seed_and_truth(pictures):
    assert [(p.name, p.prompt, p.seed, p.source.size, list(p.truths)) for p in pictures] == [
        ("disc", "a disc", 5, (64, 64), [2]),
        ("square", "a square", 6, (64, 64), [2]),
    ]


def test_a_missing_truth_is_an_error(folder):
    with pytest.raises(FileNotFoundError):
        read_pictures(folder, SIZE, [4], seed=5)


def test_all_methods_ask_for_the_same_picture_prompt_seed_sampler_and_steps(pictures):
    for method in METHODS.values():
        if method.request is None or method.renders_only:
            continue
        asked = method.request(pictures[0], RUN)[1]
        for name, value in (("prompt", "a disc"), ("seed", 5), ("sampler_name", "Euler a"), ("steps", 8)):
            assert asked[name] == value, method.name
        again = Picture("disc", "a disc", 5, pictures[0].source)
        path, asked = method.request(again, RUN)
        if path == "txt2img" and asked.get("enable_hr"):
            assert (asked["hr_sampler_name"], asked["hr_second_pass_steps"], asked["hr_scale"]) == ("Euler a", 8, 2)
            assert (asked["sampler_name"], asked["steps"]) == ("DPM++ 2M", 20)


def test_a_render_runs_all_steps_where_a_sample_has_a_hires_pass(pictures):
    exact = {
        name: payload(name, pictures[0])["override_settings"]["img2img_fix_steps"]
        for name, method in METHODS.items()
        if method.request is not None and method.request(pictures[0], RUN)[0] == "img2img"
    }
    as_hires = [name for name in exact if name.startswith(("hires fix", MIXING, "Tiled Diffusion, MultiDiffusion"))]
    assert as_hires == [name for name, steps in exact.items() if steps]
    assert len(as_hires) == 15


def test_mixing_is_asked_for_with_all_its_settings(pictures):
    sample = Picture("disc", "a disc", 5, pictures[0].source)
    for name, alpha in (("default", 0.25), ("alpha=0.6 denoise=0.5", 0.6)):
        (hires,) = payload(f"{MIXING}{name}", sample)["alwayson_scripts"]["Iterative Mixing"]["args"]
        (script,) = payload(f"{SCRIPT}{name}", sample)["script_args"]
        assert hires["alpha"] == script["alpha"] == alpha
        assert hires["enabled"] is script["enabled"] is True
        assert script["scale"] == 2.0
        assert "scale" not in hires


@pytest.mark.parametrize(("method", "overlap"), [("MultiDiffusion", 24), ("Mixture of Diffusers", 4)])
def test_tiled_diffusion_has_its_tiles_in_the_measure_of_the_model(method, overlap):
    """96 latent pixels with an overlap of 48 or 8 for a model that knows 64 are 48 for one that knows 32."""
    picture = Picture("disc", "a disc", 5, drawn(256, 0))
    asked = payload(f"Tiled Diffusion, {method}", picture, Run(4, "Euler a", 8, 3.0))
    assert (asked["width"], asked["height"], asked["denoising_strength"]) == (1024, 1024, 0.5)
    enabled, name, _, keep_size, *sizes, tile_width, tile_height, common, batch = asked["alwayson_scripts"][
        "tiled diffusion"
    ]["args"]
    assert (enabled, name, keep_size, len(sizes)) == (True, method, False, 2)
    assert (tile_width, tile_height, common, batch) == (48, 48, overlap, 4)


def test_a_run_goes_on_where_it_was(pictures, tmp_path):
    server = FakeServer()
    methods = [METHODS["hires fix 0.3 Lanczos"], METHODS["img2img 0.5"]]
    first, _ = compared(Results(tmp_path, server), methods, pictures, RUN)
    assert len(server.asked) == 4
    again, _ = compared(Results(tmp_path, server), methods, pictures, RUN)
    assert len(server.asked) == 4
    np.testing.assert_equal(again, first)


@pytest.mark.parametrize(
    ("change", "asked"),
    [({"cfg": 4.0}, 4), ({"model": "weights 2"}, 4), ({"again": ["img2img*"]}, 2), ({"again": ["x*"]}, 0)],
    ids=["setting", "weights", "again", "again another"],
)
def test_what_was_asked_for_otherwise_is_made_anew(pictures, tmp_path, change, asked):
    server = FakeServer()
    methods = [METHODS["hires fix 0.3 Lanczos"], METHODS["img2img 0.5"]]
    compared(Results(tmp_path, server), methods, pictures, RUN)
    before = len(server.asked)
    server.model = change.get("model", server.model)
    run = Run(RUN.scale, RUN.sampler, RUN.steps, change.get("cfg", RUN.cfg))
    compared(Results(tmp_path, server, change.get("again", ())), methods, pictures, run)
    assert len(server.asked) - before == asked


def test_a_refusal_leaves_out_that_picture_alone(pictures, tmp_path, capsys):
    server = FakeServer()
    server.refused = {"a disc"}
    found, _ = compared(Results(tmp_path, server), [METHODS["img2img 0.5"]], pictures, RUN)
    assert list(found["img2img 0.5"]) == ["square"]
    assert "img2img 0.5" in capsys.readouterr().err


def test_a_result_of_another_size_is_refused(pictures, tmp_path):
    server = FakeServer()
    with pytest.raises(Refused, match="128 x 128 px, not 256 x 256"):
        Results(tmp_path, server).of(METHODS["img2img 0.5"], pictures[0], Run(4, "Euler a", 8, 3.0))


def test_what_starts_from_noise_is_measured_against_its_own_first_picture(pictures, tmp_path):
    server = FakeServer()
    results = Results(tmp_path, server)
    sample = results.sample(pictures[0], 3.0)
    assert sample.sampled
    demofusion = METHODS["DemoFusion of Tiled Diffusion"]
    server.pictures = lambda request: [drawn(SIZE, 1), drawn(2 * SIZE, 1)]
    for _ in range(2):  # the second from the folder
        source, result = results.of(demofusion, sample, RUN)
        assert source.tobytes() == drawn(SIZE, 1).tobytes()
        assert result.size == (2 * SIZE, 2 * SIZE)


def test_rows_are_paired_with_the_first_mixing_and_with_hires_fix():
    def numbers(psnr, detail):
        return {
            name: {"psnr_source": psnr + k, "precision": 0.5, "structure": 0.5, "detail_16": detail, "flecks": math.nan}
            for k, name in enumerate(("a", "b", "c"))
        }

    found = {hires_name(0.2): numbers(20, 0.5), hires_name(0.3): numbers(10, 1.5), f"{MIXING}x": numbers(18, 1.0)}
    rows = {row["method"]: row for row in rows_of(found)}
    weak = rows[hires_name(0.2)]
    assert (weak["psnr_source"], weak["psnr_source_se"]) == (21.0, pytest.approx(1 / math.sqrt(3), abs=1e-4))
    assert weak[LESS]["psnr_source"] == 2.0
    assert weak[LESS]["psnr_source_se"] == 0.0
    assert weak["flecks"] is None
    assert rows[f"{MIXING}x"]["psnr_source_gain"] == pytest.approx(3.0)
    json.dumps(list(rows.values()), allow_nan=False)
    text = tables(list(rows.values()))
    assert "| mixing: x | 3 | 19.0 ± 0.6 |" in text
    assert f"{LESS}:" in text


def test_what_the_package_measured_stands_beside_it_and_the_ranks_are_compared():
    def rows(names, values, **of_all):
        numbers = [{"psnr_source": 40 + v, "detail_16": 1 - v, "structure": v, "grain": v * v} for v in values]
        return [
            {"method": name, **of_all, **of, **{f"{metric}_se": 0.01 for metric in of}}
            for name, of in zip(names, numbers)
        ]

    here = rows(["Lanczos", "mixing: preset=Balanced", "hires fix 0.3 Lanczos", "img2img 0.3"], [0.9, 0.5, 0.4, 0.1])
    there = rows(["enlarged", "preset=Balanced", "hires fix 0.3", "preset=Creative"], [0.8, 0.2, 0.3, 0.1])
    text = beside(here, there)
    assert "| mixing: preset=Balanced | 40.5 ± 0.0 / 40.2 ± 0.0 |" in text
    assert "img2img" not in text
    assert text.splitlines()[-1] == "| rank correlation | 0.50 | 0.50 | 0.50 | 0.50 |"
    assert beside(here, there[:2]) == ""


def test_soft_sources_are_those_of_the_package():
    pytest.importorskip("resvg_py")
    renders = held_out("tuning", SIZE, [2], seed=5, count=2)
    soft = softened(renders, "tuning", SIZE)
    assert [kind_of(picture) for picture in (*renders, *soft)] == ["renders", "renders", "soft", "soft"]
    chosen = bench.subjects("tuning", 2)
    for picture, source in zip(soft, bench.softened(latent.load(), chosen, SIZE)):
        np.testing.assert_array_equal(np.asarray(picture.source), np.asarray(to_image(source)))
    assert [(p.name, p.prompt, p.seed) for p in soft] == [(p.name, p.prompt, p.seed) for p in renders]
    assert soft[0].truths == renders[0].truths


def test_sheets_show_every_method_and_the_most_detailed_part(pictures, tmp_path):
    found, shown = compared(
        Results(tmp_path, FakeServer()), [METHODS["Lanczos"], METHODS["img2img 0.5"]], pictures, RUN
    )
    whole, parts = sheets("title", pictures, shown, rows_of(found))
    assert whole.size == parts.size
    assert whole.tobytes() != parts.tobytes()


def test_the_most_detailed_part_is_where_the_edges_are():
    source = Image.new("RGB", (256, 256))
    noise = torch.randint(0, 255, (60, 60, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    source.paste(Image.fromarray(noise.numpy()), (190, 10))
    left, top, right, bottom = box_of_detail(source, (1024, 1024))
    assert (right - left, bottom - top) == (256, 256)
    assert 4 * 160 < left < 4 * 220
    assert top < 4 * 40
