"""How settings are declared, checked, and made into one another; which there are is said by the features.

A plain dataclass, because the WebUIs pin incompatible majors of pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

MAX_SEED = 2**32 - 1
MAX_TEXT = 255  # characters of a setting that is a text
MAX_SHOWN = 500  # characters of a value that are shown in a sentence
MAX_SCALE = 8.0

SIZE_MULTIPLE = 8  # pixels of a latent pixel: every WebUI accepts sizes in multiples of this

Values = tuple[Any, ...] | None
"""Values of a setting; None for all but 0 and false, with which a setting is on."""

ON: Values = None

Size = tuple[int, int]
"""Width and height in pixels."""


class Known(NamedTuple):
    """The pictures that a model knows from training.

    Attributes:
        side: in latent pixels.
        factor: pixels of the picture along one side of a latent pixel.
    """

    side: int
    factor: int = SIZE_MULTIPLE


def scaled_side(side: int, scale: float, multiple: int = SIZE_MULTIPLE) -> int:
    """A side times the scale, rounded down to a multiple but to one at least, so that it is no more than scaled."""
    return max(multiple, multiple * math.floor(round(side * scale / multiple, 9)))


def scale_between(before: Size, after: Size) -> float:
    """By how much a picture is enlarged, along the side that is so more; as much as a setting can say."""
    return min(max(1.0, *(b / a for a, b in zip(before, after))), MAX_SCALE)


def shortened(text: str) -> str:
    """A text of anybody's, at a length that can be read."""
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


class SettingsError(ValueError):
    """A setting that can't be used. Names the field, the value and what is allowed."""

    def __init__(self, name: str, value: object, allowed: str):
        shown = name if name.isprintable() else repr(name)
        self.what = f"{shortened(shown)} = {shortened(repr(value))} is not possible"
        super().__init__(f"Iterative Mixing: {self.what}. {allowed}")
        self.name = name
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True)
class Parameter:
    """One declared parameter: all that a control, a schema, an infotext key or a flag needs."""

    type: type
    default: Any
    label: str
    help: str
    key: str
    group: str
    low: float | None = None
    high: float | None = None
    usual: float | None = None  # where its slider ends, if more than what is usual is allowed
    step: float | None = None
    choices: tuple[str, ...] | None = None
    main: int = 0  # place of its control among those that are always in sight, from 1; 0: in a fold
    in_infotext: bool = True  # whether it has a part in how a picture was made
    needs: tuple[Mapping[str, Values], ...] = dataclasses.field(default=(), hash=False)
    """What of the rest has to be so that it has an effect: of each {setting or fact: values} one at least."""
    formerly: str = ""  # the label under which a WebUI's ui-config.json has kept its value
    name: str = ""

    @property
    def allowed(self) -> str:
        if self.type is bool:
            return "Allowed: true or false."
        if self.choices:
            return f"Allowed: {', '.join(self.choices)}."
        if self.type is str:
            return f"Allowed: a text of at most {MAX_TEXT} printable characters."
        kind = "a whole number" if self.type is int else "a number"
        return f"Allowed: {kind} from {self.low:.10g} to {self.high:.10g}."

    def check(self, value: Any) -> Any:
        """The value in the declared type; raises SettingsError for another type, NaN, or a value out of range."""
        error = SettingsError(self.name, value, self.allowed)
        if self.type is bool:
            if not isinstance(value, bool):
                raise error
            return value
        if self.type is str:
            if not isinstance(value, str) or (self.choices and value not in self.choices):
                raise error
            if len(value) > MAX_TEXT or not value.isprintable():
                raise error
            return value
        # JSON, infotexts and sliders turn 20 into 20.0 and back: both mean the same number.
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise error
        if not self.low <= value <= self.high:  # type: ignore[operator]  # every number declares its range
            raise error  # NaN, too
        if self.type is int and value % 1:
            raise error
        return self.type(value)


def parameter(default: Any, label: str, help: str, key: str, group: str, **limits: Any) -> Any:
    """A dataclass field that carries its declaration."""
    declared = Parameter(type(default), default, label, help, f"Itermix {key}", group, **limits)
    return dataclasses.field(default=default, metadata={"parameter": declared})


