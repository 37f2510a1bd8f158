"""The texts about a leg for the customer and for staff: one table, in English. A deployment replaces it by a file.

A text is put together from parts: what a code means, what the leg's status means, and what more is known. Each part has
a text for the customer and one for staff. The staff's text of a code comes from the table of failure codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from refund_worker.engine.views.failure_codes import CODES_OF_GROUPS, FAILURE_CODES
from refund_worker.engine.views.sending_codes import SENDING_CODES


@dataclass(frozen=True, slots=True)
class Message:
    """One part of a text: for the customer and for staff, with placeholders in braces."""

    customer: str
    staff: str


_NOTHING_TO_DO = "You do not have to do anything."
_ON_OUR_SIDE = f"We have to check something on our side first. {_NOTHING_TO_DO}"

# By the leg's status.
STATUS_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        "planned": Message(
            "Your refund of {amount} is accepted and will be sent soon.",
            "{amount} over {payment} is not sent yet.",
        ),
        "sending": Message(
            "Your refund of {amount} is being sent.",
            "{amount} over {payment}: a call to {processor} is under way.",
        ),
        "waiting": Message(
            "Your refund of {amount} is being sent.",
            "{amount} over {payment}: {processor} did not execute the call. It is sent again automatically.",
        ),
        "unknown": Message(
            "Your refund of {amount} is being sent. We are waiting for the payment provider to confirm it.",
            "{amount} over {payment}: {processor} gave no answer, so a refund may exist there. It is looked up. Do not "
            "pay in another way meanwhile.",
        ),
        "blocked": Message(
            "Your refund of {amount} is delayed.",
            "{amount} over {payment} is not sent now.",
        ),
        "pending": Message(
            "Your refund of {amount} is on its way. The payment provider is processing it.",
            "{amount} over {payment}: {processor} accepted the refund {processor_refund_id}, and it is not final yet.",
        ),
        "pending_payout": Message(
            "Your refund of {amount} goes to the account that you named for your payouts. It is being processed.",
            "{amount} over {payment} is paid out to the payee {payee}: the payout {payout} is not final yet. See "
            "`refund-worker payouts show {payout}`.",
        ),
        "requires_action": Message(
            "Your refund of {amount} waits for you: the payment provider needs to know where to send the money.",
            "{amount} over {payment}: {processor} waits until the customer says where to send the money "
            "({processor_refund_id}).",
        ),
        "succeeded": Message(
            "Your refund of {amount} was sent back the way you paid.",
            "{amount} over {payment}: {processor} reports the refund {processor_refund_id} as paid.",
        ),
        "succeeded_payout": Message(
            "Your refund of {amount} was paid to the account that you named for your payouts.",
            "{amount} over {payment} was paid out to the payee {payee} by the payout {payout}.",
        ),
        "succeeded_manually": Message(
            "Your refund of {amount} was paid to you in another way.",
            "{amount} over {payment}: a person paid it in another way ({processor_refund_id}).",
        ),
        "succeeded_zero": Message(
            "This part of your refund is worth less than the smallest unit of money, so nothing is paid for it.",
            "This part over {payment} is worth less than the smallest unit of money. It is never sent.",
        ),
        "failed": Message(
            "{amount} could not be returned over this payment. We are looking for another way.",
            "{amount} could not be returned over {payment}. The next step is not decided yet.",
        ),
        "failed_replaced": Message(
            "{amount} could not be returned over this payment. It is sent over another payment of yours.",
            "{amount} could not be returned over {payment}. Another payment of the customer is used.",
        ),
        "failed_returned": Message(
            "{amount} could not be returned over this payment. The credits are back on your balance.",
            "{amount} could not be returned over {payment}. {credits} credits go back to the balance.",
        ),
        "failed_split": Message(
            "{amount} could not be returned over this payment. A part is sent over another payment of yours, and the "
            "credits of the rest are back on your balance.",
            "{amount} could not be returned over {payment}. Another payment of the customer is used for a part, and "
            "{credits} credits go back to the balance.",
        ),
        "failed_partly_replaced": Message(
            "{amount} could not be returned over this payment. A part is sent over another payment of yours. For the "
            "rest we are looking for another way.",
            "{amount} could not be returned over {payment}. Another payment of the customer is used for a part, and a "
            "person decides about the rest.",
        ),
        "failed_paid_out": Message(
            "{amount} could not be returned over this payment. It goes to the account that you named for your payouts.",
            "{amount} could not be returned over {payment}. It is paid out to the payee {payee}.",
        ),
        "failed_partly_paid_out": Message(
            "{amount} could not be returned over this payment. A part is sent over another payment of yours, and the "
            "rest goes to the account that you named for your payouts.",
            "{amount} could not be returned over {payment}. Another payment of the customer is used for a part, and "
            "the rest is paid out to the payee {payee}.",
        ),
        "failed_payout": Message(
            "{amount} could not be paid to the account that you named for your payouts. We are looking for another "
            "way.",
            "{amount} over {payment} could not be paid out to the payee {payee}. The next step is not decided yet.",
        ),
        "failed_payout_replaced": Message(
            "{amount} could not be paid to the account that you named for your payouts. It is sent over another "
            "payment of yours.",
            "{amount} over {payment} could not be paid out to the payee {payee}. Another payment of the customer is "
            "used.",
        ),
        "failed_payout_returned": Message(
            "{amount} could not be paid to the account that you named for your payouts. The credits are back on your "
            "balance.",
            "{amount} over {payment} could not be paid out to the payee {payee}. {credits} credits go back to the "
            "balance.",
        ),
        "failed_payout_split": Message(
            "{amount} could not be paid to the account that you named for your payouts. A part is sent over another "
            "payment of yours, and the credits of the rest are back on your balance.",
            "{amount} over {payment} could not be paid out to the payee {payee}. Another payment of the customer is "
            "used for a part, and {credits} credits go back to the balance.",
        ),
        "failed_payout_partly_replaced": Message(
            "{amount} could not be paid to the account that you named for your payouts. A part is sent over another "
            "payment of yours. For the rest we are looking for another way.",
            "{amount} over {payment} could not be paid out to the payee {payee}. Another payment of the customer is "
            "used for a part, and a person decides about the rest.",
        ),
        "canceled": Message(
            "Your refund of {amount} was canceled before anything was sent.",
            "{amount} over {payment} was canceled before anything was sent.",
        ),
    }
)

# Further facts about the leg; each follows the text of the status.
DETAIL_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        "charge_pending": Message(
            "Your own payment has to be completed first.",
            "It waits because the payment itself is not completed yet.",
        ),
        "insufficient_funds": Message(
            "It is delayed, and it is paid as soon as possible.",
            "It waits because the balance at {processor} is too low: top it up.",
        ),
        "emailed": Message(
            "You got an e-mail about it at {email}.",
            "An e-mail with instructions went to {email}.",
        ),
        "act_by": Message(
            "Please answer it by {act_by}.",
            "The customer can act until {act_by}. After that the refund fails.",
        ),
        "canceling": Message(
            "It is being canceled.",
            "A person asked to cancel it. {processor} is asked, and its answer decides.",
        ),
        "expected": Message(
            "Expected on your statement between {earliest} and {latest}.",
            "Expected on the customer's statement between {earliest} and {latest}.",
        ),
        "vanishes": Message(
            "It does not appear as a credit: the original payment disappears from your statement.",
            "It is a reversal: the statement shows no credit, and the original payment disappears from it.",
        ),
        "trace": Message(
            "Your bank can find it by the reference {trace}.",
            "The customer's bank can find it by the reference {trace} ({trace_kind}).",
        ),
    }
)

# By the first code of a group: the part of its meaning that a customer may know. All other codes concern only us.
_CUSTOMERS: Mapping[str, str] = {
    "balance_insufficient": "We send it as soon as possible.",
    "charge_disputed": "You have asked your bank to return this payment. While your bank decides, we cannot refund it.",
    "charge_for_pending_refund_disputed": "You have asked your bank to return this payment. While your bank decides, "
    "we cannot refund it.",
    "expired_card": "The card that you paid with is no longer valid.",
    "lost_or_stolen_card": "The card that you paid with is no longer valid.",
    "card_declined": "Your bank did not accept the money.",
    "account_closed": "The bank account that you paid from is closed or cannot be found.",
    "charge_not_refundable": "This payment can no longer be refunded.",
    "charge_already_refunded": "This payment was already refunded.",
    "amount_exceeds_unrefunded": "A part of this payment was already refunded.",
    "refunded_elsewhere": "A part of this payment was already refunded.",
    "charged_back": "Your bank has taken this payment back for you.",
    "payment_closed": "This payment can no longer be refunded.",
    "email_invalid": "The e-mail address for the refund was not accepted.",
    "canceled_on_request": "The refund was canceled as requested.",
    "canceled": "The refund was canceled.",
    "merchant_request": "The refund was canceled.",
    "unknown": "The payment provider did not say why.",
    "manual_processor": "It is paid by hand.",
    "manual_fallback": "It is paid in another way.",
    "window_closed": "This payment is too old to be refunded.",
    "report_overdue": "The payment provider is still processing it.",
}

_EXPLANATIONS = {**FAILURE_CODES, **SENDING_CODES}
CODE_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        code: Message(_CUSTOMERS.get(CODES_OF_GROUPS[code], _ON_OUR_SIDE), f"{explanation.title}. {explanation.cause}")
        for code, explanation in _EXPLANATIONS.items()
        if code in CODES_OF_GROUPS  # a refund has none of those of payouts
    }
)
