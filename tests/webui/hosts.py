"""The WebUIs that the tests run on, and one of them running.

They are listed in ~/.config/itermix/webuis.toml, each as

    [[webui]]
    name = "A1111 1.10.1"
    folder = "/path/to/stable-diffusion-webui"
    python = "/path/to/its/venv/bin/python"
    checkpoint = "tiny"                 # tiny, forge or sd15: made by the tests with random weights; or a file's path
    arguments = ["--skip-prepare-environment", "--use-cpu", "all", "--no-half"]
    extensions = "/path/to/extensions"  # others' extensions, for test_together.py; may be left out
    environment = {PYTHONPATH = "/path/to/their/packages"}  # may be left out
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import checkpoint
import numpy as np
import requests
from PIL import Image

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
LIST = Path.home() / ".config" / "itermix" / "webuis.toml"
CACHE = Path.home() / ".cache" / "itermix" / "checkpoints"
EXTENSIONS = {
    "sd-webui-itermix": ROOT,
    "probe": ROOT / "tests" / "webui" / "probe",
    "zz-replacer": ROOT / "tests" / "webui" / "replacer",  # its hooks are called after ours
}
FIRST, SECOND, LORA = "first", "second", "probe"
"""Names of the checkpoint where a WebUI can't be told its file, and of another and a LoRA that those with a checkpoint
of ours have besides."""

START_SECONDS = 600
OPTIONS = {
    "live_previews_enable": False,
    "show_progress_type": "Approx cheap",
    "samples_save": True,
    "grid_save": False,
    # After a folder of pictures, and after a request that overrides options, WebUIs restore only what their file has.
    "save_to_dirs": True,
    "samples_filename_pattern": "",
    "save_images_add_number": True,
    "save_images_replace_action": "Replace",
    "token_merging_ratio": 0.0,
    "token_merging_ratio_img2img": 0.0,
    "token_merging_ratio_hr": 0.0,
    "ad_only_selected_scripts": True,
    "skip_early_cond": -1.0,  # at its default of 0 Forge Classic leaves guidance out of the first step
    # Of Forge Neo, which waits for Enter without the first, rounds the sizes of hires fix to the second, and sets the
    # others on its page a while after it was loaded, unless they are 0.
    "VERSION_UID": "PY313",
    "res_step": 8,
    **dict.fromkeys(("sd_t2i_step", "sd_t2i_hr_step", "sd_i2i_step"), 0),
    **{f"sd_{tab}_{side}": 0 for tab in ("t2i", "i2i") for side in ("width", "height")},
}
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Host:
    """A listed WebUI."""

    name: str
    folder: str
    python: str
    checkpoint: str
    arguments: tuple[str, ...] = field(default=())
    extensions: str = ""
    environment: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_forge(self) -> bool:
        """Whether it is Forge with the backend of its own, or Forge Neo, and not A1111, reForge or Forge Classic."""
        return (Path(self.folder) / "backend").is_dir()

    @property
    def is_kin(self) -> bool:
        """Whether it is Forge or of its kin, and not A1111."""
        return self.is_forge or (Path(self.folder) / "ldm_patched").is_dir()

    @property
    def is_neo(self) -> bool:
        """Whether it is Forge Neo, which takes no checkpoint on its command line."""
        return '"--ckpt"' not in (Path(self.folder) / "modules" / "cmd_args.py").read_text()

    @property
    def title(self) -> str:
        """The name by which it knows its checkpoint."""
        return FIRST if self.is_neo else self.model().stem

    @property
    def made(self) -> bool:
        """Whether its checkpoint is one of ours."""
        return self.checkpoint in checkpoint.SIZES

    def model(self, seed: int = 0, kind: str = "") -> Path:
        """The checkpoint's file, made first if it is one of ours: random weights of `seed`, a name in KINDS or none."""
        if not self.made:
            return Path(self.checkpoint)
        path = CACHE / f"{self.checkpoint}{seed or ''}{kind}.safetensors"
        if not path.exists():
            size = dataclasses.replace(checkpoint.SIZES[self.checkpoint], **checkpoint.KINDS.get(kind, {}))
            checkpoint.write_checkpoint(path, size, seed, yaml=bool(kind) or self.checkpoint == "tiny")
            if self.checkpoint == "tiny":  # its text encoder is described in a folder beside it
                tokenizer = Path(self.folder) / "openai" / "clip-vit-large-patch14"
                checkpoint.write_clip_folder(checkpoint.default_clip_folder(path), size, tokenizer)
        return path

    def add_models(self, models: Path) -> None:
        """Put a second checkpoint, one of each kind in KINDS, a LoRA, a ControlNet and an IP-Adapter into a models
        folder."""
        lora = models / "Lora" / f"{LORA}.safetensors"
        folder = models / "Stable-diffusion"
        folder.mkdir()
        kinds = [kind for kind in checkpoint.KINDS if not (self.is_kin and kind in checkpoint.UNKNOWN_TO_FORGE)]
        others = {SECOND: self.model(seed=1), **{kind: self.model(kind=kind) for kind in kinds}}
        for name, file in others.items():
            for suffix in (".safetensors", ".yaml"):
                if (source := file.with_suffix(suffix)).exists():
                    (folder / f"{name}{suffix}").symlink_to(source)
        size = checkpoint.SIZES[self.checkpoint]
        checkpoint.write_lora(lora, size)
        for name, shapes in (
            ("controlnet", checkpoint.controlnet_shapes),
            ("ip-adapter", checkpoint.ip_adapter_shapes),
        ):
            path = CACHE / f"{self.checkpoint}-{name}.safetensors"
            if not path.exists():
                checkpoint.write_control_model(path, shapes(size))
            link = models / "ControlNet" / f"{name}.safetensors"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(path)


