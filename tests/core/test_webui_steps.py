"""The steps that a request asks a WebUI for while it mixes, and those that it has again."""

from types import SimpleNamespace

import pytest

from itermix import Settings

IMG2IMG = {"steps": 20, "sampler_name": "Euler"}
TXT2IMG = {**IMG2IMG, "hr_second_pass_steps": 0, "hr_sampler_name": None}


@pytest.mark.parametrize("request_of", [IMG2IMG, TXT2IMG])
def test_they_are_given_back(job, request_of):
    p = SimpleNamespace(**request_of)
    made = job.Job(Settings(enabled=True, steps=8))
    made.ask_for_steps(p)
    assert vars(p) == {**request_of, job.steps_field(p): 14 if request_of is IMG2IMG else 8}
    for _ in range(2):
        made.give_steps_back(p)
        assert vars(p) == request_of


def test_hires_steps_of_the_request_are_run_and_stay(job):
    p = SimpleNamespace(**{**TXT2IMG, "hr_second_pass_steps": 3})
    made = job.Job(Settings(enabled=True, steps=8))
    made.ask_for_steps(p)
    made.give_steps_back(p)
    assert (made.settings.steps, p.hr_second_pass_steps, made.steps) == (3, 3, None)


def test_what_somebody_else_has_changed_since_is_theirs(job):
    p = SimpleNamespace(**IMG2IMG)
    made = job.Job(Settings(enabled=True, steps=8))
    made.ask_for_steps(p)
    p.steps = 33
    made.give_steps_back(p)
    assert p.steps == 33


def test_0_asks_for_those_of_the_request(job):
    for request_of in (IMG2IMG, TXT2IMG):
        p = SimpleNamespace(**request_of)
        job.Job(Settings(enabled=True, steps=0)).ask_for_steps(p)
        assert vars(p) == request_of
