"""The faults: their rates are drawn from the seed. Each schedule has only a few kinds, so that they often coincide.

`FAULTS` lists all of them, each with its rows in the project's table of faults (docs/reliability.md). A test compares
the list with the schedules of `make test`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.simulation.kernel import World


class Fault(NamedTuple):
    """A kind of fault. `highest` is the highest rate at each of its points; 0 if the plan decides when it strikes."""

    highest: float
    rows: tuple[int, ...] = ()


FAULTS: Mapping[str, Fault] = {
    # the database and the processes
    "die before a statement": Fault(0.012, (5,)),
    "die after a statement": Fault(0.012, (5,)),
    "die before the commit": Fault(0.06, (1,)),
    "die after the commit": Fault(0.06, (2, 20, 30)),
    "commit unknown, applied": Fault(0.06, (3,)),
    "commit unknown, not applied": Fault(0.06, (4,)),
    "connection lost in a transaction": Fault(0.012, (5,)),
    "database outage": Fault(0, (5,)),
    "deadlock": Fault(0.02, (6,)),
    "locked": Fault(0.05, (7,)),
    "slow": Fault(0.15),  # interleavings
    "frozen": Fault(0.05, (34, 35)),
    # messages
    "die before the message": Fault(0.12, (20,)),
    "die after the message": Fault(0.12, (21,)),
    "message lost": Fault(0.7, (22,)),
    "message twice": Fault(0.4, (23,)),
    "message late": Fault(0.5, (24,)),
    # calls
    "die before the call": Fault(0.08, (30,)),
    "die during the call": Fault(0.08, (31,)),
    "die after the call": Fault(0.08, (31,)),
    "request lost": Fault(0.2, (39,)),
    "answer lost": Fault(0.25, (40,)),
    "effect later": Fault(0.2, (41,)),
    "effect later, key in use": Fault(0.15, (41, 43)),
    "answer cut": Fault(0.15, (42,)),
    "409": Fault(0.1, (43,)),
    "429": Fault(0.15, (44,)),
    "429 with Retry-After": Fault(0.15, (44,)),
    "500, no effect": Fault(0.15, (45,)),
    "500, effect": Fault(0.15, (46,)),
    "500, effect later": Fault(0.1, (45, 46)),
    "no connection": Fault(0.2),
    "outage": Fault(0),
    "outage beyond the key's life": Fault(0, (47,)),
    "silent to the key's edge": Fault(0.6, (48,)),
    "slow call": Fault(0.15),
    "frozen before sending": Fault(0.05, (35,)),
    "frozen before the answer": Fault(0.06, (34,)),
    "list lags": Fault(0.6, (49,)),
    "list repeats": Fault(0.7, (50,)),
    "list shifts": Fault(0.5, (50,)),
    "another amount": Fault(0.1, (56,)),
    "another payment": Fault(0.08, (56,)),
    "401": Fault(0, (57,)),
    "stale answer": Fault(0.4),
    "key kept longer": Fault(0.5),
    # results of a refund
    "declined": Fault(0.35, (51,)),
    "refused, not kept": Fault(0.12),  # a refusal that says nothing about an earlier send under the same key
    "refunded elsewhere": Fault(0, (52, 75)),
    "refund of others pending": Fault(0.4),
    "refund of others failed": Fault(0.3),
    "refunded by hand while in doubt": Fault(0.5, (75,)),
    "refunded by another installation": Fault(0, (76,)),
    "refunded by an older database": Fault(0, (76,)),
    "our marks copied": Fault(0, (78,)),
    "refusal of an unknown code": Fault(0.1, (77,)),
    "our set-up refused": Fault(0.08, (77,)),
    "marks edited away": Fault(0.4, (78,)),
    "recorded wrong": Fault(0, (79,)),
    "balance empty, told by the object": Fault(0.15, (80,)),
    "paid by hand while in doubt": Fault(0.3, (69, 75)),
    "disputed": Fault(0),
    "blocked": Fault(0.15, (53,)),
    "balance empty": Fault(0, (53,)),
    "requires action": Fault(0.3, (54,)),
    "canceled": Fault(0.2, (54,)),
    "unknown status": Fault(0.3, (55,)),
    "pending": Fault(0.5),
    "pending, then failed": Fault(0.2, (80,)),  # because the balance is empty
    "failed at once": Fault(0.2),
    "failed later": Fault(0.25, (64,)),
    "asked again after failure": Fault(0.9, (65,)),
    # webhook events
    "webhook before the answer": Fault(0.3, (58,)),
    "webhook lost": Fault(0.7, (59,)),
    "webhook three times": Fault(0.4, (60,)),
    "webhook overtaken": Fault(0.5, (61,)),
    "webhook late": Fault(0.4, (61,)),
    "webhook handler dies": Fault(0.4, (62,)),
    "webhook of an unknown refund": Fault(0, (63,)),
    "event never comes": Fault(0, (89,)),  # the second account draws its rate, as of some of the others
    # clocks and people
    "clock jump": Fault(0, (66,)),
    "clocks differ": Fault(0.9, (67,)),
    "operator races a worker": Fault(0, (68,)),
    "two operators at once": Fault(0.5, (68,)),
    "operator contradicted": Fault(0, (69,)),
    # Links, decisions about shortfalls and cancels while the customer is asked are counted too, but they are rare.
    "payment closed": Fault(0),
    "customers merged": Fault(0),
    "refunds switched off": Fault(0, (91,)),
    # the receiver of our notifications
    "receiver hangs": Fault(0.4, (74,)),
    "receiver redirects": Fault(0.4, (74,)),
}
# These are in every schedule, because the situations that they need are rare.
EVERYWHERE = {
    "die before the message",
    "list repeats",
    "list shifts",
    "stale answer",
    "asked again after failure",
    "webhook handler dies",
    "receiver hangs",
    "receiver redirects",
}


@dataclass(slots=True)
class Faults:
    """Draws faults while `on`. Counts by name those that struck while an accepted refund was open."""

    world: World
    rates: dict[str, float]
    is_open: Callable[[], bool]
    on: bool = True
    ends_without_customer: tuple[str, ...] = ("canceled", "failed")  # of refunds that wait: canceled or expired
    struck: int = 0
    while_open: Counter[str] = field(default_factory=Counter)

    def strikes(self, name: str) -> bool:
        """Return True, and count the fault, if it strikes now."""
        rate = self.rates.get(name)
        if not self.on or not rate or self.world.random.random() >= rate:
            return False
        self.count(name)
        return True

    def count(self, name: str, *, while_open: bool = False) -> None:
        """Count a fault. Pass `while_open` if it is known to concern an open refund; otherwise one must be open now."""
        self.struck += 1
        self.while_open[name] += while_open or self.is_open()
        self.world.note("FAULT", name)


def draw_rates(world: World) -> dict[str, float]:
    """Return rates for about a third of all faults. Some schedules get many faults, some almost none."""
    random = world.random
    share = random.choice((0.05, 0.2, 0.3, 0.3, 0.45, 0.8))
    return {
        name: fault.highest * random.uniform(0.1, 1)
        for name, fault in FAULTS.items()
        if fault.highest and (random.random() < share or name in EVERYWHERE)
    }
