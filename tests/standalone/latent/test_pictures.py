"""The vector pictures: which are held out, and how they are drawn."""

import numpy as np
import pytest

from itermix.standalone.latent import pictures, text


def test_no_family_of_a_held_out_picture_is_trained_on():
    names = [f"{thing}{tone}" for thing in map(str, range(400)) for tone in ("", "-light", "-medium-dark")]
    parts = pictures.split(names)
    trained = {pictures.family(name) for name in parts["training"]}
    held_out = [pictures.family(name) for name in parts["tuning"] + parts["confirmation"]]
    assert len(held_out) == len(set(held_out)) == pictures.HELD_OUT
    assert trained.isdisjoint(held_out)
    assert len(trained) == 100
    assert not set(parts["tuning"]) & set(parts["confirmation"])


def test_the_split_does_not_depend_on_the_order_of_names():
    names = [f"picture-{k}" for k in range(500)]
    assert pictures.split(names) == pictures.split(reversed(names))


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("man-fairy-medium", "man-fairy"),
        ("man-fairy-medium-dark", "man-fairy"),
        ("man-fairy", "man-fairy"),
        ("dark-skin", "dark-skin"),
        ("medium-light-thing", "medium-light-thing"),
    ],
)
def test_a_family_is_the_name_without_its_tone(name, family):
    assert pictures.family(name) == family


def test_what_is_shipped_is_what_is_held_out():
    tuning, confirmation = pictures.held_out("tuning"), pictures.held_out("confirmation")
    assert len(tuning) == len(confirmation) == pictures.HELD_OUT // 2
    families = [pictures.family(name) for name in (*tuning, *confirmation)]
    assert len(set(families)) == pictures.HELD_OUT
    for name in (*tuning, *confirmation):
        text.tokens(pictures.prompt(name, pictures.background(name)))  # every word is known


def test_a_render_is_the_same_picture_at_every_size():
    name, body = next(iter(pictures.held_out("tuning").items()))
    large = pictures.truth(name, body, 256).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    small = pictures.truth(name, body, 64)
    assert small.shape == (64, 64, 3)
    assert np.abs(large - small).mean() < 2
    assert small.std() > 10


def test_the_background_shows_where_there_is_nothing():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (100, 100, 100, 128)
    seen = pictures.composed(rgba, (200, 220, 240))
    assert seen[0, 0].tolist() == [10, 20, 30]
    assert seen[1, 1].tolist() == [200, 220, 240]
    assert seen[0, 1].tolist() == [150, 160, 170]
