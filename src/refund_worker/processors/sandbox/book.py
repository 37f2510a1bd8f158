"""The sandbox's book: payments, refunds, disputes, idempotency keys and scheduled work. No network, no faults.

The book is the sum of its records. `commit` writes records to the journal and only then applies them. Opening a book
applies the same records again, so a restart keeps everything that a client ever saw.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from refund_worker.processors.sandbox import postings
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.journal import Journal
from refund_worker.processors.sandbox.ledger import PAYOUT, Ledger, Transaction
from refund_worker.processors.sandbox.records import Dispute, FraudWarning, Ordered, Payment, Refund
from refund_worker.processors.sandbox.refund_objects import awaits_reference


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An idempotency key with the request it belongs to and the answer it replays. `created` is in epoch seconds."""

    endpoint: str
    fingerprint: str
    status: int
    body: str
    created: float


class Book:
    """The sandbox's whole state. With `path=None` the book exists in memory only.

    Raises `BookError` if the file is damaged or another process has it open.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        seed: int | None = None,
        fsync: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self.clock_offset = 0.0
        self.seed = ""
        self.payments: dict[str, Payment] = {}
        self.payment_list: Ordered[Payment] = Ordered()
        self.refunds: dict[str, Refund] = {}
        self.refund_list: Ordered[Refund] = Ordered()
        self.disputes: dict[str, Dispute] = {}
        self.dispute_list: Ordered[Dispute] = Ordered()
        self.warnings: dict[str, FraudWarning] = {}
        self.warning_list: Ordered[FraudWarning] = Ordered()
        self.keys: dict[tuple[str, str], StoredKey] = {}
        self.ledger = Ledger()
        self.captured: dict[str, int] = {}
        self.refunded: dict[str, int] = {}
        # Called with the id of an unregistered payment; returns its record, or None.
        self.learn: Callable[[str], JsonObject | None] | None = None
        self._references: list[tuple[int, str]] = []
        self._later: list[tuple[float, int, JsonObject]] = []
        self._later_done: set[int] = set()
        self._later_count = 0
        self._journal = Journal(path, fsync=fsync) if path is not None else None
        if self._journal is not None:
            for records in self._journal.replay():
                for record in records:
                    self._apply(record)
        if not self.seed:
            chosen = f"seed {seed}" if seed is not None else secrets.token_hex(8)
            self.commit({"kind": "opened", "seed": chosen})

    # -- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the sandbox's time in epoch seconds: the real clock plus what `/_clock` advanced it by."""
        return self._clock() + self.clock_offset

    def due_at(self) -> float | None:
        """Return when the next scheduled item is due (the sandbox's epoch seconds), or None if nothing is scheduled."""
        while self._later and self._later[0][1] in self._later_done:
            self._later_done.discard(heapq.heappop(self._later)[1])
        return self._later[0][0] if self._later else None

    def next_due(self) -> tuple[int, JsonObject] | None:
        """Return number and content of the earliest item that is due, or None if there is no such item.

        Commit `done(number)` together with the item's effect.
        """
        due = self.due_at()
        if due is None or due > self.now():
            return None
        return self._later[0][1], self._later[0][2]

    def reference_awaited_since(self) -> int | None:
        """Return since when the refund that has waited longest waits for its trace reference, or None."""
        while self._references and not awaits_reference(self.refunds[self._references[0][1]].object):
            heapq.heappop(self._references)
        return self._references[0][0] if self._references else None

    def take_references(self, until: float, count_max: int) -> list[Refund]:
        """Return up to `count_max` refunds that wait since `until` or longer. Commit the reference of each."""
        taken: list[Refund] = []
        while len(taken) < count_max and (since := self.reference_awaited_since()) is not None and since <= until:
            taken.append(self.refunds[heapq.heappop(self._references)[1]])
        return taken

    def postponed(self) -> list[JsonObject]:
        """Return the content of every scheduled item that is not done."""
        return [what for _, number, what in self._later if number not in self._later_done]

    # -- reading ------------------------------------------------------------------------------------------------------

    def find_payment(self, reference: str) -> Payment | None:
        """Return the payment with this id or this charge. Return None if there is no such payment."""
        found = self.payments.get(reference)
        if found is None and reference.startswith("ch_"):
            found = self.payments.get("pi_" + reference.removeprefix("ch_"))
        if found is None and self.learn is not None and (record := self.learn(reference)) is not None:
            self.commit({"created": int(self.now()), **record})
            found = self.payments.get(reference)
        return found

    def new_id(self, prefix: str, *name: object) -> str:
        """Return an id derived from the book's seed and `name`, so that the same requests get the same ids."""
        text = ":".join((self.seed, prefix, *map(str, name)))
        return f"{prefix}_{blake2b(text.encode(), digest_size=12).hexdigest()}"

    def charge_transaction_id(self, payment_id: str) -> str:
        """Return the id of the balance transaction of the payment's charge."""
        return self.new_id("txn", payment_id, "charge")

    def find_key(self, account: str, key: str, life_seconds: float) -> StoredKey | None:
        """Return what is stored under the key, or None if the key is unknown or older than `life_seconds`."""
        stored = self.keys.get((account, key))
        return stored if stored is not None and self.now() - stored.created < life_seconds else None

    # -- records ------------------------------------------------------------------------------------------------------

    def commit(self, *records: JsonObject) -> None:
        """Make the records true together: first on the disk, then in memory.

        Raises `OSError` if the disk refuses them; then none of them is true.
        """
        if self._journal is not None:
            self._journal.append(list(records))
        for record in records:
            self._apply(record)

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()

    def _apply(self, record: JsonObject) -> None:
        getattr(self, "_apply_" + record["kind"])(record)

    def _apply_opened(self, record: JsonObject) -> None:
        self.seed = record["seed"]

    def _apply_clock(self, record: JsonObject) -> None:
        self.clock_offset = record["offset_seconds"]

    def _apply_payment(self, record: JsonObject) -> None:
        known = self.payments.get(record["id"])
        if known is not None:
            known.flagged = record["disputed"]
            return
        payment = Payment.of_record(record, len(self.payments))
        self.payments[payment.id] = payment
        self.payment_list.add(payment)
        self._count_captured(payment, payment.captured)
        if payment.earns:
            self._post_charge(payment, payment.created)

    def _apply_payment_changed(self, record: JsonObject) -> None:
        payment = self.payments[record["id"]]
        captured, earned = payment.captured, payment.earns
        for name, value in record["set"].items():
            setattr(payment, name, value)
        self._count_captured(payment, payment.captured - captured)

        if payment.earns and not earned:
            self._post_charge(payment, record["at"])
        elif earned and not payment.earns:
            transaction_id = self.new_id("txn", payment.id, "failure")
            self.ledger.add(postings.of_failed_charge(payment, transaction_id, captured, record["at"]))

    def _post_charge(self, payment: Payment, second: int) -> None:
        payment.transaction_id = self.charge_transaction_id(payment.id)
        self.ledger.add(postings.of_charge(payment, payment.transaction_id, second))

    def _post_refund(self, refund: Refund, second: int) -> None:
        for transaction in postings.of_refund(self.payment_of(refund), refund, second):
            self.ledger.add(transaction)

    def _apply_transaction(self, record: JsonObject) -> None:
        """Apply a top-up or a payout."""
        names = ("id", "type", "amount", "currency", "source", "created")
        transaction = Transaction(**{name: record[name] for name in names})
        if transaction.type == PAYOUT:
            self.ledger.pay_out(transaction, automatic=record["automatic"])
        else:
            self.ledger.add(transaction)

    def _apply_balance(self, record: JsonObject) -> None:
        self.ledger.shift(record["currency"], record["available"], record["pending"])
        self.ledger.policies[record["currency"]] = record["policy"]

    def _count_captured(self, payment: Payment, amount: int) -> None:
        self.captured[payment.currency] = self.captured.get(payment.currency, 0) + amount

    def _apply_refund(self, record: JsonObject) -> None:
        refund = Refund(record["refund"], record["key"], len(self.refunds))
        self.refunds[refund.id] = refund
        self.refund_list.add(refund)
        payment = self.payment_of(refund)
        payment.refunds.add(refund)
        self._await_reference(refund, refund.created)
        self._post_refund(refund, refund.created)
        if not refund.void:
            self._count(payment, refund, +1)

    def _apply_changed(self, record: JsonObject) -> None:
        refund = self.refunds[record["id"]]
        was_void = refund.void
        refund.object.update(record["set"])
        self._await_reference(refund, record.get("at", refund.created))
        self._post_refund(refund, record.get("at", refund.created))
        if refund.void != was_void:
            self._count(self.payment_of(refund), refund, +1 if was_void else -1)

    def _await_reference(self, refund: Refund, second: int) -> None:
        if awaits_reference(refund.object):
            heapq.heappush(self._references, (second, refund.id))

    def _apply_dispute(self, record: JsonObject) -> None:
        dispute = Dispute(record["dispute"], len(self.disputes))
        self.disputes[dispute.id] = dispute
        self.dispute_list.add(dispute)
        self.payment_of(dispute).disputes.add(dispute)
        self._post_dispute(dispute)

    def _apply_dispute_changed(self, record: JsonObject) -> None:
        dispute = self.disputes[record["id"]]
        dispute.object.update(record["set"])
        self._post_dispute(dispute)

    def _post_dispute(self, dispute: Dispute) -> None:
        for transaction in postings.of_dispute(dispute):
            self.ledger.add(transaction)

    def _apply_warning(self, record: JsonObject) -> None:
        warning = FraudWarning(record["warning"], len(self.warnings))
        self.warnings[warning.id] = warning
        self.warning_list.add(warning)
        self.payment_of(warning).warnings.add(warning)

    def _apply_key(self, record: JsonObject) -> None:
        self.keys[record["account"], record["key"]] = StoredKey(
            record["endpoint"], record["fingerprint"], record["status"], record["body"], record["created"]
        )

    def _apply_later(self, record: JsonObject) -> None:
        self._later_count += 1
        heapq.heappush(self._later, (record["due"], self._later_count, record["what"]))

    def _apply_done(self, record: JsonObject) -> None:
        self._later_done.add(record["number"])

    def _count(self, payment: Payment, refund: Refund, sign: int) -> None:
        amount = sign * refund.object["amount"]
        payment.refunded += amount
        self.refunded[payment.currency] = self.refunded.get(payment.currency, 0) + amount

    def payment_of(self, entry: Refund | Dispute | FraudWarning) -> Payment:
        """Return the payment that the object belongs to."""
        return self.payments[entry.object["payment_intent"] or entry.object["charge"]]

    def summary(self) -> JsonObject:
        """Return the whole book as JSON: payments, refunds (with their key), disputes, totals for each currency.

        A dispute's `received` is the money that the customer has through it: withdrawn and not reinstated. `received`
        of the book has the same for each currency, and the refunds that succeeded.
        """
        return {
            "payments": [
                {
                    "id": payment.id,
                    "amount": payment.captured,
                    "currency": payment.currency,
                    "refunded": payment.refunded,
                    "disputed": payment.disputed,
                }
                for payment in self.payments.values()
            ],
            "refunds": [
                {**refund.object, "idempotency_key": refund.idempotency_key} for refund in self.refunds.values()
            ],
            "disputes": [{**dispute.object, "received": dispute.withdrawn} for dispute in self.disputes.values()],
            "received": self._received(),
            "totals": {
                currency: {"captured": captured, "refunded": self.refunded.get(currency, 0)}
                for currency, captured in self.captured.items()
            },
        }

    def _received(self) -> JsonObject:
        received = {currency: {"refunds": 0, "disputes": 0} for currency in self.captured}
        for refund in self.refunds.values():
            if refund.object["status"] == "succeeded":
                received[refund.object["currency"]]["refunds"] += refund.object["amount"]
        for dispute in self.disputes.values():
            received[dispute.object["currency"]]["disputes"] += dispute.withdrawn
        return received


def done(number: int) -> JsonObject:
    """Return the record that a scheduled item has happened."""
    return {"kind": "done", "number": number}


def later(due: float, what: JsonObject) -> JsonObject:
    """Return the record that schedules `what` for `due`, in the sandbox's epoch seconds."""
    return {"kind": "later", "due": due, "what": what}
