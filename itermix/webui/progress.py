"""Progress that tells the truth: jobs count by their work, so the bar runs evenly and its estimate of the end holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from modules import shared


@dataclass(frozen=True)
class Task:
    """One sampling: what the job text says, the work of its steps, in any unit that is common to all tasks, how often
    they are run: more than once if it is rewound; and how many steps the WebUI counts of it."""

    text: str
    work: float
    runs: float = 1.0
    steps: int = 1


class Progress:
    """The WebUI's own progress, told in units of work instead of jobs.

    The WebUI shows (job_no + sampling_step / sampling_steps) / job_count. So while a task runs, job_count is the whole
    in units of the task, and job_no what is done in the same unit.
    """

    def __init__(self, tasks: Sequence[Task], done: float, share: float, note: str):
        self._tasks = list(tasks)
        self._done = done
        self._share = share
        self._note = note
        self._begun = 0
        self._job_no = 0.0  # the WebUI's at the begin of the task

    def begin(self) -> None:
        """Say that the next task begins, and that all before it are done."""
        self._begun += 1
        self._tell()

    def rewind(self, step: int, done: int) -> None:
        """Say that the task is rewound to a step, with so many steps `done`, but for as many as are left out now, which
        the WebUI counts as done."""
        self._tell(step, done / self._tasks[self._begun - 1].steps, ", rewound")

    def skip(self, steps: int) -> None:
        """Say that the task leaves out its first steps, which are no work, though the WebUI counts them as done."""
        task = self._tasks[self._begun - 1]
        share = steps / task.steps
        self._tasks[self._begun - 1] = dataclasses.replace(task, runs=task.runs - share)
        self._tell(steps, -share)

    def _tell(self, step: int = 0, runs: float = 0.0, how: str = "") -> None:
        task = self._tasks[self._begun - 1]
        before, total = (sum(t.work * t.runs for t in some) for some in (self._tasks[: self._begun - 1], self._tasks))
        state = shared.state
        state.job_count = total / (task.work * self._share)
        state.job_no = self._job_no = self._done * state.job_count + before / task.work + runs
        state.sampling_step = step
        state.job = state.textinfo = f"Iterative Mixing: {task.text}{how}{self._note}"

    def advance(self, share: float) -> None:
        """Say that this share of the task is done, of which the WebUI doesn't count the steps."""
        shared.state.job_no = self._job_no + share


@contextmanager
def shared_out(tasks: Sequence[Task], jobs: int, counted_by_host: int = 1, note: str = "") -> Iterator[Progress]:
    """Inside the block `tasks` take the share that the WebUI has for `jobs` of its own jobs.

    Afterwards its counters stand as if these jobs were done, but for those that it counts itself then.
    """
    state = shared.state
    count, number = (state.job_count, state.job_no) if state.job_count > 0 else (jobs, 0)
    text, info = state.job, state.textinfo
    try:
        yield Progress(tasks, number / count, jobs / count, note)
    finally:
        state.job_count, state.job_no = count, number + jobs - counted_by_host
        state.job, state.textinfo = text, info
