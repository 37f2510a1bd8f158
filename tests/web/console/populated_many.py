"""A thousand refunds for the looks of pages: long ids and texts, several currencies, every status, large batches.

The engine processes them as it does the few of `populated.py`, so that all figures agree. The tests do not use it: it
takes about half a minute.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from tests.web.console.populated import DAYS, DECLINED, LATE, PENDING, Shop

from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.errors import Refusal
from refund_worker.store import inbox, outbox, tables
from refund_worker.store.payments import list_payments

BATCH_ROWS = 300
BATCH_DAYS = (2, 8)
APPROVAL_DAYS = (0, 4)
CURRENCIES = ("EUR", "GBP", "JPY", "USD", "CHF", "KWD")
LONG_REASON = (
    "The customer wrote three times on 24 and 25 November: the picture froze after four minutes, support asked for a "
    "new start of the application, the second show was charged again although it ended after ten seconds, and both "
    "are to be given back as agreed by telephone with the team lead (see the ticket of the same day)"
)
REASONS = ("asked by mail", "charged twice", "Zoë’s camera was broken", "配信が途中で切れた", "انقطع البث", LONG_REASON)
NOTES = (
    None,
    "called twice, please be quick",
    "https://support.example/tickets/2026-11-25/0000000000000000000000000004711",
)
DESCRIPTIONS = ("Private chat", "Video call, 20 minutes", "Tip", "Group show: " + "a long evening with friends, " * 4)


def _refused(code: str, message: str) -> dict[str, Any]:
    return {"refuse": {"status": 400, "code": code, "message": message}}


def _failed(why: str) -> dict[str, Any]:
    return {"lifecycle": [{"status": "failed", "failure_reason": why}]}


# The ends of some refunds at the processor, each as often as its number says, in hundredths.
ENDS = (
    (DECLINED, 4),
    (LATE, 2),
    (PENDING, 5),
    (_failed("lost_or_stolen_card"), 2),
    (_failed("unknown"), 1),
    (_refused("expired_or_canceled_card", "The card can't take refunds any more."), 2),
    ({"refuse": "charge_disputed"}, 2),
    ({"refuse": "charge_already_refunded"}, 2),
    ({"refuse": "balance_insufficient"}, 3),
    (_refused("a_code_nobody_has_seen_before_and_that_is_rather_long", "An error that is on no list."), 1),
    ({"lifecycle": [{"status": "requires_action"}]}, 1),
)
WAYS = tuple(way for way, times in ENDS for _ in range(times))


def customer_id(n: int) -> str:
    """Return the id of a customer: short, a UUID, an e-mail address, or the id of another system."""
    return (
        f"mia-{n}",
        str(UUID(int=0x0193_6F2A_0000_7000_8000_0000_0000_0000 + n * 7_919)),
        f"maximiliane.von-der-heyden-{n}@customers.long-domain-name.example",
        f"customer-eu-west-1-2026-11-{n:08}",
        f"auth0|5f7c8ec7c33c6c004bbafe{n:02}",
    )[n % 5]


class Many:
    """The customers, and their requests in the order in which they are made."""

    def __init__(self, how_many: int) -> None:
        self._each_day = max(1, (how_many - len(BATCH_DAYS) * BATCH_ROWS) // DAYS)
        self._numbers = itertools.count(1)

    def day(self, shop: Shop, days_ago: int) -> None:
        """Add one day's refunds: on some days also a large batch, on some every refund needs an approval."""
        if days_ago in BATCH_DAYS:
            rows: list[RefundRequest | Refusal] = [replace(r, bulk=True) for r in self._requests(shop, BATCH_ROWS)]
            rows[7::11] = [replace(r, credits=99_999_999) for r in rows[7::11] if isinstance(r, RefundRequest)]
            accept_batch(shop.context, rows, client="backend", actor="backend/nightly")
        requests, normal = self._requests(shop, self._each_day), shop.context.limits
        threshold = 100 if days_ago in APPROVAL_DAYS else normal.approval_threshold_minor
        shop.context = replace(shop.context, limits=replace(normal, approval_threshold_minor=threshold))
        request_refunds(shop.context, requests)
        shop.context = replace(shop.context, limits=normal)
        shop.work(2, pause=400.0)
        if days_ago == max(APPROVAL_DAYS):
            _decide(shop)
        shop.count()

    def named(self, shop: Shop) -> dict[str, str]:
        """Add a customer with many entries, notifications and events. Return the ids that pages need, by name."""
        named = _busy(shop)
        _messages(shop)
        with shop.context.database.read() as connection:
            named["batch"] = str(connection.execute(select(func.min(tables.refund_batches.c.batch_id))).scalar_one())
        return named

    def _requests(self, shop: Shop, how_many: int) -> list[RefundRequest]:
        """Create customers who paid and spent, tell the sandbox of them, and return one refund request for each."""
        made = [self._customer(shop, next(self._numbers)) for _ in range(how_many)]
        payments = [payment for payment, *_ in made]
        record_payments(shop.context, payments)
        record_spends(shop.context, [spend for _, spend, _ in made])
        known = ("processor_payment_id", "amount_minor", "currency")
        shop.sandbox.register_payments([{name: getattr(payment, name) for name in known} for payment in payments])
        shop._tell_sandbox()
        return [request for *_, request in made]

    def _customer(self, shop: Shop, n: int) -> tuple[PaymentRecord, SpendRecord, RefundRequest]:
        who, at, currency = customer_id(n), shop.now, CURRENCIES[n * 7 % 11 % len(CURRENCIES)]
        credits = (30, 120, 480, 1_234_500)[0 if n % 3 else n % 4]
        payment = PaymentRecord(
            payment_id=f"order-{n}", customer_id=who, processor="stripe", processor_payment_id=f"ch_3QX{n:07}kZpRtUvWx",
            amount_minor=credits * 40, currency=currency, credits=credits * 4, captured_at=at - 864_000 - n,
        )  # fmt: skip
        spend = SpendRecord(
            transaction_id=f"show-{n}" if n % 4 else str(UUID(int=n)), customer_id=who, credits=credits * 2,
            description=DESCRIPTIONS[n % len(DESCRIPTIONS)], occurred_at=at - 3_600,
        )  # fmt: skip
        if n * 37 % 100 < len(WAYS):
            shop._ways[payment.processor_payment_id] = WAYS[n * 37 % 100]
        withdrawal = n % 8 == 3
        request = RefundRequest(
            idempotency_key=f"ticket-{n}" if n % 3 else f"{UUID(int=n)}/maximiliane@customers.example",
            kind=Kind.WITHDRAWAL if withdrawal else Kind.CREDIT_REFUND,
            to=To.BALANCE if n % 16 == 5 else To.SOURCE,
            customer_id=who, transaction_id=None if withdrawal else spend.transaction_id, credits=credits,
            reason=REASONS[n % len(REASONS)], note=NOTES[n % len(NOTES)], metadata={"ticket": f"T-{n}"},
            client=("backend", "shop", "a-client-with-a-rather-long-name")[n % 3], actor=f"agent-{n % 9}",
            requested_by=("susanne.wiedemann@support.example", None)[n % 2],
        )  # fmt: skip
        return payment, spend, request


