"""The actions of others at the processor: banks, customers, people in its dashboard. `POST /_actions` does one.

The request is one JSON object: the name of the action as `action`, and the action's fields. `ACTIONS` lists them,
`fields.py` explains the fields, and `GET /_actions` answers with both. Every action takes `account`: what it names is
of this connected account then, and not of the platform's own. The answer is the object that changed. Its events are
sent. A refused action changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from refund_worker.processors.sandbox import charges, disputes, funds, payees, payouts, refunds, transfers
from refund_worker.processors.sandbox.account_book import AccountBook
from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.decisions import Decision
from refund_worker.processors.sandbox.endpoints import dispute_named, refund_named
from refund_worker.processors.sandbox.fields import FIELDS, check
from refund_worker.processors.sandbox.fraud_warnings import FRAUD_TYPES, decide_warning
from refund_worker.processors.sandbox.records import Payment


@dataclass(frozen=True, slots=True)
class Action:
    """One action: what it does, in words and as a function of book and fields, and its fields."""

    does: str
    decide: Callable[[AccountBook, JsonObject], Decision]
    required: frozenset[str]
    optional: frozenset[str] = frozenset()


def decide_action(book: AccountBook, sent: Any) -> Decision:
    """Return the effect of an action on an account.

    Raise `StripeError` (400 or 404) that says what is wrong with it.
    """
    if not isinstance(sent, dict) or not isinstance(sent.get("action"), str):
        raise StripeError(400, "Send an object with an action and its fields; GET /_actions lists them.")
    fields = {name: value for name, value in sent.items() if name != "action"}
    action = ACTIONS.get(sent["action"])
    if action is None:
        message = f"There is no action {sent['action'][:40]}. There are: {', '.join(sorted(ACTIONS))}."
        raise StripeError(400, message, param="action")
    check(sent["action"], fields, action.required, action.optional | {"account"})
    return action.decide(book, {name: value for name, value in fields.items() if name != "account"})


def actions_as_json() -> JsonObject:
    """Return all actions, each with what it does and its fields, for `GET /_actions`."""
    return {
        "actions": {
            name: {
                "does": action.does,
                "required": {field: FIELDS[field].takes for field in sorted(action.required)},
                "optional": {field: FIELDS[field].takes for field in sorted(action.optional | {"account"})},
            }
            for name, action in ACTIONS.items()
        }
    }


def payment_named(book: AccountBook, fields: JsonObject) -> Payment:
    """Return the payment in the field `payment`. Raise `StripeError` (404) if it is not registered."""
    payment = book.find_payment(fields["payment"])
    if payment is None:
        raise missing("payment", fields["payment"], "payment")
    return payment


# -- disputes ---------------------------------------------------------------------------------------------------------


def _open_dispute(book: AccountBook, fields: JsonObject) -> Decision:
    payment = payment_named(book, fields)
    _check_known(fields, "status", disputes.STATUSES)
    _check_known(fields, "reason", disputes.REASONS)
    return disputes.decide_open(book, payment, disputes.Opening(**_named(fields, "payment")))


def _move_dispute(book: AccountBook, fields: JsonObject) -> Decision:
    dispute = dispute_named(book, fields["dispute"])
    _check_known(fields, "status", disputes.STATUSES)
    return disputes.decide_move(book, dispute, disputes.Move(**_named(fields, "dispute")))


def _named(fields: JsonObject, *without: str) -> JsonObject:
    """Return the fields as arguments: `amount_minor` is the argument `amount`."""
    left_out = {"undocumented", *without}
    return {name.removesuffix("_minor"): value for name, value in fields.items() if name not in left_out}


def _withdraw_funds(book: AccountBook, fields: JsonObject) -> Decision:
    return disputes.decide_withdrawal(book, dispute_named(book, fields["dispute"]), fields.get("fee_minor", 0))


def _reinstate_funds(book: AccountBook, fields: JsonObject) -> Decision:
    return disputes.decide_reinstatement(book, dispute_named(book, fields["dispute"]))


# -- payments, refunds and fraud warnings -----------------------------------------------------------------------------


def _dashboard_refund(book: AccountBook, fields: JsonObject) -> Decision:
    payment = payment_named(book, fields)
    _check_known(fields, "reason", refunds.REASONS)
    shares = {name: fields.get(name, False) for name in ("reverse_transfer", "refund_application_fee")}
    request = refunds.CreateRequest(
        payment.charge_id,
        "charge",
        fields.get("amount_minor"),
        fields.get("reason"),
        fields.get("metadata", {}),
        **shares,
    )
    step = {name: fields[name] for name in ("status", "failure_reason", "pending_reason") if name in fields}
    life = (refunds.Step(**{"status": "succeeded", **step}),)
    return refunds.decide_create(book, request, None, {}, life, created=fields.get("created"))


def _move_refund(book: AccountBook, fields: JsonObject) -> Decision:
    step = refunds.Step(**{name: value for name, value in fields.items() if name != "refund"})
    return refunds.decide_move(book, refund_named(book, fields["refund"]), step)


def _customer_acts(book: AccountBook, fields: JsonObject) -> Decision:
    return refunds.decide_customer_acts(book, refund_named(book, fields["refund"]), fields.get("after_seconds", 0))


def _edit_refund(book: AccountBook, fields: JsonObject) -> Decision:
    return refunds.decide_edit(refund_named(book, fields["refund"]), fields["metadata"])


def _move_charge(book: AccountBook, fields: JsonObject) -> Decision:
    payment = payment_named(book, fields)
    return charges.decide_move_charge(book, payment, fields["status"], fields.get("failure_code"))


def _move_payout(book: AccountBook, fields: JsonObject) -> Decision:
    payout = payouts.payout_named(book, fields["payout"])
    _check_known(fields, "status", payouts.STATUSES)
    step = refunds.Step(fields["status"], failure_reason=fields.get("failure_code"))
    return payouts.decide_move_payout(book, payout, step)


def _reverse_transfer(book: AccountBook, fields: JsonObject) -> Decision:
    transfer = transfers.transfer_named(book, fields["transfer"])
    request = transfers.ReversalRequest(fields.get("amount_minor"), None, fields.get("metadata", {}))
    return transfers.decide_reversal(book, transfer, request, None)


def _connection(book: AccountBook, *, connected: bool) -> Decision:
    shown: JsonObject = {"id": book.account, "object": "account", "connected": connected}
    return Decision(({"kind": "connection", "connected": connected},), shown)


def _fraud_warning(book: AccountBook, fields: JsonObject) -> Decision:
    payment = payment_named(book, fields)
    _check_known(fields, "fraud_type", FRAUD_TYPES)
    return decide_warning(book, payment, **_named(fields, "payment"))


def _check_known(fields: JsonObject, name: str, known: Collection[str]) -> None:
    """Raise `StripeError` (400) for a word that Stripe does not document, unless `undocumented` is sent with it."""
    if name in fields and fields[name] not in known and not fields.get("undocumented"):
        message = f"{name} must be one of: {', '.join(sorted(known))}; or send undocumented: true."
        raise StripeError(400, message, param=name)


ACTIONS: Mapping[str, Action] = {
    "open_dispute": Action(
        "A customer's bank disputes a payment. The money is withdrawn at once. With a status warning_… it is an"
        " inquiry: no money moves and the payment can still be refunded. fails_pending_refunds: true fails the refunds"
        " that are pending.",
        _open_dispute,
        frozenset({"payment"}),
        frozenset(
            {
                *("amount_minor", "created", "due_by", "fails_pending_refunds", "fee_minor", "metadata", "reason"),
                *("refundable", "status", "undocumented", "withdraw"),
            }
        ),
    ),
    "move_dispute": Action(
        "The dispute gets another status. A won or prevented one gets its money back; an inquiry that becomes a"
        " dispute loses it. funds: false leaves the money where it is.",
        _move_dispute,
        frozenset({"dispute", "status"}),
        frozenset({"due_by", "fee_minor", "funds", "refundable", "undocumented"}),
    ),
    "withdraw_funds": Action(
        "The disputed amount is withdrawn from our account.",
        _withdraw_funds,
        frozenset({"dispute"}),
        frozenset({"fee_minor"}),
    ),
    "reinstate_funds": Action(
        "The withdrawn amount comes back, in every status: a lost dispute can be reinstated later.",
        _reinstate_funds,
        frozenset({"dispute"}),
    ),
    "dashboard_refund": Action(
        "A person refunds a payment in the dashboard: without our metadata and key, in any status.",
        _dashboard_refund,
        frozenset({"payment"}),
        frozenset(
            {"amount_minor", "created", "failure_reason", "metadata", "pending_reason", "reason", "status"}
            | {"refund_application_fee", "reverse_transfer", "undocumented"}
        ),
    ),
    "move_refund": Action(
        "A refund gets another status: it succeeds, fails or is canceled, at once or weeks later.",
        _move_refund,
        frozenset({"refund", "status"}),
        frozenset({"failure_reason", "pending_reason"}),
    ),
    "edit_refund": Action(
        "A person replaces the refund's whole metadata in the dashboard: {} clears it.",
        _edit_refund,
        frozenset({"refund", "metadata"}),
    ),
    "customer_acts": Action(
        "The customer gives the bank details that a refund in requires_action waits for: it is pending, then succeeds.",
        _customer_acts,
        frozenset({"refund"}),
        frozenset({"after_seconds"}),
    ),
    "expire_refund": Action(
        "The customer does not act in time: the refund in requires_action fails. It also expires without this action.",
        lambda book, fields: refunds.decide_expiry(book, refund_named(book, fields["refund"])),
        frozenset({"refund"}),
    ),
    "show_reference": Action(
        "The refund's trace reference (ARN) is available. It also comes without this action, after reference_seconds.",
        lambda book, fields: refunds.decide_reference(refund_named(book, fields["refund"]), fields.get("reference")),
        frozenset({"refund"}),
        frozenset({"reference"}),
    ),
    "new_charge": Action(
        "A customer pays. A bank debit is pending first: it succeeds or fails later.",
        charges.decide_new_charge,
        frozenset({"amount_minor", "currency"}),
        frozenset({"payment", "status", "succeeds_after_seconds", "fails_after_seconds", *charges.OPTIONS}),
    ),
    "move_charge": Action(
        "A charge succeeds or fails, and with it the refunds that wait for it.",
        _move_charge,
        frozenset({"payment", "status"}),
        frozenset({"failure_code"}),
    ),
    "capture": Action(
        "An authorized charge is captured, in part if captured_minor is less than its amount.",
        lambda book, fields: charges.decide_capture(book, payment_named(book, fields), fields.get("captured_minor")),
        frozenset({"payment"}),
        frozenset({"captured_minor"}),
    ),
    "set_balance": Action(
        "The available and pending sum of a currency are set, and what happens to a refund beyond it: off (nothing),"
        " refuse (balance_insufficient), hold (it waits for a top-up).",
        funds.decide_set_balance,
        frozenset({"currency"}),
        frozenset({"available_minor", "pending_minor", "policy"}),
    ),
    "top_up": Action(
        "Money comes to the balance; held refunds that it pays go out, oldest first.",
        funds.decide_top_up,
        frozenset({"currency", "amount_minor"}),
    ),
    "payout": Action(
        "Money goes to the account's bank and arrives: an amount, or by the account's schedule all that is available.",
        payouts.decide_paid_out,
        frozenset({"currency"}),
        frozenset({"amount_minor"}),
    ),
    "move_payout": Action(
        "A payout gets another status: it is in transit, paid, failed with a failure_code (also after it was paid) or"
        " canceled. It is also in transit and then paid without this action, after payout_seconds.",
        _move_payout,
        frozenset({"payout", "status"}),
        frozenset({"failure_code", "undocumented"}),
    ),
    "dashboard_reversal": Action(
        "A person takes money of a transfer back in the dashboard: all that is left, or an amount.",
        _reverse_transfer,
        frozenset({"transfer"}),
        frozenset({"amount_minor", "metadata"}),
    ),
    "change_account": Action(
        "A connected account is restricted, checked or cleared: disabled_reason disables its payouts, payouts_enabled"
        " true ends all that it lacked. transfers is the state of its capability.",
        payees.decide_change_account,
        frozenset({"account"}),
        frozenset(
            {
                *("country", "currency", "current_deadline", "currently_due", "disabled_reason", "instant"),
                *("past_due", "payouts_enabled", "pending_verification", "transfer_delay_seconds", "transfers"),
                "undocumented",
            }
        ),
    ),
    "change_bank": Action(
        "The holder of a connected account gives another bank account, for example after a failed payout.",
        lambda book, _: payees.decide_new_bank(book),
        frozenset({"account"}),
    ),
    "connect_account": Action(
        "The account is connected with the platform, perhaps again. An account of a payment is connected already.",
        lambda book, _: _connection(book, connected=True),
        frozenset({"account"}),
    ),
    "disconnect_account": Action(
        "The account ends its connection: from now on our key has no access to it (403 account_invalid).",
        lambda book, _: _connection(book, connected=False),
        frozenset({"account"}),
    ),
    "fraud_warning": Action(
        "A bank suspects the payment: an early fraud warning.",
        _fraud_warning,
        frozenset({"payment"}),
        frozenset({"actionable", "created", "fraud_type", "undocumented"}),
    ),
}
