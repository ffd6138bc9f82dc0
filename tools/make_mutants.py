"""Write docs/mutants.md from what try_mutants.py found and the judgements in docs/mutants.toml: see `make mutants`."""

import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PAGE = Path(__file__).parents[1] / "docs" / "mutants.md"
JUDGEMENTS = PAGE.with_suffix(".toml")
HEAD = """# Mutants

    make mutants

changes the core, and what sends pictures to WebUIs, at one place at a time with
[mutmut](https://mutmut.readthedocs.io), runs the tests that reach the place, and writes this page. For the core these
are the tests in `tests/core`, for the others those in `tests/standalone` of batches, servers and metadata. A mutant
is killed if a test fails or takes five times as long as it should. Of the tests that reach a mutant those run that
together take two seconds of the processor, a case of each test first, those of its file and the quickest before
others, so that one of those that survive might be killed by a slower test. Mutmut changes what is inside functions.
Tables, the declarations of the settings and functions with a decorator (`Parameter.allowed`, `projection`,
`Mixer._hooked`) stay as they are. Why a mutant may survive is kept in `mutants.toml`; the command fails if one has no
reason there, or no longer survives.
"""
PARTS = {"standalone/": "the batch", "": "the core"}
"""{beginning of a file's path in the package: part that it belongs to}."""

NOT_JUDGED = "not judged yet"


class Survivor(NamedTuple):
    function: str
    line: str


def judged(survivor: Survivor, judgements: dict[str, dict[str, str]]) -> str:
    return judgements.get(survivor.function, {}).get(survivor.line, NOT_JUDGED)


def found() -> tuple[dict[str, Counter[str]], list[Survivor]]:
    """{file: {end: how many of its mutants came to it}}, and the mutants that no test notices."""
    counts, survivors = {}, []
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        ends = {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
        if ends:
            counts[path.relative_to("itermix").as_posix()] = Counter(ends.values())
        for name, end in ends.items():
            if end not in ("killed", "timeout", "not checked"):
                survivors.append(Survivor(f"{path.stem}.{function_of(name)}", line_of(name, path)))
    return counts, survivors


def function_of(mutant: str) -> str:
    """load of PresetFile out of itermix.settings.presets.xǁPresetFileǁload__mutmut_2."""
    name = mutant.rpartition(".")[2].partition("__mutmut")[0]
    return name.removeprefix("x").removeprefix("_" if name.startswith("x_") else "ǁ").replace("ǁ", ".")


def line_of(mutant: str, path: Path) -> str:
    """What the mutant has in the place of the original's line."""
    lines = get_diff_for_mutant(mutant, path=path).splitlines()
    return " ".join(line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++"))


def parts_of(counts: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """{part: how many of the mutants of its files came to which end}."""
    parts: dict[str, Counter[str]] = {}
    for file, ends in counts.items():
        part = next(part for begin, part in PARTS.items() if file.startswith(begin))
        parts[part] = parts.get(part, Counter()) + ends
    return parts


def tried(ends: Counter[str]) -> int:
    return ends.total() - ends["not checked"]


def alive(ends: Counter[str]) -> int:
    return tried(ends) - ends["killed"] - ends["timeout"]


def table(counts: dict[str, Counter[str]]) -> str:
    rows = ["| file | mutants | tried | killed | by the time limit | survive |", "|---|---|---|---|---|---|"]
    for name, ends in {**counts, **parts_of(counts)}.items():
        numbers = (ends.total(), tried(ends), ends["killed"], ends["timeout"], alive(ends))
        rows.append(f"| {name} | {' | '.join(map(str, numbers))} |")
    return "\n".join(rows)


def page(counts: dict[str, Counter[str]], survivors: list[Survivor], judgements: dict[str, dict[str, str]]) -> str:
    shares = []
    for part, ends in parts_of(counts).items():
        if tried(ends):
            killed = 1 - alive(ends) / tried(ends)
            shares.append(
                f"of {part} {tried(ends)} of {ends.total()} mutants were tried, of which {killed:.1%} are killed"
            )
    words = "; ".join(shares)
    parts = [HEAD, f"{words[:1].upper()}{words[1:]}.\n", table(counts), "\n## Those that survive\n"]
    for function in dict.fromkeys(survivor.function for survivor in survivors):
        parts.append(f"`{function}`\n")
        own = dict.fromkeys(survivor for survivor in survivors if survivor.function == function)
        parts += [f"- `{survivor.line}`: {judged(survivor, judgements)}" for survivor in own]
        parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    judgements = tomllib.loads(JUDGEMENTS.read_text(encoding="utf-8"))
    counts, survivors = found()
    PAGE.write_text(page(counts, survivors, judgements), encoding="utf-8")
    kept = {Survivor(function, line) for function, lines in judgements.items() for line in lines}
    left = sum(ends["not checked"] for ends in counts.values())
    if left:
        print(f"{left} mutants have not been tried")
    for what, which in (("Not judged", set(survivors) - kept), ("Killed by now", kept - set(survivors))):
        for survivor in sorted(which if what == "Not judged" or not left else ()):
            print(f"{what}: {survivor.function}: {survivor.line}")
    sys.exit(set(survivors) != kept or left > 0)
