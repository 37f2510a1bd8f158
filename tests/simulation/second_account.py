"""Two schedules in three have a second account, at a silent processor: its part of the plan, drawn from its own stream.

The stream is the seed's own, so that the other schedules stay exactly as they were without it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from random import Random

from refund_worker.domain.records import PaymentRecord
from tests.simulation.bank_records import DAY, HOUR, SILENT, STRIPE, SilentRules
from tests.simulation.plan import START, Act, Plan, Second
from tests.simulation.silent_processor import capabilities

SHARE = 2 / 3
LEASE_SECONDS = 60
FALLBACKS = (
    ("payments", "balance"),
    ("payments", "balance"),
    ("payments", "balance"),
    ("payments", "manual"),
    ("payments",),
    ("balance",),
    ("balance", "payments"),
)
DESTINATIONS = ("payments", "balance", "payments,balance", "manual", "payments,manual")
# The account's own quiet window and the bound of its late effects, in seconds: that of all accounts is 6 hours.
QUIET_AND_LATE = ((9 * HOUR, 8 * HOUR), (6 * HOUR, 4.9 * HOUR), (HOUR, 0.8 * HOUR), (HOUR, 0.8 * HOUR), (600.0, 400.0))
# Rates of the faults that only this processor has, and of those that are most dangerous there.
RATES = {
    "event never comes": (0, 0, 0, 0.3, 0.7),
    "answer lost": (0, 0, 0.2, 0.6),
    "500, effect": (0, 0, 0, 0.2),
    "effect later": (0, 0, 0, 0.3),
    "failed later": (0, 0, 0.2),
    "pending, then failed": (0, 0, 0.3),
}


def add_second_account(plan: Plan, seed: int) -> None:
    """Give the plan a second account, in two of three schedules. Effects after days would break its one assumption."""
    random = Random(f"a second account {seed}")
    if plan.very_late or random.random() >= SHARE:
        return
    rules = _rules(random, plan)
    plan.second = second = Second(rules)
    known = plan.policy.processors
    plan.policy = replace(
        plan.policy,
        processors={**known, SILENT: capabilities(rules).rules(quiet_seconds=rules.quiet_seconds)},
        fallback=random.choice(FALLBACKS),
    )
    second.rates = {name: rate for name, rates in RATES.items() if (rate := random.choice(rates))}
    if random.random() < 0.3:
        begin = START + random.uniform(0, plan.horizon / 2)
        second.outages.append((begin, begin + random.choice((60.0, HOUR, 20 * HOUR)) * random.random()))
    if random.random() < 0.1:
        begin = START + random.uniform(0, plan.horizon)
        second.denials.append((begin, begin + random.uniform(60, 8 * HOUR)))
    _payments(random, plan)
    _requests(random, plan)
    _people(random, plan)
    plan.acts.sort(key=lambda act: act.at)


def _rules(random: Random, plan: Plan) -> SilentRules:
    quiet, late = random.choice(QUIET_AND_LATE)
    key_seconds, key_use_seconds = random.choice(
        (
            (7 * DAY, 6 * DAY),
            (7 * DAY, 6 * DAY),
            (24 * HOUR, 20 * HOUR),
            (2 * quiet + 600, 2 * quiet),
            (quiet + 300, quiet),
        )
    )
    return SilentRules(
        key_seconds=key_seconds,
        key_use_seconds=key_use_seconds,
        quiet_seconds=quiet,
        late_seconds_max=late,
        report_seconds=random.choice((5 * DAY, 5 * DAY, DAY)),
        window_seconds=random.choice((30, 60, 90.2)) * DAY if random.random() < 0.25 else None,
        partial_refunds=random.random() > 0.12,
    )


def _payments(random: Random, plan: Plan) -> None:
    """Move about half of the payments to the silent processor, and see that most customers have both."""
    for number, payment in enumerate(plan.payments):
        known = payment.processor_payment_id
        if payment.processor == STRIPE and known not in plan.recorded_wrong and random.random() < 0.45:
            plan.payments[number] = _at_the_silent_one(payment)
            if known in plan.unknown_payments:
                plan.unknown_payments.add(plan.payments[number].processor_payment_id)
    for customer in sorted({payment.customer_id for payment in plan.payments}):
        its = [payment for payment in plan.payments if payment.customer_id == customer]
        both = {payment.processor for payment in its} >= {STRIPE, SILENT}
        if not both and random.random() < 0.8:
            model, lacks = its[0], STRIPE if its[0].processor == SILENT else SILENT
            name = f"{customer}-p9"
            more = replace(model, payment_id=name, processor=STRIPE, processor_payment_id=f"ch_{name}")
            more = replace(more, captured_at=START - random.randint(1, 90) * DAY)
            plan.payments.append(_at_the_silent_one(more) if lacks == SILENT else more)
    if plan.second is not None and (window := plan.second.rules.window_seconds) and random.random() < 0.5:
        closing = [n for n, payment in enumerate(plan.payments) if payment.processor == SILENT]
        for number in closing[:1]:  # its window closes while refunds are under way
            closes = START + _soon_after_a_request(random, plan)
            plan.payments[number] = replace(plan.payments[number], captured_at=closes - window)


def _soon_after_a_request(random: Random, plan: Plan) -> float:
    """Return a time at which a refund is probably accepted and not sent yet."""
    asked = random.choice([act.at for act in plan.acts if act.what == "request"])
    return asked + random.choice((0.1, 1, 30, HOUR)) * random.random()


def _at_the_silent_one(payment: PaymentRecord) -> PaymentRecord:
    return replace(payment, processor=SILENT, processor_payment_id=f"sp_{payment.payment_id}")


def _requests(random: Random, plan: Plan) -> None:
    """Let some requests take all credits, so that they go over both processors, and narrow some to `destinations`."""
    changes: dict[tuple[str, str], dict[str, str | None]] = {}
    for act in plan.acts:
        if act.what != "request":
            continue
        for number, request in enumerate(act.arguments["requests"]):
            name = (request.client, request.idempotency_key)
            if name not in changes:
                narrow = request.to == "source" and random.random() < 0.2
                changes[name] = {"destinations": random.choice(DESTINATIONS)} if narrow else {}
                if request.kind == "withdrawal" and random.random() < 0.3:
                    changes[name]["credits"] = None
            act.arguments["requests"][number] = replace(request, **changes[name])


def _people(random: Random, plan: Plan) -> None:
    """Add pauses of one account or of all, and an account that is switched off and on again."""

    def windows(chance: float, longest: float, accounts: Collection[str]) -> list[tuple[float, float, str]]:
        if random.random() >= chance:
            return []
        begin = random.choice((random.uniform(0, plan.horizon * 0.9), _soon_after_a_request(random, plan)))
        return [(begin, begin + random.uniform(0, longest), random.choice(tuple(accounts)))]

    for begin, end, account in windows(0.15, random.choice((60, HOUR, 12 * HOUR)), (SILENT, SILENT, STRIPE, "all")):
        plan.acts += [Act(begin, "pause", {"account": account}), Act(end, "resume", {"account": account})]
    for begin, end, account in windows(0.2, plan.horizon, (SILENT, SILENT, STRIPE)):
        plan.acts.append(Act(begin, "switch refunds", {"account": account, "on": False}))
        plan.acts.append(Act(end, "switch refunds", {"account": account, "on": True}))
    for _ in range(random.choice((0, 1, 3))):
        at = random.uniform(0, plan.horizon * 1.2)
        plan.acts.append(Act(at, "operate", {"pick": random.random(), "choice": random.random()}))
