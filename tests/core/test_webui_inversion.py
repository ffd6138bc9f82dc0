"""What is to be inverted with a negative prompt that the WebUI makes nothing of."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from itermix import Settings, SettingsError


@pytest.mark.parametrize(
    ("encoded", "settings", "fails"),
    [
        ({"hr_c": "prompt", "hr_uc": None}, {"inversion_prompt": False}, True),
        ({"hr_c": "prompt", "hr_uc": "negative"}, {"inversion_prompt": False}, False),  # reForge at CFG 1, too
        ({"hr_c": None, "hr_uc": None}, {"inversion_prompt": False}, False),  # nothing is encoded yet
        ({"hr_c": "prompt", "hr_uc": None}, {"inversion_prompt": True}, False),
        ({"hr_c": "prompt", "hr_uc": None}, {"inversion_prompt": False, "noise": "shared"}, False),
    ],
)
def test_a_hires_pass_without_a_negative_prompt_is_refused_once_that_is_known(webui, encoded, settings, fails):
    settings = Settings(**{"noise": "inverted", **settings})
    expected = pytest.raises(SettingsError, match="inversion_prompt = False") if fails else nullcontext()
    with expected:
        webui("host").check_inversion(SimpleNamespace(**encoded, hr_cfg=1.0), settings)
