"""What ``itermix calibrate`` takes. Nothing heavy is loaded before it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from itermix.standalone.options import add_out, add_request, whole

BUDGET = 20
SCALES = (2, 3, 4)

LONGEST = 1024
"""Pixels of the longer side of a picture of the user's: larger ones are reduced, or nothing would end in minutes."""

INTRODUCTION = """\
Try the checkpoint that a WebUI has loaded: hires fix, the presets, and settings around the best of them. Report and
sheet say what each buys; what you choose can be kept as a preset that Automatic takes with this checkpoint.

The sources are what the checkpoint makes of a dozen prompts, or pictures of your own. It ends in time, can be stopped
at any moment, and goes on where it was when it is called again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.description, parser.formatter_class = INTRODUCTION, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--server", required=True, metavar="URL", help="Address of a WebUI that runs with --api.")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="Pictures of your own to enlarge, in the place "
                        f"of those that the checkpoint makes; reduced to {LONGEST} px.")  # fmt: skip
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="What the checkpoint makes, a prompt on each "
                        "line, in the place of the twelve that come along.")  # fmt: skip
    parser.add_argument("--scale", type=int, choices=SCALES, default=2, help="How much larger (default 2).")
    parser.add_argument("--size", type=whole, metavar="PIXELS", help="Side of the pictures that the checkpoint makes. "
                        "Default: what it was trained for, as far as the WebUI knows.")  # fmt: skip
    parser.add_argument("--budget", type=whole, default=BUDGET, metavar="MINUTES", help="Time for everything, also "
                        f"over several calls (default {BUDGET}).")  # fmt: skip
    add_out(parser, "DIR", "Folder for the sheet, the report, the pictures and the journal.")
    parser.add_argument("--keep", metavar="NAME", help="Save the best as this preset in the WebUI, bound to its "
                        "checkpoint.")  # fmt: skip
    parser.add_argument("--choose", metavar="ROW", help="Keep this row of the table, and not the best.")
    parser.add_argument("--with-prompts", action="store_true", help="Let the report tell the prompts.")
    parser.add_argument("--steps", type=whole, metavar="N", help="Of the pictures that the checkpoint makes, and of "
                        "hires fix (default 20). Mixing has its own.")  # fmt: skip
    add_request(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from itermix.standalone.calibrate import command

    return command.run(options)
