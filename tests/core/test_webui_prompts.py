"""Which rows of a model's calls get the prompts of crops, with denoisers of both kinds that WebUIs have. A prompt is
encoded as its length and the sum of its letters, and the model gives what it is told."""

import contextlib
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from itermix import Settings, SettingsError
from itermix.model.crops import places
from itermix.model.prompts import Grid, of_crops

SETTINGS = Settings(window=16, window_batch=3, window_jitter=False)
HEIGHT, WIDTH = 16, 48
LEFT, RIGHT = "a house", "the sky, and a long row of words"
OWN, NEGATIVE = "own", "ugly"
MARK = 1024.0


def number(text):
    return float(sum(map(ord, text)))


def encoded(text, model=1.0, xl=False):
    tokens = torch.full((2 if len(text) < 12 else 3, 4), model * number(text))
    tokens[:, 0] += 0.5  # no mark, which is the same number throughout
    return {"crossattn": tokens, "vector": torch.full((5,), number(text))} if xl else tokens


@pytest.fixture
def crops(webui, monkeypatch):
    crops, prompts = webui("crops"), webui("prompts")
    monkeypatch.setattr(webui("controlnet"), "hints_of_parts", lambda p, parts: contextlib.nullcontext())
    monkeypatch.setattr(webui("host"), "parametrisation", lambda sampler: SimpleNamespace(predicts_noise=False))
    monkeypatch.setattr(crops, "check_stop", lambda: None)
    monkeypatch.setattr(crops.shared, "sd_model", SimpleNamespace(is_sd1=True, factor=1.0), raising=False)
    monkeypatch.setattr(prompts, "prompt_parser", SimpleNamespace())

    def at_step(schedules, step):
        (schedule,) = schedules
        found = next(cond for until, cond in schedule if step <= until)
        if isinstance(found, dict):
            return {name: value[None] for name, value in found.items()}
        return found[None]

    prompts.prompt_parser.reconstruct_cond_batch = at_step
    prompts.prompt_parser.SdConditioning = lambda texts, width, height: SimpleNamespace(
        texts=texts, size=(width, height)
    )
    prompts.prompt_parser.get_learned_conditioning = "learned"
    crops.prompts = prompts
    return crops


class Request:
    """A processing object of img2img, whose prompts change to another after step 5."""

    width, height, is_hr_pass, firstpass_steps, steps = 8 * WIDTH, 8 * HEIGHT, False, 20, 20

    def __init__(self, shared, denoiser, xl=False):
        self.shared, self.xl, self.asked = shared, xl, []
        self.sampler = SimpleNamespace(model_wrap_cfg=denoiser)

    def get_conds_with_caching(self, function, prompts, steps, caches, networks, hires_steps=None):
        assert function == "learned"
        assert caches == [[None, None]]
        self.asked.append((prompts.texts, prompts.size, steps, hires_steps))
        factor = self.shared.sd_model.factor
        return [
            [(5, encoded(text, factor, self.xl)), (99, encoded(text[::-1] + "!", factor, self.xl))]
            for text in prompts.texts
        ]


