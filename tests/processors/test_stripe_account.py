"""The Stripe adapter reads disputes, early fraud warnings and the balance; a server without them is no failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.processors.scripted_stripe import INVALID, Act, Bench, answers, error, page, sends_nothing

from refund_worker.domain.processor_replies import (
    AccountReply,
    BalanceRead,
    Busy,
    Denied,
    DisputeObject,
    DisputeRead,
    DisputesFound,
    FraudWarning,
    Misconfigured,
    NotReadable,
    NotSent,
    Unanswered,
    WarningRead,
    WarningsFound,
)
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.account_objects import money_returned, to_balance, to_dispute, to_warning
from refund_worker.processors.stripe.adapter import StripeProcessor
from refund_worker.processors.wire import Unreadable

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
DISPUTE: dict[str, Any] = {
    "id": "dp_1",
    "object": "dispute",
    "amount": 1_200,
    "balance_transactions": [{"object": "balance_transaction", "amount": -1_200, "fee": 1_500, "net": -2_700}],
    "charge": "ch_1",
    "created": 1_790_000_000,
    "currency": "eur",
    "evidence_details": {"due_by": 1_790_777_600, "has_evidence": False, "past_due": False, "submission_count": 0},
    "is_charge_refundable": False,
    "livemode": False,
    "payment_intent": "pi_1",
    "reason": "fraudulent",
    "status": "needs_response",
}
READ = DisputeObject(
    dispute_id="dp_1",
    status="needs_response",
    amount_minor=1_200,
    currency="EUR",
    payment_refs=("ch_1", "pi_1"),
    reason="fraudulent",
    created_at=datetime.fromtimestamp(1_790_000_000, UTC),
    due_by=datetime.fromtimestamp(1_790_777_600, UTC),
    money_returned=False,
    refundable=False,
    live=False,
)
WARNING: dict[str, Any] = {
    "id": "issfr_1",
    "object": "radar.early_fraud_warning",
    "actionable": True,
    "charge": "ch_1",
    "created": 1_790_000_000,
    "fraud_type": "made_with_stolen_card",
    "livemode": False,
    "payment_intent": "pi_1",
}
BALANCE: dict[str, Any] = {
    "object": "balance",
    "available": [
        {"amount": 5_000, "currency": "eur", "source_types": {"card": 5_000}},
        {"amount": -300, "currency": "usd"},
    ],
    "pending": [{"amount": 700, "currency": "eur"}],
    "livemode": False,
}

# --- objects ----------------------------------------------------------------------------------------------------------


def test_dispute_is_read_with_payment_due_date_and_money() -> None:
    assert to_dispute(DISPUTE) == READ
    expanded = DISPUTE | {"charge": {"id": "ch_1", "object": "charge"}, "payment_intent": None}
    assert to_dispute(expanded).payment_refs == ("ch_1",)


def test_unknown_status_of_a_dispute_is_passed_on() -> None:
    assert to_dispute(DISPUTE | {"status": "status_of_next_year"}).status == "status_of_next_year"
    assert to_dispute(DISPUTE | {"status": None}).status is None


def test_details_of_an_unknown_shape_are_left_out() -> None:
    odd = DISPUTE | {"evidence_details": "soon", "is_charge_refundable": "no", "livemode": 0, "reason": 7}
    dispute = to_dispute(odd | {"balance_transactions": None})
    assert (dispute.due_by, dispute.refundable, dispute.live, dispute.reason) == (None, None, None, None)
    assert dispute.money_returned is None
    for due_by in (None, -1, "1790777600", True, 10**15):
        assert to_dispute(DISPUTE | {"evidence_details": {"due_by": due_by}}).due_by is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "charge"},
        {"id": None},
        {"id": "dp_1/../../v1/charges"},
        {"amount": "1200"},
        {"amount": True},
        {"amount": -1},
        {"amount": 10**13},
        {"currency": "euro"},
        {"created": None},
        {"created": 10**15},
        {"status": ["lost"]},
    ],
    ids=str,
)
def test_malformed_dispute_is_unreadable(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        to_dispute(DISPUTE | wrong)


@pytest.mark.parametrize(
    ("amounts", "returned"),
    [
        ([], None),
        ([-1_200], False),
        ([-1_200, 1_200], True),
        ([1_200, -1_200], True),
        ([-1_200, 1_199], False),
        ([-1_200, 1_200, -1_200], False),
        ([1_200], None),
        (["-1200"], None),
        ([-1_200, None], None),
        ([True, -1], None),
        ([-(10**13)], None),
    ],
    ids=str,
)
def test_money_is_returned_once_all_that_was_withdrawn_is_back(amounts: list[Any], returned: bool | None) -> None:
    assert money_returned([{"amount": amount, "fee": 1_500} for amount in amounts]) is returned


@pytest.mark.parametrize("movements", [None, "none", {"data": []}, ["txn_1"]], ids=str)
def test_movements_that_cannot_be_read_report_nothing(movements: object) -> None:
    assert money_returned(movements) is None


def test_early_fraud_warning_is_read() -> None:
    assert to_warning(WARNING) == FraudWarning(
        warning_id="issfr_1",
        payment_refs=("ch_1", "pi_1"),
        fraud_type="made_with_stolen_card",
        actionable=True,
        created_at=datetime.fromtimestamp(1_790_000_000, UTC),
        live=False,
    )
    assert to_warning(WARNING | {"actionable": "yes", "fraud_type": None}).actionable is None
    for wrong in ({"object": "dispute"}, {"id": "issfr 1"}, {"created": "now"}):
        with pytest.raises(Unreadable):
            to_warning(WARNING | wrong)


def test_balance_is_read_by_currency_and_a_debt_is_below_zero() -> None:
    assert to_balance(BALANCE) == BalanceRead({"EUR": 5_000, "USD": -300}, {"EUR": 700}, live=False)


def test_money_set_aside_for_refunds_counts_as_available() -> None:
    aside = {"available": [{"amount": 40, "currency": "eur"}], "pending": [{"amount": 2, "currency": "gbp"}]}
    read = to_balance(BALANCE | {"refund_and_dispute_prefunding": aside})
    assert (read.available["EUR"], read.pending) == (5_040, {"EUR": 700, "GBP": 2})


@pytest.mark.parametrize(
    "wrong",
    [
        {"object": "account"},
        {"available": None},
        {"pending": {}},
        {"available": ["eur"]},
        {"available": [{"amount": "5", "currency": "eur"}]},
        {"available": [{"amount": True, "currency": "eur"}]},
        {"available": [{"amount": 10**16, "currency": "eur"}]},
        {"pending": [{"amount": 5, "currency": ""}]},
    ],
    ids=str,
)
def test_malformed_balance_is_unreadable_and_never_zero(wrong: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        to_balance(BALANCE | wrong)


# --- over the network -------------------------------------------------------------------------------------------------

Reading = Callable[[StripeProcessor], Any]
READINGS: dict[str, tuple[Reading, str]] = {
    "dispute": (lambda adapter: adapter.fetch_dispute("dp_1"), "/v1/disputes/dp_1"),
    "disputes of a payment": (lambda adapter: adapter.disputes_of("ch_1"), "/v1/disputes"),
    "recent disputes": (lambda adapter: adapter.recent_disputes(SINCE), "/v1/disputes"),
    "warning": (lambda adapter: adapter.fetch_warning("issfr_1"), "/v1/radar/early_fraud_warnings/issfr_1"),
    "recent warnings": (lambda adapter: adapter.recent_warnings(SINCE), "/v1/radar/early_fraud_warnings"),
    "balance": (lambda adapter: adapter.balance(), "/v1/balance"),
}
every_reading = pytest.mark.parametrize("reading", [reading for reading, _ in READINGS.values()], ids=list(READINGS))
GONE = {"code": "resource_missing", "message": "No such path"}
UNREADABLE: dict[str, Act] = {
    "no such path": error(404, INVALID, message="Unrecognized request URL"),
    "no such path, without Stripe's error object": answers(404, b"<h1>Not found</h1>"),
    "no such path, with a code": error(404, INVALID, **GONE),
    "method not allowed": error(405, INVALID),
    "not implemented": answers(501, b""),
    "forbidden": error(403, INVALID, "more_permissions_required"),
    "forbidden to this account": error(403, INVALID, "account_invalid"),
    "unknown parameter": error(400, INVALID, "parameter_unknown", param="created"),
}


@every_reading
@pytest.mark.parametrize("act", UNREADABLE.values(), ids=UNREADABLE)
def test_server_or_key_that_cannot_say_is_no_failure(bench: Bench, reading: Reading, act: Act) -> None:
    assert isinstance(bench.run(reading(bench.play(act))), NotReadable)


@every_reading
@pytest.mark.parametrize(
    ("act", "reply"),
    [
        (error(401, INVALID), Denied),
        (error(429, INVALID), Busy),
        (error(500, INVALID), Unanswered),
        (answers(200, {"object": "charge"}), Unanswered),
        (answers(200, b"[" * 100_000), Unanswered),
    ],
    ids=["wrong key", "busy", "server error", "another object", "broken JSON"],
)
def test_failed_reading_says_why(bench: Bench, reading: Reading, act: Act, reply: type) -> None:
    assert isinstance(bench.run(reading(bench.play(act))), reply)


def test_reading_without_an_answer_ends(bench: Bench) -> None:
    assert isinstance(bench.run(bench.play(sends_nothing).balance()), Unanswered)


@every_reading
def test_reading_without_a_connection_is_not_sent(bench: Bench, reading: Reading) -> None:
    assert isinstance(bench.run(reading(bench.adapter("http://127.0.0.1:1"))), NotSent)


@pytest.mark.parametrize(("reading", "path"), READINGS.values(), ids=list(READINGS))
def test_reading_asks_its_own_path(bench: Bench, reading: Reading, path: str) -> None:
    bench.run(reading(bench.play(error(404, INVALID))))
    (request,) = bench.server.requests
    assert (request.method, request.target.partition("?")[0]) == ("GET", path)
    if "recent" in path:
        assert request.query["created[gte]"] == str(int(SINCE.timestamp()))


def test_unknown_object_is_misconfigured(bench: Bench) -> None:
    gone = error(404, INVALID, "resource_missing", param="dispute", message="No such dispute")
    assert isinstance(bench.run(bench.play(gone).fetch_dispute("dp_1")), Misconfigured)
    assert isinstance(bench.run(bench.play(gone).disputes_of("ch_1")), Misconfigured)


@pytest.mark.parametrize(
    "reading",
    [
        lambda adapter: adapter.fetch_dispute("dp_1/close"),
        lambda adapter: adapter.fetch_warning("../balance"),
        lambda adapter: adapter.disputes_of("PAYID-1"),
    ],
)
def test_id_that_cannot_be_one_is_not_asked_about(bench: Bench, reading: Reading) -> None:
    adapter = bench.play(answers(200, DISPUTE))
    assert isinstance(bench.run(reading(adapter)), Misconfigured)
    assert bench.server.requests == []


def test_naive_time_is_refused(bench: Bench) -> None:
    for recent in (bench.play(page()).recent_disputes, bench.play(page()).recent_warnings):
        with pytest.raises(ValueError, match="time zone"):
            bench.run(recent(datetime(2026, 1, 1)))  # noqa: DTZ001


def test_another_object_than_the_asked_one_is_unanswered(bench: Bench) -> None:
    assert isinstance(bench.run(bench.play(answers(200, DISPUTE | {"id": "dp_2"})).fetch_dispute("dp_1")), Unanswered)


def test_list_is_read_to_its_end_and_half_of_it_never_counts(bench: Bench) -> None:
    first, second = DISPUTE | {"id": "dp_2"}, DISPUTE
    adapter = bench.play(page(first, has_more=True), page(first, second))
    reply = bench.run(adapter.recent_disputes(SINCE))
    assert isinstance(reply, DisputesFound)
    assert [each.dispute_id for each in reply.objects] == ["dp_2", "dp_1"]
    assert bench.server.requests[1].query["starting_after"] == "dp_2"
    broken = bench.play(page(WARNING, has_more=True), error(500, INVALID))
    assert isinstance(bench.run(broken.recent_warnings(SINCE)), Unanswered)
    endless = bench.play(page(first, has_more=True))
    assert isinstance(bench.run(endless.disputes_of("ch_1")), Unanswered)


# --- over the sandbox -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox with one charge, over which a dispute is open, and a payment intent."""
    with Sandbox() as running:
        running.register_payment("ch_1", 5_000, "EUR")
        running.register_payment("pi_2", 5_000, "EUR")
        yield running