@dataclass(frozen=True, init=False)
class Part:
    """Settings that belong together: `part(alpha=2.0)`; what isn't named has its default.

    A part that builds on another inherits from it, and all of them together are `itermix.Settings`. So its methods go
    on to those of the other parts by `super()`.

    A part may have a method `feature`, which makes of it what takes part in a run: see `itermix.mixing.run`.

    Attributes:
        takes: names of what such a feature takes from who calls `itermix.sample`.

    Raises:
        SettingsError: for an unknown name, a wrong type, NaN or a value out of range.
    """

    takes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, /, **values: Any):
        parameters = {p.name: p for p in self.parameters()}
        for name in values:
            if name not in parameters:
                near = difflib.get_close_matches(str(name), parameters)
                hint = f"Did you mean {near[0]}? " if near else ""
                raise SettingsError(name, values[name], f"{hint}Known settings: {', '.join(parameters)}.")
        for name, declared in parameters.items():
            object.__setattr__(self, name, declared.check(values.get(name, declared.default)))
        self._check_together()

    def _check_together(self) -> None:
        """Raises SettingsError for values that don't go together."""

    def of_phase(self, source: Size, target: Size, first: Size | None = None, last: bool = True) -> Self:
        """The settings to enlarge from one size (width, height) to another with.

        `first` is the size from which the first phase enlarged; `last` whether this phase is the last.
        """
        return self

    def of_model(self, size: Size, known: Known | None) -> Self:
        """The settings for a picture of this size (width, height) in pixels, with a model that knows such; None: it
        isn't known which."""
        return self

    def begins(self, steps: int) -> list[int]:
        """The step at which each pass over a schedule of `steps` begins, 0 first."""
        return [0]

    def before_phase(self, steps: int) -> list[Sampling]:
        """What is sampled before each phase of `steps`."""
        return []

    def after_phase(self, steps: int) -> list[Sampling]:
        """What is sampled after such a phase, of its latents; `steps` are those of the whole schedule."""
        return []

    def finished(
        self,
        samples: Tensor,
        latent: Tensor,
        where: Tensor | None = None,
        first: Callable[[], Tensor] | None = None,
    ) -> Tensor:
        """What becomes of the samples [B, C, H, W] of a pass over `latent`, like them, before all that is after it.

        `where` is what of the picture may change: [H, W] or wider, in [0, 1]; None: all of it. `first` gives the
        latents [B or 1, C, h, w] of the source of the first phase, before it was enlarged; None: that is `latent`.
        """
        return samples

    def unguided(self) -> Self:
        """Those of a sampling that nothing guides."""
        return self

    def calls(self, height: int, width: int, count: int) -> int:
        """Model calls in the place of `count` with a whole picture (sides in latent pixels)."""
        return count

    def pixels_seen(self, height: int, width: int) -> int:
        """Latent pixels that the model gets to see in the place of one call with a whole picture."""
        return height * width

    def words_of_phase(self, steps: int) -> str:
        """What a phase of `steps` has besides, as words that follow "15 steps"."""
        return ""

    def words_of_all(self, steps: int, sizes: Sequence[Size], known: Known | None = None) -> str:
        """What all phases, to these sizes (width, height) in pixels, have besides, as words that follow."""
        return ""

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """All declarations, in the order of the UI and of positional API arguments."""
        return tuple(dataclasses.replace(f.metadata["parameter"], name=f.name) for f in dataclasses.fields(cls))

    @classmethod
    def from_list(cls, values: Iterable[Any]) -> Self:
        """From values in the order of `parameters`, as the UI's controls give them. A shorter list leaves defaults."""
        names = [p.name for p in cls.parameters()]
        values = list(values)
        if len(values) > len(names):
            raise SettingsError("args", values, f"Allowed: at most {len(names)} values: {', '.join(names)}.")
        return cls(**dict(zip(names, values)))

    def replace(self, **changes: Any) -> Self:
        """The same settings with some changed, checked again."""
        return type(self)(**{**dataclasses.asdict(self), **changes})

    def changed(self) -> Mapping[str, Any]:
        """{name: value} of what differs from the defaults."""
        return {p.name: getattr(self, p.name) for p in self.parameters() if getattr(self, p.name) != p.default}


@dataclass(frozen=True)
class Sampling:
    """What settings ask to be sampled beside the mixing itself.

    Attributes:
        name: what it is.
        steps: from 1.
        settings: those of it.
        sampler: its name, "" for that of the mixing; None if the model is called once a step, without one.
        denoise: how far up the noise schedule it starts.
    """

    name: str
    steps: int
    settings: Any
    sampler: str | None = None
    denoise: float = 1.0
