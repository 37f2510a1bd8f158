"""The paths that are crashed at every point: the requests, the processor's behaviour, and the promised end."""

from __future__ import annotations

from refund_worker.domain.refund import Kind, To
from refund_worker.domain.state_machine import Action
from tests.crashes.account_paths import ACCOUNT_PATHS
from tests.crashes.crash_path import EVERY, LATER, Path, asks, request
from tests.simulation.plan import DAY, HOUR, Act

TO_BALANCE = request("k1", kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="s1", credits=25)
TO_SOURCE = request("k1", kind=Kind.CREDIT_REFUND, transaction_id="s1", credits=25)
WITHDRAWAL = request("k1", credits=30)
OVER_TWO = request("k1", credits=100)
# The requested amount, refunded from the payment that our refund uses.
IN_THE_DASHBOARD = Act(600, "refund elsewhere", {"payment": "ch_p2", "part": 0.5})
# What others do while a refund waits for its approval, and the moment at which this program hears of it.
WAITS = (asks(OVER_TWO), Act(4 * LATER, "command", {"action": Action.APPROVE}))
HEARD = Act(LATER, "look at the list")

PATHS = (
    Path("credit refund to balance", (asks(TO_BALANCE),), ("succeeded",), 145, 0),
    Path("credit refund to source", (asks(TO_SOURCE),), ("succeeded",), 120, 25),
    Path("withdrawal over two payments", (asks(OVER_TWO),), ("succeeded",), 20, 100),
    Path("declined, paid over another payment", (asks(WITHDRAWAL),), ("succeeded",), 90, 30, declines=("ch_p2",)),
    Path("declined everywhere, credits back", (asks(WITHDRAWAL),), ("failed",), 120, 0, declines=("ch_p1", "ch_p2")),
    Path("pending, then succeeded", (asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("pending",)),
    Path(
        "failed after success",
        (asks(WITHDRAWAL), Act(31 * DAY, "look at the list")),
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
            asks(WITHDRAWAL),
            Act(LATER, "command", {"action": Action.CANCEL}),
            Act(2 * LATER, "resume"),
        ),
        ("canceled",),
        120,
        0,
    ),
    Path(
        "blocked, retried by an operator",
        (asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RETRY})),
        ("succeeded",),
        90,
        30,
        life=("blocked",),
    ),
    Path(
        "blocked, paid by hand",
        (asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RESOLVE, "reference": "bank-1"})),
        ("succeeded",),
        90,
        0,
        life=("blocked",),
    ),
    Path(
        "blocked, given back by an operator",
        (asks(WITHDRAWAL), Act(2_400, "command", {"action": Action.RESOLVE})),
        ("failed",),
        120,
        0,
        life=("blocked",),
    ),
    Path(
        "blocked, refunded in the dashboard meanwhile, and a person says so",
        (
            asks(WITHDRAWAL),
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
            asks(WITHDRAWAL),
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
        (asks(WITHDRAWAL),),
        ("succeeded",),
        90,
        30,
        life=("balance empty, told by the object",),
    ),
    Path(
        "refused with an unknown code, retried",
        (asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.RETRY})),
        ("succeeded",),
        90,
        30,
        life=("refusal of an unknown code",),
    ),
    Path("our set-up refused", (asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("our set-up refused",)),
    Path("asks the customer, canceled", (asks(WITHDRAWAL),), ("failed",), 120, 0, life=("canceled",)),
    Path("asks the customer, expired", (asks(WITHDRAWAL),), ("succeeded",), 90, 30, life=("canceled", "expired")),
    Path(
        "asks the customer, canceled by a person",
        (asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.CANCEL})),
        ("failed",),
        120,
        0,
        life=("requires action",),
    ),
    Path(
        "rejected by a second person",
        (asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.REJECT})),
        ("rejected",),
        120,
        0,
        threshold=20,
    ),
    Path(
        "approved by a second person",
        (asks(WITHDRAWAL), Act(LATER, "command", {"action": Action.APPROVE})),
        ("succeeded",),
        90,
        30,
        threshold=20,
    ),
    Path(
        "deleted",
        (asks(TO_BALANCE), Act(LATER, "delete", {"pick": 0.0})),
        ("succeeded",),
        120,
        0,
    ),
    Path(
        "a bulk of three",
        (
            asks(
                request("k1", credits=10, bulk=True),
                request("k2", credits=20, bulk=True),
                request("k3", kind=Kind.CREDIT_REFUND, to=To.BALANCE, transaction_id="s1", credits=5, bulk=True),
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
            asks(TO_BALANCE),
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
            asks(TO_BALANCE),
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
            asks(WITHDRAWAL),
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
    *ACCOUNT_PATHS,
)
