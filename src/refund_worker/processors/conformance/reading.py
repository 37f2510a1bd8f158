"""The promises about reading: one refund, lists to their end, payments, later changes, and canceling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from refund_worker.domain.processor_replies import (
    Answered,
    Denied,
    Found,
    Misconfigured,
    PaymentRead,
    RefundObject,
    Reply,
)
from refund_worker.processors.conformance.bench import INSTALLATION, LAGS, Bench, Refundable, words
from refund_worker.processors.conformance.results import Broken, Check, NotAsked, expect

PAGE_SIZE: Final = 2
MANY: Final = 5
WHOLE: Final = "Answer every refund: data holds one page, and next is a text until the last page, which has null."


async def fetches_what_was_created(bench: Bench) -> None:
    """A refund is read as it was created."""
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    made = (await bench.created(payment, order, bench.key())).object
    read = await bench.fetched(made)
    expect(
        _facts(read) == _facts(made),
        "a refund that is read differs from the answer to its creation (amount, currency, payment, time or our ids)",
        "Answer GET /refunds/ID with the same object as POST /refunds.",
    )


async def unknown_refund(bench: Bench) -> None:
    """A refund that does not exist is answered with not_found."""
    if not bench.table.reads_refunds:
        raise NotAsked("a refund cannot be read here: only events tell its state")
    reply = await bench.asked(lambda: bench.processor.fetch(bench.unknown_refund()))
    expect(
        isinstance(reply, Misconfigured),
        f"a refund that does not exist was not answered with not_found: {words(reply)}",
        "Answer 404 not_found, with executed: false.",
    )


async def list_of_a_payment(bench: Bench) -> None:
    """The list of a payment has each of its refunds once, with all pages read."""
    payment = await bench.payment(30)
    made = [
        (await bench.created(payment, bench.order(payment, bench.amount(payment, n)), bench.key())).object
        for n in range(1, MANY + 1)
    ]
    listed = await _listed(bench, payment, made)
    missing = [each for each in made if each.processor_refund_id not in {one.processor_refund_id for one in listed}]
    expect(
        not missing,
        f"the list of a payment lacks {len(missing)} of {MANY} refunds: a lost answer would be taken for a refund that "
        "does not exist",
        WHOLE + LAGS,
    )
    wrong = [each for each in listed if any(_is_same(each, one) and _facts(each) != _facts(one) for one in made)]
    expect(
        not wrong,
        "a refund in the list differs from the answer to its creation (amount, currency, payment, time or our ids)",
        "List the same objects as GET /refunds/ID answers, with ours.",
    )


async def pages_of_a_payment(bench: Bench) -> None:
    """A list of several pages comes to its end."""
    small = bench.with_small_pages(PAGE_SIZE)
    try:
        payment = await bench.payment(30)
        for n in range(1, MANY + 1):
            await bench.created(payment, bench.order(payment, bench.amount(payment, n)), bench.key())
        reply = await bench.asked(lambda: small.find(payment.payment_id, ""))
        expect(
            isinstance(reply, Found),
            f"a list of pages with {PAGE_SIZE} refunds was not read to its end: {words(reply)}",
            WHOLE,
        )
        assert isinstance(reply, Found)
        known = {each.processor_refund_id for each in payment.made}
        listed = known & {each.processor_refund_id for each in reply.objects}
        expect(
            listed == known,
            f"a list in pages of {PAGE_SIZE} has {len(listed)} of {len(known)} refunds: later pages are missing",
            f"{WHOLE} after= continues where next says.",
        )
    finally:
        await small.close()


async def list_of_an_unknown_payment(bench: Bench) -> None:
    """The list of an unknown payment is not_found, and not an empty list."""
    if not bench.table.finds_refunds or bench.lists_by_leg:
        raise NotAsked("the refunds of a payment cannot be listed here")
    reply = await bench.asked(lambda: bench.processor.find(bench.unknown_payment(), ""))
    expect(
        isinstance(reply, Misconfigured),
        f"the list of a payment that does not exist was not answered with not_found: {words(reply)}. A wrong id would "
        "look like a payment without refunds, and be refunded again",
        "Answer 404 not_found, with executed: false.",
    )


async def list_of_others(bench: Bench) -> None:
    """The list of a payment has refunds that others made, without our ids."""
    if bench.lists_by_leg:
        raise NotAsked("refunds are found by our own ids only (finds_by is leg)")
    payment = await bench.payment(20)
    other = await bench.refund_elsewhere(payment, bench.amount(payment, 3))
    listed = {each.processor_refund_id: each for each in await _listed(bench, payment, [other])}
    seen = listed.get(other.processor_refund_id)
    expect(
        seen is not None,
        "a refund that a person made elsewhere is missing in the list of its payment: money would be refunded twice",
        "List every refund of the payment, whoever made it." + LAGS,
    )
    assert seen is not None
    expect(
        seen.leg_id is None,
        "a refund that a person made elsewhere carries ids as if it were ours",
        "Return ours: null for refunds that were not created through this server.",
    )


async def recent_list(bench: Bench) -> None:
    """The list since a time has the refunds made since then, and no earlier ones."""
    if not bench.table.lists_refunds:
        raise NotAsked("the account's refunds are not listed (lists_refunds is false)")
    begin = datetime.now(UTC) - timedelta(minutes=1)
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    made = (await bench.created(payment, order, bench.key())).object
    since = min(begin, made.created_at)

    def has_it(listed: tuple[RefundObject, ...]) -> bool:
        return any(_is_same(each, made) for each in listed)

    expect(
        has_it(await bench.until_listed(lambda: bench.recent(since), has_it)),
        f"the list since a time lacks a refund that was made {bench.list_lag_seconds:g} seconds ago: a lost event "
        "would never be made good",
        "List every refund with created_at at or after since, newest first." + LAGS,
    )


async def payment_is_read(bench: Bench) -> None:
    """A payment is read with what was captured and refunded, and a refund changes that."""
    if not bench.table.reads_payments:
        raise NotAsked("payments cannot be read here (reads_payments is false)")
    payment = await bench.payment(20, partly=False)
    reply = await bench.asked(lambda: bench.processor.find_payment(payment.payment_id))
    if not isinstance(reply, PaymentRead):
        raise Broken(
            f"a payment cannot be read: {words(reply)}", "Answer GET /payments/ID, or say reads_payments: false."
        )
    before = reply.reading.refunded_minor or 0
    expect(
        reply.reading.currency == payment.currency,
        f"a payment in {payment.currency} is read as one in {reply.reading.currency}",
        "Answer with the currency in which the payment was captured.",
    )
    left = (reply.reading.captured_minor or 0) - before
    expect(
        left >= payment.left_minor,
        f"{payment.left_minor} minor units of a payment should be left, and captured less refunded is {left}",
        "captured_minor and refunded_minor are in minor units, as amount_minor is. Failed refunds do not count.",
    )
    amount = bench.amount(payment, 3)
    await bench.created(payment, bench.order(payment, amount), bench.key())
    after = await bench.paid_back(payment)
    expect(
        after == before + amount,
        f"after a refund of {amount} minor units, refunded_minor went from {before} to {after}",
        "Count every refund of the payment that has not failed or been canceled.",
    )
    if not isinstance(await bench.asked(lambda: bench.processor.find_payment(bench.unknown_payment())), Misconfigured):
        raise Broken("a payment that does not exist is not answered with not_found", "Answer 404 not_found.")


async def late_failure(bench: Bench) -> None:
    """A refund that fails after it has succeeded is read as failed, with the reason."""
    if bench.table.answers_are_final:
        raise NotAsked("refunds do not fail later here (answers_are_final is true)")
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    made = (await bench.created(payment, order, bench.key())).object
    await bench.change(made, "failed", bench.failure_code)
    payment.left_minor += made.amount_minor
    now = await bench.fetched(made)
    expect(
        (now.status, now.failure_code) == ("failed", bench.failure_code),
        f"a refund that failed later is read as {now.status} with the reason {now.failure_code}: the customer would "
        "never get the credits back",
        "Answer with the status that the refund has now, and with failure_code.",
    )
    expect(
        (now.leg_id, now.amount_minor) == (made.leg_id, made.amount_minor),
        "a refund that failed later lost our ids or its amount",
        "Change status and failure_code only.",
    )


async def cancel_of_a_paid_refund(bench: Bench) -> None:
    """A refund that has succeeded is not canceled."""
    if not bench.table.cancels:
        raise NotAsked("refunds cannot be canceled here (cancels is false)")
    payment = await bench.payment(20, partly=False)
    order = bench.order(payment, bench.amount(payment, 3))
    made = (await bench.created(payment, order, bench.key())).object
    if made.status != "succeeded":
        raise NotAsked(f"the refund is {made.status}, and not succeeded")
    reply = await bench.asked(lambda: bench.processor.cancel(made.processor_refund_id))
    now = await bench.fetched(made)
    expect(
        not isinstance(reply, Answered) and now.status == "succeeded",
        "a refund that had succeeded was canceled: the customer has the money and would get the credits too",
        "Cancel only what waits for the customer. Answer 409 not_cancelable otherwise.",
    )


async def wrong_credentials(bench: Bench) -> None:
    """Wrong credentials are denied, by reading and by creating."""
    stranger = bench.stranger()
    try:
        replies: list[Reply] = []
        if bench.table.reads_refunds:
            replies.append(await bench.asked(lambda: stranger.fetch(bench.unknown_refund())))
        if not bench.why_not:
            payment = await bench.payment(20, partly=False)
            order = bench.order(payment, bench.amount(payment, 3))
            body = stranger.freeze(order)
            reply = await bench.asked(lambda: stranger.send(bench.key(), body))
            if isinstance(reply, Answered):
                bench.note(payment, reply.object)
            replies.append(reply)
    finally:
        await stranger.close()
    accepted = next((reply for reply in replies if not isinstance(reply, Denied)), None)
    expect(
        accepted is None,
        f"a request with a bad signature was not refused: {words(accepted)}. Anybody could refund payments",
        "Verify the signature before anything else. Answer 401 denied, with executed: false.",
    )


async def books_agree(bench: Bench) -> None:
    """In the end each payment's list has exactly the refunds that the suite has made."""
    if not bench.table.finds_refunds or bench.lists_by_leg:
        raise NotAsked("the refunds of a payment cannot be listed here")
    if not bench.used:
        raise NotAsked("no refund was created")
    for payment in bench.used:
        listed = {each.processor_refund_id: each for each in await _listed(bench, payment, payment.made)}
        known = {each.processor_refund_id for each in payment.made}
        lacking, more = known - listed.keys(), [each for each in listed.values() if each.leg_id is not None]
        unknown = [each for each in more if each.processor_refund_id not in known and each.installation == INSTALLATION]
        expect(
            not lacking,
            f"at the end, {len(lacking)} refunds that were created are missing in the list of their payment",
            WHOLE + LAGS,
        )
        expect(
            not unknown,
            f"at the end, a payment has {len(unknown)} refunds that no answer has named: money left twice",
            "Create a refund only once for a key, and only if it is answered.",
        )


