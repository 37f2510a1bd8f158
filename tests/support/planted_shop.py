"""A shop whose books and whose processor's differ in planted ways: of all ten kinds, each in all its forms.

Beside them it has harmless neighbours: acts of others that are recorded, or that are no business of ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Executable, bindparam, delete, update

from refund_worker.batching import batched
from refund_worker.domain.processor_replies import ChargedPayment, DisputeObject, PaymentReading, RefundObject
from refund_worker.domain.self_recording import RecordingKeys
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import Refusal
from refund_worker.store import tables
from refund_worker.store.reporting.reconciliation import customers_of_legs
from tests.support.engine_world import START, World, withdrawal
from tests.support.paged_processor import PagedProcessor

EVERY_SECONDS = 7
LEGS_OF_A_PAYMENT = 50
NEW_PAYMENTS = 10_000_000  # numbers of payments that a difference brings
KEYS = RecordingKeys("customer", "credits")
_objects = tables.refund_objects

# What must be found of a difference: its kind, its subject and the id of the processor's object.
Planted = tuple[str, str, str]


class Shop:
    """A world with `legs` paid refunds of 10 each, made one every few seconds, and one customer for each 50 of them."""

    def __init__(self, world: World, legs: int, page_size: int = 3) -> None:
        self.world, self.processor = world, PagedProcessor(page_size)
        world.processor = self.processor
        world.context = replace(world.context, processors={"stripe": self.processor}, recording=KEYS)
        self.customers = 1 + (legs - 1) // LEGS_OF_A_PAYMENT
        for number in range(1, 1 + self.customers):
            self.pay(number)
        numbers = range(legs)
        for chunk in batched(numbers, 250):
            requests = [withdrawal(1, f"k{n}", customer_id=f"c{1 + n // LEGS_OF_A_PAYMENT}") for n in chunk]
            assert not [a for a in request_refunds(world.context, requests) if isinstance(a, Refusal)]
        while process_due(world.context):
            pass
        self._set_times()

    def _set_times(self) -> None:
        at, rows = datetime.fromtimestamp(START, UTC), []
        for number, object_id in enumerate(list(self.processor.objects)):
            created_at = at + timedelta(seconds=EVERY_SECONDS * number)
            self.processor.objects[object_id] = replace(self.processor.objects[object_id], created_at=created_at)
            rows.append({"its_id": object_id, "at": created_at.timestamp()})
        statement = update(_objects).where(_objects.c.processor_refund_id == bindparam("its_id"))
        with self.world.database.write() as connection:
            connection.execute(statement.values(created_at=bindparam("at")), rows)

    def pay(self, number: int, customer: str = "", **reading: object) -> str:
        """Record a payment, which the processor has as well, with these changes to its record. Return its id."""
        customer = customer or f"c{number if number < NEW_PAYMENTS else 1 + number % self.customers}"
        self.world.pay(number, captured_at=START - 60, customer_id=customer)
        known = PaymentReading(1_000, "USD", False, False, None)
        self.processor.payments[f"ch_{number}"] = replace(known, **reading)  # type: ignore[arg-type]
        self.processor.charged[f"ch_{number}"] = charged(f"ch_{number}", {"customer": customer, "credits": "100"})
        return f"pay{number}"

    def write(self, *statements: Executable) -> None:
        """Change our books, past the program."""
        with self.world.database.write() as connection:
            for statement in statements:
                connection.execute(statement)

    def by_hand(self, made: RefundObject, **changes: object) -> RefundObject:
        """Make a refund of 1 in the dashboard over the payment of `made`, and return it."""
        object_id = f"re_by_hand_{len(self.processor.objects)}"
        facts = {"leg_id": None, "installation": None, "attempt": None, "amount_minor": 1, **changes}
        return self.add(replace(made, processor_refund_id=object_id, **facts))  # type: ignore[arg-type]

    def add(self, item: RefundObject) -> RefundObject:
        """Add this refund object to the processor's, or replace it."""
        self.processor.objects[item.processor_refund_id] = item
        return item

    def dispute(self, made: RefundObject, status: str, *, recorded: bool = False) -> DisputeObject:
        """Open a dispute of 1 over the payment of `made`."""
        dispute_id = f"dp_{len(self.processor.disputes)}"
        item = DisputeObject(dispute_id, status, 1, "USD", made.payment_refs, "fraudulent", made.created_at)
        self.processor.disputes[dispute_id] = item
        if recorded:
            record_disputes(self.world.context, "stripe", [item])
        return item

    def plant_all(self, seed: int, number: int | None = None) -> set[Planted]:
        """Make one difference at each of our legs, or at so many of them. Return what must be found.

        The legs are chosen by the seed, and the kinds in turn.
        """
        me = self.world.installation
        chosen = [made for made in self.processor.objects.values() if made.installation == me]
        random.Random(seed).shuffle(chosen)
        return {FORMS[form](self, made) for form, made in zip(_in_turn(), chosen[:number], strict=False)}

    def add_neighbours(self, number: int) -> None:
        """Add acts of others, of each harmless kind about so many, which are no differences."""
        made = list(self.processor.objects.values())
        for place in range(number):
            for neighbour in NEIGHBOURS:
                neighbour(self, made[place * 13 % len(made)])


