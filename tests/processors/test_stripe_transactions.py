"""The Stripe adapter reads the balance transactions of refunds and disputes, and nothing else, page by page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.processors.scripted_stripe import INVALID, Bench, error, page

from refund_worker.domain.balance_transactions import BalanceTransaction, Cause, TransactionsPage
from refund_worker.domain.processor_replies import Denied, Misconfigured, NotReadable, Unanswered
from refund_worker.processors.stripe.transactions import TYPES, to_transaction
from refund_worker.processors.wire import Unreadable

SINCE, UNTIL = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
REFUND: dict[str, Any] = {
    "id": "re_1",
    "object": "refund",
    "charge": "ch_1",
    "currency": "eur",
    "metadata": {"refund_worker_installation": "in_1"},
    "payment_intent": "pi_1",
}
BOOKED: dict[str, Any] = {
    "id": "txn_1",
    "object": "balance_transaction",
    "amount": -1_200,
    "created": 1_790_000_000,
    "currency": "eur",
    "exchange_rate": None,
    "fee": 30,
    "net": -1_230,
    "reporting_category": "refund",
    "source": REFUND,
    "type": "refund",
}
READ = BalanceTransaction(
    transaction_id="txn_1",
    cause=Cause.REFUND,
    object_id="re_1",
    amount_minor=-1_200,
    currency="EUR",
    created_at=datetime.fromtimestamp(1_790_000_000, UTC),
    payment_refs=("ch_1", "pi_1"),
    installation="in_1",
)


def test_transaction_is_read_without_its_fee_and_with_its_object() -> None:
    assert to_transaction(BOOKED) == ("txn_1", READ)
    _, plain = to_transaction(BOOKED | {"source": "re_1"})
    assert plain is not None
    assert (plain.object_id, plain.payment_refs, plain.installation) == ("re_1", (), None)


@pytest.mark.parametrize(
    ("category", "type", "source", "cause"),
    [
        ("refund_failure", "adjustment", "re_1", Cause.REFUND),
        ("refund", "payment_refund", "pyr_1", Cause.REFUND),
        ("dispute", "adjustment", "dp_1", Cause.DISPUTE),
        ("dispute_reversal", "adjustment", "dp_1", Cause.DISPUTE),
        ("charge_failure", "payment_failure_refund", "py_1", Cause.PAYMENT),
        ("partial_capture_reversal", "refund", "re_1", None),
        ("other_adjustment", "adjustment", None, None),
        ("fee", "adjustment", "dp_1", None),
        (None, "refund_failure", "re_1", Cause.REFUND),
        (None, "adjustment", "du_1", Cause.DISPUTE),
        (None, "adjustment", "ch_1", None),
        (None, "charge", "ch_1", None),
    ],
)
def test_cause_follows_the_category_of_stripes_reports(
    category: str | None, type: str, source: str | None, cause: Cause | None
) -> None:
    _, found = to_transaction(BOOKED | {"reporting_category": category, "type": type, "source": source})
    assert (found.cause if found else None) is cause


@pytest.mark.parametrize("change", [{"exchange_rate": 0.9}, {"source": REFUND | {"currency": "usd"}}], ids=str)
def test_amount_of_another_currency_is_marked(change: dict[str, Any]) -> None:
    _, found = to_transaction(BOOKED | change)
    assert found is not None
    assert found.is_converted


@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "refund"},
        {"id": None},
        {"amount": 1.5},
        {"amount": True},
        {"created": -1},
        {"currency": "euro"},
        {"source": None},
    ],
    ids=str,
)
def test_transaction_without_a_needed_field_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        to_transaction(BOOKED | wrong)


def test_lists_of_all_types_are_read_to_their_ends(bench: Bench) -> None:
    second = BOOKED | {"id": "txn_2"}
    adapter = bench.play(page(BOOKED, has_more=True), page(second), *(page() for _ in TYPES[1:]))
    read: list[BalanceTransaction] = []
    after: str | None = None
    for _ in range(len(TYPES) + 1):
        reply = bench.run(adapter.balance_transactions(SINCE, UNTIL, after))
        assert isinstance(reply, TransactionsPage)
        read += reply.transactions
        after = reply.after
    assert (after, [each.transaction_id for each in read]) == (None, ["txn_1", "txn_2"])
    asked = [request.query for request in bench.server.requests]
    assert [each["type"] for each in asked] == [TYPES[0], *TYPES]
    assert asked[1]["starting_after"] == "txn_1"
    times = {"created[gte]": str(int(SINCE.timestamp())), "created[lt]": str(int(UNTIL.timestamp()))}
    assert all(times.items() <= each.items() for each in asked)


def test_object_that_cannot_be_expanded_is_left_out(bench: Bench) -> None:
    plain = BOOKED | {"source": "re_1"}
    adapter = bench.play(error(400, INVALID, param="expand[0]"), page(plain))
    reply = bench.run(adapter.balance_transactions(SINCE, UNTIL, None))
    assert isinstance(reply, TransactionsPage)
    assert [each.object_id for each in reply.transactions] == ["re_1"]
    assert [key for key in bench.server.requests[1].query if key.startswith("expand")] == []


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotReadable), (403, NotReadable), (401, Denied), (500, Unanswered)], ids=str
)
def test_list_that_is_refused_is_no_empty_list(bench: Bench, status: int, kind: type) -> None:
    adapter = bench.play(error(status, INVALID))
    assert isinstance(bench.run(adapter.balance_transactions(SINCE, UNTIL, None)), kind)
    assert isinstance(bench.run(adapter.balance_transactions_of("re_1")), kind)


def test_list_that_does_not_advance_is_unanswered(bench: Bench) -> None:
    for first in (page(has_more=True), page(BOOKED, has_more=True)):
        reply = bench.run(bench.play(first).balance_transactions(SINCE, UNTIL, "refund:txn_1"))
        assert isinstance(reply, Unanswered)


def test_transactions_of_one_object(bench: Bench) -> None:
    adapter = bench.play(
        page(BOOKED | {"source": "re_1"}, BOOKED | {"id": "txn_2", "type": "charge", "reporting_category": "charge"})
    )
    reply = bench.run(adapter.balance_transactions_of("re_1"))
    assert isinstance(reply, TransactionsPage)
    assert ([each.transaction_id for each in reply.transactions], reply.after) == (["txn_1"], None)
    assert bench.server.requests[0].query["source"] == "re_1"
    assert isinstance(bench.run(adapter.balance_transactions_of("re/1")), Misconfigured)


@pytest.mark.parametrize("after", ["nothing", "charge:txn_1"])
def test_times_and_pages_of_the_wrong_form_are_refused(bench: Bench, after: str) -> None:
    adapter = bench.play(page())
    calls: list[Callable[[], Any]] = [
        lambda: adapter.balance_transactions(SINCE.replace(tzinfo=None), UNTIL, None),
        lambda: adapter.balance_transactions(SINCE, UNTIL, after),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            bench.run(call())
    assert bench.server.requests == []
