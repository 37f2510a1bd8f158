"""deploy/Dockerfile as a list of instructions."""

from __future__ import annotations

import re
from typing import NamedTuple

from tests.support.pages import ROOT

FILE = ROOT / "deploy" / "Dockerfile"


class Instruction(NamedTuple):
    """One instruction, such as RUN, with its continued lines in one."""

    name: str
    value: str


def instructions_of(text: str) -> list[Instruction]:
    """Return the instructions without comments. Raises `ValueError` for a line that is none."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = []
    for line in re.sub(r"\s*\\\n\s*", " ", lines).splitlines():
        if line.strip():
            name, _, value = line.strip().partition(" ")
            if not name.isupper():
                raise ValueError(f"no instruction: {line}")
            found.append(Instruction(name, value.strip()))
    return found
