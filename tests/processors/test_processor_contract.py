"""The contract that the engine relies on, for every adapter and every fake.

Each test names the parts of the contract that it asks. It runs for the subjects that claim them: by the capability
table of their adapter, less what they lack with a reason (`contract.py`).
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime, timedelta

import pytest
from tests.processors.contract import CURRENCY, Client, Part, Subject, answered, found, same_object
from tests.processors.subjects import SUBJECTS, claiming, label

from refund_worker.domain.account_names import platform_of
from refund_worker.domain.money import decimal_places, smallest_step
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    BalanceRead,
    Blocked,
    Busy,
    DisputeRead,
    DisputesFound,
    Found,
    KeyConflict,
    Misconfigured,
    NotReadable,
    Page,
    PaymentRead,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Reply,
    UnknownRefusal,
    WarningsFound,
)
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.engine.views.sending_codes import SENDING_CODES
from refund_worker.processors import registry
from refund_worker.processors.base import Capabilities, Paged

# --- the subjects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", SUBJECTS, ids=label)
def test_missing_parts_are_claimed_by_the_table_and_have_a_reason(subject: type[Subject]) -> None:
    assert subject.lacks.keys() <= subject.applicable()
    assert all(subject.lacks.values())


@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject.entry], ids=label)
def test_each_fact_of_a_capability_table_has_a_source(subject: type[Subject]) -> None:
    facts = {field.name for field in fields(Capabilities)} - {"sources"}
    assert set(subject.capabilities.sources) == facts
    assert all(subject.capabilities.sources.values())


@pytest.mark.parametrize("subject", [subject for subject in SUBJECTS if subject.entry], ids=label)
def test_codes_of_an_adapter_are_explained_by_codes_of_ours(subject: type[Subject]) -> None:
    assert subject.entry is not None
    assert set(subject.entry.explained_by.values()) <= FAILURE_CODES.keys() | SENDING_CODES.keys()


@pytest.mark.parametrize("name", registry.names())
def test_each_registered_processor_has_a_subject_that_lacks_nothing(name: str) -> None:
    entry = registry.find_entry(name)
    assert [subject for subject in SUBJECTS if subject.entry is entry and not subject.lacks]


@pytest.mark.parametrize("subject", SUBJECTS, ids=label)
def test_processor_takes_every_amount_that_the_books_can_hold(subject: type[Subject]) -> None:
    """Currencies in which a processor takes less are named: there an account needs steps of its own."""
    table = subject.capabilities
    coarser = set()
    for currency in {*table.currency_decimals, *table.currency_steps}:
        places = decimal_places(currency) - table.currency_decimals.get(currency, 2)
        step = table.currency_steps.get(currency, 1) * 10 ** max(0, places)
        if smallest_step(currency) % step:
            coarser.add(currency)
    assert coarser == subject.coarser_currencies


# --- every adapter ----------------------------------------------------------------------------------------------------


@claiming()
def test_frozen_body_is_json_and_the_same_for_the_same_instruction(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    body = client.body(payment_id, 5000)
    assert body == client.body(payment_id, 5000)
    assert isinstance(json.loads(body), dict)
    if client.subject.capabilities.creates_refunds:
        assert body != client.body(payment_id, 4999)


@claiming()
def test_adapter_has_its_name_and_closes_twice(client: Client) -> None:
    assert platform_of(client.adapter.name) == (client.subject.entry or client.subject).name
    client.run(client.adapter.close())


@claiming()
def test_adapter_that_reads_no_payments_says_so(client: Client) -> None:
    assert client.adapter.reads_payments or not client.subject.reads_payments
    assert client.subject.entry is None or client.adapter.reads_payments == client.subject.capabilities.reads_payments
    reply = client.run(client.adapter.find_payment(client.subject.new_payment(5000)))
    assert isinstance(reply, PaymentRead) if client.subject.reads_payments else isinstance(reply, PaymentUnreadable)


@claiming()
def test_adapter_that_cannot_read_the_account_says_so(client: Client) -> None:
    """No server needs these paths: what it lacks is no failure, an empty list or a balance of zero."""
    adapter, since = client.adapter, client.subject.now()
    disputes = (
        client.run(adapter.disputes_of(client.subject.new_payment(5000))),
        client.run(adapter.recent_disputes(since)),
    )
    warnings = (client.run(adapter.recent_warnings(since)), client.run(adapter.fetch_warning("issfr_nobodyKnows")))
    if Part.READS_DISPUTES in client.subject.claims():
        assert disputes[0] == DisputesFound(())
        assert all(isinstance(reply, DisputesFound) for reply in disputes)
        assert isinstance(warnings[0], WarningsFound)
        assert isinstance(warnings[1], Misconfigured)
    else:
        # The simulated processor lists its disputes, but not those of one payment.
        told = (NotReadable, DisputesFound) if client.adapter.reads_disputes else NotReadable
        assert all(isinstance(reply, told) for reply in (*disputes, *warnings)), (disputes, warnings)
    assert adapter.reads_disputes or Part.READS_DISPUTES not in client.subject.claims()
    balance = client.run(adapter.balance())
    if Part.READS_BALANCE in client.subject.claims():
        assert adapter.reads_balance
        assert isinstance(balance, BalanceRead)
    else:
        assert isinstance(balance, NotReadable), balance


@claiming(Part.UNKNOWN_REFUND)
def test_unknown_refund_is_misconfigured(client: Client) -> None:
    assert isinstance(client.fetch(client.subject.unknown_refund), Misconfigured)


# --- adapters that create no refunds ----------------------------------------------------------------------------------


@claiming(Part.NO_REFUNDS)
def test_adapter_without_refunds_blocks_every_send(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    body = client.body(payment_id, 5000)
    assert isinstance(client.send("1", body), Blocked)
    assert client.send("1", body) == client.send("2", body)
    assert client.find(payment_id) == Found(())


@claiming(Part.NO_REFUNDS)
def test_adapter_without_refunds_lists_and_cancels_nothing(client: Client) -> None:
    recent = client.run(client.adapter.recent(client.subject.now()))
    assert recent == Found(()) or isinstance(recent, Misconfigured)
    assert isinstance(client.run(client.adapter.cancel(client.subject.unknown_refund)), Misconfigured)


# --- creating refunds -------------------------------------------------------------------------------------------------


@claiming(Part.CREATES)
def test_full_refund_is_created_once_with_our_metadata(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    reply = answered(client.send("1", client.body(payment_id, 5000)))
    made = reply.object
    assert not reply.replayed
    assert reply.request_id or not client.subject.gives_request_ids
    assert (made.status, made.amount_minor, made.currency) == (client.subject.accepted_status, 5000, CURRENCY)
    assert payment_id in made.payment_refs
    assert (made.leg_id, made.attempt) == (client.leg_id, 1)
    assert abs(client.subject.now() - made.created_at) < timedelta(minutes=2)
    assert client.booked(payment_id) == [5000]


@claiming(Part.PARTIAL)
def test_two_keys_create_two_equal_partial_refunds(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    first, second = client.refund(payment_id, 1000, attempt=1), client.refund(payment_id, 1000, attempt=2)
    assert first.processor_refund_id != second.processor_refund_id
    assert client.booked(payment_id) == [1000, 1000]


@claiming(Part.PARTIAL, Part.REMAINDER)
def test_amount_above_the_remaining_one_is_refused(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    client.refund(payment_id, 1000)
    refused = client.send("too-much", client.body(payment_id, 4001))
    assert isinstance(refused, Refused), refused
    assert refused.more_than_left
    assert client.booked(payment_id) == [1000]


@claiming(Part.REMAINDER, Part.KEYS)
def test_refusal_is_replayed_to_its_key_and_a_new_key_works(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    too_much = client.body(payment_id, 5001)
    assert isinstance(client.send("1", too_much), Refused)
    assert isinstance(client.send("1", too_much), Refused)
    assert client.refund(payment_id, 5000, attempt=2).amount_minor == 5000
    assert client.booked(payment_id) == [5000]


@claiming(Part.KEEPS_REFUSALS, Part.REMAINDER, Part.PARTIAL, Part.CHANGES)
def test_refusal_stays_the_answer_to_its_key(client: Client) -> None:
    """The payment has enough left again, as an earlier refund failed late. A late copy must move no money."""
    payment_id = client.subject.new_payment(5000)
    earlier = client.refund(payment_id, 4000)
    too_much = client.body(payment_id, 2000, attempt=2)
    assert isinstance(client.send("late", too_much), Refused)
    client.subject.change(earlier.processor_refund_id, "failed", client.subject.failure_code)
    assert isinstance(client.send("late", too_much), Refused)
    assert client.refund(payment_id, 3000, attempt=3).amount_minor == 3000


@claiming(Part.FULLY_REFUNDED)
def test_fully_refunded_payment_is_reported_as_already_refunded(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    client.refund(payment_id, 5000)
    assert isinstance(client.send("again", client.body(payment_id, 1, attempt=2)), AlreadyRefunded)
    assert client.booked(payment_id) == [5000]


@claiming(Part.DISPUTES)
def test_disputed_payment_is_blocked(client: Client) -> None:
    payment_id = client.subject.new_payment(5000, disputed=True)
    reply = client.send("1", client.body(payment_id, 5000))
    # Some processors refuse; others make a refund that fails at once, with a code of their table.
    failed_for_it = (
        isinstance(reply, Answered) and reply.object.failure_code in client.subject.capabilities.disputed_codes
    )
    assert isinstance(reply, Blocked) or failed_for_it, reply
    assert client.booked(payment_id) == []


@claiming(Part.WINDOW)
def test_payment_is_refused_after_the_window_of_the_table(client: Client) -> None:
    payment_id, window = client.subject.new_payment(5000), client.subject.capabilities.refund_window_seconds
    assert window is not None
    client.subject.pass_time(window - 60)
    client.refund(payment_id, 1000)
    client.subject.pass_time(120)
    late = client.send("late", client.body(payment_id, 1000, attempt=2))
    if client.subject.window_code:
        assert isinstance(late, Blocked | Misconfigured | UnknownRefusal), late
        assert late.code == client.subject.window_code
    else:
        assert isinstance(late, Refused), late
    assert client.booked(payment_id) == [1000]


@claiming(Part.UNKNOWN_PAYMENT)
def test_unknown_payment_is_misconfigured_and_not_refused(client: Client) -> None:
    sent = client.send("1", client.body(client.subject.unknown_payment, 100))
    assert isinstance(sent, Misconfigured), sent


@claiming(Part.PAYMENT_IDS)
def test_id_that_no_payment_can_have_is_refused_without_quoting_it(client: Client) -> None:
    entry = client.subject.entry
    assert entry is not None
    entry.check_payment_id(client.subject.new_payment(5000))
    for wrong in client.subject.wrong_payment_ids:
        with pytest.raises(ValueError, match=r"\w") as refused:
            entry.check_payment_id(wrong)
        assert wrong not in str(refused.value)


@claiming(Part.PAYMENT_IDS, Part.LISTS)
def test_id_that_no_payment_can_have_is_not_looked_for(client: Client) -> None:
    """The list of another path must not pass for the payment's own."""
    for wrong in client.subject.wrong_payment_ids:
        assert isinstance(client.find(wrong), Misconfigured), wrong