def _decide(shop: Shop) -> None:
    """Approve, reject and cancel some of those that wait for approval."""
    query = tables.refunds.select().where(tables.refunds.c.status == "awaiting_approval").limit(15)
    with shop.context.database.read() as connection:
        waiting = [row["refund_id"] for row in connection.execute(query).mappings()]
    for n, refund_id in enumerate(waiting):
        action = (Action.APPROVE, Action.REJECT, Action.CANCEL)[n % 3]
        perform_action(shop.context, refund_id, action, actor="console/berta", reason=REASONS[n % len(REASONS)])
    shop.work(1)


def _busy(shop: Shop) -> dict[str, str]:
    """Create a customer with an e-mail address as the id, and more entries than fit on one page."""
    who = "maximiliane.von-der-heyden-zu-tal@customers.long-domain-name.example"
    paid = [
        PaymentRecord(
            payment_id=f"busy-{n}", customer_id=who, processor="stripe", processor_payment_id=f"ch_busy{n}",
            amount_minor=250_000, currency=("EUR", "USD", "JPY")[n % 3], credits=25_000,
            captured_at=shop.now - 86_400 * n,
        )
        for n in range(12)
    ]  # fmt: skip
    record_payments(shop.context, paid)
    spends = [
        SpendRecord(
            transaction_id=f"busy-show-{n}", customer_id=who, credits=17 + n, description=DESCRIPTIONS[n % 4],
            occurred_at=shop.now - 600 * n,
        )
        for n in range(90)
    ]  # fmt: skip
    record_spends(shop.context, spends)
    row: dict[str, Any] = {}
    for n, credits in enumerate((75, -20_000, 30, -12_345)):
        row, _ = correct(
            shop.context, customer_id=who, credits=credits, reason=REASONS[-1 - n], client="console",
            idempotency_key=f"busy-{n}", actor="console/anna",
        )  # fmt: skip
    asked = [
        RefundRequest(
            idempotency_key=f"busy-{n}", kind=Kind.CREDIT_REFUND, to=To.BALANCE, customer_id=who,
            transaction_id=f"busy-show-{n}", credits=9, reason=REASONS[n % len(REASONS)], client="backend",
        )
        for n in range(1, 12)
    ]  # fmt: skip
    request_refunds(shop.context, asked)
    shop.work(1)
    with shop.context.database.read() as connection:
        paid = list_payments(connection, who, limit=1)[0].payment_id
    return {"customer": who, "spend": "busy-show-12", "correction": str(row["transaction_id"]), "payment": paid}


