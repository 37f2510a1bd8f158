"""Test data for pages: two weeks of a shop's refunds, with some of each kind of problem."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from sqlalchemy import delete, func, select
from tests.support.outside_objects import dispute, hear, outside_refund, warning
from tests.web.console.populated_payouts import populate_payouts
from tests.web.console.populated_paypal import refund_over_paypal
from tests.web.console.visitor import PASSWORD

from refund_worker.domain.ledger import Purpose
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.api_keys import create_key, create_signed_key, list_keys, revoke_key
from refund_worker.engine.access.console_users import create_user, disable_user, sign_in
from refund_worker.engine.access.password_attempts import count_wrong, of_sign_in
from refund_worker.engine.access.persons import link_person
from refund_worker.engine.accounts.corrections import correct, reverse_transaction
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.audit.hash_chain import Sealer, verify
from refund_worker.engine.context import Context
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.jobs.daily_stats import count_daily_stats
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.engine.processor_sync.reconciliation.run import run_piece, start_reconciliation
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.errors import Refusal
from refund_worker.processors.paypal.sandbox import PayPalServer
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime
from refund_worker.store import inbox, ledger, outbox, processes, refunds, tables
from refund_worker.store.payments import list_payments
from refund_worker.store.reporting import reconciliation

DAYS = 14
NAMES = ("adler", "brandt", "costa", "dietz", "ekman", "ferrari", "garcia", "holm", "ivanova", "jensen")
CHATS = ("Private chat", "Photo set", "Video call, 20 minutes", "Tip", "Group show")
CURRENCIES = ("GBP", "EUR", "GBP", "JPY", "GBP", "EUR")
REASONS = (
    "the performer's camera was broken",
    "asked by mail",
    "charged twice",
    "agreed by phone",
    "the show ended early",
)
NO_ANSWER = {"timeout": {"effect": "now"}}
DECLINED = {"lifecycle": [{"status": "failed", "failure_reason": "declined"}]}
PENDING = {"lifecycle": [{"status": "pending"}]}
LATE = {
    "lifecycle": [
        {"status": "succeeded"},
        {"status": "failed", "after_seconds": 0.2, "failure_reason": "expired_or_canceled_card"},
    ]
}


class Shop:
    """Customers and their requests, with a clock that the test sets."""

    def __init__(self, runtime: Runtime, sandbox: Sandbox) -> None:
        self.now = time.time()
        self.sandbox = sandbox
        self.context: Context = replace(runtime.context, clock=lambda _connection: self._tick())
        self._random = random.Random(7)
        # Of its own: how often the program reads the clock must not change what the customers do.
        self._delays = random.Random(7)
        self._numbers: Iterator[int] = itertools.count(1)
        self._ways: dict[str, dict[str, Any]] = {}
        self._sealer = Sealer()

    def _tick(self) -> float:
        self.now += self._delays.expovariate(1 / 0.7)
        return self.now

    def ask(self, how_many: int, *ways: dict[str, Any], to: To = To.SOURCE, **changes: Any) -> list[str]:
        """Create customers who each pay, spend and request a refund; the first refunds end in the given ways."""
        requests = [self._customer(ways[n] if n < len(ways) else None, to) for n in range(how_many)]
        self._tell_sandbox()
        taken = request_refunds(self.context, [replace(request, **changes) for request in requests])
        return [answer.refund_id for answer in taken if not isinstance(answer, Refusal)]

    def _customer(self, way: dict[str, Any] | None, to: To) -> RefundRequest:
        n = next(self._numbers)
        customer = f"{NAMES[n % len(NAMES)]}-{1000 + n}"
        currency = CURRENCIES[n % len(CURRENCIES)]
        amount = self._random.choice((1000, 2000, 5000, 7500))
        payment = PaymentRecord(
            payment_id=f"pay-{n}", customer_id=customer, processor="stripe", processor_payment_id=f"ch_{n}",
            amount_minor=amount, currency=currency, credits=amount // 10, captured_at=self.now - 864_000 - n,
        )  # fmt: skip
        spent = self._random.choice((30, 50, 80))
        spend = SpendRecord(
            transaction_id=f"chat-{n}", customer_id=customer, credits=spent,
            description=CHATS[n % len(CHATS)], occurred_at=self.now - 7_200,
        )  # fmt: skip
        record_payments(self.context, [payment])
        record_spends(self.context, [spend])
        self.sandbox.register_payments(
            [{"processor_payment_id": f"ch_{n}", "amount_minor": amount, "currency": currency}]
        )
        if way is not None:
            self._ways[f"ch_{n}"] = way
        return RefundRequest(
            idempotency_key=f"order-{n}", kind=Kind.CREDIT_REFUND, to=to, customer_id=customer,
            transaction_id=f"chat-{n}", credits=self._random.randrange(10, spent + 1),
            reason=REASONS[n % len(REASONS)], client="backend", actor="backend/shop",
        )  # fmt: skip

    def _tell_sandbox(self, **others: Any) -> None:
        rules = [
            {"match": {"path_kind": "create", "payment": payment}, "times": 1, "do": way}
            for payment, way in self._ways.items()
        ]
        self.sandbox.change_faults({"rules": rules, **others})

    def work(self, times: int = 1, pause: float = 40.0) -> None:
        for _ in range(times):
            process_until_idle(self.context)
            self.now += pause

    def work_until_blocked(self, refund_id: str) -> None:
        """Work until the refund needs a person. A late answer, on a busy machine, is asked for again."""
        for _ in range(20):
            self.work(1)
            with self.context.database.read() as connection:
                (refund,) = refunds.load(connection, [refund_id])
            if refund.status == RefundStatus.NEEDS_ATTENTION:
                return
        raise AssertionError(f"{refund_id} is still {refund.status}")

    def count(self) -> None:
        for _ in range(2):
            self._sealer.seal(self.context)
        count_daily_stats(self.context)

    def day(self, days_ago: int) -> None:
        self.now = (time.time() // 86_400 - days_ago) * 86_400 + 9 * 3_600
        if days_ago == 0:
            self.now = time.time() - 7_200
        busy = self._random.randrange(4, 13)
        trouble = [NO_ANSWER] * (days_ago % 3 == 0) + [DECLINED] * (days_ago % 4 == 1) + [LATE] * (days_ago == 4)
        ids = self.ask(busy, *trouble)
        self.ask(2, to=To.BALANCE)
        self.now += self._random.choice((3.0, 30.0, 900.0))
        self.count()
        self.work(3, pause=self._random.choice((20.0, 60.0, 400.0)))
        if days_ago % 5 == 2:  # the shop did not know if its request had arrived
            again = list(self._again(ids[:3]))
            request_refunds(self.context, again)
        self.count()
        for _ in range(4 if days_ago else 0):
            self.now += 10_800
            self.count()

    def _again(self, refund_ids: Sequence[str]) -> Iterator[RefundRequest]:
        from refund_worker.engine.views.api_objects import find_refund

        with self.context.database.read() as connection:
            for refund_id in refund_ids:
                r = find_refund(connection, refund_id)
                yield RefundRequest(
                    idempotency_key=r.idempotency_key, kind=r.kind, to=r.to, customer_id=r.customer_id,
                    transaction_id=r.transaction_id, credits=r.credits, reason=r.reason, client=r.client,
                )  # fmt: skip


class More(Protocol):
    """More refunds than the usual few: on each day, and at the end, with the ids that pages need, by name."""

    def day(self, shop: Shop, days_ago: int) -> None: ...

    def named(self, shop: Shop) -> dict[str, str]: ...


def populate(runtime: Runtime, sandbox: Sandbox, paypal: PayPalServer, more: More | None = None) -> dict[str, str]:
    """Fill an empty database and return the ids that pages need, by name."""
    shop = Shop(runtime, sandbox)
    for days_ago in range(DAYS - 1, -1, -1):
        shop.day(days_ago)
        if more is not None:
            more.day(shop, days_ago)
    named: dict[str, str] = {}
    (named["paid"],) = shop.ask(1, NO_ANSWER)
    (named["pending"],) = shop.ask(1, PENDING)
    shop.work(4)
    named |= _approvals(shop)
    named |= _seed(shop)
    named |= _in_parts(shop)
    named |= refund_over_paypal(shop, paypal)
    named["batch"] = _batch(shop)
    shop.work(2)
    _stuck(shop)
    sync_all(shop.context, "stripe")
    shop.work(1)
    (named["unknown"],) = shop.ask(1, NO_ANSWER)
    shop._tell_sandbox(balance={})
    _lose_track(shop, named["unknown"])
    named |= _claims(shop)
    verify(shop.context, actor="cli/backup")
    _webhooks(shop)
    pause_processor(shop.context, "manual", actor="console/berta", reason="the bank's portal is closed until Monday")
    _system(shop, named["paid"])
    named["reconciliation"] = _reconciliation(shop)
    named |= populate_payouts(shop)
    named["key"] = _people(shop)
    if more is not None:
        named |= more.named(shop)
    shop.count()
    return named


def _reconciliation(shop: Shop) -> str:
    """Compare our books with the sandbox's, after one object was lost. Return the reconciliation's id."""
    o = tables.refund_objects.c
    with shop.context.database.write() as connection:
        lost = connection.execute(select(func.min(o.processor_refund_id))).scalar_one()
        connection.execute(delete(tables.refund_objects).where(o.processor_refund_id == lost))
    started = start_reconciliation(shop.context, "stripe", since=None, until=None, actor="console/anna")
    while run_piece(shop.context, started):
        pass
    return started


def _approvals(shop: Shop) -> dict[str, str]:
    limits = replace(shop.context.limits, approval_threshold_minor=100)
    normal, shop.context = shop.context, replace(shop.context, limits=limits)
    ids = shop.ask(3)
    shop.context = normal
    with shop.context.database.read() as connection:
        (refund,) = refunds.load(connection, ids[:1])
    return {"approval": ids[0], "waiting": refund.customer_id}


def _system(shop: Shop, refund_id: str) -> None:
    """Store what running processes report, one that ended without notice, and notifications in each state."""

    def work(connection: Any) -> None:
        for n, (kind, queues, age) in enumerate(
            [("worker", "refunds,bulk", 3), ("worker", "bulk", 7_300), ("scheduler", "", 5)]
        ):
            row = {"process_id": str(n), "kind": kind, "queues": queues, "host": f"refunds-{n}", "pid": 7 + n}
            broker = "reachable" if kind == "scheduler" else None
            processes.report(connection, row | {"version": "0.1.0", "broker": broker}, time.time() - age)
        reconciliation.record(connection, "stripe", shop.now - 7_200, compared=180, differences=0)
        for n, state in enumerate(("waiting", "given_up", "given_up", "delivered")):
            message = {"message_id": f"msg_{n}", "refund_id": refund_id, "type": "refund.succeeded", "body": "{}"}
            outbox.insert_messages(connection, [message | {"created_at": shop.now - 600 * n}])
            error = None if state == "delivered" else "the receiver answered with 503"
            ended = {"next_at": shop.now + 60} if state == "waiting" else {"next_at": None, f"{state}_at": shop.now}
            changed = {"tries": 1 + 4 * n, "last_error": error, **ended}
            connection.execute(tables.outbox.update().where(tables.outbox.c.message_id == f"msg_{n}").values(**changed))

    shop.context.database.run(work)


def _people(shop: Shop) -> str:
    """Create users in each state, links between names, and keys that work, that are revoked and that are expired."""
    context, boss = shop.context, "cli:boss"
    roles = {"berta": "support", "carla.k@shop.example": "approver", "dora": "viewer"}
    for name, role in roles.items():
        create_user(context, name=name, role=role, password=PASSWORD, actor=boss)
    sign_in(context, name="berta", password=PASSWORD, address="203.0.113.9")
    disable_user(context, "dora", actor=boss)
    for n, role in enumerate(("requester", "operator", "viewer")):
        create_key(context, name=f"admin-backend-{n}", client="backend", role=role, actor=boss)
    create_signed_key(context, name="nightly", client="accounting", role="viewer", expires_at=shop.now + 9, actor=boss)
    revoke_key(context, "admin-backend-1", actor=boss)
    link_person(context, "berta", "key:backend/admin-backend-0", by=boss)
    link_person(context, "berta", "cli:berta", by=boss)
    shop.now += 60

    def wrong(connection: Any) -> None:
        for _ in range(9):
            count_wrong(connection, of_sign_in("berta", "203.0.113.9"), shop.now)

    context.database.run(wrong)
    return str(next(key["key_id"] for key in list_keys(context) if key["status"] == "active"))


def _seed(shop: Shop) -> dict[str, str]:
    """Create a customer with each kind of entry."""
    who = f"{NAMES[7]}-1007"
    paid = PaymentRecord(
        payment_id="pay-seed", customer_id=who, processor="stripe", processor_payment_id="ch_seed",
        amount_minor=5_000, currency="EUR", credits=500, captured_at=shop.now - 864_000,
    )  # fmt: skip
    record_payments(shop.context, [paid])
    shop.sandbox.register_payments([{"processor_payment_id": "ch_seed", "amount_minor": 5_000, "currency": "EUR"}])
    for n, credits in enumerate((25, -40)):
        reason = ("welcome back", "withdrawal agreed by phone")[n]
        row, _ = correct(
            shop.context, customer_id=who, credits=credits, reason=reason, client="console",
            idempotency_key=f"seed-{n}", actor="console/anna",
        )  # fmt: skip
        if credits > 0:
            reverse_transaction(shop.context, row["transaction_id"], actor="console/anna")
    late = SpendRecord(
        transaction_id="chat-late", customer_id=who, credits=30, description="Private chat", occurred_at=shop.now
    )
    record_spends(shop.context, [late])
    with shop.context.database.read() as connection:
        entries = ledger.transactions_of(connection, [who], limit=20)
        paid = list_payments(connection, who, limit=1)[0].payment_id
    correction = next(e["transaction_id"] for e in entries if e["kind"] == "correction" and e["credits"] < 0)
    return {"customer": who, "correction": correction, "spend": "chat-late", "payment": paid}


def _in_parts(shop: Shop) -> dict[str, str]:
    """Create a customer whose correction can only be paid out in parts, with expired credits beside it."""
    who, at = f"{NAMES[3]}-2003", shop.now - 86_400
    payments = [
        PaymentRecord(
            payment_id=f"order-{currency}", customer_id=who, processor="manual",
            processor_payment_id=f"bank-{currency}", amount_minor=credits * 10, currency=currency, credits=credits,
            captured_at=at,
        )
        for currency, credits in (("EUR", 12_300), ("USD", 2_000))
    ]  # fmt: skip
    record_payments(shop.context, payments)
    for n, (credits, purpose) in enumerate(
        ((500, None), (-200, Purpose.EXPIRY), (-100, Purpose.OTHER), (-13_000, None))
    ):
        row, _ = correct(
            shop.context, customer_id=who, credits=credits, reason="agreed by phone", client="console",
            idempotency_key=f"parts-{n}", actor="console/anna", purpose=purpose,
        )  # fmt: skip
    return {"in_parts": row["transaction_id"], "customer_of_parts": who}


def _claims(shop: Shop) -> dict[str, str]:
    """Let others refund and dispute payments, in each way that looks different; return the claims by name."""
    for n, who in enumerate(("claims-ada", "claims-bo", "claims-cy")):
        paid = PaymentRecord(
            payment_id=f"pay-claim-{n}", customer_id=who, processor="stripe", processor_payment_id=f"ch_claim_{n}",
            amount_minor=5_000, currency="EUR", credits=500, captured_at=shop.now - 864_000,
        )  # fmt: skip
        record_payments(shop.context, [paid])
        spent = SpendRecord(
            transaction_id=f"claim-chat-{n}", customer_id=who, credits=400, description="Private chat",
            occurred_at=shop.now,
        )  # fmt: skip
        record_spends(shop.context, [spent])
    due = datetime.fromtimestamp(time.time() + 5 * 86_400, UTC)
    at = "ch_claim_{}".format
    hear(shop.context, outside_refund("re_dash_posted", 500, payment=at(0)))
    hear(shop.context, outside_refund("re_dash_gone", 900, payment="ch_of_another_shop"))
    hear(shop.context, outside_refund("re_dash_undecided", 2_000, payment=at(0)), shortfall="person")
    hear(shop.context, dispute("du_open", 5_000, payment=at(1), due_by=due))
    hear(shop.context, dispute("du_lost", 3_000, payment=at(2), status="lost", due_by=None))
    hear(shop.context, dispute("du_inquiry", 1_000, payment=at(2), status="warning_needs_response", due_by=due))
    record_payments(shop.context, [replace(paid, payment_id="pay-warned", processor_payment_id="ch_warned")])
    hear(shop.context, warning("issfr_warned", payment="ch_warned"), warning("issfr_answered", payment=at(2)))
    hear(shop.context, warning("issfr_of_another_shop", payment="ch_of_another_shop"))
    names = {
        "re_dash_posted": "outside-posted", "re_dash_gone": "outside-unmatched",
        "re_dash_undecided": "outside-needs_decision",
        "du_open": "dispute-needs_response", "du_lost": "dispute-lost", "du_inquiry": "dispute-inquiry",
    }  # fmt: skip
    with shop.context.database.read() as connection:
        rows = connection.execute(select(tables.claims.c.object_id, tables.claims.c.claim_id))
        return {names[object_id]: claim_id for object_id, claim_id in rows if object_id in names}


def _batch(shop: Shop) -> str:
    requests = [shop._customer(None, To.SOURCE) for _ in range(12)]
    shop._tell_sandbox()
    rows: list[RefundRequest | Refusal] = [replace(r, bulk=True) for r in requests]
    rows[3] = replace(requests[3], credits=5_000)
    rows[7] = replace(requests[7], transaction_id="chat-of-2009")
    return str(accept_batch(shop.context, rows, client="backend", actor="backend/nightly")["batch_id"])


def _lose_track(shop: Shop, refund_id: str) -> None:
    """Leave a send unanswered until its key is too old: its result is unknown until a person asks the processor."""
    process_until_idle(shop.context, [refund_id])
    with shop.context.database.write() as connection:
        why = "no refund was found, and the key is too old to be sent again"
        told = {"failure_code": "outcome_unknown", "failure_message": why}
        connection.execute(
            tables.legs.update().where(tables.legs.c.refund_id == refund_id).values(
                status="blocked", attention="outcome_unknown", next_at=None, look_first=False, doubtful=False, **told
            )
        )  # fmt: skip
        connection.execute(
            tables.refunds.update().where(tables.refunds.c.refund_id == refund_id).values(
                status="needs_attention", due_at=None, lease_until=None, lease_token=None, version=9, **told
            )
        )  # fmt: skip


def _stuck(shop: Shop) -> None:
    ids = shop.ask(37)
    shop._tell_sandbox(balance={"gbp": 0, "eur": 0, "jpy": 0})
    shop.work_until_blocked(ids[-1])
    perform_action(shop.context, ids[-1], Action.RETRY, actor="console/anna", reason="is it topped up already?")
    shop.work(1)


def _webhooks(shop: Shop) -> None:
    kinds = ("refund.created", "refund.updated", "charge.refunded", "refund.failed")

    def work(connection: Any) -> None:
        for n in range(9):
            body = json.dumps({"id": f"evt_{n}", "data": {"object": {"object": "refund", "id": f"re_{n}"}}})
            inbox.insert_event(connection, "stripe", f"evt_1QX{n:04d}kZp", kinds[n % 4], body, shop.now - 600 + 40 * n)

    shop.context.database.run(work)
    process_inbox(shop.context, limit=6)
