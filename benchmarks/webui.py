"""Mixing against hires fix in WebUIs: memory and time, paired.

    python benchmarks/webui.py --out benchmarks/results/webui.json                    # those of docs/development.md
    python benchmarks/webui.py --server http://127.0.0.1:7860 --pid PID               # one that runs

Both run the hires pass of the same txt2img request, in turns in one process: hires fix, mixing, and hires fix again, to
see what two equal requests differ by. Both make as many model calls: mixing at 4x has two phases, and half of the steps
in each. Printed are medians over the rounds. Extra memory is the peak of the process's resident memory during a request
above what was resident before it, which Linux alone can tell; a WebUI that this starts gives freed memory back at once,
so that it doesn't hide in the next peak. With a GPU the peak of torch's allocations is printed besides: it never falls
while a WebUI runs, so that of mixing is at least that of hires fix, which comes first.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import facts
import requests

SCALES = {2: 1, 4: 2}
"""{scale: phases of mixing}."""

TURNS = {"hires fix": False, "mixing": True, "hires fix again": False}
"""{name: whether it mixes} of the requests of a round."""

WEBUIS = Path(__file__).parents[1] / "tests" / "webui"
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # glibc's, in bytes
MB = 1e6


@dataclasses.dataclass(frozen=True)
class Server:
    """A WebUI that runs, and the process whose memory is read, if it is known."""

    name: str
    url: str
    pid: int | None = None

    def run(self, request: dict[str, Any], mixing: bool) -> dict[str, Any]:
        """Seconds, bytes above what was resident before, and torch's peak on the GPU of a txt2img request."""
        before = resident(self.pid)
        start = time.perf_counter()
        response = requests.post(f"{self.url}/sdapi/v1/txt2img", json=request, timeout=3600)
        seconds = time.perf_counter() - start
        extra = None if before is None or self.pid is None else memory_of(self.pid, "VmHWM") - before
        response.raise_for_status()
        if mixing != ("Itermix enabled" in response.json()["info"]):
            raise SystemExit("the WebUI doesn't have this extension, or didn't mix")
        gpu = gpu_peak(requests.get(f"{self.url}/sdapi/v1/memory", timeout=60).json())
        return {"seconds": seconds, "extra": extra, "gpu_peak": gpu}


def request_for(size: int, steps: int, scale: int, mixing: bool) -> dict[str, Any]:
    """The txt2img request. Forge's API wants its modules named."""
    return {
        "prompt": "a photograph",
        "steps": steps,
        "hr_second_pass_steps": steps // SCALES[scale] if mixing else steps,
        "seed": 1,
        "cfg_scale": 2.0,
        "sampler_name": "Euler",
        "scheduler": "Karras",
        "width": size,
        "height": size,
        "enable_hr": True,
        "hr_scale": scale,
        "hr_upscaler": "Lanczos",
        "hr_additional_modules": ["Use same choices"],
        "denoising_strength": 0.5,
        "alwayson_scripts": {"Iterative Mixing": {"args": [{"enabled": mixing}]}},
        "save_images": False,
    }


def memory_of(pid: int, name: str) -> int:
    """Bytes of VmRSS or VmHWM of a process, what is resident now and the most since `resident`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def resident(pid: int | None) -> int | None:
    """Bytes resident now, from where the peak counts from now on; None if there is no process to look at."""
    if pid is None:
        return None
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory_of(pid, "VmRSS")


def gpu_peak(memory: dict[str, Any]) -> int | None:
    """Bytes that torch had allocated on the GPU at the most, of the WebUI's answer; None without a GPU."""
    return memory["cuda"]["allocated"]["peak"] if "allocated" in memory["cuda"] else None


def measured(server: Server, size: int, steps: int, scale: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds, and the rounds."""
    payloads = {name: request_for(size, steps, scale, mixing) for name, mixing in TURNS.items()}
    first = {name: server.run(payloads[name], TURNS[name]) for name in ("hires fix", "mixing")}  # costs more time
    found = [{name: server.run(payloads[name], mixing) for name, mixing in TURNS.items()} for _ in range(rounds)]
    row: dict[str, Any] = {"webui": server.name, "scale": scale, "size": size, "steps": steps}
    for key, over in (("time", "seconds"), ("memory", "extra")):
        if found[0]["mixing"][over] is not None:
            for name in ("mixing", "hires fix again"):
                row[f"{key} of {name}"] = statistics.median(
                    each[name][over] / each["hires fix"][over] for each in found
                )
    if found[0]["mixing"]["extra"] is not None:
        row["extra_mb"] = {name: statistics.median(each[name]["extra"] for each in found) / MB for name in TURNS}
    if first["mixing"]["gpu_peak"] is not None:
        row["gpu_peak_mb"] = {name: each["gpu_peak"] / MB for name, each in first.items()}
    return {**row, "rounds": found}


@contextlib.contextmanager
def started(host: Any) -> Iterator[Server]:
    """A listed WebUI with this extension, until the block ends."""
    host = dataclasses.replace(host, environment={**host.environment, **GIVE_BACK})
    hosts = importlib.import_module("hosts")
    with tempfile.TemporaryDirectory() as folder:
        webui = hosts.WebUI(host, Path(folder) / "data", {"sd-webui-itermix": hosts.ROOT})
        try:
            yield Server(host.name, webui.url, webui.process.pid)
        finally:
            webui.stop()


def torch_of(python: str) -> str:
    """Version of the torch that a WebUI's Python has."""
    command = [python, "-c", "import torch; print(torch.__version__)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def line(row: dict[str, Any]) -> str:
    """One line of the table."""
    cells = [row["webui"], f"{row['scale']}x"]
    cells += [f"{row.get('extra_mb', {}).get(name, float('nan')):.1f} MB" for name in TURNS]
    cells += [f"{row[f'time of {name}']:.2f}" for name in ("mixing", "hires fix again")]
    cells += [f"{peak:.1f} MB" for peak in row.get("gpu_peak_mb", {}).values()]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="URL", help="a WebUI that runs with --api (default: start the listed ones)")
    parser.add_argument("--name", default="WebUI", help="how the result calls it")
    parser.add_argument("--pid", type=int, help="its process, whose memory is read")
    parser.add_argument("--only", default="", metavar="NAME", help="of the listed ones, those with this in their name")
    parser.add_argument("--scales", type=int, nargs="+", default=list(SCALES), choices=SCALES)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="of the first pass (default %(default)s)")
    parser.add_argument("--steps", type=int, default=4, help="of each pass, even (default %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file")
    options = parser.parse_args()
    servers: list[contextlib.AbstractContextManager[Server]]
    if options.server:
        servers = [contextlib.nullcontext(Server(options.name, options.server.rstrip("/"), options.pid))]
        versions = {}
    else:
        sys.path.append(str(WEBUIS))
        listed = [host for host in importlib.import_module("hosts").listed() if options.only in host.name]
        servers = [started(host) for host in listed]
        versions = {host.name: torch_of(host.python) for host in listed}
    found: list[dict[str, Any]] = []
    print(f"| WebUI | scale | extra memory, {' | '.join(TURNS)} | time of mixing over hires fix | of hires fix again |")
    print("|---" * 7 + "|")
    for server in servers:
        with server as running:
            for scale in options.scales:
                found.append(measured(running, options.size, options.steps, scale, options.rounds))
                print(line(found[-1]), flush=True)
                if options.out:
                    facts.write(options.out, facts={"torch": versions or None}, rows=found)


if __name__ == "__main__":
    main()
