"""The meaning of Braintree's refusals, code by code: data. Pure.

A refusal ends a leg only if it is known to be about this payment. A code that is in no list is unknown and goes to a
person.

Sources, read in 2026-11: error_codes.py of braintree_python 4.45.0 (all validation errors of transactions), its
integration tests (91504, 91506, 91512, 915230 and 915232), the reference of validation errors and of settlement
responses at developer.paypal.com/braintree, and the post about refund authorizations at braintreepayments.com/blog
(915200, 915201). `tests/processors/braintree/published_codes.py` has every published code with its group.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Meaning(StrEnum):
    """The subject of a refusal, which decides what follows from it."""

    ENDS = "ends"  # this payment cannot take the money back: another way is sought
    MORE_THAN_LEFT = "more_than_left"  # less is left at Braintree than we recorded: check there, then decide
    ALREADY_REFUNDED = "already_refunded"  # nothing is left: check there, then decide
    BLOCKED = "blocked"  # refused for now; tried again later
    NOT_SETTLED = "not_settled"  # a refund needs a settled payment; before that the whole can be voided
    CANNOT_BE_VOIDED = "cannot_be_voided"  # answer to a void: the payment is in another status
    OURS = "ours"  # the request's form, key or account: every refund would fail the same way
    PERSON = "person"  # one record or one request can cause it
    KEY_CONFLICT = "key_conflict"  # the key was used with another request
    KEY_IN_FLIGHT = "key_in_flight"  # the first request with this key is not finished
    KEY_FAILED = "key_failed"  # the first request with this key failed, and the key cannot be used again
    KEY_SERVER_ERROR = "key_server_error"  # the outcome of the first request is unknown
    UNKNOWN = "unknown"  # not in any list


_BY_CODE: Final = {
    "91512": Meaning.ALREADY_REFUNDED,  # HasAlreadyBeenRefunded
    "91521": Meaning.MORE_THAN_LEFT,  # RefundAmountIsTooLarge
    "915200": Meaning.ENDS,  # RefundAuthHardDeclined: older API versions, instead of a declined refund
    "915201": Meaning.BLOCKED,  # RefundAuthSoftDeclined: "try again at a later time"
    "91506": Meaning.NOT_SETTLED,  # CannotRefundUnlessSettled
    "91574": Meaning.NOT_SETTLED,  # CannotRefundSettlingTransaction: it is too late for a void and too early for this
    "91504": Meaning.CANNOT_BE_VOIDED,
    # The merchant account that took the payment. An account at Braintree has one for each currency, so the others
    # still work.
    "91538": Meaning.BLOCKED,  # CannotRefundWithSuspendedMerchantAccount
    "91559": Meaning.BLOCKED,  # CannotRefundWithPendingMerchantAccount
    "91514": Meaning.BLOCKED,  # MerchantAccountIsSuspended
    "91547": Meaning.PERSON,  # MerchantAccountDoesNotSupportRefunds
    "91546": Meaning.PERSON,  # ProcessorDoesNotSupportCredits
    "91576": Meaning.PERSON,  # PayPalNotEnabled
    "91577": Meaning.PERSON,  # PaymentInstrumentNotSupportedByMerchantAccount
    # The record: the id is that of a refund, or the amount is wrong.
    "91505": Meaning.PERSON,  # CannotRefundCredit
    "81501": Meaning.PERSON,  # AmountCannotBeNegative
    "81502": Meaning.PERSON,  # AmountIsRequired
    "81503": Meaning.PERSON,  # AmountFormatIsInvalid
    "81528": Meaning.PERSON,  # AmountIsTooLarge
    "81531": Meaning.PERSON,  # AmountMustBeGreaterThanZero
    "815193": Meaning.PERSON,  # AmountNotSupportedByProcessor
    # The form of all our requests, and our setting `merchant_account_id`.
    "91501": Meaning.OURS,  # OrderIdIsTooLong
    "91513": Meaning.OURS,  # MerchantAccountIdIsInvalid
    "915230": Meaning.OURS,  # ApiRequestKeyTooLong
    "915231": Meaning.OURS,  # ApiRequestKeyNotAllowed
    "915232": Meaning.KEY_CONFLICT,  # ApiRequestKeyCanBeReusedOnlyWithTheSameRequest
    "915233": Meaning.KEY_IN_FLIGHT,  # ApiRequestKeyIsInFlight
    "915234": Meaning.KEY_FAILED,  # ApiRequestKeyWithFailedRequest
    "915235": Meaning.KEY_SERVER_ERROR,  # ApiRequestKeyServerError
}


def meaning_of(codes: Iterable[str]) -> Meaning:
    """Return the subject of a refusal with these validation errors.

    Codes of different meanings contradict each other: such a refusal is unknown.
    """
    meanings = {_BY_CODE.get(code, Meaning.UNKNOWN) for code in codes}
    return meanings.pop() if len(meanings) == 1 else Meaning.UNKNOWN


# PayPal's open case: the dispute returns the money itself (settlement responses, read 2026-11).
DISPUTED: Final = frozenset({"4019"})
# Settlement responses that do not say whether the customer has the money, or speak of our own account or request. A
# person sees them. All others are about this payment, and the refund has failed.
SETTLEMENT_FOR_A_PERSON: Final = frozenset(
    {
        "4003",  # already captured: an answer to a sale
        "4004",  # already refunded: the customer may have the money
        "4005",  # rejected by PayPal's risk check: an answer to a sale
        "4006",  # captured more than allowed: an answer to a sale
        "4018",  # pending refunds are not supported: our PayPal account is set up wrong
        "4022",  # the partial amount is not valid
        "4023",  # our PayPal account has no verified bank account
        "4026",  # our PayPal or Venmo account may not refund more than was settled
    }
)
