"""What the WebUI loads: it finds the scripts by their classes in this file."""

from itermix.webui.script import IterativeMixing
from itermix.webui.upscale import IterativeMixingUpscale

__all__ = ["IterativeMixing", "IterativeMixingUpscale"]