# --- idempotency keys -------------------------------------------------------------------------------------------------


@claiming(Part.KEYS)
def test_same_key_and_body_replay_the_same_object(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    body = client.body(payment_id, 1000)
    first, again = answered(client.send("1", body)), answered(client.send("1", body))
    assert again.replayed == client.subject.capabilities.says_replayed
    times = client.subject.answers_have_times
    assert same_object(again.object, first.object, answers_have_times=times)
    assert client.booked(payment_id) == [1000]


@claiming(Part.KEYS)
def test_concurrent_requests_with_one_key_create_one_refund(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    body = client.body(payment_id, 1000)

    async def at_once() -> list[Reply]:
        return await asyncio.gather(*(client.adapter.send(client.leg_id, body) for _ in range(8)))

    replies = client.run(at_once())
    assert all(isinstance(reply, Answered | Busy) for reply in replies)
    assert len({reply.object.processor_refund_id for reply in replies if isinstance(reply, Answered)}) == 1
    assert client.booked(payment_id) == [1000]


@claiming(Part.KEY_CONFLICT)
def test_same_key_with_another_body_is_a_key_conflict(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    answered(client.send("1", client.body(payment_id, 1000)))
    assert isinstance(client.send("1", client.body(payment_id, 1001)), KeyConflict)
    assert client.booked(payment_id) == [1000]


@claiming(Part.KEY_LIFE)
def test_key_is_kept_as_long_as_the_table_says(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    body = client.body(payment_id, 1000)
    first = answered(client.send("1", body))
    client.subject.pass_time(client.subject.capabilities.key_seconds - 60)
    again = answered(client.send("1", body))
    assert again.replayed == client.subject.capabilities.says_replayed
    assert again.object.processor_refund_id == first.object.processor_refund_id
    assert client.booked(payment_id) == [1000]


# --- reading ----------------------------------------------------------------------------------------------------------


@claiming(Part.READS)
def test_payment_is_read_with_its_refunded_amount(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    client.refund(payment_id, 1000)
    reply = client.run(client.adapter.find_payment(payment_id))
    assert isinstance(reply, PaymentRead), reply
    payment = reply.reading
    assert (payment.captured_minor, payment.currency, payment.refunded_minor) == (5000, CURRENCY, 1000)
    assert payment.live in (False, None)
    assert payment.disputed in (False, None)


@claiming(Part.READS_DISPUTES)
def test_dispute_is_read_and_listed_for_payment_and_account(client: Client) -> None:
    payment_id, other = client.subject.new_payment(5000), client.subject.new_payment(5000)
    dispute_id = client.subject.open_dispute(payment_id, 1200)
    reply = client.run(client.adapter.fetch_dispute(dispute_id))
    assert isinstance(reply, DisputeRead), reply
    dispute = reply.object
    assert (dispute.dispute_id, dispute.amount_minor, dispute.currency) == (dispute_id, 1200, CURRENCY)
    assert payment_id in dispute.payment_refs
    assert client.run(client.adapter.disputes_of(payment_id)) == DisputesFound((dispute,))
    assert client.run(client.adapter.disputes_of(other)) == DisputesFound(())
    recent = client.run(client.adapter.recent_disputes(client.subject.now() - timedelta(minutes=5)))
    assert isinstance(recent, DisputesFound)
    assert dispute in recent.objects
    assert isinstance(client.run(client.adapter.fetch_dispute("dp_nobodyKnows")), Misconfigured)


@claiming(Part.READS_BALANCE)
def test_balance_falls_by_a_refund(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    before = client.run(client.adapter.balance())
    client.refund(payment_id, 1000)
    after = client.run(client.adapter.balance())
    assert isinstance(before, BalanceRead), before
    assert isinstance(after, BalanceRead), after
    assert after.available[CURRENCY] == before.available[CURRENCY] - 1000


@claiming(Part.LISTS, Part.PARTIAL)
def test_find_returns_all_refunds_of_the_payment_from_every_page(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    total = client.subject.page_size + 5

    async def many() -> list[Reply]:
        bodies = [client.body(payment_id, 3, attempt) for attempt in range(1, total + 1)]
        return [await client.adapter.send(f"{client.leg_id}/{n}", body) for n, body in enumerate(bodies)]

    made = [answered(reply).object for reply in client.run(many())]
    client.refund(client.subject.new_payment(5000), 1, total + 1)
    client.subject.wait_for_lists()
    result = found(client.find(payment_id))
    assert {each.processor_refund_id for each in result.objects} == {each.processor_refund_id for each in made}
    assert len(result.objects) == total, "an object is listed twice"
    assert {each.attempt for each in result.objects} == set(range(1, total + 1))


@claiming(Part.LISTS_OTHERS, Part.PARTIAL)
def test_find_returns_refunds_that_others_created(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    client.refund(payment_id, 3)
    other = client.body(payment_id, 11, leg_id=f"other_{client.leg_id}")
    answered(client.send("other", other))
    client.subject.refund_elsewhere(payment_id, 17)
    client.subject.wait_for_lists()
    objects = found(client.find(payment_id)).objects
    by_leg = {each.leg_id: each.amount_minor for each in objects}
    assert by_leg == {client.leg_id: 3, f"other_{client.leg_id}": 11, None: 17}
    assert all(payment_id in each.payment_refs for each in objects)


@claiming(Part.LISTS)
def test_find_returns_nothing_for_a_payment_without_refunds(client: Client) -> None:
    assert client.find(client.subject.new_payment(5000)) == Found(())


@claiming(Part.LISTS_UNKNOWN)
def test_list_of_an_unknown_payment_is_misconfigured(client: Client) -> None:
    assert isinstance(client.find(client.subject.unknown_payment), Misconfigured)


@claiming(Part.CREATES, Part.FETCHES)
def test_fetch_returns_the_object_as_it_was_created(client: Client) -> None:
    made = client.refund(client.subject.new_payment(5000), 1000)
    assert answered(client.fetch(made.processor_refund_id)).object == made


@claiming(Part.CHANGES)
def test_fetch_returns_a_failure_after_success(client: Client) -> None:
    made = client.refund(client.subject.new_payment(5000), 1000)
    client.subject.change(made.processor_refund_id, "failed", client.subject.failure_code)
    now = answered(client.fetch(made.processor_refund_id)).object
    assert (now.status, now.failure_code) == ("failed", client.subject.failure_code)


@claiming(Part.FAILURE_CODES)
def test_failure_codes_of_the_table_are_passed_on(client: Client) -> None:
    table = client.subject.capabilities
    for attempt, code in enumerate(sorted(table.disputed_codes | table.unfunded_codes), 1):
        made = client.refund(client.subject.new_payment(5000), 1000, attempt)
        client.subject.change(made.processor_refund_id, "failed", code)
        assert answered(client.fetch(made.processor_refund_id)).object.failure_code == code


@claiming(Part.RECENT)
def test_recent_returns_refunds_created_since_a_time_only(client: Client) -> None:
    made = client.refund(client.subject.new_payment(5000), 1000)
    client.subject.wait_for_lists()
    assert made in found(client.run(client.adapter.recent(made.created_at - timedelta(seconds=1)))).objects
    assert found(client.run(client.adapter.recent(made.created_at + timedelta(days=1)))) == Found(())


@claiming(Part.RECENT)
def test_recent_returns_every_page_and_each_object_once(client: Client) -> None:
    made = _more_than_a_page(client)
    listed = found(client.run(client.adapter.recent(_first_second(made)))).objects
    _check_listed(made, listed)


@claiming()
def test_adapter_has_pages_if_its_subject_says_so(client: Client) -> None:
    assert isinstance(client.adapter, Paged) == client.subject.has_pages


@claiming(Part.PAGES)
def test_pages_have_every_object_once_and_newest_first(client: Client) -> None:
    made = _more_than_a_page(client)
    pages = _pages_of(client, _first_second(made), None)
    assert len(pages) > 1
    listed = [each for page in pages for each in page]
    _check_listed(made, listed)
    assert [each.created_at for each in listed] == sorted((each.created_at for each in listed), reverse=True)


@claiming(Part.PAGES)
def test_pages_end_before_the_later_time(client: Client) -> None:
    """`created_lt` itself is not included. Some processors count whole seconds: the later refund is in a later one."""
    first = client.refund(client.subject.new_payment(5000), 1000)
    client.subject.pass_time(5)
    second = client.refund(client.subject.new_payment(5000), 1000, attempt=2)
    client.subject.wait_for_lists()
    end = second.created_at.replace(microsecond=0)
    listed = [each for page in _pages_of(client, _first_second([first]), end) for each in page]
    assert [each for each in listed if each.leg_id == client.leg_id] == [first]
    assert all(each.created_at < end for each in listed)


def _first_second(made: Sequence[RefundObject]) -> datetime:
    """Return the second in which the first of these objects was created."""
    return min(each.created_at for each in made).replace(microsecond=0)


def _more_than_a_page(client: Client) -> list[RefundObject]:
    """Make more refunds than a page of the account's list has, over several payments."""
    sizes = [client.subject.page_size // 2 + 1, client.subject.page_size // 2 + 1, 1]
    attempts = itertools.count(1)
    made = []
    for size in sizes:
        payment_id = client.subject.new_payment(5000)
        count = size if client.subject.capabilities.partial_refunds else 1
        made += [client.refund(payment_id, 3, next(attempts)) for _ in range(count)]
    client.subject.wait_for_lists()
    return made


def _pages_of(client: Client, since: datetime, until: datetime | None) -> list[tuple[RefundObject, ...]]:
    """Return the pages of the account's list, read from "" on to the one that has no `after`."""
    assert isinstance(client.adapter, Paged)
    pages, after = [], ""
    while True:
        page = client.run(client.adapter.page(since, until, after))
        assert isinstance(page, Page), page
        pages.append(page.objects)
        if page.after is None:
            return pages
        assert page.after != after, "the list does not advance"
        after = page.after


def _check_listed(made: Sequence[RefundObject], listed: Sequence[RefundObject]) -> None:
    ids = [each.processor_refund_id for each in listed]
    assert len(ids) == len(set(ids)), "an object is listed twice"
    assert {each.processor_refund_id for each in made} <= set(ids)


# --- canceling --------------------------------------------------------------------------------------------------------


@claiming(Part.CANCELS)
def test_refund_that_waits_for_the_customer_can_be_canceled(client: Client) -> None:
    payment_id = client.subject.new_payment(900)
    client.subject.break_next("waits for the customer", payment_id)
    made = client.refund(payment_id, 900)
    assert made.status == "requires_action"
    assert answered(client.run(client.adapter.cancel(made.processor_refund_id))).object.status == "canceled"


@claiming(Part.CANCEL_REFUSED)
def test_cancel_of_a_succeeded_refund_is_refused(client: Client) -> None:
    made = client.refund(client.subject.new_payment(5000), 1000)
    reply = client.run(client.adapter.cancel(made.processor_refund_id))
    assert isinstance(reply, Refused | Misconfigured | UnknownRefusal), reply
    assert answered(client.fetch(made.processor_refund_id)).object.status == "succeeded"


@claiming(Part.NO_CANCEL)
def test_cancel_is_misconfigured_where_the_table_has_none(client: Client) -> None:
    payment_id = client.subject.new_payment(5000)
    made = client.refund(payment_id, 1000)
    reply = client.run(client.adapter.cancel(made.processor_refund_id))
    assert isinstance(reply, Misconfigured), reply
    assert client.booked(payment_id) == [1000]
