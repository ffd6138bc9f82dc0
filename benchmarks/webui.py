"""Mixing against hires fix in a running WebUI: time and memory, paired.

    python benchmarks/webui.py --server http://127.0.0.1:7860 --pid PID --out benchmarks/results/webui.json

Both run the hires pass of the same txt2img request, one after the other in one process, several times. Printed are the
medians of the ratios of a pair, and the peak of the resident memory of the process PID, which Linux alone can tell.
Mixing at 4x has two phases, hires fix has one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import requests

SCALES = (2, 4)


def request(options: argparse.Namespace, scale: int, mixing: bool) -> dict[str, Any]:
    """The txt2img request. Forge's API wants its modules named."""
    args = [{"enabled": mixing}]
    return {
        "prompt": "a photograph",
        "steps": options.steps,
        "seed": 1,
        "cfg_scale": 2.0,
        "sampler_name": "Euler",
        "scheduler": "Karras",
        "width": options.size,
        "height": options.size,
        "enable_hr": True,
        "hr_scale": scale,
        "hr_upscaler": "Lanczos",
        "hr_additional_modules": ["Use same choices"],
        "denoising_strength": 0.5,
        "alwayson_scripts": {"Iterative Mixing": {"args": args}},
        "save_images": False,
    }


def peak_of(pid: int | None) -> int:
    """Most resident bytes of the process since `reset`; 0 if it isn't known."""
    if pid is None:
        return 0
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def reset(pid: int | None) -> None:
    """Let the peak start from what is resident now."""
    if pid is not None:
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def run(options: argparse.Namespace, scale: int, mixing: bool) -> dict[str, Any]:
    """Seconds and peak bytes of one request."""
    reset(options.pid)
    start = time.perf_counter()
    url = f"{options.server.rstrip('/')}/sdapi/v1/txt2img"
    response = requests.post(url, json=request(options, scale, mixing), timeout=3600)
    seconds = time.perf_counter() - start
    response.raise_for_status()
    if mixing != ("Itermix enabled" in response.json()["info"]):
        raise SystemExit("the WebUI doesn't have this extension, or didn't mix")
    return {"seconds": seconds, "peak": peak_of(options.pid)}


def facts() -> dict[str, Any]:
    """What the numbers depend on."""
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True, metavar="URL", help="a WebUI that runs with --api")
    parser.add_argument("--name", default="WebUI", help="how the result calls it")
    parser.add_argument("--pid", type=int, help="its process, whose memory is read")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="of the first pass (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    print("| WebUI | scale | time over hires fix | peak of hires fix | of mixing |\n|---|---|---|---|---|")
    for scale in SCALES:
        for mixing in (False, True):  # what only the first request of a kind costs
            run(options, scale, mixing)
        pairs = [[run(options, scale, mixing) for mixing in (False, True)] for _ in range(options.rounds)]
        ratio = statistics.median(ours["seconds"] / theirs["seconds"] for theirs, ours in pairs)
        peaks = [statistics.median(pair[k]["peak"] for pair in pairs) / 1e6 for k in (0, 1)]
        row = {"webui": options.name, "scale": scale, "size": options.size, "steps": options.steps}
        found.append({**row, "time_ratio": ratio, "peak_mb": dict(zip(("hires fix", "mixing"), peaks)), "pairs": pairs})
        print(f"| {options.name} | {scale}x | {ratio:.2f} | {peaks[0]:.0f} MB | {peaks[1]:.0f} MB |", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps({"facts": facts(), "rows": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
