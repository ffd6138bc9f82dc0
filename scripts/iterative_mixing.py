"""What the WebUI loads: it finds the scripts by their classes in this file."""

from modules import script_callbacks

from itermix.webui import analysis, options
from itermix.webui.api import add_routes
from itermix.webui.script import IterativeMixing
from itermix.webui.upscale import IterativeMixingUpscale
from itermix.webui.xyz import add_axes

__all__ = ["IterativeMixing", "IterativeMixingUpscale"]

script_callbacks.on_app_started(add_routes)
script_callbacks.on_before_ui(add_axes)
script_callbacks.on_ui_settings(options.add)
script_callbacks.on_image_saved(analysis.after_saving)