def charged(name: str, metadata: Mapping[str, str]) -> ChargedPayment:
    """Return a payment of 1,000 with this metadata as the account's list has it."""
    at = datetime.fromtimestamp(START - 60, UTC)
    return ChargedPayment(name, (name,), 1_000, 0, "USD", True, at, (metadata,))


def _in_turn() -> Iterator[str]:
    """Yield the forms kind by kind, the first form of each kind first."""
    kinds: dict[str, list[str]] = {}
    for form in FORMS:
        kinds.setdefault(form.split(":")[0], []).append(form)
    turn = 0
    while True:
        for its in kinds.values():
            yield its[turn % len(its)]
        turn += 1


# --- the forms of each kind -------------------------------------------------------------------------------------------


def _of_leg(kind: str, made: RefundObject, object_id: str | None = None) -> Planted:
    return kind, str(made.leg_id), made.processor_refund_id if object_id is None else object_id


def _forget(shop: Shop, made: RefundObject) -> None:
    shop.write(delete(_objects).where(_objects.c.processor_refund_id == made.processor_refund_id))


def forgotten_object(shop: Shop, made: RefundObject) -> Planted:
    """Our books have the paid leg, and not its object."""
    _forget(shop, made)
    return _of_leg("not_recorded", made)


def forgotten_old_object(shop: Shop, made: RefundObject) -> Planted:
    """It is older than the time that is compared: only its paid leg shows that it is not recorded."""
    _forget(shop, made)
    shop.add(replace(made, created_at=made.created_at - timedelta(days=300)))
    return _of_leg("not_recorded", made)


def forgotten_old_object_of_another_amount(shop: Shop, made: RefundObject) -> Planted:
    """As before, and the object is not what the leg asked for."""
    forgotten_old_object(shop, replace(made, amount_minor=made.amount_minor + 1))
    return _of_leg("amount", made)


def forgotten_leg(shop: Shop, made: RefundObject) -> Planted:
    """Our books do not even have the leg: they are an older backup."""
    object_id = f"re_of_later_{len(shop.processor.objects)}"
    item = shop.add(replace(made, processor_refund_id=object_id, leg_id=f"rf_later_{object_id}-1"))
    return _of_leg("not_recorded", item)


def vanished_object(shop: Shop, made: RefundObject) -> Planted:
    """The processor does not have the object that we recorded."""
    del shop.processor.objects[made.processor_refund_id]
    return _of_leg("not_there", made)


def no_object_at_all(shop: Shop, made: RefundObject) -> Planted:
    """A leg is paid, and neither our books nor the processor have an object for it."""
    _forget(shop, made)
    del shop.processor.objects[made.processor_refund_id]
    return _of_leg("not_there", made, "")


def _changed(kind: str, **changes: object) -> Callable[[Shop, RefundObject], Planted]:
    def form(shop: Shop, made: RefundObject) -> Planted:
        shop.add(replace(made, **changes))  # type: ignore[arg-type]
        return _of_leg(kind, made)

    return form


def another_amount(shop: Shop, made: RefundObject) -> Planted:
    """The object has one unit more than the leg."""
    return _of_leg("amount", shop.add(replace(made, amount_minor=made.amount_minor + 1)))


def paid_again(shop: Shop, made: RefundObject) -> Planted:
    """A second object pays the same leg, with another attempt or the same one."""
    again = f"{made.processor_refund_id}_again"
    attempt = 1 + len(shop.processor.objects) % 2
    shop.add(replace(made, processor_refund_id=again, attempt=attempt))
    return _of_leg("refunded_twice", made, "")


def not_heard_of(shop: Shop, made: RefundObject) -> Planted:
    """A person refunded in the dashboard, and we have not heard of it."""
    object_id = shop.by_hand(made).processor_refund_id
    return "outside_refund", object_id, object_id


def heard_of_as_pending(shop: Shop, made: RefundObject) -> Planted:
    """A refund of the dashboard is recorded as pending, and it has succeeded."""
    item = shop.by_hand(made, status="pending")
    record_outside_refunds(shop.world.context, "stripe", [item], since=0.0)
    shop.add(replace(item, status="succeeded"))
    return "outside_refund", item.processor_refund_id, item.processor_refund_id


def _disputed(status: str, recorded: str | None = None) -> Callable[[Shop, RefundObject], Planted]:
    def form(shop: Shop, made: RefundObject) -> Planted:
        item = shop.dispute(made, recorded or status, recorded=recorded is not None)
        shop.processor.disputes[item.dispute_id] = replace(item, status=status)
        return "dispute", item.dispute_id, item.dispute_id

    return form


def _payment_that_reads(**reading: object) -> Callable[[Shop, RefundObject], Planted]:
    def form(shop: Shop, made: RefundObject) -> Planted:
        number = NEW_PAYMENTS + len(shop.processor.payments)
        return "payment", shop.pay(number, **reading), f"ch_{number}"  # type: ignore[arg-type]

    return form


