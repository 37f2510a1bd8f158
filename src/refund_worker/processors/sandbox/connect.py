"""The shares that a refund takes back from a platform and its connected accounts, and whose money it needs. Pure.

Facts: docs.stripe.com/connect/destination-charges and /direct-charges ("Issue refunds"): a refund in full takes all
back, a partial one its proportion, and the fee of a destination charge only together with its transfer. How Stripe
rounds a proportion is not read: here it is rounded down. The messages of the first two refusals are those that people
met; the code and the message of a destination without money are not read, known: `balance_insufficient`.
"""

from __future__ import annotations

from refund_worker.processors.sandbox.account_book import PLATFORM, AccountBook
from refund_worker.processors.sandbox.answers import StripeError
from refund_worker.processors.sandbox.records import NO_SHARES, Payment, Shares

# The fate of a refund beyond the available money: it goes out, is refused, or waits for a top-up.
OFF, REFUSE, HOLD = "off", "refuse", "hold"
POLICIES = frozenset({OFF, REFUSE, HOLD})


def shares_of(payment: Payment, amount: int, *, reverse_transfer: bool, refund_application_fee: bool) -> Shares:
    """Return what a refund of `amount` takes back.

    Raises `StripeError` (400, executed) if the charge has no transfer or no fee to take it from.
    """
    if reverse_transfer and not payment.transfer:
        message = (
            f"Cannot reverse transfer on charge {payment.charge_id} because it does not have an associated transfer."
        )
        raise StripeError(400, message, param="reverse_transfer", executed=True)
    if refund_application_fee and not payment.application_fee:
        message = f"Attempting to refund_application_fee on {payment.charge_id}, but it has no application fee"
        raise StripeError(400, message, param="refund_application_fee", executed=True)
    if refund_application_fee and payment.transfer and not reverse_transfer:
        message = "The application fee of a destination charge is refunded only together with its transfer."
        raise StripeError(400, message, param="refund_application_fee", executed=True)
    if amount == payment.refundable:
        transfer, fee = payment.transfer, payment.application_fee
    else:
        transfer, fee = (part * amount // payment.captured for part in (payment.transfer, payment.application_fee))
    return Shares(
        min(transfer, payment.transfer - payment.transfer_reversed) if reverse_transfer else 0,
        min(fee, payment.application_fee - payment.fee_refunded) if refund_application_fee else 0,
    )


def needs_of(book: AccountBook, payment: Payment, amount: int, shares: Shares = NO_SHARES) -> dict[str, int]:
    """Return the money that a refund needs, by account: that of the charge, and the destination of its transfer."""
    if payment.destination is None:
        return {book.account: amount - shares.fee}
    needs = {book.account: amount - shares.transfer + shares.fee}
    return needs | {payment.destination: shares.transfer - shares.fee} if shares.transfer else needs


def account_without_money(book: AccountBook, currency: str, needs: dict[str, int]) -> AccountBook | None:
    """Return the first account whose policy does not let it pay what is needed, or None."""
    for account, amount in needs.items():
        its = book.whole.of(account)
        policy = its.ledger.policies.get(currency, OFF)
        if policy != OFF and amount > its.ledger.available(currency, its.now()):
            return its
    return None


def refusal_of(poor: AccountBook, book: AccountBook) -> StripeError:
    """Return the error of a refund that an account cannot pay. Like Stripe's, it does not name the account."""
    message = "The account's balance is too small."
    if poor.account not in (PLATFORM, book.account):
        message = "Insufficient funds to reverse the transfer: the destination's balance is too small."
    return StripeError(400, message, "balance_insufficient", executed=True)
