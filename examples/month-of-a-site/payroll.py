"""The performers' side of the month: who they are, how they are paid each week, and what goes wrong with it."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from books import Performer
from program import CURRENCY
from servers import DAY, HOUR, PAYPAL, STRIPE, payout_item, payout_of_account
from site_days import SUPPORT, Site

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import Method
from refund_worker.domain.refund import To
from refund_worker.engine.payees.payees import record_payee
from refund_worker.engine.payouts.accept import request_payouts
from refund_worker.engine.payouts.actions import perform_payout_action
from refund_worker.engine.payouts.destination_changes import change_payee
from refund_worker.errors import Refusal

WEEK = 7 * DAY
PAY_HOUR = 9 * HOUR
UNCOLLECTED = "SELECT payout_id FROM payouts WHERE payee_id = :payee AND status = 'recipient_action'"


class Payroll:
    """Pays the performers of the site each week, and lets things go wrong. The month begins at `begin`."""

    def __init__(self, site: Site, begin: float, days: int) -> None:
        self._site, self._begin, self._days = site, begin, days
        self._keys = itertools.count(1)

    # --- the performers ----------------------------------------------------------------------------------------------

    def engage(self, count: int) -> None:
        """Record performers: each second one is paid over PayPal, the others over Stripe."""
        for number in range(count):
            account = PAYPAL if number % 2 else STRIPE
            performer = Performer(f"performer-{number + 1:02d}", account, 8 + 2 * (number % 5))
            self._site.books.performers[performer.payee_id] = performer
            record_payee(self._site.program.context, self._named_next(performer), actor=SUPPORT)

    def _named_next(self, performer: Performer) -> PayeeRecord:
        """Return the record of a performer who names the next destination."""
        number, place = int(performer.payee_id[-2:]), len(performer.destinations) + 1
        if performer.account == STRIPE:
            performer.destinations.append(f"acct_performer{number:02d}x{place}")
            self._site.servers.stripe.act("connect_account", account=performer.destination)
            destination = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=performer.destination)
        else:
            performer.destinations.append(f"performer{number:02d}-{place}@mail.example")
            destination = Destination(kind=DestinationKind.PAYPAL, email=performer.destination)
        return PayeeRecord(
            payee_id=performer.payee_id,
            customer_id=None,
            processor=performer.account,
            destination=destination,
            currency=CURRENCY,
            country="US",
            method=Method.STANDARD,
        )

    def _change_destination(self, performer: Performer) -> None:
        """Let the performer be paid elsewhere. What is not sent yet is canceled, and nothing is sent for a day."""
        change_payee(self._site.program.context, self._named_next(performer), actor=SUPPORT)
        self._site.books.count("destinations changed")

    # --- payday ------------------------------------------------------------------------------------------------------

    def plan(self) -> None:
        """Plan all paydays, and what goes wrong."""
        for week in range(self._days // 7 + 1):
            self._at(7 * week, PAY_HOUR, lambda: self._pay(self._performers()))
        performers, half = self._performers(), self._days // 2
        # One place in the list for each story, so that a site with few performers has the first ones.
        stories: list[Callable[[Performer], None]] = [
            self._account_is_closed,
            self._nobody_collects,
            lambda performer: self._is_away(performer, half),
            self._address_is_wrong,
            self._moves_before_payday,
            self._payment_is_reversed,
        ]
        for tell, performer in zip(stories, performers, strict=False):
            tell(performer)
        self._at(7, PAY_HOUR - HOUR, self._lose_answers)

    def _performers(self) -> list[Performer]:
        return list(self._site.books.performers.values())

    def _at(self, day: int, seconds: float, errand: Callable[[], None]) -> None:
        """Do the errand so many days after the month began, and so many seconds after midnight."""
        self._site.later(self._begin + day * DAY + seconds, errand)

    def _pay(self, performers: list[Performer]) -> None:
        """Request all that is payable to each performer. What is too little is left for the next time."""
        requests = [
            PayoutRequest(
                idempotency_key=f"pay-{next(self._keys)}",
                payee_id=performer.payee_id,
                amount_minor=None,
                currency=CURRENCY,
                description="Shares of private chats",
                client="site",
                actor="payroll",
            )
            for performer in performers
        ]
        for answer in request_payouts(self._site.program.context, requests):
            self._site.books.count("payouts not due yet" if isinstance(answer, Refusal) else "payouts")

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    def _account_is_closed(self, performer: Performer) -> None:
        """Return the first payout days after it was paid: the bank has closed the account."""

        def fail() -> None:
            stripe, account = self._site.servers.stripe, performer.destination
            payout = payout_of_account(stripe, account)
            if payout is None:  # the first one was too small, and is paid later
                return
            stripe.act(
                "move_payout", account=account, payout=payout["id"], status="failed", failure_code="account_closed"
            )
            self._site.books.count("payouts returned after days")

        self._at(4, 13 * HOUR, fail)
        self._at(6, 12 * HOUR, lambda: self._change_destination(performer))

    def _nobody_collects(self, performer: Performer) -> None:
        """Leave the first payout uncollected: PayPal keeps it for 30 days. The later ones wait for it."""
        self._site.servers.paypal.expect_payouts(performer.destination, "UNCLAIMED", "RECEIVER_UNREGISTERED")
        self._site.books.count("payouts not collected")

    def _is_away(self, performer: Performer, half: int) -> None:
        """Refund chats of a performer who does not work and was paid for them: a debt, which later earnings pay."""

        def leave() -> None:
            performer.works = False

        def refund_many() -> None:
            chats = [chat for chat in self._site.books.chats.values() if chat.payee_id == performer.payee_id]
            for chat in chats[-len(chats) // 2 :]:
                self._site.refund(chat, chat.credits, To.BALANCE)

        def note_debt() -> None:
            if self._site.program.balance_of(performer.payee_id).debt_minor:
                self._site.books.count("performers in debt")

        def come_back() -> None:
            performer.works = True

        self._at(self._days // 4, 0, leave)
        self._at(half + 2, 15 * HOUR, refund_many)
        self._at(half + 2, 16 * HOUR, note_debt)
        self._at(half + 4, 0, come_back)

    def _address_is_wrong(self, performer: Performer) -> None:
        """Call the first payout off: its address belongs to no account. It is paid to another address later."""
        self._site.servers.paypal.expect_payouts(performer.destination, "UNCLAIMED", "RECEIVER_UNREGISTERED")

        def call_off() -> None:
            context = self._site.program.context
            for (payout_id,) in self._site.program.rows(UNCOLLECTED, payee=performer.payee_id):
                perform_payout_action(context, payout_id, PayoutAction.CANCEL, actor=SUPPORT, reason="wrong address")
                self._site.books.count("payouts called off")

        self._at(4, 11 * HOUR, call_off)
        self._at(5, 11 * HOUR, lambda: self._change_destination(performer))

    def _moves_before_payday(self, performer: Performer) -> None:
        """Change the destination before a payday, so that the payout waits, and again before it is sent."""
        self._at(6, 20 * HOUR, lambda: self._change_destination(performer))
        self._at(7, PAY_HOUR + 2 * HOUR, lambda: self._change_destination(performer))
        self._at(8, PAY_HOUR + 3 * HOUR, lambda: self._pay([performer]))

    def _payment_is_reversed(self, performer: Performer) -> None:
        """Take the first payout back from the performer, days after PayPal said that it was paid."""

        def reverse() -> None:
            item = payout_item(self._site.servers.paypal, performer.destination)
            if item is None:
                return
            self._site.servers.paypal.change_payout(item["payout_item_id"], "REVERSED")
            self._site.books.count("payouts returned after days")

        self._at(6, 10 * HOUR, reverse)

    def _lose_answers(self) -> None:
        """Let answers of the second payday get lost: some calls arrived, and some did not."""
        stripe, paypal = self._site.servers.stripe, self._site.servers.paypal
        for kind, reset in (("create_transfer", "after"), ("create_transfer", "before"), ("create_payout", "after")):
            stripe.add_fault({"reset": reset}, match={"path_kind": kind})
        stripe.add_fault({"reset": "after"}, match={"path_kind": "create"}, times=2)
        for fault in ("reset", "lost", "error500"):
            paypal.add_fault(fault, "payouts")
