"""Every sampler and scheduler that a WebUI lists: mixed once a step, or refused with the reason."""

import matrix
import pytest
from payloads import need_sampler


def faults(rows):
    """The rows that are neither mixed as they should be, nor refused, nor the WebUI's own fault."""
    return [
        row
        for row in rows
        if not (
            (row["status"] == "mixed" and row["blends_per_step"] == 1 and row["finite"] and row["effective"])
            or row["status"] in ("refused", "failed")
        )
    ]


def test_every_sampler_is_mixed_once_a_step_or_refused(webui):
    samplers = [sampler["name"] for sampler in webui.get("samplers")]
    rows = [matrix.measure(webui, "img2img", sampler) for sampler in samplers]
    assert faults(rows) == []
    assert sum(row["status"] == "mixed" for row in rows) > len(rows) / 2


@pytest.mark.parametrize("sampler", ["DPM fast", "Restart", "UniPC"])
def test_samplers_with_steps_of_their_own_are_mixed_in_the_hires_pass(webui, sampler):
    need_sampler(webui, sampler)
    row = matrix.measure(webui, "hires", sampler)
    assert faults([row]) == []
    assert row["status"] == "mixed"


def test_every_scheduler_is_mixed(webui):
    rows = [matrix.measure(webui, "img2img", "Euler", scheduler) for scheduler in webui.schedulers()]
    assert faults(rows) == []
    assert all(row["status"] == "mixed" for row in rows)


@pytest.mark.parametrize("sampler", ["DPM fast", "DPM adaptive", "UniPC"])
@pytest.mark.parametrize(("field", "value"), [("start_at_step", 1), ("end_at_step", 2)])
def test_steps_of_a_sampler_that_chooses_them_itself_cannot_be_left_out(webui, field, value, sampler):
    need_sampler(webui, sampler)
    response = webui.post(*matrix.request("img2img", sampler, "Automatic", **{field: value}))
    assert response.status_code == 422
    assert f"{field} = {value}" in response.json()["detail"]
    assert "chooses its noise levels itself" in response.json()["detail"]
