"""A picture that is finished isn't lost because of what comes after it."""

import types
from pathlib import Path, PurePath

import pytest
import torch

from itermix.settings import Settings


@pytest.fixture
def cleanup(webui, monkeypatch):
    module = webui("cleanup")
    module.notes, module.stops = [], iter([False] * 9)
    monkeypatch.setattr(module.host, "stopped", lambda: next(module.stops))
    monkeypatch.setattr(module.host, "note", lambda p, what, sentence: module.notes.append(f"{what}: {sentence}"))
    monkeypatch.setattr(module, "errors", types.SimpleNamespace(report=lambda *args, **options: None))
    return module


def finished(cleanup, settings, first):
    job = types.SimpleNamespace(of_pass=lambda latent: settings, analysis=None, first=first)
    samples = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    p = types.SimpleNamespace(steps=20)
    return samples, cleanup.finish(p, job, 2 * samples, samples, (), {}), job


def failing(*_):
    raise RuntimeError("no memory left")


def test_the_picture_stays_where_the_first_source_can_t_be_encoded(cleanup):
    settings = Settings(match_colours=True, colour_formulas="DemoFusion")
    samples, result, job = finished(cleanup, settings, failing)
    assert result is job.samples is samples
    assert cleanup.notes == ["matching of colours: it failed (no memory left); this is the picture before it"]
    _, matched, _ = finished(cleanup, settings, lambda: 2 * samples)
    assert torch.allclose(matched, 2 * samples, atol=1e-5)
    assert len(cleanup.notes) == 1


def test_the_picture_stays_where_the_clean_up_fails_gives_nan_or_is_stopped(cleanup, monkeypatch):
    for run, stops, problem in (
        (failing, [False] * 9, "it failed (no memory left)"),
        (lambda *args: args[-1] * torch.nan, [False] * 9, "it failed (the model gave values"),
        (lambda *args: args[-1] + 1, [False, False, True], "it was stopped"),
    ):
        monkeypatch.setattr(cleanup, "run", run)
        cleanup.notes, cleanup.stops = [], iter(stops)
        samples, result, _ = finished(cleanup, Settings(cleanup=0.2), None)
        assert result is samples or torch.equal(result, samples)
        (note,) = cleanup.notes
        assert note.startswith(f"clean-up: {problem}")


class Journal:
    def __init__(self):
        self.ends = []

    def made(self):
        return {}

    def wait(self, pictures):
        list(pictures)

    def done(self, target, *_):
        self.ends.append(("done", str(target)))

    def failed(self, target, reason, for_good):
        self.ends.append(("failed", str(target), reason, for_good))


@pytest.mark.parametrize("error", [RuntimeError("no memory left"), OSError("no disk left"), KeyError("steps")])
def test_one_picture_of_a_folder_fails_and_the_others_are_made(webui, monkeypatch, error):
    folder = webui("folder")
    monkeypatch.setattr(folder.host, "generation_of", lambda p: {})
    monkeypatch.setattr(folder, "looked_at", lambda file, target, given: folder.Picture(file, target, (8, 8), {}, "x"))
    monkeypatch.setattr(folder, "request", lambda p, picture: picture)
    monkeypatch.setattr(folder, "png", lambda result: b"data")
    monkeypatch.setattr(
        folder,
        "shared",
        types.SimpleNamespace(state=types.SimpleNamespace(interrupted=False, stopping_generation=False)),
    )

    def one(picture):
        if picture.target.name == "b.png":
            raise error

    files = folder.Files({PurePath(name): Path(name) for name in ("a.png", "b.png", "c.png")}, ())
    journal = Journal()
    said = folder._made(None, files, journal, folder.UpscaleSettings(), one)
    assert [end[:2] for end in journal.ends] == [("done", "a.png"), ("failed", "b.png"), ("done", "c.png")]
    assert journal.ends[1][2:] == (str(error), False)
    assert said == "Iterative Mixing: of 3 pictures 2 made, 1 failed (b.png; the console says why)."
