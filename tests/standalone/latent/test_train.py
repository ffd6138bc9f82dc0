"""The training script, from drawn pictures to the weights that are shipped."""

import json

import numpy as np
import pytest
from safetensors.torch import load_file

from itermix.standalone.latent import train
from itermix.standalone.latent.model import WEIGHTS


def test_every_part_takes_what_the_part_before_has_left(tmp_path, capsys):
    chooser = np.random.default_rng(0)
    names = ["red-apple", "man-light", "man-dark"]
    np.save(tmp_path / "pictures.npy", chooser.integers(0, 256, (3, train.SIZE, train.SIZE, 4), dtype=np.uint8))
    (tmp_path / "names.json").write_text(json.dumps(names))
    train.train_autoencoder(tmp_path, 2, 0)
    train.encode_pictures(tmp_path)
    latents = np.load(tmp_path / "latents.npy")
    assert latents.shape == (3, 5, 4, 32, 32)
    assert np.allclose(latents[:, :4].astype(np.float32).std(axis=(0, 1, 3, 4)), 1, atol=0.01)
    prompts = json.loads((tmp_path / "prompts.json").read_text())
    assert len(prompts) == 15
    assert prompts[0].startswith("red apple ")
    assert prompts[4].startswith("detail ")
    train.train_unet(tmp_path, 2, 1)
    capsys.readouterr()
    train.print_errors(tmp_path, count=2)
    first, *more = capsys.readouterr().out.splitlines()
    own, other = (float(part.split()[-1]) for part in first.removeprefix("noise level 14: ").split(","))
    assert len(more) == 6
    assert own == pytest.approx(other, rel=0.05)  # two steps teach no prompt
    assert own > float(more[-1].split()[3].rstrip(","))  # less noise, less error
    train.write_weights(tmp_path, tmp_path / "weights.safetensors")
    made, shipped = load_file(tmp_path / "weights.safetensors"), load_file(WEIGHTS)
    assert {name: tensor.shape for name, tensor in made.items()} == {n: t.shape for n, t in shipped.items()}


def test_a_patch_shows_something_on_one_colour():
    drawn = np.zeros((2, train.SIZE, train.SIZE, 4), np.uint8)
    drawn[1, 100:400, 100:400] = (200, 30, 30, 255)
    chooser = np.random.default_rng(1)
    patches = [train.patch(drawn, chooser) for _ in range(20)]
    assert all(x.shape == (3, train.PATCH, train.PATCH) for x in patches)
    assert sum(float(x.std()) > 0.05 for x in patches) >= 10