def listed() -> list[Host]:
    if not LIST.exists():
        return []
    hosts = tomllib.loads(LIST.read_text())["webui"]
    return [Host(**{**host, "arguments": tuple(host.get("arguments", ()))}) for host in hosts]


@dataclass
class Picture:
    pixels: np.ndarray  # [height, width, 3], 0 to 255
    parameters: str  # the infotext


class WebUI:
    """A running WebUI with a data folder of its own, so that nothing in the user's installation changes."""

    def __init__(self, host: Host, data: Path, extensions: dict[str, Path], api: bool = True, **options: Any):
        self.host = host
        self.data = data
        (data / "extensions").mkdir(parents=True)
        (data / "models").mkdir()
        if host.made:
            host.add_models(data / "models")
        for name, folder in extensions.items():
            (data / "extensions" / name).symlink_to(folder, target_is_directory=True)
        start = ["--ckpt", str(host.model())]
        if host.is_neo:
            link = data / "models" / "Stable-diffusion" / f"{FIRST}.safetensors"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(host.model())
            start, options = [], {"sd_model_checkpoint": link.name, **options}
        (data / "config.json").write_text(json.dumps(OPTIONS | options))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = data / "log.txt"
        command = [
            host.python,
            "launch.py",
            *host.arguments,
            *(["--api"] if api else []),
            "--server-name",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        command += ["--data-dir", str(data), *start]
        command += ["--gradio-allowed-path", host.folder, "--gradio-allowed-path", str(ROOT)]  # for the page's scripts
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                cwd=host.folder,
                env={**os.environ, **ENVIRONMENT, **host.environment, "ITERMIX_PROBE": str(data)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait()

    def _wait(self, starts: int = 1) -> None:
        # By its log, into whose lines other threads may write: A1111's API stays at 404 after a request that comes
        # before it is ready.
        end = time.monotonic() + START_SECONDS
        while self.log.read_text().count("Startup time:") < starts:
            if self.process.poll() is not None or time.monotonic() > end:
                self.stop()
                raise RuntimeError(f"{self.host.name} did not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.3)

    def reload(self) -> None:
        """Reload the UI, as the button of the settings page does; the probe has a route for it."""
        starts = self.log.read_text().count("Startup time:")
        requests.post(f"{self.url}/probe/reload", timeout=30)
        self._wait(starts + 1)

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def post(self, path: str, payload: dict[str, Any]) -> requests.Response:
        return requests.post(f"{self.url}/sdapi/v1/{path}", json=payload, timeout=900)

    def offers(self, upscaler: str) -> bool:
        """Whether its list has an upscaler or a latent mode of this name."""
        listed = [*self.get("upscalers"), *self.get("latent-upscale-modes")]
        return upscaler in [each["name"] for each in listed]

    def schedulers(self) -> list[str]:
        """Their labels; Forge Classic has none but in its samplers."""
        listed = self.get("schedulers")
        return [each["label"] for each in listed] if isinstance(listed, list) else []

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}/sdapi/v1/{path}", timeout=30).json()

    def generate(self, path: str, payload: dict[str, Any]) -> list[Picture]:
        """The pictures of a txt2img or img2img request, which must succeed."""
        response = self.post(path, payload)
        assert response.status_code == 200, response.text[-2000:]
        answer = response.json()
        texts = json.loads(answer["info"])["infotexts"]
        return [Picture(decoded(image), text) for image, text in zip(answer["images"], texts)]


def encoded(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "PNG")
    return base64.b64encode(data.getvalue()).decode()


def decoded(image: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB")).astype(int)
