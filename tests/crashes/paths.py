"""The paths that are crashed at every point: the requests, the processor's behaviour, and the promised end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from refund_worker.domain.decision import Policy
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.processors.stripe.entry import CAPABILITIES
from tests.simulation.plan import DAY, HOUR, START, Act, Plan


@dataclass(frozen=True, slots=True)
class Path:
    """One path. `life` names the faults at the processor, each as often as it strikes; `ends` are the final statuses.

    `balance` is the customer's final balance in credits, `paid` the money that the processor has refunded, in minor
    units. With `claims`, what others do to the payments takes credits, and a person decides about shortfalls.
    `customer` is the customer whose balance counts. The tests crash at each n-th point (`every`),
    `make crashes` at all.
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

    def plan(self) -> Plan:
        """Return the plan: one customer who paid 100 + 60 for as many credits and spent 40 of them."""
        return Plan(
            # No effect is late here, so the quiet window can be short. Few polls make few points.
            policy=Policy(
                retry_base_seconds=60,
                retry_max_seconds=HOUR,
                quiet_seconds=300,
                poll_seconds=2 * DAY,
                processors={"stripe": CAPABILITIES.rules()},
                outside_since=0.0 if self.claims else None,
                shortfall="person" if self.claims else "write_off",
            ),
            threshold=self.threshold,
            workers=2,
            horizon=32 * DAY,  # nothing is left for healing: a crash can hit every step
            payments=[_payment("p1", 100, 1), _payment("p2", 60, 2)],
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
        )


def _payment(name: str, amount: int, day: int) -> PaymentRecord:
    return PaymentRecord(
        payment_id=name,
        customer_id="c1",
        processor="stripe",
        processor_payment_id=f"ch_{name}",
        amount_minor=amount,
        currency="EUR",
        credits=amount,
        captured_at=START - 10 * DAY + day,
    )


def _request(key: str, **fields: Any) -> RefundRequest:
    values: dict[str, Any] = {"kind": Kind.WITHDRAWAL, "to": To.SOURCE, "reason": "asked", "actor": "anna"} | fields
    return RefundRequest(idempotency_key=key, customer_id="c1", **values)


def _asks(*requests: RefundRequest) -> Act:
    return Act(10, "request", {"requests": list(requests)})


TO_BALANCE = _request("k1", kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="s1", credits=25)
TO_SOURCE = _request("k1", kind=Kind.CREDIT_REFUND, transaction_id="s1", credits=25)
WITHDRAWAL = _request("k1", credits=30)
OVER_TWO = _request("k1", credits=100)
# By then the deployment has recovered from two crashes.
LATER = 2 * HOUR
# The requested amount, refunded from the payment that our refund uses.
IN_THE_DASHBOARD = Act(600, "refund elsewhere", {"payment": "ch_p2", "part": 0.5})
# What others do while a refund waits for its approval, and the moment at which this program hears of it.
WAITS = (_asks(OVER_TWO), Act(4 * LATER, "command", {"action": Action.APPROVE}))
HEARD = Act(LATER, "look at the list")

# A prime, so that over the paths all kinds of points are met.
EVERY = 29

