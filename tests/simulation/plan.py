"""The plan of a schedule, drawn from its seed: customers, their requests, people's actions, and the faults by time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from refund_worker.domain.decision import Policy
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.processors.stripe.entry import CAPABILITIES
from tests.simulation.bank_records import SilentRules

HOUR, DAY = 3_600.0, 86_400.0
START = 1_790_000_000.0
CURRENCIES = ("EUR", "USD", "JPY", "KWD")


@dataclass(frozen=True, slots=True)
class Act:
    """An action of a person or of the world. `at` is in seconds after the start."""

    at: float
    what: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Second:
    """The second account of a schedule: its rules, the rates of its faults, and its outages by time."""

    rules: SilentRules
    rates: dict[str, float] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)
    denials: list[tuple[float, float]] = field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """Everything that is decided before a schedule runs."""

    policy: Policy
    threshold: int | None
    workers: int
    horizon: float
    payments: list[PaymentRecord]
    spends: list[SpendRecord]
    acts: list[Act]
    webhooks: bool
    broker: bool
    very_late: bool
    outages: list[tuple[float, float]]
    denials: list[tuple[float, float]]
    empty: list[tuple[float, float]]
    database_outages: list[tuple[float, float]]
    unknown_payments: set[str]
    # Payments with another amount and currency at the processor than in our books.
    recorded_wrong: dict[str, tuple[int, str]] = field(default_factory=dict)
    unreadable: bool = False  # a server that has no way to read payments
    notify: bool = False
    velocity_count: int | None = None
    polling_only: bool = False  # no webhooks and no listing: polling alone must finish the refunds
    second: Second | None = None  # an account at the silent processor


def compose(random: Random) -> Plan:
    """Draw a whole plan. Most plans are small, because small ones find the most defects for each second."""
    horizon = random.choice((10.0, 60.0, 60.0, 600.0, 600.0, 2 * HOUR, 8 * HOUR, 30 * HOUR))
    very_late = random.random() < 0.1
    if very_late:  # long enough for a person to abandon a leg that the processor then pays
        horizon = 30 * HOUR
    plan = Plan(
        policy=_policy(random, very_late, horizon),
        threshold=random.choice((None, None, None, None, 400)),
        workers=random.randint(2, 4),
        horizon=horizon,
        payments=[],
        spends=[],
        acts=[],
        webhooks=random.random() < 0.6,
        broker=random.random() < 0.6,
        very_late=very_late,
        outages=_windows(random, horizon, 0.15, longest=random.choice((60.0, HOUR, 28 * HOUR)))
        or _windows(random, horizon, 0.4 if horizon >= DAY else 0, longest=28 * HOUR, shortest=20 * HOUR),
        denials=_windows(random, horizon, 0.08, longest=8 * HOUR),
        empty=_windows(random, horizon, 0.08, longest=60 * HOUR),
        database_outages=_windows(random, horizon, 0.08, longest=HOUR),
        unknown_payments=set(),
        unreadable=random.random() < 0.15,
        notify=random.random() < 0.12,
        velocity_count=random.choice((1, 2, 3)) if random.random() < 0.1 else None,
    )
    for number in range(random.choice((1, 1, 1, 2))):
        _customer(random, plan, f"c{number + 1}")
    _requests(random, plan)
    _people(random, plan)
    _world(random, plan)
    _bookkeeping(random, plan)
    plan.acts.sort(key=lambda act: act.at)
    if random.random() < 0.12:
        plan.polling_only, plan.webhooks = True, False
    return plan


def _policy(random: Random, very_late: bool, horizon: float) -> Policy:
    policy: dict[str, Any] = {
        "allocation": random.choice(("newest_first", "newest_first", "oldest_first", "pro_rata")),
        "retry_max_seconds": random.choice((600.0, HOUR, 4 * HOUR, 4 * HOUR)) if horizon < HOUR else 6 * HOUR,
        "processors": {"stripe": CAPABILITIES.rules(live=random.choice((None, False)))},
        # The simulated time is before the upgrade that brought claims. Most schedules record refunds of others.
        "outside_since": random.choice((0.0, 0.0, 0.0, math.inf)),
        "shortfall": random.choice(("write_off", "write_off", "debt", "person")),
    }
    if very_late:
        # There is never an automatic second attempt: an effect after days can contradict a person, but not pay twice.
        policy |= {"key_life_seconds": 6 * HOUR, "quiet_seconds": 6 * HOUR}
    return Policy(**policy)


def _windows(
    random: Random, horizon: float, chance: float, *, longest: float, shortest: float = 10
) -> list[tuple[float, float]]:
    if random.random() >= chance:
        return []
    start = random.uniform(0, horizon / 2)
    edge = random.choice((None, 20 * HOUR - 1, 20 * HOUR, 20 * HOUR + 1, 24 * HOUR - 1, 24 * HOUR + 1))
    length = (
        edge if edge is not None and edge <= longest and random.random() < 0.3 else random.uniform(shortest, longest)
    )
    return [(START + start, START + start + length)]


def _customer(random: Random, plan: Plan, name: str) -> None:
    currencies = random.sample(CURRENCIES, 2 if random.random() < 0.2 else 1)
    bought = 0
    for number in range(random.choice((1, 1, 2, 2, 3))):
        amount = random.choice((1, 7, 99, 100, 333, 500, 1_000, 1_990)) * (10 if currencies == ["KWD"] else 1)
        credits = random.choice((amount, amount, 10, 100, 3))
        payment_id = f"{name}-p{number + 1}"
        plan.payments.append(
            PaymentRecord(
                payment_id=payment_id,
                customer_id=name,
                processor="stripe" if random.random() > 0.01 else "manual",
                processor_payment_id=f"ch_{payment_id}",
                amount_minor=amount,
                currency=random.choice(currencies),
                credits=credits,
                captured_at=START - random.randint(1, 90) * DAY,
            )
        )
        bought += credits
        if random.random() < 0.02:
            plan.unknown_payments.add(f"ch_{payment_id}")
        elif random.random() < 0.03 and not plan.unreadable:
            plan.recorded_wrong[f"ch_{payment_id}"] = random.choice(
                ((amount * 100, plan.payments[-1].currency), (max(1, amount // 100), "USD"), (amount, "HUF"))
            )
    for number in range(random.choice((0, 1, 1, 2))):
        credits = random.randint(1, max(1, bought // 2))
        if credits > bought:
            break
        bought -= credits
        plan.spends.append(
            SpendRecord(
                transaction_id=f"{name}-s{number + 1}",
                customer_id=name,
                credits=credits,
                description="Private chat",
                occurred_at=START - random.randint(1, 20) * HOUR,
            )
        )


def _requests(random: Random, plan: Plan) -> None:
    customers = sorted({payment.customer_id for payment in plan.payments})
    for number in range(random.choice((1, 1, 1, 2, 2, 3, 6))):
        customer = random.choice(customers)
        spends = [spend for spend in plan.spends if spend.customer_id == customer]
        request = _request(random, f"k{number + 1}", customer, random.choice(spends) if spends else None, plan)
        at = random.uniform(0, plan.horizon * 0.8)
        plan.acts.append(Act(at, "request", {"requests": [request]}))
        if random.random() < 0.2:  # the same request again, perhaps while the first is running
            plan.acts.append(Act(at + random.choice((0, 0.05, 1, 60)), "request", {"requests": [request]}))
    if random.random() < 0.15:
        requests = [act.arguments["requests"][0] for act in plan.acts]
        plan.acts.append(Act(random.uniform(0, plan.horizon), "request", {"requests": requests}))


def _request(random: Random, key: str, customer: str, spend: SpendRecord | None, plan: Plan) -> RefundRequest:
    credit_refund = spend is not None and random.random() < 0.5
    currencies = sorted({p.currency for p in plan.payments if p.customer_id == customer})
    whole = (
        spend.credits
        if spend is not None and credit_refund
        else sum(p.credits for p in plan.payments if p.customer_id == customer)
    )
    return RefundRequest(
        idempotency_key=key,
        kind=Kind.CREDIT_REFUND if credit_refund else Kind.WITHDRAWAL,
        to=To.BALANCE if credit_refund and random.random() < 0.4 else To.SOURCE,
        customer_id=customer,
        transaction_id=spend.transaction_id if spend is not None and credit_refund else None,
        credits=None if random.random() < 0.4 else random.randint(1, max(1, whole)),
        currency=random.choice(currencies) if len(currencies) > 1 else None,
        reason=random.choice(("asked", "duplicate")),
        client=random.choice(("shop", "shop", "desk")),
        actor="anna",
        bulk=random.random() < 0.2,
    )


def _people(random: Random, plan: Plan) -> None:
    """Add corrections with or without a payout, deletions, and an operator who acts occasionally."""
    customers = sorted({payment.customer_id for payment in plan.payments})
    for number in range(random.choice((0, 0, 1, 2))):
        customer, at = random.choice(customers), random.uniform(0, plan.horizon * 0.6)
        credits = random.choice((50, 5, 1, -1, -5, -50))
        plan.acts.append(Act(at, "correct", {"customer_id": customer, "credits": credits, "key": f"corr{number}"}))
        if credits < 0 and random.random() < 0.7:
            later = at + random.uniform(1, plan.horizon / 2)
            plan.acts.append(
                Act(later, "pay out correction", {"key": f"payout{number}", "correction": f"corr{number}"})
            )
    for _ in range(random.choice((0, 0, 1, 2))):
        plan.acts.append(Act(random.uniform(0, plan.horizon * 1.2), "delete", {"pick": random.random()}))
    for _ in range(random.choice((0, 1, 2, 4)) + (4 if plan.very_late else 2 if plan.threshold is not None else 0)):
        at = random.uniform(0, plan.horizon * 1.2)
        plan.acts.append(Act(at, "operate", {"pick": random.random(), "choice": random.random()}))


def _world(random: Random, plan: Plan) -> None:
    if random.random() < 0.06:
        at = random.uniform(0, plan.horizon)
        plan.acts.append(Act(at, "pause"))
        plan.acts.append(Act(at + random.choice((60, HOUR, 26 * HOUR)) * random.random(), "resume"))
    others = (("refund elsewhere", 0.2), ("refund by another installation", 0.08), ("dispute", 0.08))
    others += (("refund by an older database", 0.05), ("refund with copied marks", 0.05))
    for name, chance in others:
        if random.random() < chance:
            payment = random.choice(plan.payments).processor_payment_id
            part = random.choice((1.0, 0.5))
            plan.acts.append(Act(random.uniform(0, plan.horizon), name, {"payment": payment, "part": part}))
    if random.random() < 0.2:
        plan.acts += [Act(random.uniform(0, plan.horizon), "seal") for _ in range(3)]
    if random.random() < 0.08:
        # A clock jump is most dangerous while a request is in transit.
        asked = random.choice([act.at for act in plan.acts if act.what == "request"])
        soon = asked + random.choice((1, 5, 20, 60, 600)) * random.random()
        at = random.choice((soon, soon, random.uniform(0, plan.horizon)))
        plan.acts.append(Act(at, "clock jump", {"seconds": random.choice((DAY, -DAY))}))


def _bookkeeping(random: Random, plan: Plan) -> None:
    """Add closed payments, merged customers, links, decisions, and cancellations of refunds that ask the customer."""

    def at(factor: float = 1.0) -> float:
        return random.uniform(0, plan.horizon * factor)

    if random.random() < 0.06:
        plan.acts.append(Act(at(), "close payment", {"payment": random.choice(plan.payments).payment_id}))
    customers = sorted({payment.customer_id for payment in plan.payments})
    if random.random() < 0.08:
        merged = random.choice(customers)
        into = random.choice([name for name in (*customers, "c9") if name != merged])
        plan.acts.append(Act(at(), "merge", {"customer_id": merged, "into": into}))
    if random.random() < 0.25:
        plan.acts += [Act(at(1.2), "link", {"pick": random.random(), "choice": random.random()}) for _ in range(2)]
    if random.random() < 0.5:
        plan.acts.append(Act(at(1.2), "decide", {"decision": random.choice(("write_off", "debt"))}))
    if random.random() < 0.15:
        plan.acts += [Act(at(1.2), "cancel waiting") for _ in range(3)]


ActFunction = Callable[..., None]
