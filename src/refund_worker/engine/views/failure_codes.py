"""The meaning of each failure code and the advice for it: one table for the console, the command line and the runbook.

These texts hold for every refund with the code. `refund_facts.py` adds what is true of one refund alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from refund_worker.engine.views.explanations import (
    ENDS,
    KEEPS_ASKING,
    TRIES_AGAIN,
    WAITS,
    WAITS_FOR_EVENT,
    WAITS_UNSENT,
    Course,
    Explanation,
)
from refund_worker.engine.views.payout_codes import FIRST_OF_PAYOUT_CODES, PAYOUT_GROUPS
from refund_worker.engine.views.payout_shared_codes import ENTRY_OF_SHARED_CODE, OTHER_PAYOUT_CODE, SHARED_CODES
from refund_worker.engine.views.sending_codes import SENDING_CODES, SENDING_GROUPS
from refund_worker.processors import registry

_PAY_OUT_AGAIN = (
    "The refund has ended. Once the cause is gone, pay the credits that are back on the balance out with a new "
    "withdrawal (in the console: Add credits with a negative amount, then Return money)."
)
_PAY_ANOTHER_WAY = (
    "Nothing has to be done. To pay the customer in another way, take the credits that are back on the balance off by "
    "a correction first."
)

_EMPTY = Explanation(
    "The balance at the processor is empty",
    "The processor pays refunds out of the money it holds for us, and there was not enough. No money went out.",
    "Top up the balance at the processor, then retry all refunds with this code at once. Each is looked up there "
    "before it is sent.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    course=TRIES_AGAIN,
    worry="If the balance cannot be topped up within two days: then only a person's retry sends it.",
)
_DISPUTED = Explanation(
    "The customer has disputed the payment",
    "The customer asked their bank for the money. While that is open, the processor refunds nothing over this payment.",
    "Answer the dispute at the processor. If it is lost, the money has gone back: resolve the refund as paid "
    "manually, with the dispute as reference. If it is won, retry; if that does not help, give the credits back.",
    at_end="Answer the dispute at the processor. If it is lost, the customer has the money: take the credits that are "
    "back on the balance off by a correction.",
    course=TRIES_AGAIN,
)
# The same, of a refund object that has failed: nothing is tried again.
_DISPUTED_OBJECT = replace(_DISPUTED, course=WAITS)
_CARD_GONE = Explanation(
    "The card is expired or closed",
    "The card has expired or was closed, and its bank has no other way to the customer.",
    _PAY_ANOTHER_WAY,
    course=ENDS,
)
_CARD_LOST = replace(
    _CARD_GONE,
    title="The card was reported lost or stolen",
    cause="The card was reported lost or stolen, and its bank has no other way to the customer.",
)
_DECLINED = replace(
    _CARD_GONE,
    title="The bank declined the refund",
    cause="The customer's bank does not accept the money.",
)
_REFUSED_FOR_GOOD = replace(
    _CARD_GONE,
    title="The payment cannot be refunded any more",
    cause="The processor says so about this payment. No refund was made.",
)
_BANK_GONE = replace(
    _CARD_GONE,
    title="The bank account is closed or unknown",
    cause="The bank account behind the payment is closed or cannot be found.",
)
_NO_REASON = Explanation(
    "The processor does not say why",
    "The refund failed at the processor or at the customer's bank, without a reason.",
    "Ask the processor's support with the refund's id there. " + _PAY_ANOTHER_WAY.partition(". ")[2],
    course=ENDS,
)
_CANCELED = Explanation(
    "The refund was canceled at the processor",
    "The processor says that it failed because it was canceled in its dashboard.",
    "Ask who did it and why. Request the refund again if it was a mistake.",
    course=ENDS,
)
_CANCELED_ON_REQUEST = Explanation(
    "A person canceled the refund at the processor",
    "It waited for the customer, and a person canceled it. The credits go back, and no other payment is tried.",
    "Nothing has to be done. The timeline names the person and the reason.",
    course=Course(
        "The part of the refund over this payment ends as canceled, and its credits go back to the balance, once.",
        (),
        "If nobody remembers why it was canceled.",
        ENDS.over,
    ),
)
# The same, of an object that this program was not asked to cancel.
_CANCELED_THERE = replace(
    _CANCELED_ON_REQUEST,
    title="The processor says that the refund was canceled",
    cause="It was canceled in the processor's dashboard, or by the processor itself. The credits go back, and no other "
    "payment is tried.",
    advice="Ask at the processor who did it and why. Request the refund again if it was a mistake.",
    worry="If many refunds get this code on one day.",
)
_UNKNOWN_THERE = Explanation(
    "The processor does not know the payment",
    "The payment's id is not known to the account and the mode that we work with.",
    "Check that the API key belongs to the right account and mode, and compare the payment's id with the processor's "
    "dashboard. Correct what is wrong, then retry.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    worry="If several refunds get it: then the key is of another account or mode. `refund-worker doctor` shows the "
    "mode.",
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
_NO_OBJECT_THERE = Explanation(
    "The processor does not know its own refund",
    "The stored id of the refund at the processor is not one that the processor has. It is not known how it ended.",
    "Find the refund in the processor's dashboard, by the payment. If it paid, resolve as paid manually with its id "
    "as reference. If there is no refund, inform the developers.",
    at_end="Find the refund in the processor's dashboard, by the payment.",
    course=KEEPS_ASKING,
)
_NO_USABLE_ID = Explanation(
    "The payment's id is not valid at the processor",
    "The payment was recorded under an id that cannot be looked up at the processor. Nothing was sent.",
    "Find the payment at the processor and pay it back there, then resolve with the reference. Record payments under "
    "the ids that the processor gives them.",
    at_end="It has ended. Record payments under the ids that the processor gives them.",
    course=WAITS_UNSENT,
)

_UNKNOWN_REFUSAL = Explanation(
    "Refused with a code that we do not know",
    "The processor refused with a code that this version does not know: it may be final or not. No refund was made, "
    "no other payment was tried because of it, and no credits went back.",
    "Read its message and look its code up in its documentation. Retry once the cause is gone: the worker looks the "
    "refund up first. Else resolve: pay manually, or give the credits back.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_OBJECT_REFUSED = Explanation(
    "Accepted first, then refused",
    "The processor accepted the refund and later refused it, for a reason that this version does not know, or because "
    "less is left of the payment. Others may have refunded it. No other payment was tried, and no credits went back.",
    "Read the reason at the processor, and look at the other refunds of the payment there. If the customer has the "
    "money, resolve as paid manually with that refund's id as reference. Else pay in another way and resolve, or give "
    "the credits back.",
    at_end="Look at the other refunds of the payment at the processor.",
    course=WAITS,
)
_ALREADY_REFUNDED = Explanation(
    "The payment is already refunded",
    "The processor says that nothing is left of the payment, and none of its refunds was made by this program.",
    "Check the payment in the processor's dashboard: it was refunded there. If that was this refund's money, resolve "
    "as paid manually with that refund's id as reference. If it was for something else, give the credits back.",
    at_end="Check the payment in the processor's dashboard: it was refunded there.",
)
_ELSEWHERE = Explanation(
    "This payment was also refunded elsewhere",
    "The same payment was refunded in the processor's dashboard too, or by another program on the account. The "
    "processor was asked for nothing more.",
    "Check each of these refunds. If one is this refund's money, resolve as paid manually with its id as reference. "
    "If the customer should get both, retry it on its own page: that accepts the listed refunds as seen and sends.",
    at_end="It has ended. Compare the refunds made there with the amount that the customer should get.",
    worry="If it comes often: then colleagues refund the same payments in the processor's dashboard.",
)
_CHARGED_BACK = Explanation(
    "The customer's bank took the payment back",
    "A dispute of this payment was lost before the refund was sent, so nothing can be refunded over it any more.",
    "Nothing has to be done. The dispute's page shows which credits it took.",
    course=ENDS,
)
_CLOSED = Explanation(
    "The payment was closed",
    "A person closed this payment before the refund was sent: its money never came, or it was recorded wrong.",
    "Nothing has to be done. The payment's page names the person and the reason.",
    course=ENDS,
)
_MORE_THAN_LEFT = Explanation(
    "More than is left of the payment",
    "Part of the payment was refunded outside this program, so less is left than we expected.",
    "Check the payment at the processor, run `refund-worker reconcile`, and request a refund of what is left.",
    course=ENDS,
)
_UNREACHABLE = Explanation(
    "The processor does not answer",
    "Twelve tries in a row got no answer. This does not count as a refusal; the worker keeps trying.",
    "Check the processor's status page and our network. Retry when it is back, or simply wait.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    course=KEEPS_ASKING,
    worry="If other refunds to the same processor succeed meanwhile: then the cause is this one.",
)
_PAYMENT_MISMATCH = Explanation(
    "The payment differs from the one that was recorded",
    "The processor has the payment with another amount, currency or mode. Nothing was sent over it.",
    "Compare the two sides in the message. Retry reads the payment again; if it was recorded wrong, pay the customer "
    "in another way and resolve.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    worry="If many payments differ: then the backend records amounts in another unit, or the key is of another mode.",
)
_OUTCOME_UNKNOWN = Explanation(
    "It is not known whether it was paid",
    "A send got no answer, no refund was found at the processor, and its key is too old to be sent again.",
    "Check the payment at the processor first. If no refund is there, retry: the worker looks it up again, and sends "
    "it with a new key. If one is there, retry records it. If you have paid in another way, resolve as paid manually "
    "with the reference.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
)
_REFUNDED_TWICE = Explanation(
    "The processor shows two refunds",
    "More than one refund exists there for the same part of this refund, or one besides a manual payment.",
    "Check both at the processor, and cancel or reclaim the surplus one. Then resolve. Inform the developers if "
    "nobody paid manually.",
    at_end="Check both at the processor, and cancel or reclaim the surplus one.",
    worry="At once: the customer may have been paid twice.",
)
_ANSWER_MISMATCH = Explanation(
    "The answer does not match the request",
    "The processor's refund has another amount, currency or payment than ours. It is not counted as paid.",
    "Compare the two at the processor, and inform the developers. After the quiet window (6 hours by default), retry "
    "looks the refund up again, and resolve records how it ended.",
    at_end=_PAY_OUT_AGAIN,
    worry="At once: money may have gone out that our records do not have.",
)
_NOT_AT_PROCESSOR = Explanation(
    "The processor does not have this refund",
    "A reconciliation, or the daily reading of paid refunds, found a part that is paid in our books, and the processor "
    "has no refund for it.",
    "Search for the payment at the processor: another account or mode may be in use. If the customer got no money, pay "
    "manually or give credits by a correction. Then resolve, which records that you have decided.",
    at_end=_PAY_OUT_AGAIN,
    worry="At once: the customer may have no money, or our key belongs to another account.",
)
_PROCESSOR_UNKNOWN = Explanation(
    "This version cannot pay through this processor",
    "This program cannot reach the processor of the payment. Nothing was sent.",
    "Pay it back there or in another way, then resolve with the reference. A later version may support it.",
    at_end=_PAY_OUT_AGAIN,
    course=WAITS_UNSENT,
)
_MANUAL = Explanation(
    "To be paid back manually",
    "The payment was cash or a bank transfer, which no program can send back.",
    "Pay it back, then resolve with the reference of that payment.",
    at_end=_PAY_OUT_AGAIN,
    course=WAITS_UNSENT,
    worry="If it waits for longer than your customers may wait.",
)
_PAY_MANUALLY = Explanation(
    "No payment takes it: to be paid back manually",
    "The payment refused for good, and the setting `FALLBACK` says that a person pays then.",
    "Pay the customer in another way, then resolve with the reference of that payment. Without a reference, resolve "
    "gives the credits back.",
    at_end=_PAY_OUT_AGAIN,
    course=WAITS_UNSENT,
)
_NO_WAY_LEFT = Explanation(
    "No payment takes it, and no other way is allowed",
    "The payment refused for good. Neither the setting `FALLBACK` nor the request's `destinations` allow another way.",
    "Pay the customer in another way and resolve with the reference, or resolve without one to give the credits back.",
    at_end=_PAY_OUT_AGAIN,
    course=WAITS_UNSENT,
)
_REFUNDS_OFF = Explanation(
    "Refunds are off for this account",
    "The setting `refunds` of the account at the processor is off. Nothing was sent over its payment.",
    "Switch it on and retry, or pay the customer in another way and resolve with the reference.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    course=WAITS_UNSENT,
)
_WINDOW_CLOSED = Explanation(
    "The payment is too old to be refunded",
    "The processor refunds a payment only for some time after it was captured. Nothing was sent.",
    "Nothing has to be done: other payments or the balance get the money. A customer without another payment can only "
    "be paid in another way.",
    at_end=_PAY_OUT_AGAIN,
)
_NOT_PAYABLE = Explanation(
    "The payee cannot be paid this amount",
    "The payee is not known any more, is paid in another currency, or the amount is outside of the limits on payouts. "
    "Nothing was sent.",
    "Nothing has to be done: the next way of `FALLBACK` or the balance gets the credits.",
    at_end=_PAY_OUT_AGAIN,
)
_NOT_THE_CUSTOMERS = Explanation(
    "The payee belongs to another customer now",
    "The payee was given to another customer after the refund was accepted. So no payout was made to it.",
    "Ask who changed the payee. Give it back to the customer (`refund-worker payees update`) and retry, or pay the "
    "customer in another way and resolve with the reference, or resolve without one to give the credits back.",
    retry_helps=True,
    at_end=_PAY_OUT_AGAIN,
    worry="At once, if nobody in your house knows of the change: money was about to go to another person.",
)
_REPORT_OVERDUE = Explanation(
    "No event about the outcome has come",
    "The processor accepted the refund, cannot be asked about it, and no event of it came in the time allowed.",
    "Look the refund up at the processor, and check its webhooks: `refund-worker doctor` shows refused ones. Let the "
    "processor send the event again; the refund ends by it. If the processor cannot, resolve it by what you see there.",
    at_end="Compare the refund with what the processor shows.",
    course=WAITS_FOR_EVENT,
    worry="If many refunds get it: then no webhook arrives, and no outcome becomes known.",
)
_UNKNOWN_STATUS = Explanation(
    "A status that we do not know",
    "The processor reports a status of the refund that this version does not know. Or the refund failed, and the "
    "processor has a second refund for it that may have paid: `failure_message` names it.",
    "Check the refund at the processor; a newer version of this program may know the status. If it failed and a second "
    "one may have paid, a retry changes nothing: resolve it, as `paid_manually` if the second one paid, else as "
    "`reverse`.",
    at_end="Check the refund at the processor; a newer version of this program may know the status.",
    course=KEEPS_ASKING,
)
_INTERNAL_ERROR = Explanation(
    "Internal error in this program",
    "A worker failed because of a fault in this program. Nothing is lost; the refund is processed again after an hour "
    "(`RETRY_MAX_SECONDS`), and all other refunds continue.",
    "Inform the developers, with the refund's id and its timeline: `refund-worker refunds events ID`.",
    course=KEEPS_ASKING,
    worry="If many refunds get it at once: then see the alarm `batch_failed`.",
)
_UNEXPECTED = Explanation(
    "An answer that makes no sense",
    "The processor's answer to a look-up cannot be right.",
    "Wait for the next look-up, and inform the developers if the answer stays the same.",
    retry_helps=True,
    course=KEEPS_ASKING,
)
# For codes without an entry of their own.
OTHER_CODE, OTHER_PARAMETER = "other_code", "other_parameter"
_OTHER = Explanation(
    "A code without an entry",
    "The processor gave a code that this version has no entry for; its own message is shown with it.",
    "Look the code up in the processor's documentation, and inform the developers.",
)

_GROUPS: Mapping[Explanation, str] = {
    _EMPTY: "balance_insufficient insufficient_balance_for_refund insufficient_funds",
    _DISPUTED: "charge_disputed refund_disputed_payment",
    _DISPUTED_OBJECT: "charge_for_pending_refund_disputed",
    _CARD_GONE: "expired_card expired_or_canceled_card",
    _CARD_LOST: "lost_or_stolen_card",
    _DECLINED: "card_declined declined",
    _BANK_GONE: "account_closed no_account",
    _REFUSED_FOR_GOOD: "charge_not_refundable refused",
    _ALREADY_REFUNDED: "charge_already_refunded already_refunded",
    _MORE_THAN_LEFT: "amount_exceeds_unrefunded over_refund",
    _UNKNOWN_REFUSAL: "unknown_refusal",
    _OBJECT_REFUSED: "object_refused",
    _WRONG_AMOUNT: "amount_too_large amount_too_small invalid_charge_amount payment_method_currency_mismatch",
    _WRONG_STATE: "charge_invalid_parameter payment_intent_invalid_parameter payment_intent_unexpected_state",
    _CONNECTED: "application_fees_not_allowed not_allowed_on_standard_account transfers_not_allowed",
    _WRONG_TEXT: "email_invalid invalid_characters",
    _WRONG_PARAMETER: "parameter_invalid_empty parameter_invalid_integer parameter_invalid_string_blank "
    f"parameter_invalid_string_empty parameter_missing misconfigured {OTHER_PARAMETER}",
    _KEY_CONFLICT: "idempotency_key_conflict key_conflict",
    _UNKNOWN_THERE: "resource_missing not_found",
    _NO_OBJECT_THERE: "bad_refund_id bad_dispute_id bad_warning_id",
    _NO_USABLE_ID: "payment_id_unusable bad_payment_id",
    _CANCELED: "merchant_request",
    _CANCELED_THERE: "canceled",
    _CANCELED_ON_REQUEST: "canceled_on_request",
    _NO_REASON: "unknown failed",
    _ELSEWHERE: "refunded_elsewhere",
    _CHARGED_BACK: "charged_back",
    _CLOSED: "payment_closed",
    _REFUNDED_TWICE: "refunded_twice",
    _UNREACHABLE: "processor_unreachable",
    _OUTCOME_UNKNOWN: "outcome_unknown",
    _PAYMENT_MISMATCH: "payment_mismatch",
    _ANSWER_MISMATCH: "answer_mismatch",
    _NOT_AT_PROCESSOR: "not_at_processor",
    _PROCESSOR_UNKNOWN: "processor_unknown",
    _MANUAL: "manual_processor",
    _PAY_MANUALLY: "manual_fallback",
    _NO_WAY_LEFT: "no_fallback_left",
    _REFUNDS_OFF: "refunds_off",
    _WINDOW_CLOSED: "window_closed",
    _NOT_PAYABLE: "payee_not_payable",
    _NOT_THE_CUSTOMERS: "payee_of_another_customer",
    _REPORT_OVERDUE: "report_overdue",
    _UNKNOWN_STATUS: "unknown_status",
    _INTERNAL_ERROR: "internal_error",
    _UNEXPECTED: "unexpected_answer blocked",
    _OTHER: OTHER_CODE,
}
FAILURE_CODES: Mapping[str, Explanation] = MappingProxyType(
    {
        **{
            code: explanation
            for groups in (_GROUPS, PAYOUT_GROUPS)
            for explanation, codes in groups.items()
            for code in codes.split()
        },
        **SHARED_CODES,
    }
)

# Each code of a refund → the first code of its group: all codes of a group have one explanation.
CODES_OF_GROUPS: Mapping[str, str] = MappingProxyType(
    {
        code: codes.split()[0]
        for groups in (_GROUPS, SENDING_GROUPS)
        for codes in groups.values()
        for code in codes.split()
    }
)


def code_with_entry(code: str | None) -> str:
    """Return the code itself, or the name of the entry for codes that have none of their own.

    An adapter says which code of ours explains one of its processor's.
    """
    name = code or "unknown"
    name = name if _is_ours(name) else registry.explained_by().get(name, name)
    if _is_ours(name):
        return name
    return OTHER_PARAMETER if name.startswith("parameter") else OTHER_CODE


def _is_ours(code: str) -> bool:
    return code in FAILURE_CODES or code in SENDING_CODES


def explain(code: str | None, *, ended: bool = False) -> Explanation:
    """Return the explanation of this code, or a general one for a code that is not in the table.

    With `ended` the advice names no action that is possible only while a refund needs a person.
    """
    name = code_with_entry(code)
    found = FAILURE_CODES.get(name) or SENDING_CODES[name]
    if ended and found.at_end is not None:
        return replace(found, advice=found.at_end, retry_helps=False)
    return replace(found, retry_helps=False) if ended else found


def payout_code_with_entry(code: str) -> str:
    """Return the name of the entry that explains this code of a payout. A code that stops all sending has one entry."""
    name = code_with_entry(code)
    if name in FIRST_OF_PAYOUT_CODES or name in SHARED_CODES or name in SENDING_CODES:
        return name
    return ENTRY_OF_SHARED_CODE.get(name, OTHER_PAYOUT_CODE)


def explain_payout(code: str) -> Explanation:
    """Return the explanation of this code of a payout. Of a code that refunds have too, it speaks of payouts."""
    name = payout_code_with_entry(code)
    return FAILURE_CODES.get(name) or SENDING_CODES[name]
