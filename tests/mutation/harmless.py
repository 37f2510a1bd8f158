"""Changes that `make mutation` drew and that change nothing anybody could see: `harmless.txt` has them with the reason.

Four lines each: the file, the line as it stands, the line as it became, and why nobody could see it.
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
