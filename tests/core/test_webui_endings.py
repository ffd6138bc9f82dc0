"""A picture that is finished isn't lost because of what comes after it."""

import contextlib
import types
from pathlib import Path, PurePath

import pytest
import torch

from itermix.picture.phases import walk
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


OUT_OF_MEMORY = RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


@pytest.mark.parametrize(
    ("error", "sampled", "decoding"),
    [
        (OUT_OF_MEMORY, True, True),
        (OUT_OF_MEMORY, False, False),
        (torch.cuda.OutOfMemoryError("full"), True, True),
        (MemoryError(), True, True),
        (RuntimeError("Mismatch of the memory format"), True, False),
        (ValueError("out of memory"), True, False),
    ],
)
def test_memory_that_fails_after_the_sampling_is_told_with_what_helps(webui, monkeypatch, error, sampled, decoding):
    module = webui("job")
    monkeypatch.setattr(module.host, "tiled_decoding", lambda: "decode in tiles")
    (phase,) = walk((64, 64), [(128, 96)])
    job = module.Job(Settings(), phase=phase, finished=sampled)
    assert job.cannot_be_decoded(error) is decoding
    told = f"there is not enough memory to decode 128x96 ({error}): decode in tiles"
    assert job.why(error) == (told if decoding else f"it failed ({error})")


def test_a_phase_of_the_hires_pass_that_fails_before_its_sampling_could_not_be_sampled(webui, monkeypatch):
    """Though the phase before it was."""
    hires, notes = webui("hires"), []
    monkeypatch.setattr(hires, "errors", types.SimpleNamespace(report=lambda *args, **options: None))
    monkeypatch.setattr(hires, "way_of", lambda p, settings: walk((64, 64), [(96, 96), (128, 128)]))
    monkeypatch.setattr(hires.host, "stopped", lambda: False)
    monkeypatch.setattr(hires.host, "saves", lambda p: False)
    monkeypatch.setattr(hires.host, "samplers", lambda: [])
    monkeypatch.setattr(hires.host, "hires_checkpoint", lambda p: None)
    monkeypatch.setattr(hires.host, "of_hires", lambda p, decoded: decoded)
    monkeypatch.setattr(hires.host, "for_hires", lambda p, pictures: pictures)
    monkeypatch.setattr(hires.host, "note", lambda p, what, sentence: notes.append(f"{what}: {sentence}"))
    monkeypatch.setattr(hires.controlnet, "hints_of_size", lambda p, size, cut: contextlib.nullcontext())
    monkeypatch.setattr(hires.fidelity, "correct_decoded", lambda p, job, result: result)
    monkeypatch.setattr(hires.fidelity, "of_first_pass", lambda p, samples, pictures: pictures)
    job = webui("job").Job(Settings(fidelity=0.0))

    def original(*_):
        if job.phase.number > 1:
            raise OUT_OF_MEMORY
        job.finished, job.samples = True, None
        return [torch.ones(3, 96, 96)]

    p = types.SimpleNamespace(**dict.fromkeys(hires.CHANGED, 0), is_hr_pass=True)
    pictures = torch.zeros(1, 3, 64, 64)
    made = hires.sample_hr_pass(p, job, original, None, pictures, [1], [1])
    assert made[0].shape == (3, 96, 96)
    assert notes == [f"phase 2 of 2: it failed ({OUT_OF_MEMORY}); this is the picture of phase 1"]


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
