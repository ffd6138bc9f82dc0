"""When other extensions repair a picture that is enlarged; the WebUI's part of it is itermix/webui/repairs.py."""

from __future__ import annotations

from dataclasses import dataclass

from itermix.parameters import Part, parameter

AFTER = "after all"
BEFORE = "before the mixing"


@dataclass(frozen=True, init=False)
class RepairSettings(Part):
    """When what repairs finished pictures acts in a hires pass."""

    repairs: str = parameter(
        AFTER,
        "Repairs",
        "When ADetailer and others that change finished pictures act: after all on the large picture, or before the "
        "mixing on that of the first pass, so that what is repaired gets its detail with the rest.",
        "repairs",
        "Hires pass",
        choices=(AFTER, BEFORE),
        needs=({"tab": ("txt2img",)},),
    )
