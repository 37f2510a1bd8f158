"""What a failure code means, in plain words, and what to do about it: one table for the console and its glossary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Explanation:
    """`title` in a few words, `cause` and `advice` in a sentence or two; `retry_helps` once the cause is gone.

    `advice` is for a refund that needs a person, who can retry or resolve it. `at_end` is for one that has ended, where
    nobody can: none means that `advice` is good for both.
    """

    title: str
    cause: str
    advice: str
    retry_helps: bool = False
    at_end: str | None = None


_ASK_ANEW = "It has ended, and its credits are back. Once the cause is gone, ask for it anew under another key."

_EMPTY = Explanation(
    "The balance at the processor is empty",
    "The processor pays refunds out of the money it holds for us, and there was not enough. It made nothing.",
    "Top up the balance at the processor, then retry all of them at once. Each is looked up there before it is sent.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_DISPUTED = Explanation(
    "The customer has disputed the payment",
    "The customer asked their bank for the money. While that is open, the processor refunds nothing over this payment.",
    "Answer the dispute at the processor. If it is lost the money has gone back: resolve the refund as paid by hand, "
    "with the dispute as reference. If it is won, retry; if that is of no use, give the credits back.",
    at_end="The credits are back on the balance, and the dispute decides who keeps the money. Answer it at the "
    "processor; if it is lost, take the credits off by a correction.",
)
_CARD_GONE = Explanation(
    "The card is gone",
    "The card has expired or was closed, and its bank has no other way to the customer.",
    "Other payments of the customer were tried. Pay by hand, or leave the credits on the customer's balance.",
)
_DECLINED = Explanation(
    "The bank declined the refund",
    "The customer's bank sent the money back to the processor.",
    "Ask the customer for another way to pay them, or leave the credits on their balance.",
)
_UNKNOWN_THERE = Explanation(
    "The processor does not know the payment",
    "The payment's id is not known to the account and the mode that we work with.",
    "Check that the API key belongs to the right account and mode, and the payment's id; then retry.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_REFUSED_FOR_GOOD = Explanation(
    "The payment can't be refunded any more",
    "The processor says so of this very payment. It made nothing.",
    "Other payments of the customer were tried. Pay by hand, or leave the credits on the customer's balance.",
)
_BANK_GONE = Explanation(
    "The bank account is gone",
    "The bank account behind the payment is closed or can't be found.",
    "Other payments of the customer were tried. Pay by hand, or leave the credits on the customer's balance.",
)
_WRONG_AMOUNT = Explanation(
    "The amount does not suit the payment",
    "The processor finds the amount too large, too small or in the wrong currency for this payment. It made nothing.",
    "Compare the payment here and at the processor: its amount, its currency and what was refunded. Retry once they "
    "agree; else pay by hand and resolve with the reference, or give the credits back.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_WRONG_STATE = Explanation(
    "The payment is in no state to be refunded",
    "The processor says that this payment does not allow it now: never captured, or of another kind. It made nothing.",
    "Look at the payment at the processor. Retry once it is captured; else resolve: no money of it is with us.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_CONNECTED = Explanation(
    "The connected account does not allow it",
    "The payment belongs to a connected account that may not move this money. It made nothing.",
    "Look at that account at the processor. Retry once it may; else pay by hand and resolve with the reference.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_WRONG_TEXT = Explanation(
    "The processor does not take a text or an address of it",
    "An e-mail address or another value of this one request is not accepted. It made nothing.",
    "Read the processor's message. Resolve this one, and ask for it anew with the value put right.",
    at_end=_ASK_ANEW,
)
_WRONG_PARAMETER = Explanation(
    "The processor does not take a value of this refund",
    "The payment's id, the amount or another value of this one refund is not accepted. It made nothing.",
    "Read the processor's message and compare the payment here and there. Retry once they agree; else resolve.",
    retry_helps=True,
    at_end=_ASK_ANEW,
)
_KEY_CONFLICT = Explanation(
    "The key was used with other parameters",
    "The processor knows our key with another request: a fault of this program. Nothing new is sent for it.",
    "Look at the payment at the processor and tell the developers.",
)
_NO_REASON = Explanation(
    "The processor does not say why",
    "The refund failed at the processor or at the customer's bank, without a reason.",
    "Ask the processor's support with the refund's id there, or pay the customer in another way.",
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
            "The processor says that nothing is left of the payment, and no refund there is of our making.",
            "Look at the payment in the processor's dashboard: somebody refunded it there. Resolve as paid by hand "
            "with that refund as reference, or give the credits back if it was for something else.",
            at_end="Look at the payment in the processor's dashboard: somebody refunded it there.",
        ),
        "unknown_refusal": Explanation(
            "Refused by a word that we do not know",
            "The processor refused, and this version can't tell from its code whether that is for good. It made "
            "nothing, no other payment was tried, and no credits went back.",
            "Read its message and look its code up in its documentation. Retry once the cause is gone: what exists is "
            "looked up first. Else resolve: pay by hand, or give the credits back.",
            retry_helps=True,
            at_end=_ASK_ANEW,
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
            "Somebody canceled it in the processor's dashboard.",
            "Ask who did it and why. The credits are back on the customer's balance; ask for it anew if it was a slip.",
        ),
        "resource_missing": _UNKNOWN_THERE,
        "not_found": _UNKNOWN_THERE,
        "refunded_elsewhere": Explanation(
            "Somebody refunded this payment elsewhere",
            "The same payment was refunded in the processor's dashboard too, or by another program on the account. "
            "Nothing more was sent; the refunds made there are named.",
            "Look at each. If one of them is this refund's money, resolve as paid by hand with its id as reference. "
            "If the customer is to have both, retry this one: it takes what is named as seen and sends.",
            at_end="It has ended. Compare what was refunded there with what the customer was to have.",
        ),
        "amount_exceeds_unrefunded": Explanation(
            "More than is left of the payment",
            "Part of the payment was refunded outside of this program, so that less is left than we knew.",
            "Look at the payment at the processor; reconcile, and ask for what is left.",
        ),
        "processor_unreachable": Explanation(
            "The processor does not answer",
            "Many tries in a row met no answer. Nothing is taken for refused; tries go on by themselves.",
            "Look at the processor's status page and at our network. Retry when it is back, or simply wait.",
            retry_helps=True,
            at_end=_ASK_ANEW,
        ),
        "payment_mismatch": Explanation(
            "The payment is another one than was recorded",
            "The processor has the payment with another amount, currency or mode. Nothing was sent over it.",
            "Compare the two sides in the message. Retry reads the payment again; if it was recorded wrong, pay the "
            "customer in another way and resolve.",
            retry_helps=True,
            at_end=_ASK_ANEW,
        ),
        "outcome_unknown": Explanation(
            "Nobody knows whether it was paid",
            "A send was never answered, nothing was found there afterwards, and its key is too old to be sent again.",
            "Look at the payment at the processor. If no refund is there, retry: it is looked up once more before.",
            retry_helps=True,
            at_end=_ASK_ANEW,
        ),
        "refunded_twice": Explanation(
            "The processor shows two refunds",
            "More than one refund object exists for the same part of this refund, or one beside a payment by hand.",
            "Look at both at the processor, and cancel or claim back the one too many. Tell the developers.",
        ),
        "answer_mismatch": Explanation(
            "The answer is not what was asked for",
            "The processor's refund has another amount, currency or payment than ours. It is not counted as paid.",
            "Compare the two at the processor and tell the developers. Hours later, when nothing more can arrive, "
            "retry looks once more, and resolve says how it ended.",
            at_end=_ASK_ANEW,
        ),
        "processor_unknown": Explanation(
            "This version can't pay over this processor",
            "The payment came through a processor that this program has no way to. It asked nobody for the money.",
            "Pay it back at that processor or by hand, then resolve with the reference. A later version may serve it.",
            at_end=_ASK_ANEW,
        ),
        "payment_id_unusable": Explanation(
            "The payment's id is none of the processor's",
            "An earlier version recorded the payment under an id that the processor can't be asked about. Nobody was "
            "asked for the money.",
            "Find the payment at the processor and pay it back there, then resolve with the reference. Record payments "
            "under the ids that the processor gives them.",
            at_end="It has ended. Record payments under the ids that the processor gives them.",
        ),
        "manual_processor": Explanation(
            "To be paid back by hand",
            "The payment was cash or a bank transfer, which no program can send back.",
            "Pay it back, then resolve with the reference of that payment.",
            at_end=_ASK_ANEW,
        ),
        "key_conflict": _KEY_CONFLICT,
        "idempotency_key_conflict": _KEY_CONFLICT,
        "unknown_status": Explanation(
            "A status that we do not know",
            "The processor used a word for the refund's state that this version has no meaning for.",
            "Look at the refund at the processor; a newer version of this program may know the word.",
        ),
        "internal_error": Explanation(
            "This program broke on it",
            "A worker met a fault of our own. Nothing is lost; the refund is looked at again by itself, later.",
            "Tell the developers, with the refund's id.",
        ),
        "unexpected_answer": Explanation(
            "An answer that makes no sense",
            "The processor answered a look-up with something that can't be an answer to it.",
            "Wait for the next look-up, and tell the developers if it stays.",
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
    "The processor gave this code, which has no entry in the glossary yet; its own message is shown beside it.",
    "Look the code up in the processor's documentation, and tell the developers.",
)


def explain(code: str | None, *, ended: bool = False) -> Explanation:
    """What this code means; something useful for one that is not in the table. With `ended` the advice names no act
    that only a refund with a person allows."""
    found = FAILURE_CODES.get(code or "unknown")
    if found is None:
        found = _WRONG_PARAMETER if (code or "").startswith("parameter") else _UNEXPLAINED
    if ended and found.at_end is not None:
        return replace(found, advice=found.at_end, retry_helps=False)
    return replace(found, retry_helps=False) if ended else found
