"""The payouts of a schedule, drawn from a stream of the seed's own beside the plan for refunds."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Method
from refund_worker.domain.refund import Kind, RefundRequest, To
from tests.simulation.bank_records import DAY, HOUR
from tests.simulation.payouts.transfer_bank import ONE_STEP, TWO_STEPS
from tests.simulation.plan import START, Act, Plan, compose
from tests.simulation.second_account import add_second_account

# Rates of the faults that only payouts have.
RATES = {
    "payout refused": (0, 0, 0.1, 0.4),
    "payout misconfigured": (0, 0, 0, 0.1),
    "unclaimed": (0, 0.2, 0.6),
    "returned less": (0, 0.5),
    "failed later": (0, 0, 0.3, 0.6),
    "pending, then failed": (0, 0, 0.3),
    "failed at once": (0, 0, 0.3),
    "report lost": (0, 0.3, 0.9),
    "report late": (0, 0.5),
    "report three times": (0, 0.5),
    "report carries the object": (0, 0.3, 1.0),
    "effect later": (0, 0, 0, 0.3),
    "500, effect": (0, 0, 0, 0.2),
    "answer lost": (0, 0, 0, 0.5),
    "request lost": (0, 0, 0, 0.5),
}
# For how long a processor may send a payout back. A paid one is read daily, so long windows take most of the time.
WINDOWS = (*(2 * DAY,) * 37, 7 * DAY, 7 * DAY, 30 * DAY)
# Key life and our use of it at the processor with one step.
KEYS = (
    (30 * DAY, 25 * DAY),
    (30 * DAY, 25 * DAY),
    (24 * HOUR, 20 * HOUR),
    (13 * HOUR, 12.5 * HOUR),
    (7 * HOUR, 6 * HOUR),
)


@dataclass(slots=True)
class PayoutPlan:
    """Everything about payouts that is decided before a schedule runs. Times are in seconds."""

    payees: list[PayeeRecord] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    cooldown_seconds: float = 0.0
    interval_seconds: float = 0.0
    window_seconds: float = 7 * DAY
    key_seconds: float = 30 * DAY
    key_use_seconds: float = 25 * DAY
    hold_seconds: float = 0.0
    maximum_minor: int | None = None
    outages: list[tuple[float, float]] = field(default_factory=list)
    empty: list[tuple[float, float]] = field(default_factory=list)
    denials: list[tuple[float, float]] = field(default_factory=list)
    # Payouts fail in ways that only a person can end, and people say how they ended.
    persons_decide: bool = False


def destination_of(processor: str, payee_id: str, number: int) -> Destination:
    """Return the payee's destination with this number."""
    if processor == TWO_STEPS:
        return Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=f"acct_{payee_id}{number:04}")
    return Destination(kind=DestinationKind.PAYPAL, email=f"{payee_id}.{number}@example.com")


# Acts of the plan for refunds that stay in most schedules, so that their time is spent on payouts.
KEPT = ("delete", "clock jump", "pause", "resume", "merge", "seal")
WHOLE_SHARE = 0.25
PERSONS_DECIDE_SHARE = 0.3


def plan_of_refunds(seed: int) -> Plan:
    """Return the plan for refunds of the seed: in a quarter of the schedules the whole plan, else a part of it."""
    random = Random(f"refunds beside payouts {seed}")
    plan = compose(random)
    if random.random() < WHOLE_SHARE:
        add_second_account(plan, seed)
        return plan
    requests = [act for act in plan.acts if act.what == "request"]
    plan.acts = [act for act in plan.acts if act.what in KEPT or act in requests[:1]]
    plan.polling_only = False
    return plan


def add_payouts(plan: Plan, seed: int) -> PayoutPlan:
    """Draw the payouts of the seed, and add their acts to the plan."""
    random = Random(f"payouts {seed}")
    key_seconds, key_use_seconds = random.choice(KEYS)
    ours = PayoutPlan(
        rates={name: rate * random.uniform(0.3, 1) for name, rates in RATES.items() if (rate := random.choice(rates))},
        cooldown_seconds=random.choice((0.0, 0.0, 0.0, 60.0, HOUR, DAY)),
        interval_seconds=random.choice((0.0, 0.0, 0.0, HOUR)),
        window_seconds=random.choice(WINDOWS),
        key_seconds=key_seconds,
        key_use_seconds=key_use_seconds,
        hold_seconds=random.choice((0.0, 0.0, 60.0, HOUR)),
        maximum_minor=random.choice((None, None, None, 5_000)),
    )
    for number in range(random.choice((1, 2, 2))):
        processor = random.choice((TWO_STEPS, ONE_STEP))
        payee_id = f"p{number + 1}"
        ours.payees.append(
            PayeeRecord(
                payee_id=payee_id,
                customer_id=None,
                processor=processor,
                destination=destination_of(processor, payee_id, 1),
                currency=random.choice(("USD", "EUR")),
                country="DE",
                method=Method.STANDARD,
            )
        )
    _windows(random, plan, ours)
    _earnings(random, plan, ours)
    _requests(random, plan, ours)
    _people(random, plan, ours)
    _clawbacks(random, plan)
    if Random(f"persons decide {seed}").random() < PERSONS_DECIDE_SHARE:
        _let_persons_decide(random, plan, ours)
    plan.acts.sort(key=lambda act: act.at)
    return ours


