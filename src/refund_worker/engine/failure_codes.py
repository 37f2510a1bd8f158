"""What a failure code means, in plain words, and what to do about it: one table for the console and its glossary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Explanation:
    """`title` in a few words, `cause` and `advice` in a sentence or two; `retry_helps` once the cause is gone."""

    title: str
    cause: str
    advice: str
    retry_helps: bool = False


_EMPTY = Explanation(
    "The balance at the processor is empty",
    "The processor pays refunds out of the money it holds for us, and there was not enough. It made nothing.",
    "Top up the balance at the processor, then retry all of them at once. Each is looked up there before it is sent.",
    retry_helps=True,
)
_DISPUTED = Explanation(
    "The customer has disputed the payment",
    "The customer asked their bank for the money. While that is open, the processor refunds nothing over this payment.",
    "Answer the dispute at the processor. If it is lost the money has gone back: resolve the refund as paid by hand, "
    "with the dispute as reference. If it is won, retry; if that is of no use, give the credits back.",
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
        "declined": _DECLINED,
        "charge_for_pending_refund_disputed": _DISPUTED,
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
        ),
        "outcome_unknown": Explanation(
            "Nobody knows whether it was paid",
            "A send was never answered, nothing was found there afterwards, and its key is too old to be sent again.",
            "Look at the payment at the processor. If no refund is there, retry: it is looked up once more before.",
            retry_helps=True,
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
        ),
        "processor_unknown": Explanation(
            "This version can't pay over this processor",
            "The payment came through a processor that this program has no way to. It asked nobody for the money.",
            "Pay it back at that processor or by hand, then resolve with the reference. A later version may serve it.",
        ),
        "manual_processor": Explanation(
            "To be paid back by hand",
            "The payment was cash or a bank transfer, which no program can send back.",
            "Pay it back, then resolve with the reference of that payment.",
        ),
        "key_conflict": Explanation(
            "The key was used with other parameters",
            "The processor knows our key with another request: a fault of this program. Nothing new is sent for it.",
            "Look at the payment at the processor and tell the developers.",
        ),
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
        "unknown": Explanation(
            "The processor does not say why",
            "The refund failed at the processor or at the customer's bank, without a reason.",
            "Ask the processor's support with the refund's id there, or pay the customer in another way.",
        ),
    }
)

_UNEXPLAINED = Explanation(
    "The processor refused",
    "The processor gave this code, which has no entry in the glossary yet; its own message is shown beside it.",
    "Look the code up in the processor's documentation. Retry only when its cause is gone.",
)


def explain(code: str | None) -> Explanation:
    """What this code means; something useful for one that is not in the table."""
    return FAILURE_CODES.get(code or "unknown", _UNEXPLAINED)
