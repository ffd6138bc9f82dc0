"""Iterative mixing: upscale past a diffusion model's training resolution, guided by the picture you have.

The enlarged latent z0 is noised along the model's own schedule into z'(sigma). Sampling starts at the noisiest of them,
and at the start of every step the sampler's state x is blended with the z' of that noise level (the skip residual of
DemoFusion, arXiv 2311.16973, section 3.3). Everywhere in this package a *weight* is the weight of z'.
"""

__version__ = "0.2.0"

from itermix.mixing.curves import weights
from itermix.mixing.noising import NoisedLatents
from itermix.parameters import SettingsError
from itermix.picture.phases import plan
from itermix.sampling import sample
from itermix.settings import Settings

__all__ = ["NoisedLatents", "Settings", "SettingsError", "__version__", "plan", "sample", "weights"]
