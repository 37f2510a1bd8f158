"""The failure codes and reasons to wait that only payouts have: their meaning and the advice for each.

A code that refunds have too has its entry in `failure_codes.py`. Codes of other processors lead to one of these by
`ProcessorEntry.explained_by`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from refund_worker.engine.views.explanations import (
    PAYOUT_ENDS_UNPAID,
    PAYOUT_IS_HELD,
    PAYOUT_KEEPS_ASKING,
    PAYOUT_STOPS,
    PAYOUT_TRIES_AGAIN,
    PAYOUT_WAITS_UNSENT,
    Explanation,
)

_ANOTHER: Final = "Ask the payee for another destination and record it: `refund-worker payees update`."
_NOTHING: Final = "Nothing has to be done: the payout has ended."
_PAYEES_ACT: Final = (
    "Tell the payee: the payout's `payee_text` says it in plain words. A changed destination is paid after its wait."
)


def _of_the_payee(title: str, cause: str, advice: str = _PAYEES_ACT) -> Explanation:
    return Explanation(title, cause, advice, course=PAYOUT_ENDS_UNPAID)


_UNREGISTERED = _of_the_payee(
    "The payee has no account under this address",
    "The processor has no account of the payee's under the address. A payout there waits until the payee opens one, "
    "is called off, or comes back when the time for that is over.",
)
_UNCONFIRMED = _of_the_payee(
    "The payee's account is not confirmed",
    "The processor needs the payee to confirm an address, an identity or a missing part of the account first.",
)
_LIMITED = _of_the_payee(
    "The payee's account has a limit",
    "The payee's account may receive no more for now, or the processor restricted it.",
)
_UNUSABLE = _of_the_payee(
    "The payee's account cannot receive the money",
    "The account or card is closed, frozen, wrong, of a kind that cannot be paid, or not in the payee's name.",
    _ANOTHER,
)
_CURRENCY = _of_the_payee(
    "The payee's account does not take the currency",
    "The account takes no money in this currency, or not this fast.",
    _ANOTHER,
)
_REFUSED = _of_the_payee(
    "The payee did not accept the money",
    "The payee did not collect the money in time, refused it, or gave it back.",
    "Ask the payee why. Then request another payout, or record another destination.",
)
_BY_PROCESSOR = _of_the_payee(
    "The processor does not pay there",
    "The processor stopped the payout for a reason of law or of its own rules. Nothing more is said to the payee.",
    "Read the processor's code in the timeline: `refund-worker payouts events ID`. Ask the processor, not the payee.",
)
_CHANGED = _of_the_payee(
    "The payee's destination was changed",
    "The destination was changed before anything was sent, so the payout was canceled.",
    "Request another payout: it goes to the new destination after its cool-down.",
)
_CLAWED_BACK = _of_the_payee(
    "Its earnings were clawed back",
    "The spends that the earnings came from were refunded before anything was sent, so the payout was canceled.",
    "See the payee's balance: `refund-worker payees show PAYEE`. Request another payout once enough can be paid out.",
)
_FAILED = Explanation(
    "The processor or a bank could not pay it",
    "The payout failed there, for no fault of the payee's.",
    "If it failed again, ask the processor's support with the id of the object there.",
    retry_helps=True,
    at_end=_NOTHING,
    course=PAYOUT_TRIES_AGAIN,
)
_LIMIT = Explanation(
    "A limit of our account is reached",
    "Our account at the processor may pay out no more for now.",
    "Wait until the limit ends, or ask the processor to raise it.",
    retry_helps=True,
    at_end=_NOTHING,
    course=PAYOUT_TRIES_AGAIN,
)
_CONNECTED_EMPTY = Explanation(
    "The balance of the connected account is too low",
    "The second step pays from the payee's account at the processor, and the transferred money is not available there.",
    "Look at the balance of the connected account there: a debt of it takes the transfer first. Retry once it "
    "is covered.",
    retry_helps=True,
    at_end=_NOTHING,
    course=PAYOUT_STOPS,
)
_RECORD = Explanation(
    "The processor does not accept a value of this payout",
    "The amount, the currency, the destination or another value is not accepted. No money was sent.",
    "Read the processor's message and compare it with the payee's record. Resolve it, and request it again corrected.",
    at_end=_NOTHING,
    course=PAYOUT_STOPS,
)
_NO_OBJECT = Explanation(
    "The processor does not know its own payout",
    "The stored id of the transfer or payout is not one that the processor has. It is not known how it ended.",
    "Find the payout in the processor's dashboard, by the payee and the amount. Resolve it by what you see there.",
    at_end="Find the payout in the processor's dashboard.",
    course=PAYOUT_KEEPS_ASKING,
)
_NOT_UNDONE = Explanation(
    "The transfer is not given back",
    "The payout failed for good, and the processor refuses to take its transfer back. The money is at the payee's "
    "account there. Nothing more is paid to this payee meanwhile.",
    "Look at the connected account: if the payee can pay it out, resolve the payout as paid manually, with the "
    "transfer's id as reference. If the money comes back in another way, resolve it as reverse.",
    retry_helps=True,
    at_end=_NOTHING,
    course=PAYOUT_STOPS,
    worry="At once: the payee may have the money, and the payee's other payouts wait.",
)
_UNDONE = Explanation(
    "The transfer was undone by others",
    "The transfer to the payee's account was reversed at the processor, while the payout from it may have been paid.",
    "Compare the transfer, its reversal and the payout there. Resolve it by what you find, and ask who reversed it.",
    at_end=_NOTHING,
    course=PAYOUT_STOPS,
    worry="At once: the connected account may owe us the money.",
)
_CONTRADICTED = Explanation(
    "The bank reports as paid what it had rejected",
    "The bank's answers contradict each other: an earlier one says that the payment failed, a later one that it was "
    "paid. Its amount had gone back to the payee's balance, and is taken again.",
    "Ask the bank which one is true, and resolve the payout by that.",
    at_end="Ask the bank which one is true.",
    course=PAYOUT_STOPS,
    worry="At once: the payee may have the money.",
)
_TWICE = Explanation(
    "The processor shows two payouts",
    "More than one transfer object may pay the same step, or one besides a manual payment.",
    "Check both at the processor, and cancel or reclaim the surplus one. Then resolve. Inform the developers if nobody "
    "paid manually.",
    at_end="Check both at the processor, and cancel or reclaim the surplus one.",
    course=PAYOUT_STOPS,
    worry="At once: the payee may have been paid twice.",
)
_MANUAL = Explanation(
    "To be paid out manually",
    "The payee's destination is one that a person pays to: no program can send the money there.",
    "Pay it to the destination, then resolve the payout as paid manually, with the reference of that payment.",
    at_end=_NOTHING,
    course=PAYOUT_WAITS_UNSENT,
)
_MANUAL_RETURN = Explanation(
    "The money of a manual payment came back",
    "A person recorded that the money came back that had been paid to the payee in another way.",
    "Ask the payee why. Then request another payout, or record another destination.",
    at_end=_NOTHING,
    course=PAYOUT_ENDS_UNPAID,
)
_FILE = Explanation(
    "Waits for the next file for the bank",
    "The payee is paid by bank transfer, from a file that a person takes to the bank's portal.",
    "Make the next file, upload it at the bank, and import the bank's answer.",
    course=PAYOUT_WAITS_UNSENT,
)
_BAD_PAYMENT = Explanation(
    "The payout fits no file for the bank",
    "A value of the payout or of its destination cannot be written into the bank's file. The others are in it.",
    "Read the message, correct the payee's destination, and retry. The payout is to the old destination, so it is then "
    "canceled, and another can be requested.",
    at_end=_NOTHING,
    course=PAYOUT_STOPS,
)


def _of_a_hold(title: str, cause: str, advice: str) -> Explanation:
    return Explanation(title, cause, advice, course=PAYOUT_IS_HELD)


_PAUSED = _of_a_hold(
    "The payee is paused",
    "A person paused payouts to the payee. The payee's `paused_by` names the person.",
    "Ask that person. `refund-worker payees resume PAYEE --reason 'WHY'` ends the pause.",
)
_INCOMPLETE = _of_a_hold(
    "The payee must act first",
    "The processor needs something from the payee, or an earlier payout failed by the payee's fault.",
    "Show the payee: `refund-worker payees show PAYEE`. Tell the payee what `needs` and `status_reason` say.",
)
_REVIEW = _of_a_hold(
    "The payee is under review",
    "The processor checks the payee, does not pay there, or a person must decide about an earlier payout first.",
    "Show the payee: `refund-worker payees show PAYEE`. Look for a payout with the code transfer_not_undone. If the "
    "reason is refused_by_processor, ask the processor: only another destination of the payee ends it.",
)
_COOLDOWN = _of_a_hold(
    "The destination is new",
    "A new or changed destination is not paid for `PAYEE_COOLDOWN_SECONDS`, in case another person changed it.",
    "Check with the payee that they changed it. If they did not, pause the payee at once.",
)
_ANOTHER_PAYOUT = _of_a_hold(
    "Another payout to the payee is open",
    "A payee has one open payout in a currency at a time. This one is sent when that one has arrived or ended.",
    "See the payee's payouts: `refund-worker payouts list --payee PAYEE`. One that needs attention holds the others.",
)
_INTERVAL = _of_a_hold(
    "The time between two payouts is not over",
    "The setting `PAYOUT_INTERVAL_SECONDS` allows one payout to a payee and currency in that time.",
    "Wait: it is sent when that time is over.",
)

_KEY_MISSING = Explanation(
    "The destination cannot be read",
    "It was sealed with a key that `DESTINATIONS_KEY` does not hold, so that nothing is sent.",
    "Set `DESTINATIONS_KEY` with the old key and the new one in every process. The worker tries again within an hour "
    "(`RETRY_MAX_SECONDS`).",
    course=PAYOUT_WAITS_UNSENT,
)

PAYOUT_GROUPS: Final[Mapping[Explanation, str]] = {
    _UNREGISTERED: "payee_unregistered",
    _UNCONFIRMED: "payee_unconfirmed insufficient_capabilities_for_transfer payouts_not_allowed",
    _LIMITED: "payee_limited",
    _UNUSABLE: "payee_account_unusable account_frozen bank_account_restricted bank_account_unusable "
    "bank_ownership_changed incorrect_account_holder_address incorrect_account_holder_name "
    "incorrect_account_holder_tax_id incorrect_account_type invalid_account_number invalid_account_number_length "
    "invalid_card unsupported_card",
    _CURRENCY: "payee_currency invalid_currency instant_payouts_config_disabled instant_payouts_currency_disabled "
    "instant_payouts_unsupported",
    _REFUSED: "payee_refused",
    _BY_PROCESSOR: "refused_by_processor",
    _CHANGED: "destination_changed",
    _CLAWED_BACK: "earnings_clawed_back",
    _FAILED: "payout_failed could_not_process debit_not_authorized",
    _LIMIT: "payout_limit payouts_limit_exceeded instant_payouts_limit_exceeded",
    _CONNECTED_EMPTY: "connected_balance_insufficient",
    _RECORD: "payout_record balance_invalid_parameter transfer_source_balance_parameters_mismatch",
    _NO_OBJECT: "bad_object_id bad_batch_id",
    _NOT_UNDONE: "transfer_not_undone",
    _UNDONE: "transfer_undone",
    _CONTRADICTED: "paid_after_rejection",
    _TWICE: "paid_twice",
    _MANUAL: "manual_payout paid_by_a_person",
    _MANUAL_RETURN: "manual_payment_returned",
    _FILE: "bank_file",
    _BAD_PAYMENT: "bad_payment",
    _PAUSED: "payee_paused",
    _INCOMPLETE: "payee_incomplete",
    _REVIEW: "payee_under_review",
    _COOLDOWN: "destination_cooldown",
    _ANOTHER_PAYOUT: "another_payout",
    _INTERVAL: "interval",
    _KEY_MISSING: "destinations_key_missing",
}
# Each code → the first code of its group.
FIRST_OF_PAYOUT_CODES: Final[Mapping[str, str]] = {
    code: codes.split()[0] for codes in PAYOUT_GROUPS.values() for code in codes.split()
}
