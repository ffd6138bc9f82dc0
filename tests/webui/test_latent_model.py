"""The small latent model in a real A1111: the checkpoint that the package writes paints there what it paints here."""

import hosts
import numpy as np
import pytest
import torch
from k_diffusion.sampling import get_sigmas_karras, sample_euler
from webui_quality import held_out

from itermix.standalone.images import to_image, to_picture
from itermix.standalone.latent import model as latent

PROMPT, CFG, STEPS, SIDE, SEED = "panda yellow background", 3.0, 6, 128, 7


@pytest.fixture(scope="module")
def model():
    return latent.load()


@pytest.fixture(scope="module")
def render():
    """A held-out picture."""
    pytest.importorskip("resvg_py")
    return held_out("tuning", latent.SIZE, [], seed=1, count=1)[0]


def difference(picture, expected):
    """Of a WebUI's picture from one [3, H, W] of ours, in grey levels."""
    return np.abs(picture.pixels - np.asarray(to_image(expected)).astype(int))


def test_it_paints_what_the_package_paints(latent_webui, model):
    sampling = {"sampler_name": "Euler", "scheduler": "Karras", "steps": STEPS, "cfg_scale": CFG, "seed": SEED}
    (picture,) = latent_webui.generate("txt2img", {"prompt": PROMPT, "width": SIDE, "height": SIDE, **sampling})
    sigmas = get_sigmas_karras(STEPS, *model.denoiser.sigmas[[0, -1]].tolist())
    noise = torch.randn(1, 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(SEED))
    guided = {"label": model.text.encode([PROMPT]), "cfg": CFG}
    with torch.no_grad():
        latents = sample_euler(model.denoiser, noise * sigmas[0], sigmas, extra_args=guided, disable=True)
    apart = difference(picture, model.decode(latents)[0])
    assert picture.pixels.std() > 10
    assert apart.mean() < 1
    assert apart.max() <= 8


def test_it_encodes_what_the_package_encodes(latent_webui, model, render):
    """Without denoise img2img starts at the lowest noise level there is, which is all but a round trip."""
    request = {"prompt": render.prompt, "init_images": [hosts.encoded(render.source)], "denoising_strength": 0.0}
    request |= {"width": latent.SIZE, "height": latent.SIZE, "sampler_name": "Euler", "scheduler": "Karras"}
    (painted,) = latent_webui.generate("img2img", {**request, "steps": 20, "seed": SEED})
    apart = difference(painted, model.decode(model.encode(to_picture(render.source)[None]))[0])
    assert apart.mean() < 2