def ask(sandbox: Sandbox, reading: Reading) -> AccountReply:
    """Read from the sandbox over a new adapter."""

    async def over() -> AccountReply:
        adapter = StripeProcessor("sk_test_reading", base=sandbox.url, timeout_seconds=10)
        try:
            reply: AccountReply = await reading(adapter)
            return reply
        finally:
            await adapter.close()

    return asyncio.run(over())


def test_dispute_at_the_sandbox_is_fetched_and_listed_as_it_moves(sandbox: Sandbox) -> None:
    opened = sandbox.act("open_dispute", payment="ch_1", amount_minor=1_200)
    read = ask(sandbox, lambda adapter: adapter.fetch_dispute(opened["id"]))
    assert isinstance(read, DisputeRead)
    dispute = read.object
    assert (dispute.status, dispute.amount_minor, dispute.currency) == ("needs_response", 1_200, "EUR")
    assert (dispute.money_returned, dispute.refundable, "ch_1" in dispute.payment_refs) == (False, False, True)
    since = datetime.now(UTC) - timedelta(days=1)
    assert ask(sandbox, lambda adapter: adapter.disputes_of("ch_1")) == DisputesFound((dispute,))
    assert ask(sandbox, lambda adapter: adapter.disputes_of("pi_2")) == DisputesFound(())
    assert ask(sandbox, lambda adapter: adapter.recent_disputes(since)) == DisputesFound((dispute,))
    later = datetime.now(UTC) + timedelta(days=1)
    assert ask(sandbox, lambda adapter: adapter.recent_disputes(later)) == DisputesFound(())
    sandbox.act("move_dispute", dispute=opened["id"], status="won")
    won = ask(sandbox, lambda adapter: adapter.fetch_dispute(opened["id"]))
    assert isinstance(won, DisputeRead)
    assert (won.object.status, won.object.money_returned, won.object.refundable) == ("won", True, True)
    assert isinstance(ask(sandbox, lambda adapter: adapter.fetch_dispute("dp_nobody")), Misconfigured)


def test_warning_at_the_sandbox_is_fetched_and_listed(sandbox: Sandbox) -> None:
    made = sandbox.act("fraud_warning", payment="pi_2")
    read = ask(sandbox, lambda adapter: adapter.fetch_warning(made["id"]))
    assert isinstance(read, WarningRead)
    assert (read.object.actionable, "pi_2" in read.object.payment_refs) == (True, True)
    since = datetime.now(UTC) - timedelta(days=1)
    assert ask(sandbox, lambda adapter: adapter.recent_warnings(since)) == WarningsFound((read.object,))
