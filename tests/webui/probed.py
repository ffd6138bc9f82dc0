"""What the probe has seen of the last sampling."""

import torch

from itermix import NoisedLatents
from itermix.steps.parametrisation import ve


def each_call(webui):
    """(state that the model saw, state before it was blended, z') of each call after the first; the second is that of a
    run of Euler."""
    probe = torch.load(webui.data / "probe.pt", weights_only=True)
    noised = NoisedLatents(probe["latent"].float(), ve(), noise=probe["noise"])
    for (x, level, denoised), (seen, following, _) in zip(probe["calls"], probe["calls"][1:]):
        yield seen, x + (x - denoised) / level * (following - level), noised.at(0, torch.tensor(following)).clone()
