"""The text encoder and its words."""

import pytest
import torch

from itermix.parameters import SettingsError
from itermix.standalone.latent import text


def test_prompts_are_told_apart():
    encoder = text.TextEncoder()
    one, other, nothing = encoder.encode(["red apple white background", "green apple white background", ""])
    assert one.shape == (text.TOKENS, text.WIDTH)
    assert (one - other).std() > 0.1
    assert (one - nothing).std() > 0.1
    assert torch.equal(encoder.encode(["red apple white background"])[0], one)


def test_most_of_what_a_network_sees_of_a_prompt_is_its_own():
    """A network learns first what the mean over all tokens says: nothing, if most of it is the same everywhere."""
    found = text.TextEncoder().encode(["red apple", "green heart white background", "yellow star", "blue circle"])
    assert found.mean(1).std(0).mean() > 0.5 * found.std()


def test_what_comes_later_does_not_change_what_came_before():
    """CLIP's attention is causal."""
    encoder = text.TextEncoder()
    one, other = encoder.encode(["red apple", "red heart"])
    assert torch.allclose(one[:2], other[:2], atol=1e-6)
    assert not torch.allclose(one[2], other[2], atol=1e-2)


def test_a_prompt_has_a_start_an_end_and_is_filled_up():
    found = text.tokens("apple")
    assert len(found) == text.TOKENS
    assert found[0] == text.START
    assert set(found[2:]) == {text.END}


def test_an_unknown_word_is_named():
    with pytest.raises(SettingsError, match="'xylophonist' isn't one"):
        text.tokens("red xylophonist")


def test_too_many_words_are_refused():
    with pytest.raises(SettingsError, match="at most 75 tokens"):
        text.tokens("apple " * 80)


def test_no_mean_of_an_encoding_is_zero():
    """WebUIs divide by it."""
    encoder = text.TextEncoder()
    means = encoder.encode(["", "apple", "red heart grey background"]).mean((1, 2))
    assert (means > 1e-3).all()
