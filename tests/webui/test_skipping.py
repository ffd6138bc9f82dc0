"""Steps that are left out because they are overwritten, in real WebUIs."""

import pytest
import torch
from payloads import hires, mixing, plain, repeatable, upscale
from test_img2img import equal

STEPS = 12
WHOLE = {"denoise": 1.0, "blending": "addition", "alpha": 0.1, "detail": 0.0, "fidelity": 0.0}
SKIPPING = {**WHOLE, "skip_tolerance": 0.3}
REQUESTS = [("img2img", mixing), ("img2img", upscale), ("txt2img", hires)]


def seen(webui, path, request):
    """The pictures, and of each step its number as the WebUI counts it, its noise level and the state."""
    pictures = repeatable(webui, path, request)
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    return pictures, probe["numbers"], [level for _, level, _ in probe["calls"]], probe["states"]


@pytest.mark.parametrize("sampler", ["Euler", "DPM++ 2M", "DDIM"])
@pytest.mark.parametrize(("path", "request_of"), REQUESTS)
def test_the_steps_that_are_left_are_those_of_the_whole_run(webui, plain_pictures, path, request_of, sampler):
    whole, numbers, levels, states = seen(webui, path, request_of(WHOLE, sampler=sampler, steps=STEPS))
    part, numbers_left, levels_left, states_left = seen(webui, path, request_of(SKIPPING, sampler=sampler, steps=STEPS))
    skipped = len(levels) - len(levels_left)
    assert 2 <= skipped < len(levels) - 1
    assert levels_left == levels[skipped:]
    assert numbers_left == numbers[skipped:]  # what prompt editing goes by
    assert [i for i, _ in states_left] == [i for i, _ in states[skipped:]]
    assert "Itermix skip tolerance: 0.3" in part[0].parameters
    assert equal(repeatable(webui, path, request_of(WHOLE, sampler=sampler, steps=STEPS)), whole)
    assert equal(plain(webui, "txt2img"), plain_pictures["txt2img"])


def test_the_states_come_together(webui):
    """How far they are apart, as a share of the first difference."""
    *_, states = seen(webui, "img2img", mixing(WHOLE, steps=STEPS))
    *_, states_left = seen(webui, "img2img", mixing(SKIPPING, steps=STEPS))
    whole = dict(states)
    apart = [float((x - whole[i]).square().mean().sqrt()) for i, x in states_left]
    assert apart[-1] < 0.3


def test_edited_prompts_change_at_the_same_step(webui):
    """What the prompt was in the steps that are left out makes no difference; what it is in later ones does."""
    requests = {
        text: mixing(SKIPPING, steps=STEPS, prompt=f"a [photograph:painting:{text}]", cfg_scale=7.0)
        for text in (1, 2, STEPS - 1)
    }
    pictures = {text: repeatable(webui, "img2img", request) for text, request in requests.items()}
    assert equal(pictures[1], pictures[2])
    assert not equal(pictures[1], pictures[STEPS - 1])


def test_without_a_bound_the_picture_is_the_same_to_the_bit(webui):
    off = repeatable(webui, "img2img", upscale({}, steps=3))
    on = repeatable(webui, "img2img", upscale({"skip_tolerance": 0.5}, steps=3))
    assert equal(on, off)