async def _listed(bench: Bench, payment: Refundable, wanted: list[RefundObject]) -> tuple[RefundObject, ...]:
    """Return the list of a payment, once it has all that is wanted or the time for it is over."""

    async def look() -> tuple[RefundObject, ...]:
        if bench.lists_by_leg:
            return tuple([one for each in wanted for one in await bench.find(payment, each.leg_id or "")])
        return await bench.find(payment)

    ids = {each.processor_refund_id for each in wanted}
    return await bench.until_listed(look, lambda found: ids <= {each.processor_refund_id for each in found})


def _facts(refund: RefundObject) -> tuple[object, ...]:
    """Return what never changes of a refund."""
    ours = (refund.leg_id, refund.attempt, refund.installation)
    payments = frozenset(refund.payment_refs)
    return (refund.processor_refund_id, refund.amount_minor, refund.currency, payments, refund.created_at, *ours)


def _is_same(one: RefundObject, other: RefundObject) -> bool:
    return one.processor_refund_id == other.processor_refund_id


CHECKS: Final = (
    Check("read a refund", "A refund is read as it was created.", fetches_what_was_created),
    Check("unknown refund", "A refund that does not exist is answered with not_found.", unknown_refund),
    Check("list of a payment", "The list of a payment has each of its refunds.", list_of_a_payment),
    Check("pages", "A list of several pages comes to its end.", pages_of_a_payment),
    Check("list of an unknown payment", "An unknown payment has no empty list.", list_of_an_unknown_payment),
    Check("refunds by others", "The list of a payment has the refunds that others made.", list_of_others),
    Check("list since a time", "The list since a time has all refunds made since then.", recent_list),
    Check("read a payment", "A payment is read with what was captured and refunded.", payment_is_read),
    Check("late failure", "A refund that fails later is read as failed.", late_failure),
    Check("cancel", "A refund that has succeeded is not canceled.", cancel_of_a_paid_refund),
    Check("wrong secret", "Wrong credentials are denied.", wrong_credentials),
)
LAST: Final = (Check("books agree", "At the end the lists have exactly the refunds that were made.", books_agree),)
