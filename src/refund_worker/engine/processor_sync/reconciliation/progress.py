"""The place that a reconciliation has reached, and what it has counted. It is stored after each piece."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum


class Phase(StrEnum):
    """The parts of a reconciliation, in their order."""

    REFUNDS = "refunds"  # the processor's refund objects
    LEGS = "legs"  # our paid legs without an object
    PAYMENTS = "payments"
    DISPUTES = "disputes"
    LEDGER = "ledger"  # our own sums
    DONE = "done"


NEXT_PHASE: Mapping[Phase, Phase] = dict(zip(list(Phase), list(Phase)[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Counts:
    """The sums so far. `totals` are our and the processor's minor units, by currency.

    `foreign` objects have no mark of ours, and `other_installations` counts objects of other installations. `resolved`
    objects were not what was asked for, and a person who knew of them decided how their leg ends. `asked` counts the
    objects that were asked for one by one.
    """

    objects: int = 0
    compared: int = 0
    in_flight: int = 0
    foreign: int = 0
    other_installations: int = 0
    resolved: int = 0
    asked: int = 0
    payments: int = 0
    disputes: int = 0
    pieces: int = 0
    totals: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def plus(self, **more: int) -> Counts:
        """Return the counts with these added."""
        return replace(self, **{name: getattr(self, name) + number for name, number in more.items()})

    def plus_money(self, lines: Mapping[tuple[str, str], tuple[int, int]]) -> Counts:
        """Return the counts with the (ours, theirs) of legs, by leg and currency, added to the totals."""
        totals = dict(self.totals)
        for (_, currency), (ours, theirs) in lines.items():
            before = totals.get(currency, (0, 0))
            totals[currency] = (before[0] + ours, before[1] + theirs)
        return replace(self, totals=totals, compared=self.compared + len(lines))


@dataclass(frozen=True, slots=True)
class Progress:
    """The next piece begins at `after` in this phase; "" is the phase's beginning.

    The refunds are listed newest first. All that were created after `low` (epoch seconds) were read, and of those
    created at `low` the ones in `edge`.
    """

    phase: Phase = Phase.REFUNDS
    after: str = ""
    low: float | None = None
    edge: tuple[str, ...] = ()
    counts: Counts = field(default_factory=Counts)

    @property
    def is_done(self) -> bool:
        """Return True if all was compared."""
        return self.phase is Phase.DONE

    def next_phase(self, counts: Counts) -> Progress:
        """Return the beginning of the next phase."""
        return Progress(NEXT_PHASE[self.phase], counts=counts)

    def as_json(self) -> str:
        """Return the progress as it is stored."""
        return json.dumps(asdict(self))

    @classmethod
    def of(cls, stored: str) -> Progress:
        """Return the progress that was stored."""
        values = json.loads(stored)
        counts = values.pop("counts")
        totals = {currency: (both[0], both[1]) for currency, both in counts.pop("totals").items()}
        return cls(
            phase=Phase(values["phase"]),
            after=values["after"],
            low=values["low"],
            edge=tuple(values["edge"]),
            counts=Counts(**counts, totals=totals),
        )
