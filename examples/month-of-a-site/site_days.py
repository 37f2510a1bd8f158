"""The made-up site on ordinary days: customers buy credits and chat, and the support desk gives credits back."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from decimal import Decimal
from random import Random

from books import Books, Chat, Customer, Payment
from program import CURRENCY, EARNINGS_HOLD_SECONDS, Program, accepted
from servers import DAY, HOUR, STRIPE, Servers

from refund_worker.domain.ledger import Purpose
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.accounts.corrections import correct, reverse_transaction
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.errors import BalanceSpent, Refusal

# Packs of credits: (minor units, credits). Odd prices, so that nothing comes out even.
PACKS = ((999, 100), (2_499, 260), (4_999, 550))
# A performer's share of a credit, in hundredths of a minor unit.
SHARE = 547
CHATS_A_WEEK = 2.2  # of one customer
REFUND_SHARE, WITHDRAWAL_SHARE, GIFT_SHARE = 0.06, 0.01, 0.01  # of the chats
WRONG_SHARE = 0.25  # of the entries that can be deleted
SUPPORT = "support-desk"


class Site:
    """The site with its books. `later` runs an errand at its time, in the order of time."""

    def __init__(self, program: Program, servers: Servers, books: Books, random: Random, end: float) -> None:
        self.program, self.servers, self.books, self.random, self._end = program, servers, books, random, end
        self._numbers = itertools.count(1)
        self._errands: list[tuple[float, int, Callable[[], None]]] = []
        self.asked_for_money: set[str] = set()  # customers

    @property
    def now(self) -> float:
        """The virtual time in epoch seconds."""
        return self.servers.now

    def later(self, moment: float, errand: Callable[[], None]) -> None:
        """Do the errand at this time, unless the month is over by then."""
        if moment < self._end:
            heapq.heappush(self._errands, (moment, next(self._numbers), errand))

    def pass_time(self, until: float) -> None:
        """Let time pass, with all errands and all of the program's work until then."""
        while self._errands and self._errands[0][0] <= until:
            moment, _, errand = heapq.heappop(self._errands)
            self.program.work_until(moment)
            errand()
        self.program.work_until(until)

    # --- buying and chatting -----------------------------------------------------------------------------------------

    def open_for(self, seconds: float) -> None:
        """Let customers chat as they do in these seconds. Those without enough credits buy some first."""
        customers = [each for each in self.books.customers.values() if not each.blocked]
        performers = [each for each in self.books.performers.values() if each.works]
        expected = len(customers) * CHATS_A_WEEK * seconds / (7 * DAY)
        bought: list[Payment] = []
        chats: list[Chat] = []
        for _ in range(int(expected + self.random.random())):
            customer, performer = self.random.choice(customers), self.random.choice(performers)
            credits = performer.credits_a_minute * self.random.randint(1, 12)
            while customer.credits < credits:
                bought.append(self._buy(customer))
            chats.append(self._chat(customer, performer.payee_id, credits))
        self._record(bought, chats)
        for chat in chats:
            self._think_again(chat)

    def _buy(self, customer: Customer) -> Payment:
        amount, credits = self.random.choice(PACKS)
        number = next(self._numbers)
        reference = f"ch_{number:06d}"
        if customer.account != STRIPE:
            reference = self.servers.paypal.new_payment(str(Decimal(amount).scaleb(-2)), CURRENCY)
        customer.credits += credits
        payment_id = f"payment-{number:06d}"
        made = Payment(payment_id, customer.customer_id, customer.account, reference, amount, credits, self.now)
        self.books.payments[payment_id] = made
        self.books.count("payments")
        return made

    def _chat(self, customer: Customer, payee_id: str, credits: int) -> Chat:
        customer.credits -= credits
        name, share = f"chat-{next(self._numbers):06d}", (credits * SHARE + 50) // 100
        chat = Chat(name, customer.customer_id, payee_id, credits, share, self.now, self.now + EARNINGS_HOLD_SECONDS)
        self.books.chats[name] = chat
        self.books.count("chats")
        return chat

    def _record(self, bought: list[Payment], chats: list[Chat]) -> None:
        """Report all of it to the program, and what was paid over Stripe to its server."""
        context, over_stripe = self.program.context, [each for each in bought if each.account == STRIPE]
        self.servers.stripe.register_payments(
            [
                {"processor_payment_id": each.reference, "amount_minor": each.amount_minor, "currency": CURRENCY}
                for each in over_stripe
            ]
        )
        accepted(record_payments(context, [_payment_record(each) for each in bought]))
        accepted(record_spends(context, [_spend_record(each) for each in chats]))
        accepted(record_earnings(context, [_earning_record(each) for each in chats], actor="site"))

    # --- giving back -------------------------------------------------------------------------------------------------

    def _think_again(self, chat: Chat) -> None:
        """Let some customers ask for something after a chat: their credits, their money. Some get a gift."""
        customer, chance = self.books.customers[chat.customer_id], self.random.random()
        moment = self.now + self.random.random() ** 2 * 12 * DAY + HOUR
        if chance < REFUND_SHARE:
            to = To.SOURCE if self.random.random() < 0.45 else To.BALANCE
            credits = chat.credits if self.random.random() < 0.5 else self.random.randint(1, chat.credits)
            self.later(moment, lambda: self.refund(chat, credits, to))
        elif chance < REFUND_SHARE + WITHDRAWAL_SHARE:
            self.later(moment, lambda: self._withdraw(customer))
        elif chance < REFUND_SHARE + WITHDRAWAL_SHARE + GIFT_SHARE:
            self.later(moment, lambda: self._give(customer))

    def refund(self, chat: Chat, credits: int, to: To) -> None:
        """Give credits of a chat back, to the balance or as money. The performer's share goes back with them."""
        customer = self.books.customers[chat.customer_id]
        if customer.blocked or chat.asked_back:
            return
        refund_id = self._ask(to, customer, credits, chat)
        if refund_id is None:  # no payment of the customer has that much money left
            to = To.BALANCE
            refund_id = self._ask(to, customer, credits, chat)
        assert refund_id is not None
        if to is To.BALANCE:
            customer.credits += credits
            if self.random.random() < WRONG_SHARE:
                self.later(self.now + 20 * HOUR, lambda: self._delete_refund(refund_id, chat, credits))
        chat.returned, chat.asked_back = credits, True
        self.books.count(f"chats refunded to {'the balance' if to is To.BALANCE else 'the source'}")

    def _ask(self, to: To, customer: Customer, credits: int, chat: Chat | None = None) -> str | None:
        """Request a refund of a chat, or a withdrawal. Return its id, or None if it is refused."""
        request = RefundRequest(
            idempotency_key=f"ask-{next(self._numbers)}",
            kind=Kind.WITHDRAWAL if chat is None else Kind.CREDIT_REFUND,
            to=to,
            customer_id=customer.customer_id,
            credits=credits,
            transaction_id=chat.transaction_id if chat else None,
            reason="requested_by_customer",
            client="site",
            actor=SUPPORT,
        )
        if to is To.SOURCE:
            self.asked_for_money.add(customer.customer_id)
        (answer,) = request_refunds(self.program.context, [request])
        return None if isinstance(answer, Refusal) else answer.refund_id

    def _withdraw(self, customer: Customer) -> None:
        """Pay back what a customer has not spent."""
        if customer.blocked or not customer.credits:
            return
        credits = self.random.randint(1, customer.credits)
        if self._ask(To.SOURCE, customer, credits) is not None:
            customer.credits -= credits
            self.books.count("withdrawals")

    def _delete_refund(self, refund_id: str, chat: Chat, credits: int) -> None:
        """Delete a refund to the balance that was an error, unless the customer has spent the credits."""
        query = "SELECT transaction_id FROM ledger_transactions WHERE refund_id = :refund AND kind = 'credit_refund'"
        ((transaction_id,),) = self.program.rows(query, refund=refund_id)
        if self._delete(transaction_id):
            self.books.count("refunds deleted")
            chat.returned = 0
            self.books.customers[chat.customer_id].credits -= credits

    def _delete(self, transaction_id: str) -> bool:
        try:
            reverse_transaction(self.program.context, transaction_id, actor=SUPPORT, reason="entered by mistake")
        except BalanceSpent:
            return False
        return True

    def _give(self, customer: Customer) -> None:
        """Give a customer some credits; to the wrong customer, now and then."""
        if customer.blocked:
            return
        credits = self.random.randint(5, 40)
        row, _ = correct(
            self.program.context,
            customer_id=customer.customer_id,
            credits=credits,
            reason="gift",
            client="site",
            idempotency_key=f"gift-{next(self._numbers)}",
            actor=SUPPORT,
            purpose=Purpose.OTHER,
        )
        customer.credits += credits
        self.books.count("gifts")
        if self.random.random() < WRONG_SHARE:
            self.later(self.now + HOUR, lambda: self._delete_gift(str(row["transaction_id"]), customer, credits))

    def _delete_gift(self, transaction_id: str, customer: Customer, credits: int) -> None:
        if self._delete(transaction_id):
            self.books.count("gifts deleted")
            customer.credits -= credits


def _payment_record(payment: Payment) -> PaymentRecord:
    return PaymentRecord(
        payment_id=payment.payment_id,
        customer_id=payment.customer_id,
        processor=payment.account,
        processor_payment_id=payment.reference,
        amount_minor=payment.amount_minor,
        currency=CURRENCY,
        credits=payment.credits,
        captured_at=payment.at,
    )


def _spend_record(chat: Chat) -> SpendRecord:
    return SpendRecord(
        transaction_id=chat.transaction_id,
        customer_id=chat.customer_id,
        credits=chat.credits,
        description="Private chat",
        occurred_at=chat.at,
    )


def _earning_record(chat: Chat) -> EarningRecord:
    return EarningRecord(
        earning_id=f"share-{chat.transaction_id}",
        payee_id=chat.payee_id,
        amount_minor=chat.share_minor,
        currency=CURRENCY,
        transaction_id=chat.transaction_id,
        available_at=chat.available_at,
        description="Share of a private chat",
    )
