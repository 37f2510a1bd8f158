"""The lives of the processor's refund objects: their statuses over time, drawn with the faults of a schedule."""

from __future__ import annotations

from tests.simulation.bank_records import DAY, HOUR
from tests.simulation.faults import Faults
from tests.simulation.kernel import World

# Seconds after the previous step, status, failure.
Life = list[tuple[float, str | None, str | None]]


def life_of_ours(world: World, faults: Faults, *, acts_after: float, fails_after: float) -> Life:
    """Return the statuses of an object that this program asked for.

    A customer acts no sooner than `acts_after` seconds after the question, and a paid refund fails no sooner than
    `fails_after` seconds later.
    """
    strikes, random = faults.strikes, world.random

    def uniform(shortest: float, longest: float) -> float:
        """Return a waiting time in seconds.

        In reality it is usually days; here it is often short, so that faults coincide.
        """
        return random.uniform(shortest, random.choice((shortest + 60, shortest + HOUR, longest, longest)))

    if strikes("failed at once"):
        return [(0, "failed", "expired_or_canceled_card")]
    if strikes("balance empty, told by the object"):
        return [(0, "pending", None), (random.choice((0.0, uniform(1, DAY))), "failed", "insufficient_funds")]
    life: Life = [(0, "succeeded", None)]
    if strikes("pending"):
        life = [(0, "pending", None), (uniform(60, 5 * DAY), "succeeded", None)]
    if strikes("unknown status"):
        life.insert(0, (0, random.choice(("in_review", None)), None))
        life[1] = (uniform(60, 2 * DAY), *life[1][1:])
    if strikes("requires action"):
        life = [(0, "requires_action", None), (uniform(acts_after, 3 * DAY), "succeeded", None)]
    if strikes("pending, then failed"):
        life = [(0, "pending", None), (uniform(60, 5 * DAY), "failed", "declined")]
    if strikes("canceled"):
        expired = random.choice(faults.ends_without_customer)
        life = [(0, "requires_action", None), (uniform(acts_after, 3 * DAY), expired, "expired")]
    if life[-1][1] == "succeeded" and strikes("failed later"):
        life.append((uniform(fails_after, 30 * DAY), "failed", "declined"))
    return life


def life_of_others(world: World, faults: Faults) -> Life:
    """Return the statuses of an object that others made."""
    random = world.random
    life: Life = [(0, "succeeded", None)]
    if faults.strikes("refund of others pending"):
        life = [(0, "pending", None), (random.uniform(60, 5 * DAY), "succeeded", None)]
    if faults.strikes("refund of others failed"):
        life.append((random.uniform(60, random.choice((HOUR, 20 * DAY))), "failed", "declined"))
    return life
