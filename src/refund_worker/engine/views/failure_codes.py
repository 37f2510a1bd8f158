"""The meaning of each failure code and the advice for it: one table for the console and its glossary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Explanation:
    """`title` in a few words, `cause` and `advice` in a sentence or two; `retry_helps` once the cause is gone.

    `advice` is for a refund that needs a person, who can retry or resolve it. `at_end` is for a refund that has ended,
    which cannot be retried or resolved; without it, `advice` fits both.
    """

    title: str
    cause: str
    advice: str
    retry_helps: bool = False
    at_end: str | None = None


_PAY_OUT_AGAIN = (
    "The refund has ended, and the credits of what was not paid are back on the balance. Once the cause is gone, pay "
    "them out with a new withdrawal (in the console: Add credits with a negative amount, then Return money)."
)
_OTHERS_TRIED = "Other payments of the customer were tried. "
_CREDITS_ARE_BACK = (
    "The credits of what was not paid are back on the balance. To pay the customer in another way, take these credits "
    "off with a correction first."
)

_EMPTY = Explanation(
    "The balance at the processor is empty",
    "The processor pays refunds out of the money it holds for us, and there was not enough. No refund was made.",
    "Top up the balance at the processor, then retry all of them at once. Each is looked up there before it is sent.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_DISPUTED = Explanation(
    "The customer has disputed the payment",
    "The customer asked their bank for the money. While that is open, the processor refunds nothing over this payment.",
    "Answer the dispute at the processor. If it is lost the money has gone back: resolve the refund as paid manually, "
    "with the dispute as reference. If it is won, retry; if that does not help, give the credits back.",
    at_end="The credits are back on the balance, and the dispute decides who keeps the money. Answer it at the "
    "processor; if it is lost, take the credits off by a correction.",
)
_CARD_GONE = Explanation(
    "The card is expired or closed",
    "The card has expired or was closed, and its bank has no other way to the customer.",
    _OTHERS_TRIED + "Pay manually, or leave the credits on the customer's balance.",
    at_end=_OTHERS_TRIED + _CREDITS_ARE_BACK,
)
_DECLINED = Explanation(
    "The bank declined the refund",
    "The customer's bank sent the money back to the processor.",
    "Ask the customer for another way to pay them, or leave the credits on their balance.",
    at_end=_CREDITS_ARE_BACK,
)
_UNKNOWN_THERE = Explanation(
    "The processor does not know the payment",
    "The payment's id is not known to the account and the mode that we work with.",
    "Check that the API key belongs to the right account and mode, and the payment's id; then retry.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_REFUSED_FOR_GOOD = Explanation(
    "The payment cannot be refunded any more",
    "The processor says so about this payment. No refund was made.",
    _OTHERS_TRIED + "Pay manually, or leave the credits on the customer's balance.",
    at_end=_OTHERS_TRIED + _CREDITS_ARE_BACK,
)
_BANK_GONE = Explanation(
    "The bank account is closed or unknown",
    "The bank account behind the payment is closed or cannot be found.",
    _OTHERS_TRIED + "Pay manually, or leave the credits on the customer's balance.",
    at_end=_OTHERS_TRIED + _CREDITS_ARE_BACK,
)
_WRONG_AMOUNT = Explanation(
    "The amount does not suit the payment",
    "The processor finds the amount too large, too small or in the wrong currency for this payment. It made no refund.",
    "Compare the payment here and at the processor: its amount, its currency and what was refunded. Retry once they "
    "agree; else pay manually and resolve with the reference, or give the credits back.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_WRONG_STATE = Explanation(
    "The payment cannot be refunded in its current state",
    "The processor cannot refund this payment now: it was never captured, or is of another kind. No refund was made.",
    "Check the payment at the processor. Retry once it is captured; else resolve: we hold no money of this payment.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_CONNECTED = Explanation(
    "The connected account does not allow it",
    "The payment belongs to a connected account that may not move this money. No refund was made.",
    "Check that account at the processor. Retry once it may; else pay manually and resolve with the reference.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_WRONG_TEXT = Explanation(
    "The processor does not accept a text or an address",
    "An e-mail address or another value of this request is not accepted. No refund was made.",
    "Read the processor's message. Resolve this one, and request it again with the value corrected.",
    at_end=_PAY_OUT_AGAIN,
)
_WRONG_PARAMETER = Explanation(
    "The processor does not accept a value of this refund",
    "The payment's id, the amount or another value is not accepted. No refund was made.",
    "Read the processor's message and compare the payment on both sides. Retry once they agree; else resolve.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_KEY_CONFLICT = Explanation(
    "The key was used with other parameters",
    "The processor has our key with another request: a fault of this program. Nothing more is sent for this refund.",
    "Check the payment at the processor, and inform the developers. If the refund is there, retry: it is found and "
    "recorded, and nothing is sent. If not, pay manually and resolve with the reference, or give the credits back.",
    at_end="Check the payment at the processor, and inform the developers.",
)
_NO_REASON = Explanation(
    "The processor does not say why",
    "The refund failed at the processor or at the customer's bank, without a reason.",
    "Ask the processor's support with the refund's id there, or pay the customer in another way.",
    at_end="Ask the processor's support with the refund's id there. " + _CREDITS_ARE_BACK,
)

FAILURE_CODES: Mapping[str, Explanation] = MappingProxyType(
    {
        "balance_insufficient": _EMPTY,
        "insufficient_balance_for_refund": _EMPTY,
        "insufficient_funds": _EMPTY,
        "charge_disputed": _DISPUTED,
        "refund_disputed_payment": _DISPUTED,
        "expired_or_canceled_card": _CARD_GONE,
        "lost_or_stolen_card": _CARD_GONE,
        "expired_card": _CARD_GONE,
        "declined": _DECLINED,
        "card_declined": _DECLINED,
        "account_closed": _BANK_GONE,
        "no_account": _BANK_GONE,
        "charge_not_refundable": _REFUSED_FOR_GOOD,
        "charge_for_pending_refund_disputed": _DISPUTED,
        "charge_already_refunded": Explanation(
            "The payment is already refunded",
            "The processor says that nothing is left of the payment, and none of its refunds was made by this program.",
            "Check the payment in the processor's dashboard: it was refunded there. Resolve as paid manually "
            "with that refund as reference, or give the credits back if it was for something else.",
            at_end="Check the payment in the processor's dashboard: it was refunded there.",
        ),
        "unknown_refusal": Explanation(
            "Refused with a code that we do not know",
            "The processor refused with a code that this version does not know: it may be final or not. No refund was "
            "made, no other payment was tried, and no credits went back.",
            "Read its message and look its code up in its documentation. Retry once the cause is gone: the worker "
            "looks the refund up first. Else resolve: pay manually, or give the credits back.",
            retry_helps=True,
            at_end=_PAY_OUT_AGAIN,
        ),
        "amount_too_large": _WRONG_AMOUNT,
        "amount_too_small": _WRONG_AMOUNT,
        "invalid_charge_amount": _WRONG_AMOUNT,
        "payment_method_currency_mismatch": _WRONG_AMOUNT,
        "charge_invalid_parameter": _WRONG_STATE,
        "payment_intent_invalid_parameter": _WRONG_STATE,
        "payment_intent_unexpected_state": _WRONG_STATE,
        "application_fees_not_allowed": _CONNECTED,
        "not_allowed_on_standard_account": _CONNECTED,
        "transfers_not_allowed": _CONNECTED,
        "email_invalid": _WRONG_TEXT,
        "invalid_characters": _WRONG_TEXT,
        "merchant_request": Explanation(
            "The refund was canceled at the processor",
            "It was canceled in the processor's dashboard.",
            "Ask who did it and why. The customer has the credits back; request the refund again if it was a mistake.",
        ),
        "resource_missing": _UNKNOWN_THERE,
        "not_found": _UNKNOWN_THERE,
        "refunded_elsewhere": Explanation(
            "This payment was also refunded elsewhere",
            "The same payment was refunded in the processor's dashboard too, or by another program on the account. "
            "Nothing more was sent; the refunds made there are listed.",
            "Check each of them. If one is this refund's money, resolve as paid manually with its id as reference. "
            "If the customer should get both, retry it on its own page: that accepts the listed refunds as seen and "
            "sends.",
            at_end="It has ended. Compare the refunds made there with the amount that the customer should get.",
        ),
        "amount_exceeds_unrefunded": Explanation(
            "More than is left of the payment",
            "Part of the payment was refunded outside this program, so less is left than we expected.",
            "Check the payment at the processor, run refund-worker reconcile, and request a refund of what is left.",
        ),
        "processor_unreachable": Explanation(
            "The processor does not answer",
            "Many tries in a row got no answer. This does not count as a refusal; the worker keeps trying.",
            "Check the processor's status page and our network. Retry when it is back, or simply wait.",
            retry_helps=True,
            at_end=_PAY_OUT_AGAIN,
        ),
        "payment_mismatch": Explanation(
            "The payment differs from the one that was recorded",
            "The processor has the payment with another amount, currency or mode. Nothing was sent over it.",
            "Compare the two sides in the message. Retry reads the payment again; if it was recorded wrong, pay the "
            "customer in another way and resolve.",
            retry_helps=True,
            at_end=_PAY_OUT_AGAIN,
        ),
        "outcome_unknown": Explanation(
            "It is not known whether it was paid",
            "A send got no answer, no refund was found at the processor, and its key is too old to be sent again.",
            "Check the payment at the processor first. If no refund is there, retry: the worker looks it up again, and "
            "sends it with a new key. If one is there, retry records it. If you have paid in another way, resolve as "
            "paid manually with the reference.",
            retry_helps=True,
            at_end=_PAY_OUT_AGAIN,
        ),
        "refunded_twice": Explanation(
            "The processor shows two refunds",
            "More than one refund exists there for the same part of this refund, or one besides a manual payment.",
            "Check both at the processor, and cancel or reclaim the surplus one. Inform the developers.",
        ),
        "answer_mismatch": Explanation(
            "The answer does not match the request",
            "The processor's refund has another amount, currency or payment than ours. It is not counted as paid.",
            "Compare the two at the processor, and inform the developers. After the quiet window (6 hours by default), "
            "retry looks the refund up again, and resolve records how it ended.",
            at_end=_PAY_OUT_AGAIN,
        ),
        "processor_unknown": Explanation(
            "This version cannot pay through this processor",
            "This program cannot reach the processor of the payment. Nothing was sent.",
            "Pay it back there or in another way, then resolve with the reference. A later version may support it.",
            at_end=_PAY_OUT_AGAIN,
        ),
        "payment_id_unusable": Explanation(
            "The payment's id is not valid at the processor",
            "An earlier version recorded the payment under an id that cannot be looked up at the processor. Nothing "
            "was sent.",
            "Find the payment at the processor and pay it back there, then resolve with the reference. Record payments "
            "under the ids that the processor gives them.",
            at_end="It has ended. Record payments under the ids that the processor gives them.",
        ),
        "manual_processor": Explanation(
            "To be paid back manually",
            "The payment was cash or a bank transfer, which no program can send back.",
            "Pay it back, then resolve with the reference of that payment.",
            at_end=_PAY_OUT_AGAIN,
        ),
        "key_conflict": _KEY_CONFLICT,
        "idempotency_key_conflict": _KEY_CONFLICT,
        "unknown_status": Explanation(
            "A status that we do not know",
            "The processor reports a status of the refund that this version does not know.",
            "Check the refund at the processor; a newer version of this program may know the status.",
        ),
        "internal_error": Explanation(
            "Internal error in this program",
            "A worker failed because of a fault in this program. Nothing is lost; the refund is processed again later.",
            "Inform the developers, with the refund's id.",
        ),
        "unexpected_answer": Explanation(
            "An answer that makes no sense",
            "The processor's answer to a look-up cannot be right.",
            "Wait for the next look-up, and inform the developers if the answer stays the same.",
            retry_helps=True,
        ),
        "unknown": _NO_REASON,
        "failed": _NO_REASON,
        "canceled": _NO_REASON,
        "bad_refund_id": _UNKNOWN_THERE,
    }
)

_UNEXPLAINED = Explanation(
    "The processor refused",
    "The processor gave this code, which has no entry in the glossary yet; its own message is shown with it.",
    "Look the code up in the processor's documentation, and inform the developers.",
)


def explain(code: str | None, *, ended: bool = False) -> Explanation:
    """Return the explanation of this code, or a general one for a code that is not in the table.

    With `ended` the advice names no action that is possible only while a refund needs a person.
    """
    found = FAILURE_CODES.get(code or "unknown")
    if found is None:
        found = _WRONG_PARAMETER if (code or "").startswith("parameter") else _UNEXPLAINED
    if ended and found.at_end is not None:
        return replace(found, advice=found.at_end, retry_helps=False)
    return replace(found, retry_helps=False) if ended else found
