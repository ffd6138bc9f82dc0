"""A test extension: where replace.json lies beside the probe's files, it gives every sampling a new sampler, late."""

import os
from pathlib import Path

from modules import scripts, sd_samplers

FLAG = Path(os.environ["ITERMIX_PROBE"]) / "replace.json"


class Replacer(scripts.Script):
    def title(self):
        return "Replacer"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return []

    def process_before_every_sampling(self, p, *args, **kwargs):
        if FLAG.exists():
            p.sampler = sd_samplers.create_sampler(p.sampler_name, p.sd_model)
