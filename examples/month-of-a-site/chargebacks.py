"""Customers who go to their bank: the dispute is lost, and staff link it to the chat that it is about."""

from __future__ import annotations

from books import Chat, Payment
from servers import DAY, STRIPE
from site_days import SUPPORT, Site

from refund_worker.engine.claims.link_dispute import link_dispute

AGE_DAYS_MIN = 2
FIND_CLAIM = "SELECT claim_id, credits, taken FROM claims WHERE object_id = :dispute"


def plan_chargebacks(site: Site, begin: float, days: int, count: int) -> None:
    """Plan so many chargebacks, spread over the month."""
    for number in range(1, count + 1):
        day = 3 + (days - 5) * number // count
        site.later(begin + day * DAY + 7_200, lambda: _charge_back(site))


def _charge_back(site: Site) -> None:
    """Let a customer's bank take a payment back. The site blocks the customer, and the performer loses the share."""
    found = _disputable(site)
    if found is None:
        return
    payment, chat = found
    customer = site.books.customers[payment.customer_id]
    stripe = site.servers.stripe
    dispute = stripe.act("open_dispute", payment=payment.reference, reason="fraudulent")
    stripe.act("move_dispute", dispute=dispute["id"], status="lost")
    customer.blocked = True
    site.program.look_at_the_servers()
    ((claim_id, credits, taken),) = site.program.rows(FIND_CLAIM, dispute=dispute["id"])
    customer.credits -= taken
    link_dispute(
        site.program.context, claim_id, transaction_id=chat.transaction_id, actor=SUPPORT, reason="the bank's letter"
    )
    chat.returned, chat.asked_back = min(credits, chat.credits), True
    site.books.count("chargebacks")


def _disputable(site: Site) -> tuple[Payment, Chat] | None:
    """Return a payment over Stripe and a chat of the same customer, who has not asked for money, or None."""
    chats: dict[str, Chat] = {}
    for chat in site.books.chats.values():
        if not chat.asked_back and chat.at < site.now - AGE_DAYS_MIN * DAY:
            chats[chat.customer_id] = chat
    fitting = [
        payment
        for payment in site.books.payments.values()
        if payment.account == STRIPE
        and payment.customer_id in chats
        and payment.customer_id not in site.asked_for_money
        and not site.books.customers[payment.customer_id].blocked
    ]
    if not fitting:
        return None
    payment = site.random.choice(fitting)
    return payment, chats[payment.customer_id]
