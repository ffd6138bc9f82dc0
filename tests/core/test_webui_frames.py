"""Videos, which Forge Neo can't encode."""

from types import SimpleNamespace

import pytest

from itermix import SettingsError


@pytest.fixture
def host(webui):
    return webui("host")


def of_batch(size):
    return SimpleNamespace(batch_size=size)


def test_with_wan_a_batch_of_more_than_one_frame_is_refused(host, monkeypatch):
    monkeypatch.setattr(host, "neo_arguments", lambda: SimpleNamespace(wan=True))
    host.check_frames(of_batch(4))
    with pytest.raises(SettingsError, match=r"batch_size = 5 is not possible\. Allowed with Wan: 1 to 4"):
        host.check_frames(of_batch(5))


@pytest.mark.parametrize("arguments", [None, SimpleNamespace(), SimpleNamespace(wan=False)])
def test_every_other_model_has_batches_of_pictures(host, monkeypatch, arguments):
    monkeypatch.setattr(host, "neo_arguments", lambda: arguments)
    host.check_frames(of_batch(16))
