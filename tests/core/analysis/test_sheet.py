"""The files of an analysis: what they are called, that the numbers come back, and that the sheet shows them."""

import json

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from itermix.analysis.record import Analysis
from itermix.analysis.sheet import LEAST_SHOWN, drawn, write


def looked_on(steps=5, batch=2, mixed_in=3, side=16):
    """An analysis of so many steps of noise around grey, in which z' was blended in the first ones."""
    generator = torch.Generator().manual_seed(0)
    analysis = Analysis(lambda latents: latents)
    for step in range(steps):
        z, x, denoised = (torch.randn(batch, 3, side, side, generator=generator) for _ in range(3))
        if step < mixed_in:
            analysis.guided(step, steps - step, 1 - step / mixed_in, z, x)
        analysis.evaluated(step, steps - step, x, 0.1 * denoised)
    return analysis


def charts(analysis, image=0, **options):
    """{title: axes} of the drawn sheet."""
    figure = drawn(analysis.numbers(image), analysis.pictures(image), "a.png", **options)
    return {axes.get_title(): axes for axes in figure.axes}


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_files_are_called_after_the_picture(tmp_path):
    picture = tmp_path / "00001-7.b.png"
    two = looked_on()
    names = [path.name for path in write([two], 1, picture)]
    assert names == ["00001-7.b-analysis.png", "00001-7.b-analysis.json"]
    names = [path.name for path in write([looked_on(), two], 1, picture)]
    assert names == [f"00001-7.b-analysis-phase-{k}.{end}" for k in (1, 2) for end in ("png", "json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*names, "00001-7.b-analysis.png", "00001-7.b-analysis.json"]
    )
    assert json.loads((tmp_path / "00001-7.b-analysis.json").read_text()) == two.numbers(1)
    with Image.open(tmp_path / "00001-7.b-analysis.png") as sheet:
        assert sheet.size == (1400, 1050)


def test_the_charts_show_the_numbers():
    analysis = looked_on()
    rows = analysis.numbers(1)["steps"]
    found = charts(analysis, image=1)
    for title, name in (("mean", "mean"), ("standard deviation", "std"), ("normality: Shapiro-Wilk p", "shapiro_p")):
        shown = lines(found[title])
        for label, series in (("noised source z'", "noised"), ("state x", "state"), ("denoised", "denoised")):
            expected = [(row["step"], max(row[series][name], LEAST_SHOWN)) for row in rows if series in row]
            if name == "mean":
                expected = [(row["step"], row[series][name]) for row in rows if series in row]
            assert np.allclose(shown[label], expected)
    shown = lines(found["cosine similarity of z' and x in the same step"])
    assert np.allclose(shown["weight of z'"][:, 1], [row["weight"] for row in rows])
    assert np.allclose(shown["z' and x"][:3, 1], [row["similarity"] for row in rows[:3]])
    assert np.isnan(shown["z' and x"][3:, 1]).all()
    (heat,) = found["similarity of every z' with every x"].images
    assert np.allclose(heat.get_array(), analysis.numbers(1)["similarities"]["values"])


def test_the_pictures_stand_below_their_steps():
    analysis = looked_on()
    found = charts(analysis)
    shown = analysis.pictures(0)
    for step, series in shown.items():
        axes = found[f"step {step}\nlevel {5 - step}"]
        pictures = [image.get_array() for image in axes.images]
        if "noised" in series:
            assert np.array_equal(pictures[0], series["noised"].permute(1, 2, 0))
        else:
            assert pictures == []
    assert sum("level" in title for title in found) == len(shown) == 5


@pytest.mark.parametrize("mixed_in", [0, 1])
@pytest.mark.parametrize("steps", [1, 2])
def test_a_run_of_few_steps_is_drawn(tmp_path, steps, mixed_in):
    sheet, _ = write([looked_on(steps, 1, mixed_in)], 0, tmp_path / "a.png")
    assert Image.open(sheet).size == (1400, 1050)


def test_a_name_is_no_formula(tmp_path):
    sheet, _ = write([looked_on(2)], 0, tmp_path / "a $5_^ b$.png")
    assert sheet.exists()


def test_another_comparison_has_another_name():
    assert "similarity of every z' with every z'" in charts(looked_on(), other="z'")


def test_no_figure_stays_behind(tmp_path):
    import matplotlib.pyplot

    write([looked_on(2)], 0, tmp_path / "a.png")
    assert matplotlib.pyplot.get_fignums() == []
    assert isinstance(drawn(looked_on(2).numbers(0), {}, "without pictures"), Figure)
