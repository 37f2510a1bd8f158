"""The promises about creating a refund: exactly once for each key, with the right amount and our ids."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from refund_worker.domain.money import as_text
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Busy,
    KeyConflict,
    Misconfigured,
    RefundObject,
    Refused,
    Reply,
)
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.conformance.bench import INSTALLATION, LAGS, Bench, Refundable, money, words
from refund_worker.processors.conformance.results import Check, NotAsked, expect

KNOWN_STATUSES: Final = frozenset(ObjectState)
AT_ONCE: Final = 6
# Steps of the currency that a payment needs: a repeat that is executed must not be refused because too little is left.
ROOM: Final = 100
KEEP_KEYS: Final = (
    "Store each key with its body and its answer, in the same transaction as the refund, before the money moves. "
    "Answer a repeat from there."
)
ONE_AT_A_TIME: Final = (
    "Let the database decide which request has a key first (a unique key, a lock). Answer the others 503 busy, or wait."
)
REFUSE: Final = "Check the amount and what is left in the transaction that creates the refund. Answer 422."


async def creates_with_our_ids(bench: Bench) -> None:
    """A refund has the amount, currency, payment and ids that were sent."""
    payment = await bench.payment(ROOM, partly=False)
    order = bench.order(payment, bench.amount(payment, 13))
    made = (await bench.created(payment, order, bench.key())).object
    _expect_as_ordered(made, order)
    expect(
        made.status in KNOWN_STATUSES,
        f"the refund has the status {made.status}, which is none of {', '.join(sorted(KNOWN_STATUSES))}",
        "Translate the status of your paying system into one of these. Accepted and not yet paid is pending.",
    )
    late = abs((datetime.now(UTC) - made.created_at).total_seconds())
    expect(
        late <= bench.clock_seconds_max,
        f"created_at is {late:.0f} seconds away from this machine's time",
        "Set both clocks by NTP, and give created_at with its zone: 2026-11-02T10:00:00Z.",
    )


def _expect_as_ordered(made: RefundObject, order: RefundInstruction) -> None:
    expect(
        (made.amount_minor, made.currency) == (order.amount_minor, order.currency),
        f"{money(order)} was asked for, and the refund says {as_text(made.amount_minor, made.currency)}: amounts are "
        "rounded or changed",
        "Keep amount_minor as the integer that was sent, in minor units. Never use floating-point numbers.",
    )
    expect(
        order.processor_payment_id in made.payment_refs,
        "the refund names another payment than the one that was sent",
        "Answer with payment as it was sent.",
    )
    ids = (made.leg_id, made.attempt, made.installation)
    expect(
        ids == (order.leg_id, order.attempt, INSTALLATION),
        "the refund does not carry our ids (ours): after a lost answer nobody could say whose it is",
        "Store the object ours with the refund, and return it unchanged in every answer and list.",
    )


async def same_key_same_refund(bench: Bench) -> None:
    """The same key with the same body returns the same refund, and says that it is a repeat."""
    payment, order, key = await _order(bench)
    _with_keys(bench)
    first = (await bench.created(payment, order, key)).object
    again = await bench.send(order, key)
    if isinstance(again, Answered):
        bench.note(payment, again.object)
    expect(
        isinstance(again, Answered),
        f"the same Idempotency-Key with the same body was not answered with its refund: {words(again)}",
        KEEP_KEYS,
    )
    assert isinstance(again, Answered)
    expect(
        again.object.processor_refund_id == first.processor_refund_id,
        "the same Idempotency-Key with the same body returned another refund: the money would be paid twice",
        KEEP_KEYS,
    )
    await _expect_once(bench, order)
    expect(
        again.replayed or not bench.table.says_replayed,
        "a repeated key is answered without saying that the answer is a stored one",
        "Send the header Idempotent-Replayed: true with every stored answer.",
    )


async def same_key_at_once(bench: Bench) -> None:
    """Requests with one key at the same moment create one refund."""
    payment, order, key = await _order(bench)
    _with_keys(bench)
    body = bench.processor.freeze(order)
    sent = [bench.paced(bench.processor.send(key, body)) for _ in range(AT_ONCE)]
    replies: list[Reply] = await asyncio.gather(*sent)
    made = {reply.object.processor_refund_id: reply.object for reply in replies if isinstance(reply, Answered)}
    for refund in made.values():
        bench.note(payment, refund)
    expect(
        len(made) <= 1,
        f"{AT_ONCE} requests with one key at the same moment made {len(made)} refunds: the money would be paid "
        f"{len(made)} times",
        ONE_AT_A_TIME,
    )
    other = next((reply for reply in replies if not isinstance(reply, Answered | Busy)), None)
    expect(
        other is None,
        f"of {AT_ONCE} requests with one key at the same moment, one was answered otherwise: {words(other)}",
        ONE_AT_A_TIME,
    )
    expect(
        len(made) == 1,
        f"of {AT_ONCE} requests with one key at the same moment, none was executed",
        ONE_AT_A_TIME,
    )
    await _expect_once(bench, order)


async def same_key_other_body(bench: Bench) -> None:
    """A used key with another body is refused as key_conflict, and nothing is created."""
    payment = await bench.payment(ROOM)
    _with_keys(bench)
    order, key = bench.order(payment, bench.amount(payment, 13)), bench.key()
    await bench.created(payment, order, key)
    other = await bench.send(replace(order, amount_minor=order.amount_minor + bench.step(order.currency)), key)
    if isinstance(other, Answered):
        bench.note(payment, other.object)
    expect(
        isinstance(other, KeyConflict),
        f"a used key with another amount was not refused as key_conflict: {words(other)}. A mistake would pass unseen",
        "Store the body, or its hash, with the key. Answer 409 key_conflict if another body comes.",
    )
    await _expect_once(bench, order)


async def two_keys_two_refunds(bench: Bench) -> None:
    """Two keys create two refunds, even of equal amounts."""
    payment = await bench.payment(30)
    amount = bench.amount(payment, 7)
    first = (await bench.created(payment, bench.order(payment, amount), bench.key())).object
    second = (await bench.created(payment, bench.order(payment, amount), bench.key())).object
    expect(
        first.processor_refund_id != second.processor_refund_id,
        "two keys with equal amounts returned the same refund: the second one would never be paid",
        "Tell refunds apart by the key alone, not by payment and amount.",
    )


async def lost_answer(bench: Bench) -> None:
    """If the connection breaks before the answer, the same key returns the one refund that was created."""
    payment, order, key = await _order(bench)
    _with_keys(bench)
    await bench.send_without_waiting(order, key)
    await asyncio.sleep(0.3)
    made = (await bench.created(payment, order, key)).object
    again = (await bench.created(payment, order, key)).object
    found = await bench.refunds_of_leg(order) if bench.table.finds_refunds else ()
    expect(
        made.processor_refund_id == again.processor_refund_id and len(found) <= 1,
        "the client closed the connection before the answer and sent the same key again: the refund was created twice",
        KEEP_KEYS + " A broken connection must not roll the key back once the money has moved.",
    )


async def refusal_is_kept(bench: Bench) -> None:
    """A refusal is the answer to its key for ever: a late repeat of the request moves no money."""
    if not bench.table.keeps_refusals:
        raise NotAsked("a refused request may be executed later here (keeps_refusals is false)")
    payment = await bench.payment(20)
    _with_keys(bench)
    first = bench.order(payment, bench.amount(payment, 15))
    made = (await bench.created(payment, first, bench.key())).object
    order, key = bench.order(payment, payment.left_minor + bench.step(payment.currency)), bench.key()
    refused = await bench.send(order, key)
    if not isinstance(refused, Refused):
        raise NotAsked("more than is left was not refused (see that check)")
    await bench.change(made, "failed", "declined")  # now the payment has enough left
    payment.left_minor += made.amount_minor
    later = await bench.send(order, key)
    if isinstance(later, Answered):
        bench.note(payment, later.object)
    expect(
        not isinstance(later, Answered),
        "a request that was refused was executed when the same key came again later: its credits went back already, "
        "so the customer would have both",
        "Store refusals (404 and 422) under their keys, as refunds are. The adapter of a processor that does not do so "
        "says keeps_refusals=False.",
    )


async def more_than_left(bench: Bench) -> None:
    """More than is left of a payment is refused as more_than_left, and nothing is created."""
    payment = await bench.payment(20)
    _with_outcomes(bench)
    await bench.created(payment, bench.order(payment, bench.amount(payment, 11)), bench.key())
    order = bench.order(payment, payment.left_minor + bench.step(payment.currency))
    reply = await bench.send(order, bench.key())
    if isinstance(reply, Answered):
        bench.note(payment, reply.object)
    expect(
        not isinstance(reply, Answered),
        "more was refunded than was left of the payment",
        REFUSE,
    )
    expect(
        isinstance(reply, Refused) and reply.more_than_left,
        f"a refund of more than is left was not refused as more_than_left: {words(reply)}",
        f"{REFUSE} The code is more_than_left.",
    )
    await _expect_none(bench, order)


async def already_refunded(bench: Bench) -> None:
    """A payment of which nothing is left is refused as already_refunded."""
    payment = await bench.payment(1, partly=False)
    _with_outcomes(bench)
    await bench.created(payment, bench.order(payment, payment.left_minor), bench.key())
    order = bench.order(payment, bench.step(payment.currency))
    reply = await bench.send(order, bench.key())
    if isinstance(reply, Answered):
        bench.note(payment, reply.object)
    expect(
        not isinstance(reply, Answered),
        "a payment was refunded of which nothing was left",
        REFUSE,
    )
    expect(
        isinstance(reply, AlreadyRefunded),
        f"a payment of which nothing is left was not refused as already_refunded: {words(reply)}",
        f"{REFUSE} The code is already_refunded if nothing is left, and more_than_left if something is.",
    )
    await _expect_none(bench, order)


async def unknown_payment(bench: Bench) -> None:
    """A refund of an unknown payment is refused as not_found."""
    bench.may_create()
    _with_outcomes(bench)
    currency = next((each.currency for each in (*bench.used, *bench.named)), "EUR")
    order = bench.order(Refundable(bench.unknown_payment(), currency, 0), bench.step(currency))
    reply = await bench.send(order, bench.key())
    expect(
        isinstance(reply, Misconfigured),
        f"a refund of a payment that does not exist was not refused as not_found: {words(reply)}",
        "Answer 404 not_found, with executed: false.",
    )


async def _order(bench: Bench) -> tuple[Refundable, RefundInstruction, str]:
    """Return a payment, an order for a refund of it, and a key."""
    payment = await bench.payment(ROOM, partly=False)
    return payment, bench.order(payment, bench.amount(payment, 13)), bench.key()


async def _expect_once(bench: Bench, order: RefundInstruction) -> None:
    if bench.table.finds_refunds:
        found = await bench.refunds_of_leg(order)
        expect(
            len(found) == 1,
            f"the payment's list has {len(found)} refunds of one key",
            KEEP_KEYS if found else "List every refund of the payment, with the object ours." + LAGS,
        )


async def _expect_none(bench: Bench, order: RefundInstruction) -> None:
    if bench.table.finds_refunds:
        expect(not await bench.refunds_now(order), "a request that was refused created a refund all the same", REFUSE)


def _with_keys(bench: Bench) -> None:
    if not bench.table.key_seconds:
        raise NotAsked("the account keeps no keys (key_seconds is 0)")


def _with_outcomes(bench: Bench) -> None:
    if not bench.table.answers_are_outcomes:
        raise NotAsked("refusals come later here (answers_are_outcomes is false)")


CHECKS: Final = (
    Check("create", "A refund is created with the amount and the ids that were sent.", creates_with_our_ids),
    Check("same key", "The same key with the same body returns the same refund.", same_key_same_refund),
    Check("same key at once", "Requests with one key at the same moment create one refund.", same_key_at_once),
    Check("same key, other body", "A used key with another body is refused as key_conflict.", same_key_other_body),
    Check("two keys", "Two keys create two refunds, even of equal amounts.", two_keys_two_refunds),
    Check("lost answer", "After a lost answer, the same key returns the one refund.", lost_answer),
    Check("more than is left", "More than is left is refused as more_than_left.", more_than_left),
    Check("refusal is kept", "A refusal is the answer to its key for ever.", refusal_is_kept),
    Check("unknown payment", "A refund of an unknown payment is refused as not_found.", unknown_payment),
)
# Last: it uses a payment up.
LAST: Final = (
    Check("nothing is left", "A payment of which nothing is left is refused as already_refunded.", already_refunded),
)
