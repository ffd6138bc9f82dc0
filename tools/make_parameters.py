"""Write docs/parameters.md from the declared settings: python tools/make_parameters.py"""

from pathlib import Path

from itermix.parameters import Parameter
from itermix.settings import Settings, UpscaleSettings
from itermix.settings.effect import needs

PAGE = Path(__file__).parents[1] / "docs" / "parameters.md"
HEAD = """# Parameters

Made by `python tools/make_parameters.py` from the declared settings. A *weight* is always that of the noised source.
"""


def table(parameters: tuple[Parameter, ...]) -> str:
    rows = ["| name | label | default | allowed | what it does |", "|---|---|---|---|---|"]
    for p in parameters:
        allowed = p.allowed.removeprefix("Allowed: ").rstrip(".")
        default = str(p.default).lower() if p.type is bool else p.default
        rows.append(f"| `{p.name}` | {p.label} | {default} | {allowed} | {p.help}{only(p)} |")
    return "\n".join(rows)


def only(parameter: Parameter) -> str:
    """With what else it has an effect, as a sentence that follows its help."""
    with_what = " and ".join(need["words"] for need in needs(parameter))
    return f" *Only with {with_what}.*" if with_what else ""


def page() -> str:
    own = UpscaleSettings.own_parameters()
    return f"{HEAD}\n{table(Settings.parameters())}\n\n## Of the script Iterative Mixing upscale\n\n{table(own)}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
