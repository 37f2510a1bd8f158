"""The findings of `refund-worker doctor`: what a check found, how bad that is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """The result of one check."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check with its advice; `do` is empty if nothing has to be done."""

    check: str
    verdict: Verdict
    found: str
    do: str = ""


def explained_by(entry: str) -> str:
    """Return the command that shows an entry of the runbook."""
    return f"refund-worker explain {entry}"