def _windows(random: Random, plan: Plan, ours: PayoutPlan) -> None:
    def window(chance: float, longest: float) -> list[tuple[float, float]]:
        if random.random() >= chance:
            return []
        begin = START + random.uniform(0, plan.horizon)
        return [(begin, begin + random.uniform(10, longest))]

    ours.outages = window(0.15, random.choice((60.0, HOUR, 28 * HOUR)))
    ours.empty = window(0.1, 60 * HOUR)
    ours.denials = window(0.05, 8 * HOUR)


def _earnings(random: Random, plan: Plan, ours: PayoutPlan) -> None:
    for number in range(random.choice((3, 4, 6, 8))):
        payee = random.choice(ours.payees)
        spend = random.choice(plan.spends).transaction_id if plan.spends and random.random() < 0.7 else None
        record = EarningRecord(
            earning_id=f"e{number + 1}",
            payee_id=payee.payee_id,
            amount_minor=random.choice((1, 99, 500, 1_000, 3_333)),
            currency=payee.currency,
            transaction_id=spend,
            available_at=random.choice((None, START, START, START + random.uniform(0, plan.horizon))),
        )
        at = random.choice((0.5, 0.5, 0.5, random.uniform(0, plan.horizon * 0.8)))
        for again in range(2 if random.random() < 0.2 else 1):
            plan.acts.append(Act(at + again * random.uniform(0, 10), "earn", {"records": [record]}))


def _requests(random: Random, plan: Plan, ours: PayoutPlan) -> None:
    for number in range(random.choice((2, 3, 4, 6))):
        payee = random.choice(ours.payees)
        request = PayoutRequest(
            idempotency_key=f"pk{number + 1}",
            payee_id=payee.payee_id,
            amount_minor=random.choice((None, 1, 7, 50, 100, 500)),
            currency=payee.currency,
            description="your share",
            client=random.choice(("shop", "desk")),
            actor="anna",
            bulk=random.random() < 0.2,
        )
        at = random.uniform(1, plan.horizon * 0.9)
        for again in range(random.choice((1, 1, 1, 2))):
            late = again * random.choice((0.0, 0.05, 1, 60))
            plan.acts.append(Act(at + late, "ask payouts", {"requests": [request]}))


def _people(random: Random, plan: Plan, ours: PayoutPlan) -> None:
    def at(factor: float = 1.2) -> float:
        return random.uniform(0, plan.horizon * factor)

    def act(what: str, **arguments: Any) -> None:
        plan.acts.append(Act(at(), what, arguments))

    for _ in range(random.choice((0, 1, 2, 4))):
        act("operate payout", pick=random.random(), choice=random.random())
    payee = random.choice(ours.payees)
    if random.random() < 0.2:
        act("change destination", payee_id=payee.payee_id, cancels=random.random() < 0.7)
    if random.random() < 0.15:
        begin = at()
        plan.acts.append(Act(begin, "pause payee", {"payee_id": payee.payee_id}))
        plan.acts.append(
            Act(begin + random.choice((60, HOUR, 20 * HOUR)), "resume payee", {"payee_id": payee.payee_id})
        )
    if random.random() < 0.12:
        act("undo transfer", pick=random.random())
    if random.random() < 0.12:
        act("drain", pick=random.random())
    if random.random() < 0.1:
        begin, name = at(), random.choice((TWO_STEPS, ONE_STEP, "all"))
        plan.acts.append(Act(begin, "pause", {"account": name}))
        plan.acts.append(
            Act(begin + random.choice((60, HOUR, 26 * HOUR)) * random.random(), "resume", {"account": name})
        )


def _let_persons_decide(random: Random, plan: Plan, ours: PayoutPlan) -> None:
    """Let banks fail payouts, let answers be lost for longer than a key lives, and let people act for days."""
    ours.persons_decide = True
    plan.horizon = max(plan.horizon, random.uniform(3 * DAY, 8 * DAY))
    ours.key_seconds, ours.key_use_seconds = KEYS[-1]
    ours.rates |= {"pending, then failed": random.choice((0.0, 0.8)), "payout answer lost": random.choice((0.3, 0.9))}
    plan.polling_only = False
    plan.acts += [Act(day * DAY, "look at the list", {}) for day in range(1, int(plan.horizon / DAY) + 2)]
    for _ in range(8):
        act = {"pick": random.random(), "choice": random.random()}
        plan.acts.append(Act(random.uniform(0, plan.horizon * 1.25), "operate payout", act))


def _clawbacks(random: Random, plan: Plan) -> None:
    """Refund the spends that the payees earned of, and delete some of these refunds."""
    for number in range(random.choice((0, 1, 1, 2)) if plan.spends else 0):
        spend = random.choice(plan.spends)
        request = RefundRequest(
            idempotency_key=f"claw{number}",
            kind=Kind.CREDIT_REFUND,
            to=random.choice((To.BALANCE, To.BALANCE, To.SOURCE)),
            customer_id=spend.customer_id,
            transaction_id=spend.transaction_id,
            credits=random.choice((None, 1, max(1, spend.credits // 2))),
            currency=next(p.currency for p in plan.payments if p.customer_id == spend.customer_id),
            reason="asked",
            client="desk",
            actor="otto",
        )
        plan.acts.append(Act(random.uniform(0, plan.horizon), "request", {"requests": [request]}))
        if random.random() < 0.5:
            plan.acts.append(Act(random.uniform(0, plan.horizon * 1.2), "delete", {"pick": random.random()}))
