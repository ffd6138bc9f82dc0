"""The checkpoint for WebUIs: names of weights, the description, and what becomes of a folder without a tokenizer."""

import json

import pytest
import torch
from safetensors.torch import load_file

from itermix.parameters import SettingsError
from itermix.standalone.latent import text
from itermix.standalone.latent.export import TEXT_PREFIX, export
from itermix.standalone.latent.model import AUTOENCODER_PREFIX, UNET_PREFIX
from itermix.standalone.latent.unet import CONFIG, UNet


@pytest.fixture
def tokenizer(tmp_path):
    folder = tmp_path / "clip"
    folder.mkdir()
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text(name)
    return folder


def test_a_checkpoint_has_all_three_networks_and_is_described(tokenizer, tmp_path):
    file = export(tmp_path / "models", tokenizer)
    weights = load_file(file)
    unet = {name.removeprefix(UNET_PREFIX): w for name, w in weights.items() if name.startswith(UNET_PREFIX)}
    assert {name: w.shape for name, w in unet.items()} == {n: w.shape for n, w in UNet().state_dict().items()}
    assert any(name.startswith(AUTOENCODER_PREFIX) for name in weights)
    said = {name.removeprefix(TEXT_PREFIX): w.float() for name, w in weights.items() if name.startswith(TEXT_PREFIX)}
    assert said.keys() == text.random_weights().keys()
    table = "embeddings.token_embedding.weight"
    assert torch.equal(said[table], text.random_weights()[table])  # half precision loses nothing of them
    parameters = json.loads(file.with_suffix(".yaml").read_text())["model"]["params"]
    assert parameters["unet_config"]["params"].items() >= CONFIG.items()
    folder = tmp_path / "models" / "itermix-latent-clip"
    assert parameters["cond_stage_config"]["params"]["version"] == str(folder.resolve())
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == text.WIDTH
    assert (folder / "merges.txt").read_text() == "merges.txt"


def test_a_folder_without_a_tokenizer_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(SettingsError, match=r"tokenizer = .*has vocab.json and merges.txt, too"):
        export(tmp_path / "models", tmp_path)
    assert not (tmp_path / "models").exists()
