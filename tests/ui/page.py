"""The page's part of the extension without a WebUI: both tabs with what the page's scripts read of them.

python page.py PORT, in an environment with gradio 3 or 4, and the folder of the user's presets in ITERMIX_DATA.
"""

import dataclasses
import json
import os
import sys
import threading
from pathlib import Path

import gradio as gr
import uvicorn
from fastapi import Body, FastAPI
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).with_name("webui")), str(ROOT / "tests" / "standalone")]

import calibrate_webui  # noqa: E402
from modules import shared  # noqa: E402

from itermix.parameters import SettingsError  # noqa: E402
from itermix.settings import Settings  # noqa: E402
from itermix.standalone.calibrate import run, session, sources  # noqa: E402
from itermix.webui import api, masks, presets, results, ui  # noqa: E402

SAMPLERS = ["Euler", "DPM++ 2M"]


def slider(elem_id, value, high):
    gr.Slider(value=value, minimum=0, maximum=high, step=1, label=elem_id, elem_id=elem_id, interactive=True)


def settings(*values):
    """What a request would be given of the values of the controls, as JSON, or why it can't. The mask's and the list of
    presets come last."""
    try:
        of_controls = Settings.from_list(masks.controls_without(values))
        return json.dumps(dataclasses.asdict(presets.followed(of_controls, masks.preset_of(values), None)))
    except SettingsError as error:
        return str(error)


with gr.Blocks(css=(ROOT / "style.css").read_text(), analytics_enabled=False) as page:
    for tab in ("img2img", "txt2img"):
        with gr.Tab(tab):
            slider(f"{tab}_steps", 20, 150)
            if tab == "txt2img":
                slider("txt2img_hires_steps", 0, 150)
            controls = ui.accordion(f"itermix_{tab}", SAMPLERS)
            if tab == "img2img":
                ui.upscale_controls("itermix_upscale", ["Lanczos"], folders=True)
            given = gr.Textbox(label="Settings", elem_id=f"{tab}_settings")
            gr.Button("Generate", elem_id=f"{tab}_generate").click(settings, controls, given)

for alpha in (0.25, 0.8):  # results of two settings, their sources blue
    made = Image.new("RGB", (64, 32), (int(255 * alpha), 0, 0))
    results.LAST.add(Image.new("RGB", (32, 16), (0, 0, 255)), made, {"Creativity": alpha, "Detail": 0.0})

app = FastAPI()
api.add_routes(page, app)


@app.post("/probe/checkpoint/{name}")
def choose_checkpoint(name: str):
    shared.opts.sd_model_checkpoint = name


# The API of a WebUI, as far as a calibration asks it, with a quick model and few pictures.
shared.cmd_opts.api = True
session.SIDE, run.MOST_SETTINGS = calibrate_webui.SIDE, 2
sources.SHIPPED = Path(os.environ["ITERMIX_DATA"]) / "prompts.txt"
sources.SHIPPED.write_text("one\nother\n")
painting = threading.Lock()


@app.get("/sdapi/v1/{path}")
def listed(path: str):
    return {"scripts": {"img2img": ["iterative mixing upscale"]}, "options": {"img2img_fix_steps": False}}.get(path, [])


@app.post("/sdapi/v1/{path}")
def painted(path: str, request: dict = Body()):
    with painting:
        return {"txt2img": calibrate_webui.painted, "img2img": calibrate_webui.enlarged}[path](request)[1]


app = gr.mount_gradio_app(app, page.queue(), path="/")
uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
