"""The text encoder of the small latent model: CLIP's layers, few and narrow, with weights that were never trained.

Prompts only have to differ for the U-Net to learn what they stand for. Names of weights are those of transformers'
CLIPTextModel, and words have the numbers that CLIP's tokenizer gives them, so a WebUI encodes a prompt just so. Only
the words of the training pictures are known here.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from itermix.parameters import SettingsError

WIDTH, LAYERS, HEADS = 64, 2, 4
TOKENS = 77
VOCABULARY = 49408
START, END = VOCABULARY - 2, VOCABULARY - 1
SEED = 16

VOCABULARY_FILE = Path(__file__).with_name("vocabulary.json")

CONFIG = {
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": TOKENS,
    "vocab_size": VOCABULARY,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": START,
    "eos_token_id": END,
    "pad_token_id": END,
    "projection_dim": WIDTH,
    "torch_dtype": "float32",
}
"""The config.json of transformers for it."""


def random_weights() -> dict[str, Tensor]:
    """The encoder's weights by the names of transformers; from numpy's old generator, whose numbers never change."""
    chooser = np.random.RandomState(SEED)

    def normal(*shape: int, deviation: float) -> Tensor:
        return torch.from_numpy((chooser.standard_normal(shape) * deviation).astype(np.float16).astype(np.float32))

    def norm(name: str, shift: float = 0.0) -> None:
        weights[f"{name}.weight"], weights[f"{name}.bias"] = torch.ones(WIDTH), torch.full((WIDTH,), shift)

    def linear(name: str, inputs: int, outputs: int) -> None:
        weights[f"{name}.weight"] = normal(outputs, inputs, deviation=inputs**-0.5)
        weights[f"{name}.bias"] = torch.zeros(outputs)

    weights: dict[str, Tensor] = {}
    # What begins, ends and fills a prompt says nothing, so that there a layer leaves what the words before have said,
    # and the norm makes it as strong as they are. Else nine of ten tokens are alike in all prompts, and drown the rest.
    weights["embeddings.token_embedding.weight"] = normal(VOCABULARY, WIDTH, deviation=1.0)
    weights["embeddings.token_embedding.weight"][[START, END]] = 0
    weights["embeddings.position_embedding.weight"] = torch.zeros(TOKENS, WIDTH)
    for layer in range(LAYERS):
        prefix = f"encoder.layers.{layer}"
        norm(f"{prefix}.layer_norm1")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(f"{prefix}.self_attn.{part}", WIDTH, WIDTH)
        norm(f"{prefix}.layer_norm2")
        linear(f"{prefix}.mlp.fc1", WIDTH, 4 * WIDTH)
        linear(f"{prefix}.mlp.fc2", 4 * WIDTH, WIDTH)
    # WebUIs divide by the mean of an encoding, which must not be 0.
    norm("final_layer_norm", shift=0.004)
    return weights


@cache
def vocabulary() -> dict[str, list[int]]:
    """{word: its tokens} of the words that the model was trained with."""
    return json.loads(VOCABULARY_FILE.read_text(encoding="utf-8"))


def tokens(prompt: str) -> list[int]:
    """TOKENS numbers of a prompt; raises SettingsError for a word that the model never saw, or too many."""
    numbers: list[int] = []
    for word in prompt.lower().split():
        if word not in vocabulary():
            raise SettingsError(
                "prompt", prompt, f"Allowed: words that the model was trained with; {word!r} isn't one."
            )
        numbers += vocabulary()[word]
    if len(numbers) > TOKENS - 2:
        raise SettingsError("prompt", prompt, f"Allowed: at most {TOKENS - 2} tokens.")
    return [START, *numbers, *[END] * (TOKENS - 1 - len(numbers))]


class TextEncoder:
    def __init__(self) -> None:
        self._weights = random_weights()

    def encode(self, prompts: list[str]) -> Tensor:
        """Encodings [N, TOKENS, WIDTH] of N prompts. Raises SettingsError as `tokens` does."""
        x = self._weights["embeddings.token_embedding.weight"][torch.tensor([tokens(prompt) for prompt in prompts])]
        x = x + self._weights["embeddings.position_embedding.weight"]
        for layer in range(LAYERS):
            prefix = f"encoder.layers.{layer}"
            h = self._norm(f"{prefix}.layer_norm1", x)
            q, k, v = (
                self._linear(f"{prefix}.self_attn.{part}", h).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for part in ("q_proj", "k_proj", "v_proj")
            )
            h = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + self._linear(f"{prefix}.self_attn.out_proj", h)
            h = self._linear(f"{prefix}.mlp.fc1", self._norm(f"{prefix}.layer_norm2", x))
            x = x + self._linear(f"{prefix}.mlp.fc2", h * torch.sigmoid(1.702 * h))
        return self._norm("final_layer_norm", x)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (WIDTH,), self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])