def _messages(shop: Shop) -> None:
    """Let some notifications fail, and store webhook events of many kinds, some of which are not taken yet."""
    error = "the receiver at hooks.a-rather-long-host-name.example answered with 503 Service Unavailable"
    o = tables.outbox.c

    def work(connection: Any) -> None:
        ids = connection.execute(select(tables.refunds.c.refund_id).order_by(tables.refunds.c.refund_id).limit(120))
        for n, refund_id in enumerate(ids.scalars().all()):
            message = {"message_id": f"msg_0000000000000000000many{n:03}", "refund_id": refund_id, "body": "{}"}
            at = {"type": "refund.succeeded", "created_at": shop.now - 60 * n}
            outbox.insert_messages(connection, [message | at])
            state: dict[str, Any] = {"delivered_at": shop.now, "next_at": None, "tries": 1}
            if n % 3 == 0:
                state = {"given_up_at": shop.now, "next_at": None, "tries": 20, "last_error": error}
            elif n % 7 == 0:
                state = {"next_at": shop.now + 60, "tries": 3, "last_error": error}
            connection.execute(tables.outbox.update().where(o.message_id == message["message_id"]).values(**state))
        kinds = ("refund.created", "refund.updated", "charge.refund.updated", "charge.dispute.funds_withdrawn")
        for n in range(140):
            event_id = f"evt_3QX{n:05}kZpRtUvWxYz012345"
            inbox.insert_event(connection, "stripe", event_id, kinds[n % 4], "{}", shop.now - 4_000 + 20 * n)
        taken = {"taken_at": shop.now, "outcome": "ignored"}
        i = tables.inbox.c
        old = tables.inbox.update().where(i.event_id < "evt_3QX00120", i.taken_at.is_(None))
        connection.execute(old.values(**taken))

    shop.context.database.run(work)
