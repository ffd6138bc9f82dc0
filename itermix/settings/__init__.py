"""Every parameter, declared once.

The UI, the API, the infotext, the command line and the parameter table in the docs are generated from these
declarations. A plain dataclass, because the WebUIs pin incompatible majors of pydantic.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CURVES = ("cosine", "linear", "logistic", "comfy-cosine")
BLENDINGS = (
    "addition",
    "slerp",
    "norm-only",
    "low-pass",
    "wavelet",
    "clean low-pass",
    "clean wavelet",
    "variance-preserving",
)
SHRINK_METHODS = ("bicubic", "bilinear", "nearest-exact", "area")
DRAWN_NOISES = ("shared", "independent", "cumulative")
INVERTED = "inverted"
NOISES = (*DRAWN_NOISES, INVERTED)
DEMOFUSION = "DemoFusion"
FORMULAS = ("clean picture", DEMOFUSION)
PROGRESSES = ("steps", "noise level")
MASK_MODES = ("multiply", "threshold")

SAME_SAMPLER = "Use same sampler"

MAX_SEED = 2**32 - 1
MAX_TEXT = 255  # characters of a setting that is a text
MAX_SHOWN = 500  # characters of a value that are shown in a sentence
MAX_SCALE = 8.0
WINDOW_MULTIPLE = 8  # latent pixels: sides that every U-Net can halve
SIZE_MULTIPLE = 8  # pixels of a latent pixel: every WebUI accepts sizes in multiples of this


def scaled_side(side: int, scale: float, multiple: int = SIZE_MULTIPLE) -> int:
    """A side times the scale, rounded down to a multiple but to one at least, so that it is no more than scaled."""
    return max(multiple, multiple * math.floor(round(side * scale / multiple, 9)))


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
    step: float | None = None
    choices: tuple[str, ...] | None = None
    main: bool = False  # whether its control is always in sight, not under Advanced
    in_infotext: bool = True  # whether it has a part in how a picture was made
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
class Settings:
    """What the mixing of one sampling does. ``Settings(alpha=2.0, curve="linear")``; what isn't named has its default.

    Raises SettingsError for an unknown name, a wrong type, NaN or a value out of range.
    """

    enabled: bool = parameter(
        False, "Iterative Mixing", "Guide this sampling by the picture it starts from.", "enabled", "Main"
    )
    denoise: float = parameter(
        0.7,
        "Denoise",
        "How far up the noise schedule sampling starts: 1 is pure noise, and 0.7 saves a quarter of the steps in "
        "img2img. What was measured is as good with it. In the hires pass all are run, so nothing is saved there. "
        "While mixing is on it takes the place of the tab's Denoising strength.",
        "denoise",
        "Main",
        low=0.05,
        high=1.0,
        step=0.05,
        main=True,
    )
    curve: str = parameter(
        "cosine",
        "Weight curve",
        "How the weight of the source falls over the steps. cosine: DemoFusion's, more alpha is less guidance. "
        "comfy-cosine: the ComfyUI node's, more alpha is more guidance. logistic: a soft switch. linear: has no alpha.",
        "curve",
        "Curve",
        choices=CURVES,
    )
    alpha: float = parameter(
        0.25,
        "Guidance (alpha)",
        "How soon the guidance lets go: with the cosine curve, more is sooner. Exponent of the cosine curves (more is "
        "later in comfy-cosine), steepness of the logistic one.",
        "alpha",
        "Curve",
        low=0.05,
        high=10.0,
        step=0.05,
        main=True,
    )
    start: float = parameter(
        0.0,
        "Start",
        "Full weight up to this share of the progress; the curve begins here.",
        "start",
        "Curve",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    stop: float = parameter(
        1.0,
        "Stop",
        "The curve ends here, the weight is 0 from here on. Above 1 stretches the curve, so that some weight "
        "remains at the last step.",
        "stop",
        "Curve",
        low=0.0,
        high=4.0,
        step=0.01,
    )
    clamp: float = parameter(
        1.0,
        "Clamp",
        "From this share of the progress on the curve is cut to 0, without changing its shape before.",
        "clamp",
        "Curve",
        low=0.0,
        high=1.0,
        step=0.01,
    )
    lowest: float = parameter(
        0.0, "Lowest weight", "What a curve value of 0 becomes.", "lowest", "Curve", low=0.0, high=1.0, step=0.01
    )
    highest: float = parameter(
        1.0, "Highest weight", "What a curve value of 1 becomes.", "highest", "Curve", low=0.0, high=1.0, step=0.01
    )
    progress: str = parameter(
        "steps",
        "Progress in",
        "What the curve runs along: the share of the steps done, or the model's timestep as in DemoFusion's code.",
        "progress",
        "Curve",
        choices=PROGRESSES,
    )
    blending: str = parameter(
        "low-pass",
        "Blending",
        "How the noised source and the sampler's state become one. addition: weighted sum. slerp: along the arc "
        "between the two. norm-only: weighted sum after scaling the sampler's state to the length of the noised "
        "source. low-pass: weighted sum of what the smaller picture could hold, leaving finer detail free. wavelet: "
        "the same in the bands of a wavelet transform. clean low-pass, clean wavelet: move the clean picture in the "
        "state and leave its noise. variance-preserving: weighted sum for independent noise. Weight 0 leaves the state "
        "as it is in all of them.",
        "blending",
        "Blending",
        choices=BLENDINGS,
        main=True,
    )
    cutoff: float = parameter(
        0.0,
        "Cut-off",
        "For the low-pass and wavelet blendings: guided is what a picture this many times smaller can hold; and for "
        "Detail: what is finer is strengthened. 0: the scale of the upscale, or 2 where there is none.",
        "cutoff",
        "Blending",
        low=0.0,
        high=MAX_SCALE,
        step=0.05,
    )
    detail: float = parameter(
        0.0,
        "Detail",
        "Strengthens what is finer than the smaller picture could hold in each of the model's estimates, in the last "
        "phase and with every blending: about exp(detail / 2) times, however many steps there are. 0: off.",
        "detail",
        "Blending",
        low=0.0,
        high=1.5,
        step=0.05,
    )
    noise: str = parameter(
        "shared",
        "Noise",
        "How the noises of the steps are related. shared: one draw for all steps (DemoFusion). independent: a new draw "
        "each step (ComfyUI node). cumulative: noise added step by step, as in the forward process of latent "
        "diffusion. inverted: none is drawn, but the noise from which the model itself would make the source is looked "
        "for, which takes one more model call for each step.",
        "noise",
        "Noise",
        choices=NOISES,
    )
    seed: int = parameter(
        -1,
        "Noise seed",
        "Seed of the noise that the source gets; image k of a batch uses seed + k. -1: the picture's own.",
        "seed",
        "Noise",
        low=-1,
        high=MAX_SEED,
        step=1,
    )
    normalize_fraction: float = parameter(
        0.0,
        "Normalize fraction",
        "Take the mean of this share of the noised sequence, its noisiest end, off the whole sequence. 0: off.",
        "normalize fraction",
        "Noise",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    start_at_step: int = parameter(
        0,
        "Start at step",
        "Leave out the steps before this one; sampling starts at its noise level.",
        "start at step",
        "Steps",
        low=0,
        high=10000,
        step=1,
    )
    end_at_step: int = parameter(
        10000,
        "End at step",
        "Leave out this step and all after it; the last step that runs goes straight to the finished picture.",
        "end at step",
        "Steps",
        low=1,
        high=10000,
        step=1,
    )
    max_scale_per_phase: float = parameter(
        2.0,
        "Scale per phase",
        "Larger scales are reached in equal phases of at most this, each with all steps, from the result of the one "
        "before. Above 2 models fill the picture with tiny further parts.",
        "scale per phase",
        "Phases",
        low=1.25,
        high=MAX_SCALE,
        step=0.05,
        main=True,
    )
    save_phases: bool = parameter(
        False, "Save every phase", "Save the pictures of the phases before the last, too.", "save phases", "Phases"
    )
    match_colours: bool = parameter(
        False,
        "Match colours",
        "Give each channel of the latent the mean and the contrast of the source after every phase, as DemoFusion does "
        "with those of its first.",
        "match colours",
        "Phases",
    )
    cleanup: float = parameter(
        0.0,
        "Clean-up",
        "Denoise of a last, unguided sampling of the finished latent, 0.05 to 0.25. 0: off.",
        "clean-up",
        "Clean-up",
        low=0.0,
        high=0.25,
        step=0.01,
        main=True,
    )
    cleanup_steps: int = parameter(
        0,
        "Clean-up steps",
        "Steps of the clean-up. 0: its denoise as a share of the pass's steps.",
        "clean-up steps",
        "Clean-up",
        low=0,
        high=150,
        step=1,
    )
    cleanup_sampler: str = parameter(
        SAME_SAMPLER, "Clean-up sampler", "Sampler of the clean-up.", "clean-up sampler", "Clean-up"
    )
    fidelity: float = parameter(
        0.5,
        "Fidelity",
        "After decoding, each phase's picture gets this share of its source's means back, over areas of 8 pixels of "
        "the source, which are one of its latent: colours and brightness that model and autoencoder drift. What is "
        "finer isn't changed. 0: off.",
        "fidelity",
        "Blending",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    nn_upscaler: bool = parameter(
        False,
        "NN latent upscaler",
        "Enlarge the latent by the network of NNLatentUpscale in every phase of a hires pass, in the place of hires "
        "fix's upscaler. Its weights are to be put into the folder models/itermix; docs/latent-upscaler.md tells which "
        "and from where. The upscale script has it among its upscalers.",
        "NN upscaler",
        "Hires pass",
    )
    deep_shrink: float = parameter(
        0.0,
        "Deep Shrink",
        "Let the inner blocks of the U-Net work on a picture of the size that the model knows, up to this share of the "
        "progress: 0.35 is usual. Against parts that are painted twice. For Stable Diffusion 1, 2 and XL. 0: off.",
        "Deep Shrink",
        "Deep Shrink",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    deep_shrink_factor: float = parameter(
        0.0,
        "Deep Shrink factor",
        "By how much that picture is smaller. 0: the scale over all phases up to this one, or 2 where there is none.",
        "Deep Shrink factor",
        "Deep Shrink",
        low=0.0,
        high=MAX_SCALE,
        step=0.05,
    )
    deep_shrink_block: int = parameter(
        3,
        "Deep Shrink block",
        "The input block after which it is made smaller; SD 1 and 2 have 1 to 11, SDXL has 1 to 8.",
        "Deep Shrink block",
        "Deep Shrink",
        low=1,
        high=11,
        step=1,
    )
    deep_shrink_method: str = parameter(
        "bicubic",
        "Deep Shrink method",
        "The interpolation that makes it smaller, and larger again.",
        "Deep Shrink method",
        "Deep Shrink",
        choices=SHRINK_METHODS,
    )
    inversion_prompt: bool = parameter(
        True,
        "Invert with the prompt",
        "For inverted noise: whether the model is shown the prompt while the noise is looked for, or the negative "
        "prompt. Neither is strengthened by guidance (CFG scale 1).",
        "inversion prompt",
        "Noise",
    )
    window: int = parameter(
        0,
        "Window",
        "Show the model crops of this size (in latent pixels) in the place of the whole picture, and the picture "
        "thinned out to it, as DemoFusion does: 128 is what SDXL knows, 64 what SD 1 knows. No picture then needs more "
        "memory in the model than such a crop. It costs time. 0: off.",
        "window",
        "Windows",
        low=0,
        high=256,
        step=WINDOW_MULTIPLE,
    )
    window_jitter: bool = parameter(
        True,
        "Window jitter",
        "Move the crops a little at random in every step, so that no seams build up.",
        "window jitter",
        "Windows",
    )
    window_batch: int = parameter(
        4,
        "Windows per call",
        "How many crops the model gets at once: more is faster on a graphics card and takes more memory.",
        "windows per call",
        "Windows",
        low=1,
        high=64,
        step=1,
    )
    window_formulas: str = parameter(
        "clean picture",
        "Window formulas",
        "clean picture: what the model finds in a thinned-out picture counts as the clean picture, and crops that "
        "reach over the edge see its mirror image there. DemoFusion: as in its code, what counts is the noise that is "
        "found, so that some noise is left; and over the edge there is nothing. Not for the clean blendings, nor with "
        "detail.",
        "window formulas",
        "Windows",
        choices=FORMULAS,
    )
    dilated: float = parameter(
        1.0,
        "Dilated sampling",
        "How soon the thinned-out pictures, which hold the whole together, give way to the crops, which make the "
        "detail: an exponent, more is sooner. 0: crops alone. Without a window it does nothing.",
        "dilated sampling",
        "Windows",
        low=0.0,
        high=10.0,
        step=0.05,
    )
    gaussian_sigma: float = parameter(
        1.0,
        "Gaussian sigma",
        "Blur, in latent pixels, of what is thinned out, at the noisiest level. 0: none.",
        "Gaussian sigma",
        "Windows",
        low=0.0,
        high=4.0,
        step=0.05,
    )
    gaussian_alpha: float = parameter(
        1.0,
        "Gaussian alpha",
        "How soon that blur goes away: an exponent, more is sooner.",
        "Gaussian alpha",
        "Windows",
        low=0.0,
        high=10.0,
        step=0.05,
    )
    rewind: bool = parameter(
        False,
        "Rewind",
        "Run the last part of the steps again, from the result with fresh noise on it, and then the last part of that. "
        "For more detail of the model's own; costs those steps again.",
        "rewind",
        "Rewind",
    )
    rewind_min: float = parameter(
        0.5,
        "Rewind by",
        "Share of the steps just run that the next pass leaves out: by 0.5 those of 20 steps begin at 10, 15, ...",
        "rewind min",
        "Rewind",
        low=0.05,
        high=0.95,
        step=0.05,
    )
    rewind_max: float = parameter(
        0.8,
        "Rewind up to",
        "No pass begins later than at this share of all steps.",
        "rewind max",
        "Rewind",
        low=0.05,
        high=1.0,
        step=0.05,
    )
    mask_mode: str = parameter(
        "multiply",
        "Mask mode",
        "What a mask does, in which white is the most guidance and black none. multiply: the weight of a pixel is that "
        "of the curve times its value. threshold: its weight is the highest for as long as the progress is below its "
        "value, and the lowest from there on, in the place of the curve (Differential Diffusion).",
        "mask mode",
        "Mask",
        choices=MASK_MODES,
    )
    perlin: float = parameter(
        0.0,
        "Perlin noise",
        "Guide unevenly: take up to this share of the weight away in smooth random patches. Their seed is that of the "
        "noise. 0: off.",
        "Perlin noise",
        "Mask",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    perlin_scale: float = parameter(
        10.0,
        "Perlin scale",
        "How many of the largest patches lie along the picture's longer side.",
        "Perlin scale",
        "Mask",
        low=1.0,
        high=100.0,
        step=1.0,
    )
    skip_tolerance: float = parameter(
        0.0,
        "Skip tolerance",
        "Leave out the first steps, as many as change the result by no more than this: the mean difference (RMS) in "
        "units of the latent, whose own deviation is about 1. For the blending addition with shared noise, and Euler, "
        "DPM++ 2M or DDIM; with others nothing is left out. 0: off.",
        "skip tolerance",
        "Steps",
        low=0.0,
        high=0.5,
        step=0.005,
    )
    analysis: bool = parameter(
        False,
        "Analysis",
        "Save what each pass went through beside the picture: mean, deviation and normality of the latents at every "
        "step, how much the noised source and the sampler's state are alike, and a sheet of small pictures.",
        "analysis",
        "Analysis",
        in_infotext=False,
    )

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
        if self.rewind and self.noise == INVERTED:
            raise SettingsError(
                "rewind", True, "Allowed with inverted noise: false, since each pass needs fresh noise."
            )
        if 0 < self.cutoff < 1:
            raise SettingsError("cutoff", self.cutoff, "Allowed: 0, or a number from 1 to 8.")
        if 0 < self.deep_shrink_factor < 1:
            raise SettingsError("deep_shrink_factor", self.deep_shrink_factor, "Allowed: 0, or a number from 1 to 8.")
        if self.window % WINDOW_MULTIPLE:
            raise SettingsError("window", self.window, f"Allowed: a multiple of {WINDOW_MULTIPLE}, or 0.")
        if 0 < self.cleanup < 0.05:
            raise SettingsError("cleanup", self.cleanup, "Allowed: 0, or a number from 0.05 to 0.25.")
        if self.stop <= self.start:
            raise SettingsError("stop", self.stop, f"Allowed: more than start, which is {self.start:g}.")
        if self.lowest > self.highest:
            raise SettingsError("lowest", self.lowest, f"Allowed: at most highest, which is {self.highest:g}.")
        if self.end_at_step <= self.start_at_step:
            raise SettingsError(
                "end_at_step", self.end_at_step, f"Allowed: more than start_at_step, which is {self.start_at_step}."
            )

    def of_phase(
        self,
        source: tuple[int, int],
        target: tuple[int, int],
        first: tuple[int, int] | None = None,
        last: bool = True,
    ) -> Settings:
        """The settings to enlarge from one size (width, height) to another with.

        A cut-off of 0 becomes the scale. So does a Deep Shrink factor of 0, but over all phases: from the size `first`.
        Detail is for the `last` phase: what is fine in one is what guides the next.
        """

        def scale(before: tuple[int, int]) -> float:
            return min(max(1.0, *(b / a for a, b in zip(before, target))), MAX_SCALE)

        settings = self if self.cutoff else self.replace(cutoff=scale(source))
        if settings.detail and not last:
            settings = settings.replace(detail=0.0)
        if settings.deep_shrink and not settings.deep_shrink_factor:
            return settings.replace(deep_shrink_factor=scale(first or source))
        return settings

    def steps_of_cleanup(self, steps: int) -> int:
        """Steps of the clean-up that follows a pass of `steps`, at least one."""
        return self.cleanup_steps or max(1, math.ceil(round(self.cleanup * steps, 9)))

    @classmethod
    def parameters(cls) -> tuple[Parameter, ...]:
        """All declarations, in the order of the UI and of positional API arguments."""
        return tuple(dataclasses.replace(f.metadata["parameter"], name=f.name) for f in dataclasses.fields(cls))

    @classmethod
    def from_list(cls, values: Iterable[Any]) -> Settings:
        """From values in the order of `parameters`, as the UI's controls give them. A shorter list leaves defaults."""
        names = [p.name for p in cls.parameters()]
        values = list(values)
        if len(values) > len(names):
            raise SettingsError("args", values, f"Allowed: at most {len(names)} values: {', '.join(names)}.")
        return cls(**dict(zip(names, values)))

    def replace(self, **changes: Any) -> Settings:
        """The same settings with some changed, checked again."""
        return type(self)(**{**dataclasses.asdict(self), **changes})

    def changed(self) -> Mapping[str, Any]:
        """{name: value} of what differs from the defaults."""
        return {p.name: getattr(self, p.name) for p in self.parameters() if getattr(self, p.name) != p.default}


