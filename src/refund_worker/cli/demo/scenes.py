"""The scenes of the demo: two everyday refunds, then failures that the worker must survive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refund_worker.cli.demo.session import Demo
from refund_worker.domain.refund import Kind, To
from refund_worker.engine.accounts import corrections
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.money_format import money
from refund_worker.errors import Refusal

BURST = 20
# The sandbox's script: which fault each scene's payment gets.
FAULTS: dict[str, Any] = {
    "seed": 7,
    "rules": [
        {"match": {"path_kind": "create", "payment": "ch_ana"}, "do": {"timeout": {"effect": "now"}}},
        {
            "match": {"path_kind": "create", "payment": "ch_ben"},
            "do": {"refuse": {"status": 400, "code": "charge_not_refundable", "message": "The card was closed."}},
        },
        {"match": {"path_kind": "create", "payment": "ch_pia"}, "do": {"refuse": "balance_insufficient"}},
        {
            "match": {"path_kind": "create", "payment": "ch_eva"},
            "do": {
                "lifecycle": [
                    {"status": "succeeded"},
                    {"status": "failed", "after_seconds": 1.5, "failure_reason": "expired_or_canceled_card"},
                ]
            },
        },
    ],
}


def credits_to_balance(demo: Demo) -> None:
    """Refund part of a spend to the balance, and reverse a second refund that was a mistake."""
    demo.title("1 · Refund credits: a private chat broke off")
    demo.pay_in("mia", ("ch_mia", 5000, 500))
    demo.spend("mia", "chat-1001", 120, "Private chat, 12 minutes")
    demo.narrate("mia bought 500 credits and spent 120 on a private chat; 60 of these are returned to the balance")
    refund = demo.wait(
        demo.request("mia-1", Kind.CREDIT_REFUND, To.BALANCE, "mia", transaction_id="chat-1001", credits=60)
    )
    demo.check("the balance rose from 380 to 440", demo.balance("mia") == 440, demo.balance("mia"))
    with demo.context.database.read() as connection:
        newest = api_objects.transactions(connection, "mia")["data"][0]
    demo.check("the new entry refers to the chat", newest["refers_to"] == "chat-1001", newest)
    wrong = demo.wait(
        demo.request("mia-2", Kind.CREDIT_REFUND, To.BALANCE, "mia", transaction_id="chat-1001", credits=40)
    )
    demo.narrate("a second refund of 40 was a mistake: “Delete” makes a linked reversal and erases nothing")
    first = corrections.reverse_transaction(demo.context, f"{wrong['id']}-credit", actor="support")
    again = corrections.reverse_transaction(demo.context, f"{wrong['id']}-credit", actor="support")
    same = first["transaction_id"] == again["transaction_id"]
    balance = demo.balance("mia")
    demo.check("“Delete”, pressed twice, reverses the refund once", same and balance == 440, balance)
    demo.check("both refunds succeeded", refund["status"] == wrong["status"] == "succeeded", refund["status"])


def money_to_source(demo: Demo) -> None:
    """Take the rest of a balance off with a correction, and pay it out over the customer's payments."""
    demo.title("2 · Refund money: a customer withdraws the rest of their balance")
    demo.pay_in("leo", ("ch_leo_1", 3000, 300), ("ch_leo_2", 2000, 200))
    demo.spend("leo", "chat-1002", 150, "Private chat, 15 minutes")
    demo.narrate("leo topped up 300 and 200 credits and spent 150; a correction of −350 takes the rest off")
    correction = demo.correct("leo", -350, "Withdrawal agreed with the customer")
    demo.check("the balance is zero", demo.balance("leo") == 0, demo.balance("leo"))
    refund = demo.wait(demo.request("leo-1", Kind.WITHDRAWAL, To.SOURCE, "leo", transaction_id=correction))
    sent = [(leg["payment_id"], leg["amount_minor"]) for leg in refund["legs"]]
    amounts = [amount for _, amount in sent]
    demo.check("20.00 USD went back over the newer top-up, 15.00 USD over the older one", amounts == [2000, 1500], sent)
    demo.check("the refund succeeded", refund["status"] == "succeeded", refund["status"])


def lost_answer(demo: Demo) -> None:
    """Lose the processor's answer to a refund that it executed."""
    demo.title("3 · The processor paid, but its answer was lost")
    demo.pay_in("ana", ("ch_ana", 4000, 400))
    refund_id = demo.request("ana-1", Kind.WITHDRAWAL, To.SOURCE, "ana", credits=100)
    refund = demo.wait(
        refund_id, activity="no answer arrives; the worker waits, then repeats the call with the same key"
    )
    made = [r for r in demo.stack.sandbox.refunds() if r["charge"] == "ch_ana"]
    demo.check("the missing answer did not count as a refusal: it succeeded", refund["status"] == "succeeded", refund)
    demo.check("the processor has exactly one refund", len(made) == 1, len(made))


