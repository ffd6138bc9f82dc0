"""The commands of docs/batch.md and of the README are commands; what they do is tested in tests/standalone."""

import re
import shlex
from pathlib import Path

import pytest

from itermix.standalone.cli import parser

ROOT = Path(__file__).parents[2]
COMMANDS = [
    command
    for page in ("README.md", "docs/batch.md")
    for command in re.findall(r"python -m itermix (batch .*)", (ROOT / page).read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command):
    options = parser().parse_args(shlex.split(command))
    assert (str(options.source), str(options.out)) == ("photos", "large")
    assert options.server
