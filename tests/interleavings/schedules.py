"""The schedules: every pair in every scene in which one of them has an effect, with up to two preemptions."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.interleavings.pair_run import Broken, Met, Place
from tests.interleavings.scenes import OPERATIONS, Operation
from tests.interleavings.stepper import Hangs

Pair = tuple[Operation, Operation]
BY_NAME = {operation.name: operation for operation in OPERATIONS}
PAIRS: tuple[Pair, ...] = tuple(itertools.combinations_with_replacement(OPERATIONS, 2))


@dataclass(frozen=True, slots=True)
class Meeting:
    """A pair in a scene."""

    scene: str
    pair: Pair

    @property
    def name(self) -> str:
        """The meeting's name, for output."""
        return f"{self.scene}: {self.pair[0].name} × {self.pair[1].name}"


MEETINGS = tuple(Meeting(scene, pair) for pair in PAIRS for scene in dict.fromkeys((*pair[0].scenes, *pair[1].scenes)))


@dataclass(slots=True)
class Tally:
    """The counts of a run.

    `blocked` are preemptions at which the other operation could only have waited for the lock.
    """

    schedules: int = 0
    blocked: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.schedules += other.schedules
        self.blocked += other.blocked
        self.failures += other.failures


def run_meeting(place: Place, meeting: Meeting, every_single: int = 1, every_double: int = 0) -> Tally:
    """Run the serial schedules, then those with one and two preemptions, or each n-th of these (0: none)."""
    tally = Tally()
    first, second = meeting.pair
    orders = [(first, second)] if first is second else [(first, second), (second, first)]
    serial = [met for pair in orders if (met := _run(place, meeting.scene, pair, (), tally)) is not None]
    allowed = _Allowed(serial, orders)
    singles, doubles = _share(meeting, every_single), _share(meeting, every_double)
    for pair, alone in zip(orders, serial, strict=False):
        tally.blocked += alone.steps - len(alone.possible)
        for one in alone.possible:
            # A switch before the first step is the other order.
            if one == 1 or not (next(singles) or every_double):
                continue
            met = _run(place, meeting.scene, pair, (one,), tally, allowed)
            if met is None or not every_double:
                continue
            later = [two for two in met.possible if two > one]
            tally.blocked += met.steps - one - len(later)
            for two in later:
                if next(doubles):
                    _run(place, meeting.scene, pair, (one, two), tally, allowed)
    return tally


def _share(meeting: Meeting, every: int) -> Iterator[bool]:
    """Yield True for each n-th schedule. The start of the count differs between meetings."""
    number = zlib.crc32(meeting.name.encode())
    while True:
        number += 1
        yield every > 0 and number % every == 0


class _Allowed:
    """The allowed outcomes: those of one of the serial orders."""

    def __init__(self, serial: list[Met], orders: list[Pair]) -> None:
        self._said: dict[str, set[str]] = {}
        for met, pair in zip(serial, orders, strict=False):
            for operation, said in zip(pair, met.said, strict=True):
                self._said.setdefault(operation.name, set()).add(said)
        self._ended = [met.ended for met in serial]

    def check(self, pair: Pair, met: Met) -> None:
        """Raise `Broken` unless the outcome is one of a serial order."""
        for operation, said in zip(pair, met.said, strict=True):
            if said not in self._said[operation.name] and not said.startswith("refused"):
                raise Broken(f"{operation.name} said {said!r}, in order it says {self._said[operation.name]}")
        if met.ended not in self._ended and not (met.with_a_person and any(one.to_a_person for one in pair)):
            raise Broken(f"it ends as {met.ended}, in order as {' or '.join(map(str, self._ended))}")


def _run(
    place: Place, scene: str, pair: Pair, switch_at: tuple[int, ...], tally: Tally, allowed: _Allowed | None = None
) -> Met | None:
    tally.schedules += 1
    try:
        met = place.meet(scene, pair, switch_at)
        if allowed is not None:
            allowed.check(pair, met)
    except (Broken, Hangs) as broken:
        at = f" --at {' '.join(map(str, switch_at))}" if switch_at else ""
        replay = f'--scene "{scene}" --pair "{pair[0].name}" "{pair[1].name}"{at}'
        tally.failures.append(f"{broken}\n  .venv/bin/python -m tests.interleavings {place.flag}{replay}")
        return None
    return met
