"""docs/operations.md: its commands exist with their options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refund_worker.cli.app import run_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
COMMANDS = sorted(set(re.findall(r"`refund-worker ([^`]+)`", PAGE)))
# The command's words, up to the first word that is not a command's name.
NAMES = re.compile(r"(?:[a-z]+ ?)+")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_exists_with_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = NAMES.match(command.partition(" stripe")[0])
    assert names is not None
    assert run_command([*names[0].split(), "--help"]) == 0
    output = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in output, f"{option} of refund-worker {command}"