def refused_for_good(demo: Demo) -> None:
    """Let the processor refuse the only payment for good."""
    demo.title("4 · The processor refuses for good, and there is no other payment")
    demo.pay_in("ben", ("ch_ben", 1000, 100))
    refund = demo.wait(demo.request("ben-1", Kind.WITHDRAWAL, To.SOURCE, "ben"))
    demo.check("the refund failed and names the cause", refund["failure_code"] == "charge_not_refundable", refund)
    demo.check("the credits returned to the balance, once", demo.balance("ben") == 100, demo.balance("ben"))


def late_failure(demo: Demo) -> None:
    """Let a refund fail after it succeeded."""
    demo.title("5 · A refund that succeeded fails later")
    demo.pay_in("eva", ("ch_eva", 2500, 250))
    refund_id = demo.request("eva-1", Kind.WITHDRAWAL, To.SOURCE, "eva", credits=50)
    refund = demo.wait(refund_id)
    demo.check("first it succeeded", refund["status"] == "succeeded", refund["status"])
    refund = demo.wait(refund_id, ("failed",), activity="the bank returns the money")
    demo.check("the failure was noticed and the refund reopened", refund["status"] == "failed", refund["status"])
    demo.check("the credits returned, once", demo.balance("eva") == 250, demo.balance("eva"))


def repeated_request(demo: Demo) -> None:
    """Send one request three times, and its key again with another amount."""
    demo.title("6 · The same request three times, and its key with another amount")
    demo.pay_in("kim", ("ch_kim", 900, 90))
    ids = [demo.request("kim-1", Kind.WITHDRAWAL, To.SOURCE, "kim", credits=30) for _ in range(3)]
    demo.check("all three answers name one refund", len(set(ids)) == 1, ids)
    try:
        demo.request("kim-1", Kind.WITHDRAWAL, To.SOURCE, "kim", credits=31)
        result = "accepted"
    except Refusal as refusal:
        result = refusal.code
    demo.check("another amount under the same key is refused", result == "idempotency_key_reused", result)
    refund = demo.wait(ids[0])
    demo.check("it was paid once", demo.amounts_at_processor("ch_kim") == [300], refund["status"])


def wiped_broker(demo: Demo) -> None:
    """Erase all messages while refunds are in progress."""
    demo.title(f"7 · The broker is wiped while {BURST} refunds are in progress")
    demo.pay_in("zoe", *((f"ch_zoe_{n}", 1000, 100) for n in range(BURST)))
    ids = []
    for n in range(BURST):
        ids.append(demo.request(f"zoe-{n}", Kind.WITHDRAWAL, To.SOURCE, "zoe", credits=100))
        if n in (BURST // 4, BURST - 1):
            demo.stack.wipe_broker()
    demo.narrate("every message was erased, twice; the database still knows which refunds are due")
    ends = [demo.wait(refund_id, activity="the sweep finds them")["status"] for refund_id in ids]
    paid = sum(amount for n in range(BURST) for amount in demo.amounts_at_processor(f"ch_zoe_{n}"))
    demo.check("no refund was lost", ends == ["succeeded"] * BURST, ends)
    demo.check(f"exactly {money(BURST * 1000, 'USD')} was paid", paid == BURST * 1000, paid)


def refunded_in_dashboard(demo: Demo) -> None:
    """Refund a payment in the processor's dashboard while its refund waits for funds."""
    demo.title("8 · Our balance at the processor is empty, and a colleague refunds in its dashboard meanwhile")
    demo.pay_in("pia", ("ch_pia", 2000, 200))
    refund_id = demo.request("pia-1", Kind.WITHDRAWAL, To.SOURCE, "pia")
    refund = demo.wait(refund_id)
    demo.check("it waits until the balance is topped up", refund["failure_code"] == "balance_insufficient", refund)
    outside = str(demo.stack.sandbox.act("dashboard_refund", payment="ch_pia", amount_minor=2000)["id"])
    demo.narrate("the balance is topped up; before it sends again, the worker reads the refunds of this payment")
    refund = demo.wait(refund_id, activity="the automatic retry is due soon", blocked=True)
    demo.check("it was not paid again: a person must decide", refund["failure_code"] == "refunded_elsewhere", refund)
    demo.check(
        "the refund names the one in the dashboard", refund["legs"][0]["blocked_by"] == [outside], refund["legs"]
    )
    demo.api.wait_until_ready()
    recorded = demo.outside_refund("pia", outside)
    link = {"refund_id": refund_id, "reason": "I paid it there"}
    demo.api.ask("POST", f"/v1/outside-refunds/{recorded['id']}/link", link)
    refund = demo.refund(refund_id)
    paid_by = [leg["processor_refund_id"] for leg in refund["legs"]]
    demo.check(
        "a person links the two: it is paid by that one",
        (refund["status"], paid_by) == ("succeeded", [outside]),
        refund,
    )
    paid = demo.amounts_at_processor("ch_pia")
    demo.check("20.00 USD was paid, once", paid == [2000], paid)


SCENES: tuple[Callable[[Demo], None], ...] = (
    credits_to_balance,
    money_to_source,
    lost_answer,
    refused_for_good,
    late_failure,
    repeated_request,
    wiped_broker,
    refunded_in_dashboard,
)
