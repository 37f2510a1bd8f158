"""The part of an account's book about transfers, payouts and the account itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.ledger import PAYOUT, Ledger, Transaction
from refund_worker.processors.sandbox.payout_records import PAID, Moved, Profile
from refund_worker.processors.sandbox.records import Ordered

if TYPE_CHECKING:
    from refund_worker.processors.sandbox.book import Book

# The transaction that returns the money of a payout, by the payout's status.
RETURNS = {"failed": "payout_failure", "canceled": "payout_cancel"}


class PayoutBook:
    """The transfers that an account made, its payouts, and what is known about it."""

    account: str
    ledger: Ledger
    new_id: Callable[..., str]

    def __init__(self) -> None:
        self.transfers: dict[str, Moved] = {}
        self.transfer_list: Ordered[Moved] = Ordered()
        self.reversals: dict[str, Moved] = {}
        self.payouts: dict[str, Moved] = {}
        self.payout_list: Ordered[Moved] = Ordered()
        self.profile = Profile()

    @property
    def whole(self) -> Book:
        """The book with all accounts."""
        raise NotImplementedError

    def _apply_transfer(self, record: JsonObject) -> None:
        transfer = Moved(record["transfer"], record["key"], len(self.transfers))
        self.transfers[transfer.id] = transfer
        self.transfer_list.add(transfer)
        shown = transfer.object
        there = self.whole.of(shown["destination"]).open()
        out = self._transaction(shown["balance_transaction"], "transfer", -shown["amount"], transfer)
        came = self._transaction(self.new_id("txn", "there", transfer.id), "payment", shown["amount"], transfer)
        came.source = shown["destination_payment"]
        came.available_on = transfer.created + record["delay"]
        self.ledger.add(out)
        there.ledger.add(came)

    def _apply_transfer_changed(self, record: JsonObject) -> None:
        self.transfers[record["id"]].object.update(record["set"])

    def _apply_reversal(self, record: JsonObject) -> None:
        reversal = Moved(record["reversal"], record["key"], len(self.reversals))
        shown = reversal.object
        transfer = self.transfers[shown["transfer"]]
        self.reversals[reversal.id] = reversal
        transfer.reversals.add(reversal)
        reversed_minor = transfer.object["amount_reversed"] + shown["amount"]
        transfer.object["amount_reversed"] = reversed_minor
        transfer.object["reversed"] = reversed_minor == transfer.object["amount"]
        there = self.whole.of(transfer.object["destination"])
        self.ledger.add(self._transaction(shown["balance_transaction"], "transfer_refund", shown["amount"], reversal))
        gone_id = self.new_id("txn", "there", reversal.id)
        gone = self._transaction(gone_id, "payment_refund", -shown["amount"], reversal)
        gone.source = shown["destination_payment_refund"]
        there.ledger.add(gone)

    def _apply_payout(self, record: JsonObject) -> None:
        payout = Moved(record["payout"], record["key"], len(self.payouts))
        self.payouts[payout.id] = payout
        self.payout_list.add(payout)
        shown = payout.object
        out = self._transaction(shown["balance_transaction"], PAYOUT, -shown["amount"], payout)
        self.ledger.pay_out(out, automatic=shown["automatic"])
        self._post_return(payout, payout.created)

    def _apply_payout_changed(self, record: JsonObject) -> None:
        payout = self.payouts[record["id"]]
        payout.object.update(record["set"])
        self._post_return(payout, record["at"])

    def _post_return(self, payout: Moved, second: int) -> None:
        shown = payout.object
        if shown["failure_balance_transaction"] is not None:
            transaction_id = shown["failure_balance_transaction"]
            back = self._transaction(transaction_id, RETURNS[shown["status"]], shown["amount"], payout)
            back.created = second
            self.ledger.add(back)

    def _apply_profile(self, record: JsonObject) -> None:
        self.profile = Profile(**{**asdict(self.profile), **record["set"]})

    def _transaction(self, transaction_id: str, type: str, amount: int, moved: Moved) -> Transaction:
        return Transaction(transaction_id, type, amount, moved.object["currency"], moved.id, moved.created)

    def payout_objects(self) -> JsonObject:
        """Return transfers, reversals and payouts as JSON, each with its key and its connected account."""
        whose = {"account": self.account} if self.account else {}
        return {
            name: [{**each.object, "idempotency_key": each.idempotency_key, **whose} for each in entries.values()]
            for name, entries in (
                ("transfers", self.transfers),
                ("reversals", self.reversals),
                ("payouts", self.payouts),
            )
        }

    def at_bank(self) -> dict[str, int]:
        """Return the money that reached the account's bank by payouts and did not come back, by currency."""
        sums: dict[str, int] = {}
        for payout in self.payouts.values():
            if payout.object["status"] == PAID:
                currency = payout.object["currency"]
                sums[currency] = sums.get(currency, 0) + payout.object["amount"]
        return sums
