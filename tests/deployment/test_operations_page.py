"""docs/operations.md: its commands exist with their options, and every alarm of the program is explained."""

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
ALARM = re.compile(r'log\.(?:error|exception)\(\s*"alarm: ([^"]+)"')


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_exists_with_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = NAMES.match(command.partition(" stripe")[0])
    assert names is not None
    assert run_command([*names[0].split(), "--help"]) == 0
    output = capsys.readouterr().out
    for option in re.findall(r"--[a-z-]+", command):
        assert option in output, f"{option} of refund-worker {command}"


def test_every_alarm_is_explained() -> None:
    rows = re.findall(r"^\| (`.+?) \|", PAGE.partition("## Alarms")[2], re.MULTILINE)
    explained = {span for row in rows for span in re.findall("`([^`]+)`", row)}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for text in ALARM.findall(path.read_text("utf-8")):
            said = re.sub(r"%[sdr]", "…", text)
            if said == "…":
                continue  # an error's own text
            parts = [re.split(" ?… ?", span) for span in explained]
            assert any(all(piece in said for piece in pieces) for pieces in parts), f"{path.name}: {said}"
