"""Every setting: those of all features together.

The UI, the API, the infotext, the command line and the parameter table in the docs are generated from these
declarations. A feature is one file; it is here because it is in the list of `Settings`.
"""

from __future__ import annotations

from dataclasses import dataclass

from itermix.analysis.record import AnalysisSettings
from itermix.mixing.blending import BlendingSettings
from itermix.mixing.curves import CurveSettings
from itermix.mixing.masks import MaskSettings
from itermix.mixing.noising import NoiseSettings
from itermix.mixing.perlin import PerlinSettings
from itermix.mixing.rewinding import RewindSettings
from itermix.mixing.skipping import SkippingSettings
from itermix.model.deep_shrink import DeepShrinkSettings
from itermix.model.detail import DetailSettings
from itermix.model.inversion import InversionSettings
from itermix.model.windows import CropSettings, WindowSettings
from itermix.parameters import Parameter, SettingsError, shortened
from itermix.picture.cleanup import CleanupSettings
from itermix.picture.colour import ColourFormulaSettings, ColourSettings
from itermix.picture.enlarging import SizeSettings
from itermix.picture.fidelity import FidelitySettings
from itermix.picture.latent_upscaler import LatentUpscalerSettings
from itermix.picture.phases import PhaseSettings
from itermix.picture.repairs import RepairSettings
from itermix.steps.levels import LevelSettings
from itermix.steps.schedule import CountSettings, DenoiseSettings, StepSettings

__all__ = ["Parameter", "Settings", "SettingsError", "UpscaleSettings", "shortened"]


@dataclass(frozen=True, init=False)
class Settings(
    LevelSettings,
    CropSettings,
    CountSettings,
    RepairSettings,
    ColourFormulaSettings,
    AnalysisSettings,
    SkippingSettings,
    PerlinSettings,
    MaskSettings,
    RewindSettings,
    WindowSettings,
    InversionSettings,
    DeepShrinkSettings,
    LatentUpscalerSettings,
    FidelitySettings,
    CleanupSettings,
    ColourSettings,
    PhaseSettings,
    StepSettings,
    NoiseSettings,
    DetailSettings,
    BlendingSettings,
    CurveSettings,
    DenoiseSettings,
):
    """What the mixing of one sampling does. ``Settings(alpha=2.0, curve="linear")``; what isn't named has its default.

    The order of all settings, in the UI and in positional arguments, is that of this list from its end.

    Raises SettingsError for an unknown name, a wrong type, NaN or a value out of range.
    """


@dataclass(frozen=True, init=False)
class UpscaleSettings(SizeSettings, Settings):
    """The settings of a mixing pass that also enlarges its picture first."""
