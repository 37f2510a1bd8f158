"""The results of the conformance suite: one for each promise, in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refund_worker.processors.conformance.bench import Bench


class Verdict(StrEnum):
    """The verdict on one promise."""

    OK = "ok"
    FAILED = "failed"
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one check: the promise if it is kept, or what is wrong and what to do, or why it was not asked."""

    check: str
    verdict: Verdict
    found: str
    do: str = ""


class Broken(Exception):
    """A promise is broken: what is wrong, and what to do."""

    def __init__(self, found: str, do: str) -> None:
        super().__init__(found)
        self.found = found
        self.do = do


class NotAsked(Exception):
    """A promise cannot be checked here, for this reason."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise: a short name, the promise in a sentence, and the function that asks for it.

    The function returns nothing if the promise is kept. It raises `Broken` or `NotAsked`.
    """

    name: str
    promise: str
    run: Callable[[Any], Awaitable[None]]


Function = Callable[["Bench"], Awaitable[None]]


def expect(is_kept: bool, found: str, do: str) -> None:
    """Raise `Broken` unless the promise is kept."""
    if not is_kept:
        raise Broken(found, do)
