"""The codes that refunds and payouts share, in plain words about a payout.

`failure_codes.py` explains the same codes of refunds. Each entry here has a name of its own, which is no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refund_worker.engine.views.explanations import (
    PAYOUT_ENDS_UNPAID,
    PAYOUT_KEEPS_ASKING,
    PAYOUT_STOPS,
    PAYOUT_TRIES_AGAIN,
    Explanation,
)

_ENDED: Final = "Nothing has to be done: the payout has ended."

_EMPTY = Explanation(
    "Our balance at the processor is too low for the payout",
    "The processor pays out of the money that it holds for us, and there was not enough. No money was sent.",
    "Top up the balance at the processor: `refund-worker funds` says what is missing.",
    retry_helps=True,
    at_end=_ENDED,
    course=PAYOUT_TRIES_AGAIN,
)
_NOT_FOUND = Explanation(
    "The processor does not know the payee's account",
    "The id of the payee's account, or of what this payout made there, is not known to the account and the mode that "
    "we work with. This call sent no money.",
    "Compare the payee's destination with the processor's dashboard. Check that the API key belongs to the right "
    "account and mode: `refund-worker doctor` shows the mode.",
    retry_helps=True,
    at_end=_ENDED,
    course=PAYOUT_STOPS,
    worry="If several payouts get it: then the key is of another account or mode.",
)
_UNKNOWN_REFUSAL = Explanation(
    "The payout was refused with a code that we do not know",
    "The processor refused with a code that this version does not know: it may be final or not. Nothing was sent, and "
    "nothing went back to the payee's balance.",
    "Read the processor's message and look its code up in its documentation.",
    retry_helps=True,
    at_end=_ENDED,
    course=PAYOUT_STOPS,
)
_KEY_CONFLICT = Explanation(
    "The payout's key was used with other parameters",
    "The processor has our key with another request: a fault of this program. Nothing more is sent for this payout.",
    "Find the payout at the processor, by the payee and the amount, and inform the developers.",
    at_end="Find the payout at the processor, and inform the developers.",
    course=PAYOUT_STOPS,
)
_OUTCOME_UNKNOWN = Explanation(
    "It is not known whether the payee was paid",
    "A send got no answer, no payout was found at the processor, and its key is too old to be sent again.",
    "Find the payout at the processor first, by the payee and the amount. Where the processor can be searched, retry "
    "asks again and records what is there. Without a list only what you see there decides.",
    retry_helps=True,
    at_end=_ENDED,
    course=PAYOUT_STOPS,
    worry="At once: no other payout to this payee is sent meanwhile.",
)
_UNREACHABLE = Explanation(
    "The processor does not answer about the payout",
    "Twelve tries in a row got no answer. This does not count as a refusal; the worker keeps trying.",
    "Check the processor's status page and our network, or simply wait.",
    at_end=_ENDED,
    course=PAYOUT_KEEPS_ASKING,
)
_MISMATCH = Explanation(
    "The processor's payout does not match the request",
    "The processor's object has another amount, currency or payee than our payout. It is not counted as paid.",
    "Compare the two at the processor, and inform the developers.",
    at_end="Compare the two at the processor, and inform the developers.",
    course=PAYOUT_STOPS,
    worry="At once: money may have gone out that our records do not have.",
)
_UNKNOWN_STATUS = Explanation(
    "The payout has a status that we do not know",
    "The processor reports a status of the payout that this version does not know. Or the payout failed, and the "
    "processor has a second one for it that may have paid: `failure_message` names it.",
    "Look at the payout at the processor; a newer version of this program may know the status. If the alarm comes when "
    "the payout settles, nothing asks about the second one any more: compare it there.",
    at_end=_ENDED,
    course=PAYOUT_KEEPS_ASKING,
)
_INTERNAL_ERROR = Explanation(
    "Internal error in this program, about a payout",
    "A worker failed because of a fault in this program. Nothing is lost; the payout is processed again after an hour "
    "(`RETRY_MAX_SECONDS`), and all other payouts continue.",
    "Inform the developers, with the payout's id and its timeline: `refund-worker payouts events ID`.",
    at_end="Inform the developers, with the payout's id.",
    course=PAYOUT_KEEPS_ASKING,
    worry="If many payouts get it at once: then see the alarm `batch_failed`.",
)
_UNEXPECTED = Explanation(
    "An answer about the payout that makes no sense",
    "The processor's answer to a look-up cannot be right.",
    "Wait for the next look-up, and inform the developers if the answer stays the same.",
    at_end=_ENDED,
    course=PAYOUT_KEEPS_ASKING,
)
_CANCELED = Explanation(
    "The payout was canceled at the processor",
    "It was called off in the processor's dashboard, by the processor, or by a person here.",
    "Ask who did it and why. Request another payout if it was a mistake.",
    course=PAYOUT_ENDS_UNPAID,
)
_OTHER = Explanation(
    "A code of a payout without an entry",
    "The processor gave a code that this version has no entry for; its own message is shown with it.",
    "Look the code up in the processor's documentation, and inform the developers.",
    course=PAYOUT_STOPS,
)
OTHER_PAYOUT_CODE: Final = "payout_other_code"

# The name of each entry, and the codes of refunds that it explains for payouts.
_ENTRIES: Final[Mapping[str, tuple[Explanation, str]]] = {
    "payout_balance_insufficient": (
        _EMPTY,
        "balance_insufficient insufficient_balance_for_refund insufficient_funds",
    ),
    "payout_resource_missing": (_NOT_FOUND, "resource_missing not_found"),
    "payout_unknown_refusal": (_UNKNOWN_REFUSAL, "unknown_refusal object_refused"),
    "payout_key_conflict": (_KEY_CONFLICT, "idempotency_key_conflict key_conflict"),
    "payout_outcome_unknown": (_OUTCOME_UNKNOWN, "outcome_unknown"),
    "payout_processor_unreachable": (_UNREACHABLE, "processor_unreachable"),
    "payout_answer_mismatch": (_MISMATCH, "answer_mismatch"),
    "payout_unknown_status": (_UNKNOWN_STATUS, "unknown_status"),
    "payout_internal_error": (_INTERNAL_ERROR, "internal_error"),
    "payout_unexpected_answer": (_UNEXPECTED, "unexpected_answer blocked"),
    "payout_canceled": (_CANCELED, "canceled canceled_on_request merchant_request"),
    OTHER_PAYOUT_CODE: (_OTHER, "other_code"),
}
# Codes of refunds that an entry of payouts explains (`payout_codes.py`).
_BY_PAYOUT_CODES: Final[Mapping[str, str]] = {
    "payee_account_unusable": "account_closed no_account expired_card",
    "payee_unconfirmed": "transfers_not_allowed not_allowed_on_standard_account application_fees_not_allowed",
    "payout_failed": "unknown failed declined card_declined refused",
    "payout_record": "amount_too_large amount_too_small invalid_charge_amount payment_method_currency_mismatch "
    "email_invalid invalid_characters parameter_invalid_empty parameter_invalid_integer "
    "parameter_invalid_string_blank parameter_invalid_string_empty parameter_missing misconfigured other_parameter",
}

SHARED_CODES: Final[Mapping[str, Explanation]] = {name: explanation for name, (explanation, _) in _ENTRIES.items()}
# Each code of a refund → the name of the entry that explains it for a payout.
ENTRY_OF_SHARED_CODE: Final[Mapping[str, str]] = {
    **{code: name for name, (_, codes) in _ENTRIES.items() for code in codes.split()},
    **{code: name for name, codes in _BY_PAYOUT_CODES.items() for code in codes.split()},
}