PATHS = (
    Path("credit refund to balance", (_asks(TO_BALANCE),), ("succeeded",), 145, 0),
    Path("credit refund to source", (_asks(TO_SOURCE),), ("succeeded",), 120, 25),
    Path("withdrawal over two payments", (_asks(OVER_TWO),), ("succeeded",), 20, 100),
    Path("declined, paid over another payment", (_asks(WITHDRAWAL),), ("succeeded",), 90, 30, declines=("ch_p2",)),
    Path("declined everywhere, credits back", (_asks(WITHDRAWAL),), ("failed",), 120, 0, declines=("ch_p1", "ch_p2")),
    Path("pending, then succeeded", (_asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("pending",)),
    Path(
        "failed after success",
        (_asks(WITHDRAWAL), Act(31 * DAY, "look at the list")),
        ("failed",),
        120,
        0,
        life=("failed later",),
    ),
    Path(
        "canceled before the first send",
        (
            Act(
                0.2, "pause"
            ),  # before the points are counted: a process that dies here may restart only after the request
            _asks(WITHDRAWAL),
            Act(LATER, "command", {"action": Action.CANCEL}),
            Act(2 * LATER, "resume"),
        ),
        ("canceled",),
        120,
        0,
    ),
    Path(
        "blocked, retried by an operator",
        (_asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RETRY})),
        ("succeeded",),
        90,
        30,
        life=("blocked",),
    ),
    Path(
        "blocked, paid by hand",
        (_asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RESOLVE, "reference": "bank-1"})),
        ("succeeded",),
        90,
        0,
        life=("blocked",),
    ),
    Path(
        "blocked, given back by an operator",
        (_asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RESOLVE})),
        ("failed",),
        120,
        0,
        life=("blocked",),
    ),
    Path(
        "blocked, refunded in the dashboard meanwhile, and a person says so",
        (
            _asks(WITHDRAWAL),
            IN_THE_DASHBOARD,  # a blocked leg is retried automatically after an hour
            Act(2 * LATER, "command", {"action": Action.RESOLVE, "reference": "re_by_hand"}),
        ),
        ("succeeded",),
        90,
        30,
        life=("blocked",),
    ),
    Path(
        "blocked, refunded in the dashboard meanwhile, and a person wants both",
        (
            _asks(WITHDRAWAL),
            IN_THE_DASHBOARD,  # a blocked leg is retried automatically after an hour
            Act(2 * LATER, "command", {"action": Action.RETRY}),
        ),
        ("succeeded",),
        90,
        60,
        life=("blocked",),
    ),
    Path(
        "an empty balance, reported by the object",
        (_asks(WITHDRAWAL),),
        ("succeeded",),
        90,
        30,
        life=("balance empty, told by the object",),
    ),
    Path(
        "refused with an unknown code, retried",
        (_asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.RETRY})),
        ("succeeded",),
        90,
        30,
        life=("refusal of an unknown code",),
    ),
    Path("our set-up refused", (_asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("our set-up refused",)),
    Path("asks the customer, canceled", (_asks(WITHDRAWAL),), ("failed",), 120, 0, life=("canceled",)),
    Path("asks the customer, expired", (_asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("canceled", "expired")),
    Path(
        "asks the customer, canceled by a person",
        (_asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.CANCEL})),
        ("failed",),
        120,
        0,
        life=("requires action",),
    ),
    Path(
        "rejected by a second person",
        (_asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.REJECT})),
        ("rejected",),
        120,
        0,
        threshold=20,
    ),
    Path(
        "approved by a second person",
        (_asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.APPROVE})),
        ("succeeded",),
        90,
        30,
        threshold=20,
    ),
    Path(
        "deleted",
        (_asks(TO_BALANCE), Act(LATER, "delete", {"pick": 0.0})),
        ("succeeded",),
        120,
        0,
    ),
    Path(
        "a bulk of three",
        (
            _asks(
                _request("k1", credits=10, bulk=True),
                _request("k2", credits=20, bulk=True),
                _request("k3", kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="s1", credits=5, bulk=True),
            ),
        ),
        ("succeeded", "succeeded", "succeeded"),
        95,
        30,
    ),
    Path(
        "refunded in the dashboard before the send",
        (*WAITS, Act(600, "refund elsewhere", {"payment": "ch_p2", "part": 1.0}), HEARD),
        ("succeeded",),
        0,
        160,
        claims=True,
        threshold=20,
        every=EVERY,
    ),
    Path(
        "a lost dispute takes the credits, and a person makes the rest a debt",
        (
            _asks(TO_BALANCE),
            Act(600, "lost dispute", {"payment": "ch_p1", "part": 1.0, "after": HOUR}),
            Act(700, "lost dispute", {"payment": "ch_p2", "part": 1.0, "after": HOUR}),
            HEARD,
            Act(2 * LATER, "decide", {"decision": "debt"}),
        ),
        ("succeeded",),
        -15,
        0,
        claims=True,
        every=EVERY,
    ),
    Path(
        "its payment is closed while a refund waits",
        (*WAITS, Act(LATER, "close payment", {"payment": "p2"})),
        ("succeeded",),
        0,
        100,
        claims=True,
        threshold=20,
        every=EVERY,
    ),
    Path(
        "refunded in the dashboard, and linked to the spend",
        (
            _asks(TO_BALANCE),
            Act(600, "refund elsewhere", {"payment": "ch_p2", "part": 0.5}),
            HEARD,
            Act(2 * LATER, "link", {"pick": 0.0, "choice": 0.99}),
        ),
        ("succeeded", "succeeded"),
        130,
        30,
        claims=True,
        every=EVERY,
    ),
    Path(
        "refused everywhere, then paid in the dashboard and linked",
        (
            _asks(WITHDRAWAL),
            Act(600, "refund elsewhere", {"payment": "ch_p2", "part": 0.5}),
            HEARD,
            Act(2 * LATER, "link", {"pick": 0.0, "choice": 0.0}),
        ),
        ("succeeded",),
        90,
        30,
        declines=("ch_p1", "ch_p2"),
        claims=True,
        every=EVERY,
    ),
    Path(
        "the customer is merged while a refund waits",
        (*WAITS, Act(LATER, "merge", {"customer_id": "c1", "into": "c2"})),
        ("succeeded",),
        20,
        100,
        threshold=20,
        every=EVERY,
        customer="c2",
    ),
)