class Told(nn.Module):
    """Gives the mean of the tokens that a row is told, and keeps what else it is told."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x, level, cond):
        context = cond["crossattn"] if "crossattn" in cond else cond["c_crossattn"][0]
        self.seen.append(cond)
        if bool((context[:, 0] == MARK).all()):
            context = context[:, 1:]
        told = context[..., 1].mean(dim=1)
        if "vector" in cond:
            told = told + cond["vector"].mean(dim=1) / 1000
        return told[:, None, None, None].expand_as(x)


class OfA1111(nn.Module):
    """A CFGDenoiser that asks its model for all rows at once, or for so many at a time."""

    def __init__(self, at_once=None, marked=False, xl=False):
        super().__init__()
        self.inner_model, self.at_once, self.marked, self.xl = Told(), at_once, marked, xl
        self.step, self.refiner = 0, None

    def update_inner_model(self):
        self.inner_model = Told()

    def forward(self, x, level, cond, uncond):
        if self.refiner:
            self.refiner()
        counts = [len(prompts) for prompts in cond.batch]
        rows = [encoded(OWN, xl=self.xl) for count in counts for _ in range(count)]
        rows += [encoded(NEGATIVE, xl=self.xl) for _ in x]
        shown = torch.cat([x.repeat_interleave(torch.tensor(counts), dim=0), x])
        size = self.at_once or len(rows)
        made = []
        for first in range(0, len(rows), size):
            part = slice(first, first + size)
            made.append(self.inner_model(shown[part], level.repeat(len(shown))[part], cond=self.told(rows[part])))
        self.step += 1
        return torch.cat(made)

    def told(self, rows):
        if self.xl:
            return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} | {"c_concat": [None]}
        tokens = torch.stack(rows)
        if self.marked:
            tokens = torch.cat([torch.full_like(tokens[:, :1], MARK), tokens], dim=1)
        return {"c_crossattn": [tokens], "c_concat": [None]}


def texts_of(grid):
    return of_crops(Grid(grid), places(SETTINGS, HEIGHT, WIDTH))


def asked(denoiser, batch=1, prompts=1):
    cond = SimpleNamespace(batch=[[None] * prompts for _ in range(batch)])
    return denoiser(torch.zeros(batch, 4, HEIGHT, WIDTH), torch.ones(1), cond=cond, uncond=None)


def ends(made):
    """What the left and the right end of each row is told."""
    return made[:, 0, 0, [0, -1]].round(decimals=2).tolist()


@pytest.mark.parametrize(("batch", "prompts"), [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("at_once", [None, 1, 2, 3])
def test_a1111_s_rows_of_the_prompt_come_first(crops, batch, prompts, at_once):
    denoiser = OfA1111(at_once)
    p = Request(crops.shared, denoiser)
    own = crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))
    before = ends(asked(denoiser, batch, prompts))
    with crops.windowed(p, SETTINGS, own):
        for step in range(2):
            made = ends(asked(denoiser, batch, prompts))
            positive = batch * prompts
            assert made[:positive] == [[number(LEFT), number(RIGHT)]] * positive, step
            assert made[positive:] == [[number(NEGATIVE)] * 2] * batch
    assert ends(asked(denoiser, batch, prompts)) == before == [[number(OWN)] * 2] * positive + made[positive:]
    assert p.asked == [([LEFT, RIGHT], (8 * WIDTH, 8 * HEIGHT), 20, None)]  # once, whatever the number of calls
    assert not denoiser._forward_pre_hooks
    assert not denoiser.inner_model._forward_pre_hooks
    assert "update_inner_model" not in vars(denoiser)


def test_where_no_prompt_is_given_it_is_the_request_s(crops):
    denoiser = OfA1111()
    p = Request(crops.shared, denoiser)
    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[None, RIGHT]]))):
        assert ends(asked(denoiser))[0] == [number(OWN), number(RIGHT)]
    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[OWN, OWN]]))):
        same = asked(denoiser)
    with crops.windowed(p, SETTINGS):
        assert torch.equal(asked(denoiser), same)


def test_the_marks_of_controlnet_stay_before_the_prompts(crops):
    denoiser = OfA1111(marked=True)
    p = Request(crops.shared, denoiser)
    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))):
        assert ends(asked(denoiser)) == [[number(LEFT), number(RIGHT)], [number(NEGATIVE)] * 2]
    shapes = [tuple(cond["c_crossattn"][0].shape) for cond in denoiser.inner_model.seen]
    assert shapes == [(2 * 3, 1 + 6, 4), (2 * 1, 1 + 6, 4)]  # of 2 and of 3 tokens, behind the mark


def test_sdxl_is_told_the_vector_too(crops):
    denoiser = OfA1111(xl=True)
    p = Request(crops.shared, denoiser, xl=True)
    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[LEFT, None]]))):
        made = asked(denoiser)[:, 0, 0, [0, -1]]
    expected = torch.tensor([[number(LEFT), number(OWN)], [number(NEGATIVE)] * 2]) * 1.001
    torch.testing.assert_close(made, expected)


def test_prompts_change_on_the_way(crops):
    denoiser = OfA1111()
    p = Request(crops.shared, denoiser)
    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))):
        denoiser.step = 6
        assert ends(asked(denoiser))[0] == [number(LEFT) + ord("!"), number(RIGHT) + ord("!")]


def test_a_refiner_has_encoded_its_own(crops):
    """Which takes over inside a call, after it has begun."""
    denoiser = OfA1111(at_once=1)
    p = Request(crops.shared, denoiser)

    def refine():
        denoiser.refiner = None
        crops.shared.sd_model = SimpleNamespace(is_sdxl=True, factor=2.0)
        denoiser.update_inner_model()

    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))):
        assert ends(asked(denoiser))[0] == [number(LEFT), number(RIGHT)]
        denoiser.refiner = refine
        for _ in range(2):
            assert ends(asked(denoiser)) == [[2 * number(LEFT), 2 * number(RIGHT)], [number(NEGATIVE)] * 2]
    assert len(p.asked) == 2
    assert not denoiser._forward_pre_hooks


def test_what_does_not_act_leaves_everything_as_it_is(crops):
    denoiser = OfA1111()
    p = Request(crops.shared, denoiser)
    own = crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))
    own.acts = False
    with crops.windowed(p, SETTINGS, own):
        assert ends(asked(denoiser))[0] == [number(OWN)] * 2


def test_the_hires_pass_has_its_own_size_and_steps(crops, monkeypatch):
    sampler = SimpleNamespace(total_steps=lambda steps: 2 * steps)
    finder = SimpleNamespace(find_sampler_config={"Heun": sampler, "Other": None}.get)
    monkeypatch.setattr(crops.prompts, "sd_samplers", finder)
    p = Request(crops.shared, OfA1111())
    p.is_hr_pass, p.hr_upscale_to_x, p.hr_upscale_to_y, p.hr_second_pass_steps = True, 640, 320, 7
    p.hr_sampler_name, p.sampler_name = None, "Heun"
    crops.prompts.encoded(p, ["a"])
    p.hr_second_pass_steps, p.hr_sampler_name = 0, "Other"
    crops.prompts.encoded(p, ["a"])
    assert p.asked == [(["a"], (640, 320), 20, 14), (["a"], (640, 320), 20, 20)]


class Patcher:
    def __init__(self):
        self.model_options, self.controlnet_linked_list = {}, None

    def clone(self):
        return Patcher()

    def set_model_unet_function_wrapper(self, wrapper):
        self.model_options["model_function_wrapper"] = wrapper


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("chunks", [[0, 1], [1, 0], [0], [1], [1, 0, 0]])
def test_forge_says_which_rows_are_of_the_prompt(crops, chunks, batch, xl):
    model = SimpleNamespace(forge_objects=SimpleNamespace(unet=Patcher()), factor=1.0)
    crops.shared.sd_model, patcher = model, model.forge_objects.unet
    denoiser = OfA1111()
    p = Request(crops.shared, denoiser, xl)
    rows = [encoded(NEGATIVE if kind else OWN, xl=xl) for kind in chunks for _ in range(batch)]
    names = {"c_crossattn": "crossattn", "y": "vector"} if xl else {"c_crossattn": None}
    c = {name: torch.stack([row[key] if key else row for row in rows]) for name, key in names.items()}
    call = {"input": torch.zeros(len(rows), 4, HEIGHT, WIDTH), "timestep": torch.ones(len(rows))}
    call |= {"cond_or_uncond": chunks, "c": {**c, "transformer_options": {}}}

    def apply_model(x, level, c_crossattn, transformer_options, y=None):
        told = c_crossattn[..., 1].mean(dim=1) + (0 if y is None else y.mean(dim=1) / 1000)
        return told[:, None, None, None].expand_as(x)

    with crops.windowed(p, SETTINGS, crops.prompts.Prompts(p, texts_of([[LEFT, RIGHT]]))):
        wrapper = model.forge_objects.unet.model_options["model_function_wrapper"]
        made = wrapper(apply_model, call)[:, 0, 0, [0, -1]]
    of_kind = {0: [number(LEFT), number(RIGHT)], 1: [number(NEGATIVE)] * 2}
    expected = torch.tensor([of_kind[kind] for kind in chunks for _ in range(batch)]) * (1.001 if xl else 1)
    torch.testing.assert_close(made, expected)
    assert model.forge_objects.unet is patcher
    assert not patcher.model_options


def test_where_they_are_given(crops):
    prompts, grid = crops.prompts, [["a", "b"]]
    nothing = SimpleNamespace()
    assert prompts.given([{"alpha": 1.0}], nothing) is None
    assert prompts.given([], nothing) is prompts.given([True, 0.5], nothing) is None
    assert prompts.given([{"prompts": grid}], nothing) == Grid(grid)
    assert prompts.given([True], SimpleNamespace(itermix_settings={"prompts": grid})) == Grid(grid)
    assert prompts.given([{"prompts": "?"}], SimpleNamespace(itermix_settings={"prompts": grid})) == Grid(grid)
    assert prompts.given([{"prompts": grid}], SimpleNamespace(itermix_prompts=max)) is max
    with pytest.raises(SettingsError, match="prompts = 'a'"):
        prompts.given([{"prompts": "a"}], nothing)
    with pytest.raises(SettingsError, match="prompts = 1"):
        prompts.given([], SimpleNamespace(itermix_prompts=1))


def test_models_that_take_prompts_with_the_picture_are_refused(crops):
    for name in ("is_sd1", "is_sd2", "is_sdxl"):
        crops.shared.sd_model = SimpleNamespace(**{"is_sd1": False, name: True})
        crops.prompts.check_model(Grid([["a"]]))
    crops.shared.sd_model = SimpleNamespace(is_sd1=False, is_sdxl=False)
    with pytest.raises(SettingsError, match="Allowed with Stable Diffusion 1, 2 and XL"):
        crops.prompts.check_model(Grid([["a"]]))


def test_the_infotext_says_what_the_crops_were_told(crops):
    comments = []
    p = SimpleNamespace(extra_generation_params={}, comment=comments.append)
    crops.prompts.note(p, Grid([["a", None]]), crops=True)
    assert p.extra_generation_params == {"Itermix prompts": '[["a", null]]'}
    crops.prompts.note(p, max, crops=True)
    assert p.extra_generation_params == {"Itermix prompts": "by another extension"}
    assert comments == []
    crops.prompts.note(p, max, crops=False)
    assert p.extra_generation_params == {"Itermix prompts": "none, the picture was shown as a whole"}
    (comment,) = comments
    assert "have no effect" in comment


def test_a_job_asks_for_the_prompts_of_the_crops_that_it_shows(webui, crops):
    job = webui("job").Job(SETTINGS, prompts=Grid([[LEFT, RIGHT]]))
    p = Request(crops.shared, OfA1111())
    p.extra_generation_params, comments = {}, []
    p.comment = comments.append
    assert job.of_crops(p, SETTINGS, torch.zeros(1, 4, HEIGHT, WIDTH))._texts == texts_of([[LEFT, RIGHT]])
    assert p.extra_generation_params["Itermix prompts"].startswith("[[")
    assert job.of_crops(p, SETTINGS, torch.zeros(1, 4, 16, 16)) is None
    assert p.extra_generation_params["Itermix prompts"].startswith("none")
    assert len(comments) == 1
    job.phase = SimpleNamespace(last=False)
    job.of_crops(p, SETTINGS, torch.zeros(1, 4, 16, 16))
    assert len(comments) == 1
    assert webui("job").Job(SETTINGS).of_crops(p, SETTINGS, torch.zeros(1, 4, HEIGHT, WIDTH)) is None
