"""The texts about a payout for the payee and for staff: one table, in English. A deployment replaces it by a file.

A text is put together from parts: the payout's status, where its amount went, what holds it, who must act until when,
and what its failure code means. `customer` is the payee here. Of a compliance outcome no detail is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from refund_worker.engine.views.leg_messages import Message

_NOTHING_TO_DO = "You do not have to do anything."
_ON_OUR_SIDE = f"We have to check something on our side first. {_NOTHING_TO_DO}"
_OTHER_ACCOUNT = "Please name another account for your payouts."

PAYOUT_STATUS_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        "queued": Message(
            "Your payout of {amount} is accepted and will be sent soon.",
            "{amount} to {destination} is not sent yet.",
        ),
        "awaiting_approval": Message(
            "Your payout of {amount} is accepted and is being checked.",
            "{amount} to {destination} awaits the approval of a second person.",
        ),
        "held": Message(
            "Your payout of {amount} is accepted and waits.",
            "{amount} to {destination} is held, and nothing is sent.",
        ),
        "sending": Message(
            "Your payout of {amount} is being sent.",
            "{amount} to {destination} is being sent over {processor}.",
        ),
        "pending": Message(
            "Your payout of {amount} to {destination} is on its way.",
            "{amount} to {destination}: {processor} accepted it, and it is not final yet.",
        ),
        "recipient_action": Message(
            "Your payout of {amount} to {destination} waits for you.",
            "{amount} to {destination}: {processor} waits for the payee.",
        ),
        "paid": Message(
            "Your payout of {amount} was paid to {destination}.",
            "{amount} to {destination} is paid. The money may still come back until {settles_at}.",
        ),
        "returning": Message(
            "Your payout of {amount} could not be paid. The money is on its way back.",
            "{amount} to {destination}: the second step failed, and the transfer over {processor} is being undone.",
        ),
        "needs_attention": Message(
            "Your payout of {amount} is delayed.",
            "{amount} to {destination} over {processor} needs a person.",
        ),
        "settled": Message(
            "Your payout of {amount} was paid to {destination}.",
            "{amount} to {destination} is paid, and the time in which it could come back is over.",
        ),
        "failed": Message(
            "Your payout of {amount} could not be paid.",
            "{amount} to {destination} could not be paid over {processor}.",
        ),
        "returned": Message(
            "Your payout of {amount} came back to us.",
            "{amount} to {destination} came back from {processor}.",
        ),
        "canceled": Message(
            "Your payout of {amount} was canceled.",
            "{amount} to {destination} was canceled.",
        ),
        "rejected": Message(
            "Your payout of {amount} was not approved.",
            "{amount} to {destination} was rejected.",
        ),
    }
)

PAYOUT_HOLD_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        "payee_paused": Message(
            "Payouts to you are paused.",
            "A person paused the payee. It is sent once the payee is resumed.",
        ),
        "payee_incomplete": Message(
            "The payment provider needs more from you before you can be paid. Please complete your account there, or "
            "name another one.",
            "The payee must act first: the payee's reason and needs say what is missing. Nothing is sent before the "
            "payee is ready.",
        ),
        "payee_under_review": Message(
            "Your account is being checked. You do not have to do anything.",
            "The payee is under review. It is sent once the payee is ready.",
        ),
        "destination_cooldown": Message(
            "Where your money goes is new or was changed. For your safety nothing is sent there before {hold_until}.",
            "The destination is new or was changed. Nothing is sent there before {hold_until}.",
        ),
        "another_payout": Message(
            "It is sent once your earlier payout has arrived.",
            "Another payout to the payee in this currency is open: one is sent at a time.",
        ),
        "interval": Message(
            "It is sent after {hold_until}.",
            "The time between two payouts is not over. It is sent after {hold_until}.",
        ),
        "paused": Message(
            "It is sent as soon as possible.",
            "Sending over {processor} is paused. It is sent once the processor is resumed.",
        ),
    }
)

# Further facts about the payout; each follows the text of the status.
PAYOUT_DETAIL_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        # In place of a destination, where a person pays and chooses the way.
        "destination_manual": Message("the place that you named", "the place that the payee named"),
        "given_back": Message(
            "The amount is back on your balance.",
            "The amount is back on the payee's balance.",
        ),
        "given_back_withdrawal": Message(
            "The amount goes back to your credits, or is paid in another way.",
            "It was to pay the refund {refund}: there the amount goes back to the customer's credits, or another way.",
        ),
        "ended": Message(
            "You can ask for it again.",
            "It ended with the code {code}: `refund-worker explain {code}` says more.",
        ),
        "collect": Message(
            "Please accept the money with the payment provider.",
            "The payee must accept the money there.",
        ),
        "act_by": Message(
            "Please do so by {act_by}. After that the money comes back to us.",
            "The payee can act until {act_by}. After that the money comes back.",
        ),
        "canceling": Message(
            "It is being canceled.",
            "A person asked to cancel it. {processor} is asked, and its answer decides.",
        ),
        "by_a_person": Message(
            "It was paid by a person.",
            "A person paid it ({reference}).",
        ),
        "manually": Message(
            "Your payout of {amount} was paid in another way.",
            "A person paid it in another way ({reference}).",
        ),
        "expected": Message(
            "It is expected by {arrives_at}.",
            "It is expected by {arrives_at}.",
        ),
        "trace": Message(
            "Your bank can find it by the reference {trace}.",
            "The payee's bank can find it by the reference {trace}.",
        ),
        "lost": Message(
            "The whole amount is back on your balance.",
            "{lost} less came back than was sent. That is a loss of ours: the whole amount is back on the payee's "
            "balance.",
        ),
        "lost_withdrawal": Message(
            "The whole amount goes back to your credits, or is paid in another way.",
            "{lost} less came back than was sent. That is a loss of ours: it was to pay the refund {refund}, and there "
            "the whole amount goes back to the customer's credits, or another way.",
        ),
    }
)

# By failure code of ours (docs/runbook.md). For the payee: the part of its meaning that the payee may know.
PAYOUT_CODE_MESSAGES: Mapping[str, Message] = MappingProxyType(
    {
        "payee_unregistered": Message(
            "You have no account with the payment provider under this address. Please open one, or name another "
            "account for your payouts.",
            "The payee has no account there under this address.",
        ),
        "payee_unconfirmed": Message(
            "Please confirm your address or your identity with the payment provider.",
            "The payee's account there is not confirmed.",
        ),
        "payee_limited": Message(
            "Your account with the payment provider has a limit. Please lift it there, or name another account.",
            "The payee's account there is limited, or may receive no more for now.",
        ),
        "payee_account_unusable": Message(
            f"The account cannot receive money. {_OTHER_ACCOUNT}",
            "The account is closed, locked, wrong or of a kind that cannot be paid. Only another destination helps.",
        ),
        "payee_currency": Message(
            f"Your account does not take this currency. {_OTHER_ACCOUNT}",
            "The payee's account does not take this currency.",
        ),
        "payee_refused": Message(
            "The money was not accepted, or was given back.",
            "The payee did not accept the money, or gave it back.",
        ),
        "destination_changed": Message(
            "Where your money goes was changed. Please ask for the payout again.",
            "The destination was changed before anything was sent. A new payout goes to the new one.",
        ),
        "earnings_clawed_back": Message(
            "Customers got their money back for what you had earned, so too little is left to be paid out.",
            "Its earnings were clawed back before anything was sent, and too little is left on the balance to pay.",
        ),
        "refused_by_processor": Message(
            "We cannot pay to this account.",
            "The processor does not pay to this destination. Operators see its code in the timeline. Say no more than "
            "this to the payee.",
        ),
        "balance_insufficient": Message(
            "We send it as soon as possible.",
            "Our balance there is too low: top it up. It is tried again automatically.",
        ),
        "outcome_unknown": Message(
            _ON_OUR_SIDE,
            "It is not known whether it was paid. Look at the processor first. Retry only asks there, and resolve "
            "records your finding.",
        ),
        "processor_unreachable": Message(
            "We send it as soon as possible.",
            "The processor does not answer. The worker keeps trying.",
        ),
        "transfer_not_undone": Message(
            "We are looking for a solution. You do not have to do anything.",
            "The payout failed, and the processor does not give its transfer back. The money is at the payee's account "
            "there. Nothing more is paid to the payee until a person resolves it.",
        ),
        "transfer_undone": Message(
            _ON_OUR_SIDE,
            "The transfer was undone at the processor while the payout from it may have been paid. Compare both there.",
        ),
        "manual_payment_returned": Message(
            "It had been paid in another way.",
            "A person recorded that the money of the manual payment came back.",
        ),
        "paid_after_rejection": Message(
            _ON_OUR_SIDE,
            "The bank first rejected the payment and reports it as paid now. Ask the bank which one is true.",
        ),
        "paid_twice": Message(
            _ON_OUR_SIDE,
            "The processor shows more than one payment, or one besides a manual payment. Reclaim the surplus one.",
        ),
        "paid_by_a_person": Message(
            "It is paid by a person.",
            "A person pays it: pay it, then resolve it with the reference.",
        ),
        "manual_payout": Message(
            "It is paid by a person.",
            "A person pays it: pay it, then resolve it with the reference.",
        ),
        "bank_file": Message(
            "It is paid by bank transfer.",
            "It waits for the next file for the bank, or for the bank's answer.",
        ),
        "answer_mismatch": Message(
            _ON_OUR_SIDE,
            "What the processor shows is not what was asked for. Compare the two there.",
        ),
        "unknown_status": Message(
            "The payment provider is still processing it.",
            "The processor reports a status that this version does not know. The worker keeps asking.",
        ),
        "payout_failed": Message(
            "The payment provider could not pay it. You do not have to do anything.",
            "The processor or a bank could not pay it, for no fault of the payee's.",
        ),
        "canceled": Message(
            "You can ask for it again.",
            "It was called off at the processor, or by a person.",
        ),
        "resource_missing": Message(
            _ON_OUR_SIDE,
            "The processor does not know the payee's account, or not under our key. Compare the destination with the "
            "processor's dashboard, and check the account and the mode of the key.",
        ),
        "unknown_refusal": Message(
            _ON_OUR_SIDE,
            "The processor refused with a code that this version does not know. Read its message, then retry or "
            "resolve.",
        ),
        "payout_record": Message(
            _ON_OUR_SIDE,
            "The processor does not accept the amount, the currency, the destination or another value. Nothing was "
            "sent.",
        ),
        "internal_error": Message(
            "We send it as soon as possible.",
            "This program failed on it. It is tried again every hour. Inform the developers.",
        ),
        "other": Message(
            _ON_OUR_SIDE,
            "The code is {code}: `refund-worker explain {code}` says more.",
        ),
    }
)
