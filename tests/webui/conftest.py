"""Starts each listed WebUI twice, without the extension for what its pictures should be, and with it."""

import dataclasses
from pathlib import Path

import hosts
import pytest
from payloads import PLAIN, plain

from itermix.standalone.latent import model as latent
from itermix.standalone.latent.export import export

HOSTS = hosts.listed()


def pytest_report_header():
    if HOSTS:
        return f"WebUIs: {', '.join(host.name for host in HOSTS)} (listed in {hosts.LIST})"
    return f"WebUIs: none, so the tests in tests/webui are skipped; {hosts.LIST} lists none"


@pytest.fixture(scope="session", params=HOSTS or [None], ids=lambda host: host.name if host else "no WebUI listed")
def host(request):
    if request.param is None:
        pytest.skip(f"no WebUI is listed in {hosts.LIST}")
    return request.param


@pytest.fixture(scope="session")
def plain_pictures(host, tmp_path_factory):
    """{name: pictures} of the PLAIN requests from the WebUI without the extension."""
    server = hosts.WebUI(host, tmp_path_factory.mktemp("plain") / "data", {})
    try:
        return {name: plain(server, name) for name in PLAIN}
    finally:
        server.stop()


@pytest.fixture(scope="session")
def webui(host, plain_pictures, tmp_path_factory):
    """The WebUI with the extension, and with the tests' own: one that sees what the model is called with."""
    server = hosts.WebUI(host, tmp_path_factory.mktemp("mixed") / "data", hosts.EXTENSIONS)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def latent_webui(host, tmp_path_factory):
    """A1111 with the checkpoint of the small latent model."""
    if not latent.WEIGHTS.exists():
        pytest.skip("the weights of the latent model are not here")
    tokenizer = Path(host.folder) / "openai" / "clip-vit-large-patch14"
    if host.is_kin or not tokenizer.is_dir():
        pytest.skip(f"{host.name} can't load the latent model, whose autoencoder is not of Stable Diffusion's size")
    checkpoint = export(tmp_path_factory.mktemp("exported"), tokenizer)
    latent_host = dataclasses.replace(host, checkpoint=str(checkpoint))
    server = hosts.WebUI(latent_host, tmp_path_factory.mktemp("latent") / "data", {"sd-webui-itermix": hosts.ROOT})
    yield server
    server.stop()
