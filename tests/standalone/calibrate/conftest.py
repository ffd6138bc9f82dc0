import pytest
from calibrate_webui import FEW, Calibrated

from itermix.standalone.calibrate import run


@pytest.fixture
def server():
    fake = Calibrated().start()
    yield fake
    fake.stop()


@pytest.fixture
def few(monkeypatch):
    """No more settings than a test has time for."""
    monkeypatch.setattr(run, "MOST_SETTINGS", FEW)