def payment_that_is_gone(shop: Shop, made: RefundObject) -> Planted:
    """The processor does not know a payment of ours."""
    planted = _payment_that_reads()(shop, made)
    shop.processor.gone.add(planted[2])
    del shop.processor.charged[planted[2]]
    return planted


def payment_of_a_customer(shop: Shop, made: RefundObject) -> Planted:
    """A payment with our metadata is not recorded."""
    name = f"ch_new_{len(shop.processor.charged)}"
    shop.processor.charged[name] = charged(name, {"customer": "c1", "credits": "7"})
    shop.processor.payments[name] = PaymentReading(1_000, "USD", False, False, None)
    return "payment", name, name


def booked_twice(shop: Shop, made: RefundObject) -> Planted:
    """The ledger has a payout that no refund object stands for."""
    _book(shop, made, {"processor:stripe": -10, "house:refunds": 10})
    return _of_leg("ledger", made, "")


def unbalanced(shop: Shop, made: RefundObject) -> Planted:
    """A ledger transaction has half of its entries."""
    return "ledger", _book(shop, made, {"house:used": -10}, unit="USD"), ""


def another_balance(shop: Shop, made: RefundObject) -> Planted:
    """A customer's balance is not the sum of its entries. The customer has nothing else: each is found once."""
    number = NEW_PAYMENTS + len(shop.processor.payments)
    shop.pay(number, customer=f"c{number}")
    c = tables.customers.c
    shop.write(update(tables.customers).where(c.customer_id == f"c{number}").values(balance=c.balance + 7))
    return "ledger", f"c{number}", ""


def _book(shop: Shop, made: RefundObject, amounts: Mapping[str, int], unit: str = "USD") -> str:
    with shop.world.database.read() as connection:
        customer = customers_of_legs(connection, [str(made.leg_id)])[str(made.leg_id)]
    transaction_id = f"planted-{made.leg_id}"
    posting = {
        "transaction_id": transaction_id,
        "customer_id": customer,
        "kind": "payout",
        "credits": 0,
        "refers_to": made.leg_id,
        "occurred_at": START,
        "actor": "somebody",
    }
    entries = [
        {"transaction_id": transaction_id, "account": account, "unit": unit, "amount": amount}
        for account, amount in amounts.items()
    ]
    shop.write(tables.ledger_transactions.insert().values(posting), tables.ledger_entries.insert().values(entries))
    return transaction_id


FORMS: Final[Mapping[str, Callable[[Shop, RefundObject], Planted]]] = {
    "not_recorded": forgotten_object,
    "not_recorded:old": forgotten_old_object,
    "not_recorded:leg": forgotten_leg,
    "not_there": vanished_object,
    "not_there:no object": no_object_at_all,
    "amount": another_amount,
    "amount:old": forgotten_old_object_of_another_amount,
    "amount:another payment": _changed("amount", payment_refs=("ch_other",)),
    "currency": _changed("currency", currency="HUF"),
    "status": _changed("status", status="failed", failure_code="declined"),
    "status:canceled": _changed("status", status="canceled", failure_code="declined"),
    "refunded_twice": paid_again,
    "outside_refund": not_heard_of,
    "outside_refund:pending": heard_of_as_pending,
    "dispute": _disputed("needs_response"),
    "dispute:lost": _disputed("lost", recorded="needs_response"),
    "dispute:inquiry": _disputed("warning_needs_response"),
    "payment": _payment_that_reads(captured_minor=999),
    "payment:currency": _payment_that_reads(currency="HUF"),
    "payment:gone": payment_that_is_gone,
    "payment:not recorded": payment_of_a_customer,
    "ledger": booked_twice,
    "ledger:unbalanced": unbalanced,
    "ledger:balance": another_balance,
}


# --- neighbours that are no differences -------------------------------------------------------------------------------


def recorded_outside(shop: Shop, made: RefundObject) -> None:
    """A refund of the dashboard that is recorded."""
    record_outside_refunds(shop.world.context, "stripe", [shop.by_hand(made)], since=0.0)


def failed_outside(shop: Shop, made: RefundObject) -> None:
    """A refund of the dashboard that has failed, and of which we never heard: no money went out."""
    shop.by_hand(made, status="failed", failure_code="declined")


def other_business(shop: Shop, made: RefundObject) -> None:
    """Refunds over a payment that is not ours, refunds of another installation, and a payment without our metadata."""
    shop.by_hand(made, payment_refs=("ch_not_ours",))
    shop.by_hand(made, payment_refs=("ch_not_ours",), installation="another", leg_id="rf_theirs-1")
    shop.by_hand(made, installation="another", leg_id="rf_theirs-1")
    name = f"ch_foreign_{len(shop.processor.charged)}"
    shop.processor.charged[name] = charged(name, {})


def recorded_dispute(shop: Shop, made: RefundObject) -> None:
    """A dispute that is recorded, and one over a payment that is not ours."""
    shop.dispute(made, "lost", recorded=True)
    shop.dispute(replace(made, payment_refs=("ch_not_ours",)), "needs_response")


NEIGHBOURS: Final = (recorded_outside, failed_outside, other_business, recorded_dispute)
