"""The page without a WebUI, on the gradio of A1111 and on that of Forge."""

import os
import socket
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from browsing import opened

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
START_SECONDS = 300


@pytest.fixture(scope="session", params=["gradio3", "gradio4"])
def server(request, tmp_path_factory):
    """A running page: its url, and its data folder."""
    python = ROOT / f".venv-{request.param}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"there is no {python}; make {python.parts[-3]}/installed makes it")
    data = tmp_path_factory.mktemp(request.param)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "ITERMIX_DATA": str(data), "OMP_NUM_THREADS": "1", "GRADIO_ANALYTICS_ENABLED": "False"}
    log = data / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [python, HERE / "page.py", str(port)], env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait(f"{url}/itermix/v1/version", process, log)
        yield SimpleNamespace(url=url, data=data)
    finally:
        process.kill()
        process.wait()


def wait(url, process, log):
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    raise RuntimeError(f"the page did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def context(browser, server):
    """What the pages of a server have in common: its files, which are fetched and compiled once."""
    context = browser.new_context(viewport={"width": 1000, "height": 1400})
    yield context
    context.close()


@pytest.fixture
def page(context, server):
    """The img2img tab with the accordion and its chart open."""
    page = context.new_page()
    page.set_default_timeout(60_000)
    scripts = [HERE / "webui.js", *sorted((ROOT / "javascript").glob("*.js"))]  # in the order of WebUIs
    page.add_init_script("\n".join(script.read_text() for script in scripts))
    problems = []
    page.on("pageerror", lambda problem: problems.append(problem))
    page.goto(server.url)
    opened(page)
    yield page
    page.close()
    assert not problems
