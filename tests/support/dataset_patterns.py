"""The patterns of a large database: customers whose refunds the engine brings to every status."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import event, insert, select, update

from refund_worker.batching import batched
from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import Blocked, Busy, Refused, Reply
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.store.tables import inbox, metadata, outbox, refund_objects, refunds
from tests.support.engine_world import ScriptedProcessor, World
from tests.support.migrated import migrate

BUSY = "busy-0000"
DAYS = 60
PROCESSORS = ("stripe", "manual", "acquirer")
CURRENCIES = ("GBP", "USD", "EUR", "JPY")
LARGE_MINOR = 50_000
GROUP = 10
# Rows of one installation or of its users are not copied: a second copy would be invalid. Snapshots are taken again.
NOT_COPIED = {
    "api_keys", "audit_seals", "console_sessions", "console_tries", "console_users", "installation", "snapshots",
}  # fmt: skip

# Request and result of each scenario, with its frequency in a thousand.
SCENARIOS: Mapping[tuple[str, str], int] = {
    ("withdrawal", "pays"): 400,
    ("money", "pays"): 170,
    ("credits", "pays"): 230,
    ("withdrawal", "pays_silently"): 30,
    ("withdrawal", "busy"): 20,
    ("withdrawal", "declined"): 40,
    ("money", "expired"): 15,
    ("money", "replaced"): 10,
    ("withdrawal", "in part"): 5,
    ("large", "approved"): 10,
    ("large", "rejected"): 5,
    ("large", "canceled"): 5,
    ("withdrawal", "balance"): 20,
    ("withdrawal", "disputed"): 5,
    ("withdrawal", "pending"): 20,
    ("large", "waits"): 5,
    ("withdrawal", "queued"): 10,
}
FAILS = frozenset({"declined", "expired"})
NON_FINAL = frozenset({"balance", "disputed", "pending", "waits", "queued"})
ENDS_WELL = frozenset(fate for _, fate in SCENARIOS) - FAILS - NON_FINAL
DECLINED = Refused("declined", "The card issuer has declined this refund.")
EXPIRED = Refused("expired_or_canceled_card", "The card is expired or was canceled.")
# The processor's script for the newer and for the older payment.
SCRIPTS: Mapping[str, tuple[Sequence[str | Reply], Sequence[str | Reply]]] = {
    "pays_silently": (["pays_silently"], []),
    "busy": ([Busy("rate_limit"), "pays"], []),
    "declined": ([DECLINED] * 3, [DECLINED] * 3),
    "expired": ([EXPIRED] * 3, [EXPIRED] * 3),
    "replaced": ([Refused("lost_or_stolen_card", "The card was reported lost.")], []),
    "in part": ([], [DECLINED] * 3),
    "balance": ([Blocked("balance_insufficient", "Insufficient funds in your account.")], []),
    "disputed": ([Blocked("charge_disputed", "The charge has been charged back.")], []),
    "pending": (["pending"], []),
}


Rows = dict[str, list[dict[str, Any]]]


class Pattern(World):
    """A separate database in which each customer has a number and requests one refund."""

    def __init__(self, path: Path, begin: float, *, first: int, chance: random.Random) -> None:
        url = f"sqlite:///{path}.db"
        migrate(url)
        others = {name: ScriptedProcessor(name) for name in PROCESSORS[1:]}
        super().__init__(
            url,
            limits=Limits(approval_threshold_minor=LARGE_MINOR, window_seconds=1.0),
            new_id=self._new_id,
            notify=True,
        )
        self.processors = {"stripe": self.processor, **others}
        self.context.processors.update(self.processors)  # type: ignore[attr-defined]
        self.now, self._next, self._ids, self._chance = begin, first, first << 20, chance
        # The pattern is deleted after copying, so nothing of it must reach the disk.
        event.listen(self.database.engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF"))

    def __enter__(self) -> Pattern:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_id(self, prefix: str) -> str:
        """Return an id like ours, with a place for the number of the copy."""
        self._ids += 1
        return f"{prefix}_{int(self.now * 1000):012x}0000{self._ids:010x}"

    def play(self, ways: Sequence[tuple[str, str]]) -> None:
        """Request one refund for each scenario, and process them to their intended status."""
        for start in range(0, len(ways), GROUP):
            group = ways[start : start + GROUP]
            requests = [self._customer(*way) for way in group]
            if start % (4 * GROUP):
                answers = []
                for request in requests:
                    self.now += self._chance.uniform(0.2, 8.0)
                    answers += request_refunds(self.context, [request])
                assert all(isinstance(answer, Accepted) for answer in answers), answers
            else:
                taken = accept_batch(self.context, requests, client="backend", actor="nightly job")
                assert taken["rejected"] == [], taken
            if not any(fate == "queued" for _, fate in group):
                self.now += self._chance.uniform(0.1, 3.0)
                self.work()
            for status, action, who in (
                ("approved", Action.APPROVE, "anna"),
                ("rejected", Action.REJECT, "anna"),
                ("canceled", Action.CANCEL, "ben"),
            ):
                for request, (_, fate) in zip(requests, group, strict=True):
                    if fate == status:
                        self._act(request.idempotency_key, action, who)
        if not any(fate in NON_FINAL for _, fate in ways):
            self.work_for(3600)
        self._tell()

    def play_busy(self, entries: int) -> None:
        """Create one customer who spends all the time and gets a twentieth of it back."""
        step = DAYS * 86_400 / entries
        paid = [self._paid(BUSY, f"busy-{n:04}-0000", "GBP", 20_000, entries) for n in range(40)]
        spent = [
            SpendRecord(
                transaction_id=f"chat-{9000 + n // 1000:04}-0000-{n % 1000}",
                customer_id=BUSY,
                credits=10,
                description="Private chat",
                occurred_at=self.now - step * (entries - n),
            )
            for n in range(entries)
        ]
        record_payments(self.context, paid)
        for some in batched(spent, 250):
            record_spends(self.context, some)
        asked = [
            self._request(
                9_500, "credits" if n % 2 else "money", BUSY, spend=spent[n].transaction_id, key=f"busy-{n:04}-0000"
            )
            for n in range(0, entries, 20)
        ]
        for n, credits in enumerate([-50, 20, -50, 10]):
            self._correct(BUSY, f"busy-{n:04}-0000", credits)
        for requests in batched(asked, 50):
            request_refunds(self.context, requests)
            self.now += 20
            self.work()
        self._tell()

    def _customer(self, what: str, fate: str) -> RefundRequest:
        """Create a customer with two payments and some spends, script the processors, and return the refund request."""
        number, self._next = self._next, self._next + 1
        name = f"{number:04}-0000"
        currency = CURRENCIES[number % len(CURRENCIES)]
        processor = PROCESSORS[number % 3]
        amount = LARGE_MINOR * 2 if what == "large" else self._chance.randrange(1_000, 9_000)
        ways = SCRIPTS.get(fate, ((), ()))
        paid = []
        for place in (1, 2):  # the older, then the newer
            record = self._paid(f"customer-{name}", f"{name}-{place}", currency, amount, amount // 10, processor)
            self.processors[processor].script(record.processor_payment_id, *ways[2 - place])
            paid.append(record)
        record_payments(self.context, paid)
        spends = [
            SpendRecord(
                transaction_id=f"chat-{name}-{n}",
                customer_id=f"customer-{name}",
                credits=amount // 50,
                description=self._chance.choice(("Private chat", "Group show", "Tip")),
                occurred_at=self.now - 3600 + n,
            )
            for n in range(4)
        ]
        record_spends(self.context, spends)
        if number % 6 == 0:
            self._correct(f"customer-{name}", name, 5)
        credits = (amount // 10) + 10 if fate == "in part" else amount // 20
        return self._request(number, what, f"customer-{name}", credits=credits, key=f"order-{name}")

    def _request(
        self, number: int, what: str, customer: str, *, key: str, credits: int | None = None, spend: str | None = None
    ) -> RefundRequest:
        withdrawal = what in ("withdrawal", "large")
        name = f"{number:04}-0000"
        return RefundRequest(
            idempotency_key=key,
            kind=Kind.WITHDRAWAL if withdrawal else Kind.CREDIT_REFUND,
            to=To.BALANCE if what == "credits" else To.SOURCE,
            customer_id=customer,
            transaction_id=None if withdrawal else spend or f"chat-{name}-0",
            credits=credits if what != "large" and withdrawal else (LARGE_MINOR // 8 if withdrawal else None),
            reason=self._chance.choice(("requested by customer", "the stream broke off", "duplicate charge")),
            note=self._chance.choice((None, "called twice, please be quick")),
            metadata={"ticket": f"T-{number}"},
            client=self._chance.choice(("backend", "backend", "shop")),
            actor=f"agent-{number % 9}",
        )

    def _paid(
        self, customer: str, name: str, currency: str, amount: int, credits: int, processor: str = "stripe"
    ) -> PaymentRecord:
        return PaymentRecord(
            payment_id=f"pay-{name}",
            customer_id=customer,
            processor=processor,
            processor_payment_id=f"ch_{name}",
            amount_minor=amount,
            currency=currency,
            credits=credits,
            captured_at=self.now - 86_400 + int(name[-1]),
        )

    def _correct(self, customer: str, name: str, credits: int) -> None:
        correct(
            self.context,
            customer_id=customer,
            credits=credits,
            reason="goodwill" if credits > 0 else "to be paid out",
            client="console",
            idempotency_key=f"form-{name}",
            actor="console/anna",
        )

    def _act(self, key: str, action: Action, who: str) -> None:
        with self.database.read() as connection:
            refund_id = connection.execute(select(refunds.c.refund_id).where(refunds.c.idempotency_key == key)).scalar()
        self.command(str(refund_id), action)
        self.now += 30
        self.work()

    def _tell(self) -> None:
        """Write the processors' webhook events, and mark our notifications to the admin backend as delivered."""
        with self.database.write() as connection:
            for row in list(connection.execute(select(refund_objects)).mappings()):
                if row["processor"] == "stripe":
                    connection.execute(insert(inbox).values(**_event(row)))
            told = {"delivered_at": outbox.c.created_at + 0.4, "next_at": None, "tries": 1}
            connection.execute(update(outbox).values(**told))
            lost = {"delivered_at": None, "given_up_at": outbox.c.created_at + 86_400, "tries": 20}
            a_few = select(outbox.c.message_id).order_by(outbox.c.message_id).limit(2)
            connection.execute(
                update(outbox).where(outbox.c.message_id.in_(a_few)).values(**lost, last_error="HTTP 503")
            )

    def rows(self) -> Rows:
        """Return the rows of every table that is copied."""
        with self.database.read() as connection:
            return {
                table.name: [_as_stored(row) for row in connection.execute(select(table)).mappings()]
                for table in metadata.sorted_tables
                if table.name not in NOT_COPIED
            }


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Stripe event about a refund object, of about the usual size."""
    refund_object = {name: row[name] for name in ("processor_refund_id", "status", "amount_minor", "currency")}
    return {
        "processor": row["processor"],
        "event_id": f"evt_{row['processor_refund_id']}",
        "kind": "refund.updated",
        "body": json.dumps({"object": "event", "data": {"object": refund_object}, "filler": "x" * 900}),
        "received_at": row["seen_at"] + 1,
        "taken_at": row["seen_at"] + 2,
        "outcome": "taken",
        "tries": 1,
    }


def _as_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its lists of ids as text."""
    return {name: json.dumps(value) if isinstance(value, tuple) else value for name, value in row.items()}
