"""A test extension that acts on finished pictures as ADetailer does, where repair.json lies beside the probe's files.

It writes down the pictures that it is shown (repaired.json), and does what repair.json says: "nothing"; "paint" them
grey; "generate", which makes another picture in between, with its own request, and shows all scripts the end and the
begin of a copy of the request, as ADetailer does, and leaves the picture as it is; "enlarge" them; or put
the "portrait" in their place that lies beside these files, before ADetailer looks for a face (metadata.ini).
"""

import copy
import json
import os
from pathlib import Path

from modules import processing, scripts
from PIL import Image

FOLDER = Path(os.environ["ITERMIX_PROBE"])
WHAT, SEEN = FOLDER / "repair.json", FOLDER / "repaired.json"
GREY = (128, 128, 128)


def generate(p, picture):
    """A picture made in between, which is thrown away."""
    inner = processing.StableDiffusionProcessingImg2Img(
        sd_model=p.sd_model,
        init_images=[picture],
        outpath_samples=p.outpath_samples,
        prompt="another",
        seed=1,
        sampler_name="Euler",
        steps=3,
        width=p.width,
        height=p.height,
        denoising_strength=0.9,
        do_not_save_samples=True,
        do_not_save_grid=True,
    )
    inner.scripts, inner.script_args = copy.copy(p.scripts), p.script_args
    inner._ad_inner = True  # by which itermix knows ADetailer's own requests
    try:
        processing.process_images(inner)
    finally:
        inner.close()


class Repairer(scripts.Script):
    def title(self):
        return "Repairer"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def postprocess_image(self, p, pp, *args):
        if not WHAT.exists() or getattr(p, "_ad_inner", False):
            return
        what = json.loads(WHAT.read_text())
        seen = json.loads(SEEN.read_text()) if SEEN.exists() else []
        SEEN.write_text(json.dumps([*seen, [*pp.image.size, p.iteration, p.batch_index]]))
        if what == "paint":
            pp.image = Image.new("RGB", pp.image.size, GREY)
        elif what == "portrait":
            pp.image = Image.open(FOLDER / "portrait.png").resize(pp.image.size)
        elif what == "enlarge":
            pp.image = pp.image.resize((2 * pp.image.width, 2 * pp.image.height))
        elif what == "generate":
            p.scripts.postprocess(copy.copy(p), processing.Processed(p, [], p.seed, ""))
            generate(p, pp.image)
            again = copy.copy(p)
            p.scripts.before_process(again)
            p.scripts.process(again)
