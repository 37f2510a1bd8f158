"""Drawn changes that have no visible effect. `harmless.txt` lists them with the reason.

Each entry has four lines: the file, the line before, the line after, and the reason.
"""

from __future__ import annotations

from pathlib import Path


def _read() -> dict[str, str]:
    found = {}
    for entry in (Path(__file__).parent / "harmless.txt").read_text("utf-8").split("\n\n"):
        path, before, after, why = (line.strip() for line in entry.strip().splitlines())
        found[f"{path}: {before.removeprefix('- ')} -> {after.removeprefix('+ ')}"] = why.removeprefix("= ")
    return found


# The reason by the name of the change.
HARMLESS = _read()
