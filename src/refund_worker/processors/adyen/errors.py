"""The meaning of Adyen's refusals: codes of error answers, and reasons in events. Data only.

Sources: AD-SPEC is Adyen's published description CheckoutService v72, read 2026-11. "Not read, known" is general
knowledge that no page confirmed; a wrong entry of that kind only leads to a person or to a pause, never to a payment.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final


class Meaning(StrEnum):
    """The subject of a refusal of a request, which decides what follows from it."""

    OURS = "ours"  # the key's permissions, the merchant account or the request's form: every refund would fail so
    NOT_FOUND = "not_found"  # Adyen does not know the payment
    PERSON = "person"  # one record can cause it
    IN_PROGRESS = "in_progress"  # an earlier request under the key may have been executed
    UNKNOWN = "unknown"  # not in any list


# Code of an error answer → its meaning.
CODES: Final = {
    "000": Meaning.OURS,  # AD-SPEC, generic-401: unauthorized
    "010": Meaning.OURS,  # not read, known: not allowed
    "702": Meaning.OURS,  # AD-SPEC, generic-400: the body is no JSON of the expected form
    "901": Meaning.OURS,  # AD-SPEC, generic-403: invalid merchant account
    # Recorded answers of the test platform in public repositories (adyen-node-api-library, modification tests), read
    # 2026-11: "Original pspReference required for this operation", also for a reference that does not exist.
    "167": Meaning.NOT_FOUND,
    "137": Meaning.PERSON,  # not read, known: invalid amount
    "905": Meaning.PERSON,  # AD-SPEC, generic-500: payment details are not supported; a payment method can cause it
    # docs.adyen.com/development-resources/api-idempotency, read 2026-11: a duplicate before the first has completed.
    "704": Meaning.IN_PROGRESS,
}
# The description also shows these two. They belong to other calls, so they are unknown here: 14_030 (return URL), 187
# (a field of a donation).

# The error types of Adyen's answers. AD-SPEC shows the first three; the last one is not read, known.
ERROR_TYPES: Final = frozenset({"validation", "security", "configuration", "internal"})


def meaning_of(code: str) -> Meaning:
    """Return the meaning of the code of an error answer."""
    return CODES.get(code, Meaning.UNKNOWN)


# --- reasons in events ------------------------------------------------------------------------------------------------

# Codes of refunds that failed.
INSUFFICIENT_BALANCE: Final = "insufficient_balance"  # our own funds at Adyen
PAYMENT_BALANCE_TOO_LOW: Final = "payment_balance_too_low"  # the payment has less left than was asked for
PAYMENT_NOT_CAPTURED: Final = "payment_not_captured"
REFUND_REFUSED: Final = "refund_refused"  # a reason that is in no list
REJECTED_BY_SCHEME: Final = "rejected_by_scheme"  # REFUND_FAILED
REFUND_REVERSED: Final = "refund_reversed"  # REFUNDED_REVERSED

# The reason of a REFUND event without success → our code. Adyen publishes no list of reasons.
REASONS: Final = {
    # BitBagCommerce/SyliusAdyenPlugin#75 (a capture) and fixtures of refunds in public plugins, read 2026-11. The
    # balance is the payment's: more was asked for than is left of it.
    "insufficient balance on payment": PAYMENT_BALANCE_TOO_LOW,
    # Adyen's published description Webhooks v1, example of REFUND, read 2026-11.
    "transaction hasn't been captured, refund not possible": PAYMENT_NOT_CAPTURED,
    # Not read, known: our own funds. If it were the payment's balance, the next try would fail too and end with a
    # person.
    "insufficient funds": INSUFFICIENT_BALANCE,
    "insufficient balance": INSUFFICIENT_BALANCE,
}

# A person decides after these: no other payment is tried, and no credits go back. The first may mean that others have
# refunded the payment already; the second, that the customer has credits without having paid; the third, anything.
PERSON_DECIDES: Final = frozenset({PAYMENT_BALANCE_TOO_LOW, PAYMENT_NOT_CAPTURED, REFUND_REFUSED})
# These are tried again over the same payment.
UNFUNDED: Final = frozenset({INSUFFICIENT_BALANCE})

# docs.adyen.com/online-payments/capture/failure-reasons, read 2026-11: after this reason Adyen itself presents the
# transaction to the card scheme again, within 10 days. The page says so of captures, and that refunds are alike.
_TRIED_AGAIN_BY_ADYEN = re.compile(r"rejected by (the )?card scheme because of a technical issue")
# The status of such a refund: no status of ours, so a person sees it, and it neither failed nor succeeded.
STATUS_TRIED_AGAIN: Final = "rejected_and_tried_again_by_adyen"


def code_of_reason(reason: str) -> str:
    """Return our failure code for the reason of a refund that Adyen did not take."""
    return REASONS.get(_normal(reason), REFUND_REFUSED)


def is_tried_again(reason: str) -> bool:
    """Return True if Adyen itself tries again what the card scheme rejected for this reason."""
    return _TRIED_AGAIN_BY_ADYEN.search(_normal(reason)) is not None


def _normal(reason: str) -> str:
    return " ".join(reason.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").casefold().split()).strip(" .!")
