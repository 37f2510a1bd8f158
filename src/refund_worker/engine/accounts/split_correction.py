"""Replace a correction that is too large for one withdrawal by corrections that can be paid out one by one."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sqlalchemy import Connection, RowMapping

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction
from refund_worker.domain.allocation import Payable, split_by_currency
from refund_worker.domain.decision import Policy
from refund_worker.domain.ledger import Purpose
from refund_worker.engine.accounts import corrections
from refund_worker.engine.accounts.payable import payable_parts
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import Key, check_same_act, run_again_once
from refund_worker.errors import ChangedMeanwhile, NotReversible
from refund_worker.store import accounts, idempotency


@dataclass(frozen=True, slots=True)
class Division:
    """The parts of a correction that can be paid out, as (currency, credits), and the credits that cannot be."""

    parts: tuple[tuple[str, int], ...]
    rest: int

    def __str__(self) -> str:
        """Return the parts and the rest as text, to compare what a person saw with what is possible now."""
        parts = [f"{credits:,} in {currency}" for currency, credits in self.parts]
        return ", ".join([*parts, f"{self.rest:,} not paid out"] if self.rest else parts)

    def corrections(self) -> list[tuple[Purpose, int]]:
        """Return purpose and credits of each correction that takes the place of the divided one."""
        rest = [(Purpose.OTHER, self.rest)] if self.rest else []
        return [(Purpose.PAYOUT, credits) for _, credits in self.parts] + rest


def payable_of_correction(
    connection: Connection, account: CustomerAccount, correction: RefundableTransaction, policy: Policy
) -> tuple[Payable, ...]:
    """Return how many credits of the correction could be paid out in each currency, and the money for them."""
    most = min(correction.left, account.payable_at_most)
    return payable_parts(connection, account.customer_id, most, policy)


def divided(account: CustomerAccount, credits: int, payable: tuple[Payable, ...], first: str) -> Division:
    """Divide the credits of a correction among the currencies, `first` before the others."""
    parts = split_by_currency(min(credits, account.payable_at_most), payable, first)
    return Division(parts, credits - sum(share for _, share in parts))


def split_correction(
    context: Context,
    transaction_id: str,
    *,
    first: str,
    shown: str,
    reason: str,
    key: Key,
    actor: str,
    client: str | None = None,
) -> RowMapping:
    """Reverse the correction and take its credits off again in parts: those that each currency can pay out, beginning
    with `first`, and the others without a payout. The balance does not change.

    `shown` is the `Division` that the author saw, as text. Return the first new correction; the same key returns it
    again. Raises `ChangedMeanwhile` if the division is another one now, and the errors of `reverse_transaction`.
    """
    body = {"split": transaction_id, "first": first, "reason": reason}

    def work(connection: Connection) -> RowMapping:
        now = context.clock(connection)
        row = corrections.visible_transaction(connection, transaction_id, client)
        account = corrections.account_of(connection, row)
        earlier = idempotency.find_act(connection, *key)
        if earlier is not None:
            check_same_act(key.idempotency_key, body, json.loads(earlier["body"]))
            return corrections.visible_transaction(connection, earlier["result_id"], None)
        corrections.check_reversible(connection, row)
        division = _division_now(connection, account, transaction_id, first, context.policy)
        if str(division) != shown or not division.parts:
            raise ChangedMeanwhile(f"what can be paid out has changed since this form was opened: {division}")
        made = [(context.new_id("txn"), *part) for part in division.corrections()]
        corrections.store_reversal(connection, row, account, now, actor=actor, reason=reason)
        for number, (id, purpose, share) in enumerate(made):
            own_id = account.customer_id
            corrections.enter(connection, id, own_id, -share, purpose, reason=reason, actor=actor, at=now)
            name = f"{key.idempotency_key}/{number}" if number else key.idempotency_key
            idempotency.insert_act(connection, key.client, name, json.dumps(body), id, now)
        return corrections.visible_transaction(connection, made[0][0], None)

    return run_again_once(context, work)


def _division_now(
    connection: Connection, account: CustomerAccount, transaction_id: str, first: str, policy: Policy
) -> Division:
    correction = accounts.refundable_transactions(connection, [transaction_id]).get(transaction_id)
    if correction is None or correction.reversed:
        raise NotReversible(f"{transaction_id} is not to be paid out, or it is deleted")
    payable = payable_of_correction(connection, account, correction, policy)
    return divided(account, correction.credits, payable, first)
