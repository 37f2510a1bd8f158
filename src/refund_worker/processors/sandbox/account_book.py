"""One account's part of the book: its payments, refunds, disputes, early fraud warnings and money."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

from refund_worker.processors.sandbox import postings
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.ledger import PAYOUT, Ledger, Transaction
from refund_worker.processors.sandbox.payout_book import PayoutBook
from refund_worker.processors.sandbox.records import Dispute, FraudWarning, Ordered, Payment, Refund, Shares
from refund_worker.processors.sandbox.refund_objects import awaits_reference

if TYPE_CHECKING:
    from refund_worker.processors.sandbox.book import Book

# The name of the platform's own account.
PLATFORM = ""


class AccountBook(PayoutBook):
    """The records of one account: the platform's own, or a connected one.

    An object of another account is not there. `connected` is None until something happens to a connected account, and
    False once it was disconnected.
    """

    def __init__(self, account: str, whole: Book | None = None) -> None:
        super().__init__()
        self.account = account
        self._whole = whole
        self.connected: bool | None = None
        self.payments: dict[str, Payment] = {}
        self.payment_list: Ordered[Payment] = Ordered()
        self.refunds: dict[str, Refund] = {}
        self.refund_list: Ordered[Refund] = Ordered()
        self.disputes: dict[str, Dispute] = {}
        self.dispute_list: Ordered[Dispute] = Ordered()
        self.warnings: dict[str, FraudWarning] = {}
        self.warning_list: Ordered[FraudWarning] = Ordered()
        self.ledger = Ledger()
        self.captured: dict[str, int] = {}
        self.refunded: dict[str, int] = {}

    @property
    def whole(self) -> Book:
        """The book with all accounts."""
        assert self._whole is not None
        return self._whole

    def now(self) -> float:
        """Return the sandbox's time in epoch seconds."""
        return self.whole.now()

    # -- reading ------------------------------------------------------------------------------------------------------

    def find_payment(self, reference: str) -> Payment | None:
        """Return the payment with this id or this charge. Return None if there is no such payment."""
        found = self.payments.get(reference)
        if found is None and reference.startswith("ch_"):
            found = self.payments.get("pi_" + reference.removeprefix("ch_"))
        learn = self.whole.learn
        if found is None and learn is not None and (record := learn(reference, self.account)) is not None:
            self.whole.commit({"created": int(self.now()), **record}, account=self.account)
            found = self.payments.get(reference)
        return found

    def new_id(self, prefix: str, *name: object) -> str:
        """Return an id derived from the book's seed, the account and `name`: the same requests get the same ids."""
        whose = (self.account,) if self.account else ()
        text = ":".join((self.whole.seed, *whose, prefix, *map(str, name)))
        return f"{prefix}_{blake2b(text.encode(), digest_size=12).hexdigest()}"

    def charge_transaction_id(self, payment_id: str) -> str:
        """Return the id of the balance transaction of the payment's charge."""
        return self.new_id("txn", payment_id, "charge")

    def payment_of(self, entry: Refund | Dispute | FraudWarning) -> Payment:
        """Return the payment that the object belongs to."""
        return self.payments[entry.object["payment_intent"] or entry.object["charge"]]

    def destination_of(self, payment: Payment) -> AccountBook | None:
        """Return the account to which the payment's money was transferred, or None."""
        return None if payment.destination is None else self.whole.of(payment.destination)

    # -- records ------------------------------------------------------------------------------------------------------

    def apply(self, record: JsonObject) -> None:
        """Make a committed record true."""
        self.open()
        getattr(self, "_apply_" + record["kind"])(record)

    def open(self) -> AccountBook:
        """Return the account, which is connected from now on if it never was."""
        if self.connected is None:
            self.connected = True
        return self

    def _apply_connection(self, record: JsonObject) -> None:
        self.connected = record["connected"]

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
        for transaction in postings.of_application_fee(payment, self.new_id, second):
            self.whole.ledger.add(transaction)
        self._post_moved(payment, postings.of_transfer(payment, self.new_id, second))

    def _post_refund(self, refund: Refund, second: int) -> None:
        payment = self.payment_of(refund)
        for transaction in postings.of_refund(payment, refund, second):
            self.ledger.add(transaction)
        if refund.object["balance_transaction"] is None:
            return
        for transaction in postings.of_fee_share(payment, refund, self.new_id, second):
            self.whole.ledger.add(transaction)
        self._post_moved(payment, postings.of_transfer_share(payment, refund, self.new_id, second))

    def _post_moved(self, payment: Payment, sides: tuple[Transaction, Transaction] | None) -> None:
        """Post what moved between this account and the payment's destination: our side, then the other one."""
        destination = self.destination_of(payment)
        if sides is not None and destination is not None:
            self.ledger.add(sides[0])
            destination.open().ledger.add(sides[1])

    def _apply_transaction(self, record: JsonObject) -> None:
        """Apply a top-up, or a payout of an older book."""
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
        shares = Shares(**record.get("shares", {}))
        refund = Refund(record["refund"], record["key"], len(self.refunds), shares)
        self.refunds[refund.id] = refund
        self.refund_list.add(refund)
        payment = self.payment_of(refund)
        payment.refunds.add(refund)
        self._await_reference(refund, refund.created)
        self._post_refund(refund, refund.created)
        if not refund.void:
            self._count(payment, refund, +1)
            payment.take_back(refund.shares, +1)

    def _apply_changed(self, record: JsonObject) -> None:
        refund = self.refunds[record["id"]]
        was_void = refund.void
        refund.object.update(record["set"])
        self._await_reference(refund, record.get("at", refund.created))
        self._post_refund(refund, record.get("at", refund.created))
        if refund.void != was_void:
            self._count(self.payment_of(refund), refund, +1 if was_void else -1)
            # Once the money moved, a failure does not undo what others gave: Stripe leaves that to the platform.
            if refund.object["balance_transaction"] is None:
                self.payment_of(refund).take_back(refund.shares, -1)

    def _await_reference(self, refund: Refund, second: int) -> None:
        if awaits_reference(refund.object):
            self.whole.await_reference(second, refund.id, self.account)

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

    def _count(self, payment: Payment, refund: Refund, sign: int) -> None:
        amount = sign * refund.object["amount"]
        payment.refunded += amount
        self.refunded[payment.currency] = self.refunded.get(payment.currency, 0) + amount

    def objects(self) -> JsonObject:
        """Return payments, refunds, disputes, transfers, reversals and payouts as JSON.

        Each names its connected account, and the idempotency key that it was made with.
        """
        whose = {"account": self.account} if self.account else {}
        return {
            "payments": [
                {
                    "id": payment.id,
                    "amount": payment.captured,
                    "currency": payment.currency,
                    "refunded": payment.refunded,
                    "disputed": payment.disputed,
                    **whose,
                }
                for payment in self.payments.values()
            ],
            "refunds": [
                {**refund.object, "idempotency_key": refund.idempotency_key, **whose}
                for refund in self.refunds.values()
            ],
            "disputes": [{**each.object, "received": each.withdrawn, **whose} for each in self.disputes.values()],
            **self.payout_objects(),
        }

    def received(self) -> JsonObject:
        """Return what customers have through refunds that succeeded and through disputes, by currency."""
        received = {currency: {"refunds": 0, "disputes": 0} for currency in self.captured}
        for refund in self.refunds.values():
            if refund.object["status"] == "succeeded":
                received[refund.object["currency"]]["refunds"] += refund.object["amount"]
        for dispute in self.disputes.values():
            received[dispute.object["currency"]]["disputes"] += dispute.withdrawn
        return received

    def balance(self) -> dict[str, int]:
        """Return the account's money by currency, available and pending together."""
        now = self.now()
        return {
            each: self.ledger.available(each, now) + self.ledger.pending(each, now) for each in self.ledger.currencies()
        }

    def totals(self) -> JsonObject:
        """Return what was captured and refunded, by currency."""
        return {
            currency: {"captured": captured, "refunded": self.refunded.get(currency, 0)}
            for currency, captured in self.captured.items()
        }
