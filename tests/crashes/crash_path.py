"""A path: the accounts of its payments, the requests, the processors' behaviour, and the promised end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from refund_worker.domain.account_names import connected_of, platform_of
from refund_worker.domain.decision import Policy, ProcessorRules
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.processors.paypal.entry import CAPABILITIES as PAYPAL_CAPABILITIES
from refund_worker.processors.stripe.entry import CAPABILITIES as STRIPE_CAPABILITIES
from tests.simulation.bank_records import SILENT, STRIPE, SilentRules
from tests.simulation.plan import DAY, HOUR, START, Act, Plan, Second
from tests.simulation.silent_processor import capabilities

PAYPAL: Final = "paypal"
CONNECTED: Final = "stripe/acct_seller"
# By then the deployment has recovered from two crashes.
LATER: Final = 2 * HOUR
# A prime, so that over the paths all kinds of points are met.
EVERY: Final = 29
# The form of a payment's id at each account. Two accounts at Stripe have payments of the same form.
IDS: Final = {STRIPE: "ch_{}", CONNECTED: "ch_{}", SILENT: "sp_{}", PAYPAL: "CAP{}"}
# Events come within 5 days, keys live for 7. No effect is late here, so the quiet window can be short.
SILENT_RULES: Final = SilentRules(
    key_seconds=7 * DAY, key_use_seconds=6 * DAY, quiet_seconds=300, late_seconds_max=200, report_seconds=5 * DAY
)


@dataclass(frozen=True, slots=True)
class Path:
    """One path. `life` names the faults at the processor, each as often as it strikes; `ends` are the final statuses.

    `balance` is the customer's final balance in credits, `paid` the money that the processors have refunded, in minor
    units. With `claims`, what others do to the payments takes credits, and a person decides about shortfalls.
    `customer` is the customer whose balance counts. `accounts` are those of the two payments. The tests crash at each
    n-th point (`every`), `make crashes` at all.
    """

    name: str
    acts: tuple[Act, ...]
    ends: tuple[str, ...]
    balance: int
    paid: int
    life: tuple[str, ...] = ()
    declines: tuple[str, ...] = ()
    threshold: int | None = None
    claims: bool = False
    customer: str = "c1"
    every: int = 1
    accounts: tuple[str, str] = (STRIPE, STRIPE)
    silent: SilentRules = SILENT_RULES
    fallback: tuple[str, ...] = ("payments", "balance")

    def plan(self) -> Plan:
        """Return the plan: one customer who paid 100 + 60 for as many credits and spent 40 of them."""
        return Plan(
            # No effect is late here, so the quiet window can be short. Few polls make few points.
            policy=Policy(
                retry_base_seconds=60,
                retry_max_seconds=HOUR,
                quiet_seconds=300,
                poll_seconds=2 * DAY,
                fallback=self.fallback,
                processors=self._rules(),
                outside_since=0.0 if self.claims else None,
                shortfall="person" if self.claims else "write_off",
            ),
            threshold=self.threshold,
            workers=2,
            horizon=32 * DAY,  # nothing is left for healing: a crash can hit every step
            payments=self.payments(),
            spends=[
                SpendRecord(
                    transaction_id="s1",
                    customer_id="c1",
                    credits=40,
                    description="Private chat",
                    occurred_at=START - HOUR,
                )
            ],
            acts=list(self.acts),
            webhooks=False,
            broker=True,
            very_late=False,
            outages=[],
            denials=[],
            empty=[],
            database_outages=[],
            unknown_payments=set(),
            second=Second(self.silent) if SILENT in self.accounts else None,
        )

    def _rules(self) -> dict[str, ProcessorRules]:
        known = {
            STRIPE: STRIPE_CAPABILITIES.rules(),
            PAYPAL: PAYPAL_CAPABILITIES.rules(),
            SILENT: capabilities(self.silent).rules(quiet_seconds=self.silent.quiet_seconds),
        }
        return {name: known[name] for name in dict.fromkeys((STRIPE, *map(platform_of, self.accounts)))}

    def payments(self) -> list[PaymentRecord]:
        """Return the payments: the older one of 100, and one of 60."""
        first, second = self.accounts
        return [_payment("p1", first, 100, 1), _payment("p2", second, 60, 2)]


def payment_id_at(account: str, name: str) -> str:
    """Return what an account calls the payment."""
    return IDS[account].format(name.upper() if account == PAYPAL else name)


def _payment(name: str, account: str, amount: int, day: int) -> PaymentRecord:
    return PaymentRecord(
        payment_id=name,
        customer_id="c1",
        processor=platform_of(account),
        processor_payment_id=payment_id_at(account, name),
        amount_minor=amount,
        currency="EUR",
        credits=amount,
        captured_at=START - 10 * DAY + day,
        connect_account=connected_of(account),
    )


def request(key: str, **fields: Any) -> RefundRequest:
    """Return a request of the customer, a withdrawal to the source unless `fields` say otherwise."""
    values: dict[str, Any] = {"kind": Kind.WITHDRAWAL, "to": To.SOURCE, "reason": "asked", "actor": "anna"} | fields
    return RefundRequest(idempotency_key=key, customer_id="c1", **values)


def asks(*requests: RefundRequest) -> Act:
    """Return the act of these requests."""
    return Act(10, "request", {"requests": list(requests)})
