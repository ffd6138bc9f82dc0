"""What a calibration knows besides its pictures: what it was asked for, its plan, the time it took, and the numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from itermix.standalone import files

NAME = "state.json"


Numbers = dict[str, float | None]


@dataclass
class State:
    """Kept in the folder of a calibration.

    Attributes:
        asked: what must be the same for a run to go on.
        plan: {"pictures", "settings"}: how many, once that is known.
        spent: seconds of all runs.
        numbers: {place of a picture in the folder: {metric: value}}; null for what isn't known.
    """

    out: Path
    asked: dict[str, Any]
    plan: dict[str, Any] = field(default_factory=dict)
    spent: float = 0.0
    numbers: dict[str, Numbers] = field(default_factory=dict)

    def save(self) -> None:
        """Raises OSError, which names the file."""
        kept = {"asked": self.asked, "plan": self.plan, "spent": round(self.spent, 1), "numbers": self.numbers}
        files.write(self.out / NAME, json.dumps(kept, indent=1, allow_nan=False).encode())


class OtherCalibration(ValueError):
    """The folder has a calibration that was asked for otherwise; the message is for who asked."""


def so_far(out: Path) -> tuple[float, int]:
    """Seconds that the calibration of a folder has taken, and pictures that it has measured; 0 where there is none that
    can be read."""
    try:
        found = json.loads((out / NAME).read_text(encoding="utf-8"))
        return float(found["spent"]), len(found["numbers"])
    except (OSError, ValueError, LookupError, TypeError):
        return 0.0, 0


def load(out: Path, asked: Mapping[str, Any]) -> State:
    """The state of a folder; a new one where there is none.

    Raises:
        OtherCalibration: it was asked for otherwise, or can't be read.
    """
    try:
        found = json.loads((out / NAME).read_text(encoding="utf-8"))
        state = State(out, found["asked"], found["plan"], found["spent"], found["numbers"])
    except FileNotFoundError:
        return State(out, dict(asked))
    except (ValueError, LookupError, TypeError) as error:
        raise OtherCalibration(f"{out / NAME} can't be read. Choose another folder, or remove it.") from error
    for name, value in asked.items():
        if state.asked.get(name) != value:
            raise OtherCalibration(
                f"{name} = {value} is not possible. Allowed in {out}: {state.asked.get(name)}, the first run's. "
                "Or choose another folder."
            )
    return state