@dataclass(frozen=True, init=False)
class UpscaleSettings(Settings):
    """The settings of a mixing pass that also enlarges its picture first."""

    scale: float = parameter(
        2.0,
        "Scale",
        "How many times larger than the source picture. Used where width and height are 0.",
        "scale",
        "Size",
        low=1.0,
        high=MAX_SCALE,
        step=0.05,
    )
    width: int = parameter(
        0,
        "Width",
        "Width of the result in pixels, a multiple of 8. 0: from the scale, or from height and the source's shape.",
        "width",
        "Size",
        low=0,
        high=16384,
        step=SIZE_MULTIPLE,
    )
    height: int = parameter(
        0,
        "Height",
        "Height of the result in pixels, a multiple of 8. 0: from the scale, or from width and the source's shape.",
        "height",
        "Size",
        low=0,
        high=16384,
        step=SIZE_MULTIPLE,
    )
    upscaler: str = parameter("Lanczos", "Upscaler", "Enlarges the picture before the mixing pass.", "upscaler", "Size")
    back_projection: bool = parameter(
        True,
        "Back-projection",
        "Correct the enlarged picture until it gives the source when it is made small again. Upscalers blur a little, "
        "and some change colours. Latent upscalers are not corrected.",
        "back-projection",
        "Size",
    )

    @classmethod
    def own_parameters(cls) -> tuple[Parameter, ...]:
        """The declarations that the mixing alone doesn't have."""
        return cls.parameters()[len(Settings.parameters()) :]

    def _check_together(self) -> None:
        super()._check_together()
        for name in ("width", "height"):
            if getattr(self, name) % SIZE_MULTIPLE:
                raise SettingsError(name, getattr(self, name), f"Allowed: a multiple of {SIZE_MULTIPLE}.")

    def target(self, width: int, height: int) -> tuple[int, int]:
        """Size (width, height) in pixels of the result for a source of this size, rounded down to multiples of 8."""
        if self.width and self.height:
            return self.width, self.height
        scale = self.width / width if self.width else self.height / height if self.height else self.scale
        return self.width or scaled_side(width, scale), self.height or scaled_side(height, scale)
