"""Stripe's route for payouts with the sandbox: both steps, the reversal, lost answers, lists, refusals and payees."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Coroutine, Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

import pytest
from tests.processors.published_codes import UNKNOWN_BY_SUBJECT
from tests.processors.scripted_stripe import (
    API_ERROR,
    API_KEY,
    INVALID,
    Act,
    Bench,
    answers,
    error,
    page,
    raw,
    sends_nothing,
)

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    Fault,
    Method,
    PayeeRead,
    PayeeState,
    PayeeUnreadable,
    Step,
    TransferAnswered,
    TransferInstruction,
    TransferObject,
    TransfersFound,
)
from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.payout_routes import PayoutCapabilities
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.entry import ENTRY, StripeSettings
from refund_worker.processors.stripe.payout_errors import payout_meaning_of
from refund_worker.processors.stripe.payouts import StripePayouts

T = TypeVar("T")
ACCOUNT = "acct_Mia1"
DESTINATION = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=ACCOUNT)
ORDER = TransferInstruction(
    payout_id="p1",
    leg_id="p1-1",
    attempt=1,
    step=Step.TRANSFER,
    destination=DESTINATION,
    amount_minor=900,
    currency="USD",
    description="October",
    end_to_end_id="p1-1:1",
    installation="inst-1",
)
DAY_SECONDS = 86_400


def order(step: Step, **changes: Any) -> TransferInstruction:
    """Return the instruction of a step of the payout p1."""
    leg_id = f"p1-{list(Step).index(step) + 1}"
    return replace(ORDER, **{"step": step, "leg_id": leg_id, "end_to_end_id": f"{leg_id}:1", **changes})


def object_of(reply: object) -> TransferObject:
    """Return the object of an answer."""
    assert isinstance(reply, TransferAnswered), reply
    return reply.object


class Payer:
    """The route at a sandbox of its own, whose platform has 100.00 USD and one connected account."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.loop = asyncio.new_event_loop()
        self.route = StripePayouts(API_KEY, base=sandbox.url, timeout_seconds=5, page_pauses_seconds=())
        sandbox.act("top_up", currency="usd", amount_minor=10_000)
        sandbox.act("connect_account", account=ACCOUNT)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop."""
        return self.loop.run_until_complete(work)

    def send(self, instruction: TransferInstruction) -> Any:
        """Send an instruction under its key."""
        return self.run(self.route.send(instruction.end_to_end_id, self.route.freeze(instruction)))

    def transfer(self, **changes: Any) -> TransferObject:
        """Make a transfer."""
        return object_of(self.send(order(Step.TRANSFER, **changes)))

    def payout(self, **changes: Any) -> TransferObject:
        """Make a payout from the connected account."""
        return object_of(self.send(order(Step.PAYOUT, **changes)))

    def fetch(self, made: TransferObject, instruction: TransferInstruction) -> TransferObject:
        """Read an object again."""
        return object_of(self.run(self.route.fetch(made.object_id, self.route.freeze(instruction))))

    def find(self, instruction: TransferInstruction, since: float | None = None) -> tuple[TransferObject, ...]:
        """Return what the list has for an instruction."""
        body = self.route.freeze(instruction)
        found = self.run(self.route.find("k", body, time.time() if since is None else since))
        assert isinstance(found, TransfersFound), found
        return found.objects

    def payee(self) -> Any:
        """Return the verdict on the payee."""
        return self.run(self.route.read_payee(DESTINATION))

    def money(self) -> tuple[int, int, int]:
        """Return the money of the platform, of the account, and what reached its bank."""
        book = self.sandbox.book()
        sums = (book["balances"][""], book["balances"].get(ACCOUNT, {}), book["banks"].get(ACCOUNT, {}))
        return sums[0].get("usd", 0), sums[1].get("usd", 0), sums[2].get("usd", 0)


@pytest.fixture
def payer() -> Iterator[Payer]:
    with Sandbox(faults={"seed": 1, "hang_seconds": 0.2}) as sandbox:
        made = Payer(sandbox)
        yield made
        made.run(made.route.close())
        made.loop.close()


class RouteBench(Bench):
    """A bench with routes instead of adapters."""

    def __init__(self) -> None:
        super().__init__()
        self.routes: list[StripePayouts] = []


@pytest.fixture
def bench() -> Iterator[RouteBench]:
    made = RouteBench()
    yield made
    for route in made.routes:
        made.run(route.close())
    made.run(made.stop())
    made.loop.close()


def scripted(bench: RouteBench, *acts: Act) -> StripePayouts:
    """Return a route at a server that answers as scripted."""
    bench.play(*acts)
    seconds = 0.4 if sends_nothing in acts else 20.0
    route = StripePayouts(API_KEY, base=bench.server.url, timeout_seconds=seconds, page_pauses_seconds=())
    bench.routes.append(route)
    return route


def sent(bench: RouteBench, act: Act, step: Step = Step.TRANSFER) -> Any:
    """Send an instruction to a server with this one answer, and return the reply."""
    route = scripted(bench, act)
    return bench.run(route.send("k", route.freeze(order(step, undoes="tr_1" if step is Step.REVERSAL else None))))


# --- money ------------------------------------------------------------------------------------------------------------


def test_payout_goes_over_the_account_to_its_bank(payer: Payer) -> None:
    transfer = payer.transfer()
    assert (transfer.step, transfer.status, transfer.state) == (Step.TRANSFER, "transferred", ObjectState.SUCCEEDED)
    assert (transfer.amount_minor, transfer.currency, transfer.live) == (900, "USD", False)
    assert (transfer.leg_id, transfer.attempt, transfer.installation) == ("p1-1", 1, "inst-1")
    assert payer.money() == (9_100, 900, 0)
    payout = payer.payout()
    assert (payout.step, payout.status, payout.state) == (Step.PAYOUT, "pending", ObjectState.PENDING)
    assert (payout.leg_id, payout.attempt, payout.installation) == ("p1-2", 1, "inst-1")
    assert payout.arrives_at is not None
    payer.sandbox.advance_clock(DAY_SECONDS)
    assert payer.fetch(payout, order(Step.PAYOUT)).status == "in_transit"
    payer.sandbox.advance_clock(DAY_SECONDS)
    paid = payer.fetch(payout, order(Step.PAYOUT))
    assert (paid.status, paid.state) == ("paid", ObjectState.SUCCEEDED)
    assert paid.trace is not None
    assert len(paid.trace) == 15
    assert payer.money() == (9_100, 0, 900)
    (stored,) = payer.sandbox.book()["transfers"]
    assert (stored["transfer_group"], stored["description"], stored["idempotency_key"]) == ("p1", "October", "p1-1:1")
    assert stored["metadata"]["refund_worker_payout"] == "p1"


def test_paid_payout_that_fails_is_undone_by_a_reversal(payer: Payer) -> None:
    transfer, payout = payer.transfer(), payer.payout()
    payer.sandbox.advance_clock(3 * DAY_SECONDS)
    act = {"payout": payout.object_id, "status": "failed", "failure_code": "no_account"}
    payer.sandbox.act("move_payout", account=ACCOUNT, **act)
    failed = payer.fetch(payout, order(Step.PAYOUT))
    assert (failed.state, failed.failure_code, failed.fault) == (ObjectState.FAILED, "no_account", Fault.PAYEE)
    assert failed.returned_minor is None  # all of it came back, to the connected account
    assert payer.money() == (9_100, 900, 0)
    undo = order(Step.REVERSAL, undoes=transfer.object_id)
    reversal = object_of(payer.send(undo))
    assert (reversal.step, reversal.state, reversal.amount_minor) == (Step.REVERSAL, ObjectState.SUCCEEDED, 900)
    assert (reversal.leg_id, reversal.refs) == ("p1-3", (transfer.object_id,))
    assert payer.money() == (10_000, 0, 0)
    assert payer.fetch(reversal, undo) == reversal
    assert payer.find(undo) == (reversal,)
    # Our own reversal is a step of its own: the transfer took place.
    assert payer.fetch(transfer, order(Step.TRANSFER)).state is ObjectState.SUCCEEDED


def test_instant_payout_is_asked_for_as_such(payer: Payer) -> None:
    payer.transfer()
    payout = payer.payout(method=Method.INSTANT)
    payer.sandbox.advance_clock(1_800)
    assert payer.fetch(payout, order(Step.PAYOUT)).state is ObjectState.SUCCEEDED
    assert [each["method"] for each in payer.sandbox.book()["payouts"]] == ["instant"]


def test_transfer_that_others_reversed_is_never_guessed_at(payer: Payer) -> None:
    transfer = payer.transfer()
    payer.sandbox.act("dashboard_reversal", transfer=transfer.object_id, amount_minor=400)
    partly = payer.fetch(transfer, order(Step.TRANSFER))
    assert (partly.status, partly.state, partly.amount_minor) == ("partly_reversed", None, 900)
    payer.sandbox.act("dashboard_reversal", transfer=transfer.object_id)
    undone = payer.fetch(transfer, order(Step.TRANSFER))
    assert (undone.status, undone.state) == ("reversed", ObjectState.CANCELED)


def test_transfer_that_we_and_others_reversed_has_no_known_state(payer: Payer) -> None:
    transfer = payer.transfer()
    object_of(payer.send(order(Step.REVERSAL, undoes=transfer.object_id, amount_minor=500)))
    assert payer.fetch(transfer, order(Step.TRANSFER)).state is ObjectState.SUCCEEDED
    payer.sandbox.act("dashboard_reversal", transfer=transfer.object_id)
    assert payer.fetch(transfer, order(Step.TRANSFER)).state is None


def test_pending_payout_can_be_called_off_and_nothing_else(payer: Payer) -> None:
    transfer, payout = payer.transfer(), payer.payout()
    body = payer.route.freeze(order(Step.PAYOUT))
    assert object_of(payer.run(payer.route.cancel(payout.object_id, body))).state is ObjectState.CANCELED
    assert payer.money() == (9_100, 900, 0)
    again = payer.run(payer.route.cancel(payout.object_id, body))
    assert isinstance(again, UnknownRefusal)
    reply = payer.run(payer.route.cancel(transfer.object_id, payer.route.freeze(order(Step.TRANSFER))))
    assert isinstance(reply, Misconfigured)
    assert reply.code == "not_cancelable"


# --- lost answers, keys and lists -------------------------------------------------------------------------------------

STEPS = [
    (Step.TRANSFER, "create_transfer", "transfers"),
    (Step.PAYOUT, "create_payout", "payouts"),
    (Step.REVERSAL, "create_reversal", "reversals"),
]


def prepared(payer: Payer, step: Step) -> TransferInstruction:
    """Return the instruction of a step after the steps before it."""
    if step is Step.TRANSFER:
        return order(step)
    transfer = payer.transfer()
    return order(step, undoes=transfer.object_id if step is Step.REVERSAL else None)


@pytest.mark.parametrize(("step", "kind", "name"), STEPS, ids=[step for step, _, _ in STEPS])
@pytest.mark.parametrize(
    "do",
    [{"reset": "after"}, {"reset": "mid_body"}, {"timeout": {"effect": "now"}}, {"truncate": True}],
    ids=str,
)
def test_lost_answer_is_found_and_its_repeat_makes_nothing_new(
    payer: Payer, step: Step, kind: str, name: str, do: dict[str, Any]
) -> None:
    instruction = prepared(payer, step)
    assert payer.find(instruction) == ()
    payer.sandbox.add_fault(do, match={"path_kind": kind})
    assert isinstance(payer.send(instruction), Unanswered)
    (found,) = payer.find(instruction)
    assert (found.leg_id, found.attempt, found.amount_minor) == (instruction.leg_id, 1, 900)
    again = payer.send(instruction)
    assert again.replayed
    assert object_of(again).object_id == found.object_id
    assert len(payer.sandbox.book()[name]) == 1


@pytest.mark.parametrize(("step", "kind", "name"), STEPS, ids=[step for step, _, _ in STEPS])
@pytest.mark.parametrize(
    ("do", "reply"),
    [
        ({"reset": "before"}, Unanswered),
        ({"timeout": {"effect": "none"}}, Unanswered),
        ({"rate_limit": {"retry_after_seconds": 7}}, Busy),
        ({"conflict": "key_in_use"}, Busy),
        ({"lock_timeout": 409}, Busy),
        ({"server_error": {"effect": "none", "sticky": False}}, Unanswered),
        ({"unauthorized": True}, Denied),
        ({"refuse": {"status": 400, "code": "no_account", "message": "No."}}, Refused),
        ({"refuse": {"status": 400, "code": "code_of_next_year", "message": "No."}}, UnknownRefusal),
        ({"refuse": "path_missing"}, Misconfigured),
    ],
    ids=str,
)
def test_call_that_was_not_executed_makes_nothing(
    payer: Payer, step: Step, kind: str, name: str, do: dict[str, Any], reply: type[object]
) -> None:
    instruction = prepared(payer, step)
    payer.sandbox.add_fault(do, match={"path_kind": kind})
    got = payer.send(instruction)
    assert isinstance(got, reply), got
    assert payer.sandbox.book()[name] == []
    assert payer.find(instruction) == ()
    if isinstance(got, Busy) and "rate_limit" in do:
        assert got.retry_after_seconds == 7


def test_server_error_is_kept_and_its_effect_is_found(payer: Payer) -> None:
    payer.sandbox.add_fault(
        {"server_error": {"effect": "later", "after_seconds": 60}}, match={"path_kind": "create_transfer"}
    )
    reply = payer.send(ORDER)
    assert isinstance(reply, Unanswered)
    assert reply.server_error
    assert payer.find(ORDER) == ()
    payer.sandbox.advance_clock(61)
    again = payer.send(ORDER)
    assert isinstance(again, Unanswered)  # the stored 500
    assert [each.leg_id for each in payer.find(ORDER)] == ["p1-1"]


def test_key_of_another_request_is_a_conflict(payer: Payer) -> None:
    payer.transfer()
    assert isinstance(payer.send(order(Step.TRANSFER, amount_minor=901)), KeyConflict)
    assert len(payer.sandbox.book()["transfers"]) == 1


def test_list_has_all_pages_and_those_of_others(payer: Payer) -> None:
    payer.transfer()
    for number in range(105):
        payer.payout(leg_id=f"leg-{number}", end_to_end_id=f"k{number}", amount_minor=5)
    payer.sandbox.act("payout", account=ACCOUNT, currency="usd")
    found = [each.leg_id for each in payer.find(order(Step.PAYOUT))]
    assert sorted(found, key=str) == sorted([None, *(f"leg-{number}" for number in range(105))], key=str)


def test_transfers_of_other_payouts_and_accounts_are_left_out(payer: Payer) -> None:
    made = payer.transfer()
    payer.transfer(payout_id="p2", leg_id="p2-1", end_to_end_id="k2")
    payer.sandbox.act("connect_account", account="acct_Other2")
    other = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account="acct_Other2")
    payer.transfer(destination=other, end_to_end_id="k3")
    assert payer.find(ORDER) == (made,)


def test_wrong_clock_of_ours_hides_nothing_that_was_made(payer: Payer) -> None:
    transfer, payout = payer.transfer(), payer.payout()
    made_at = payout.created_at.timestamp()
    assert payer.find(ORDER, made_at + 400 * DAY_SECONDS) == (transfer,)
    assert payer.find(order(Step.PAYOUT), made_at + 23 * 3_600) == (payout,)
    assert payer.find(order(Step.PAYOUT), made_at + 2 * DAY_SECONDS) == ()


def test_list_that_fails_on_a_later_page_is_no_list(bench: RouteBench) -> None:
    shown = {"id": "tr_1", "object": "transfer", "amount": 1, "amount_reversed": 0, "created": 5, "currency": "usd"}
    route = scripted(bench, page(shown, has_more=True), error(500, API_ERROR))
    reply = bench.run(route.find("k", route.freeze(ORDER), 0))
    assert isinstance(reply, Unanswered)
    asked = [each.query for each in bench.server.requests]
    assert asked[0] == {"destination": ACCOUNT, "limit": "100", "transfer_group": "p1"}
    assert asked[1]["starting_after"] == "tr_1"


def test_payouts_that_take_money_from_a_bank_are_left_out(bench: RouteBench) -> None:
    debit = {"id": "po_1", "object": "payout", "amount": -500, "created": 5, "currency": "usd", "status": "paid"}
    ours = {**debit, "id": "po_2", "amount": 900, "metadata": {"refund_worker_leg": "p1-2"}}
    route = scripted(bench, page(debit, has_more=True), page(ours))
    found = bench.run(route.find("k", route.freeze(order(Step.PAYOUT)), 0))
    assert isinstance(found, TransfersFound)
    assert [each.object_id for each in found.objects] == ["po_2"]
    assert bench.server.requests[0].query == {"created[gte]": "0", "limit": "100"}
    first, second = bench.server.requests
    assert first.headers["stripe-account"] == second.headers["stripe-account"] == ACCOUNT
    assert second.query["starting_after"] == "po_1"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_empty_balance_of_ours_waits_for_a_top_up(payer: Payer) -> None:
    payer.sandbox.act("payout", currency="usd", amount_minor=10_000)
    reply = payer.send(ORDER)
    assert isinstance(reply, Blocked)
    assert reply.code == "balance_insufficient"
    assert ENTRY.payouts is not None
    assert reply.code in ENTRY.payouts.capabilities.low_balance_codes
    payer.sandbox.act("top_up", currency="usd", amount_minor=900)
    assert object_of(payer.send(replace(ORDER, attempt=2, end_to_end_id="p1-1:2"))).attempt == 2


def test_empty_balance_of_the_account_is_another_code(payer: Payer) -> None:
    transfer = payer.transfer()
    payer.sandbox.act("payout", account=ACCOUNT, currency="usd")
    payout = payer.send(order(Step.PAYOUT))
    assert isinstance(payout, Blocked)
    assert payout.code == "connected_balance_insufficient"
    assert ACCOUNT in payout.message
    # The money has left: the transfer is not given back by waiting, so a person decides.
    reversal = payer.send(order(Step.REVERSAL, undoes=transfer.object_id))
    assert isinstance(reversal, Refused)
    assert reversal.code == "connected_balance_insufficient"
    assert ACCOUNT in reversal.message
    assert payer.money() == (9_100, 0, 900)


def test_account_that_cannot_be_paid_refuses_for_good(payer: Payer) -> None:
    payer.transfer()
    payer.sandbox.act("change_account", account=ACCOUNT, disabled_reason="rejected.other", transfers="inactive")
    payout, transfer = payer.send(order(Step.PAYOUT)), payer.send(order(Step.TRANSFER, end_to_end_id="k2"))
    assert isinstance(payout, Refused)
    assert isinstance(transfer, Refused)
    assert (payout.code, transfer.code) == ("payouts_not_allowed", "insufficient_capabilities_for_transfer")
    payer.sandbox.act("change_account", account=ACCOUNT, payouts_enabled=True, instant=False)
    instant = payer.send(order(Step.PAYOUT, method=Method.INSTANT, end_to_end_id="k3"))
    assert isinstance(instant, Refused)
    assert instant.code == "instant_payouts_unsupported"


def test_account_without_a_connection_stops_no_other_payout(payer: Payer) -> None:
    transfer = payer.transfer()
    payer.sandbox.act("disconnect_account", account=ACCOUNT)
    to_it, out_of_it = payer.send(order(Step.TRANSFER, end_to_end_id="k2")), payer.send(order(Step.PAYOUT))
    assert isinstance(to_it, Misconfigured)
    assert isinstance(out_of_it, Misconfigured)
    assert (to_it.code, out_of_it.code) == ("resource_missing", "account_invalid")
    assert payer.fetch(transfer, ORDER).state is ObjectState.SUCCEEDED


REFUSALS: list[tuple[int, dict[str, Any], type[object]]] = [
    (400, {"code": "balance_insufficient"}, Blocked),
    (400, {"code": "payouts_limit_exceeded"}, Blocked),
    (400, {"code": "instant_payouts_limit_exceeded"}, Blocked),
    (400, {"code": "payouts_not_allowed"}, Refused),
    (400, {"code": "instant_payouts_unsupported"}, Refused),
    (400, {"code": "bank_account_unusable"}, Refused),
    (400, {"code": "amount_too_small", "param": "amount"}, Misconfigured),
    (400, {"code": "resource_missing", "param": "destination"}, Misconfigured),
    (400, {"code": "account_invalid", "param": "destination"}, Misconfigured),
    (400, {"code": "parameter_invalid_integer", "param": "amount"}, Misconfigured),
    (400, {"code": "parameter_unknown", "param": "transfer_groups"}, Denied),
    (400, {"code": "testmode_charges_only"}, Denied),
    (400, {"code": "charge_already_refunded"}, UnknownRefusal),
    (400, {"code": "charge_disputed"}, UnknownRefusal),
    (400, {"code": "code_of_next_year"}, UnknownRefusal),
    # Without a code nothing ends and nothing is less: not even more than is left of a transfer.
    (400, {"param": "amount", "message": "Reversal amount is greater than unreversed amount"}, UnknownRefusal),
    (400, {"message": "Cannot create payouts; please contact us"}, UnknownRefusal),
    (401, {}, Denied),
    (403, {}, Denied),
    (404, {"code": "resource_missing", "param": "id"}, Misconfigured),
    (409, {"code": "lock_timeout"}, Busy),
    (409, {"code": "something_else"}, Unanswered),
    (429, {"code": "rate_limit"}, Busy),
    (500, {}, Unanswered),
    (503, {}, Unanswered),
]


@pytest.mark.parametrize(("status", "fields_of_error", "reply"), REFUSALS, ids=str)
def test_refusal_is_judged_by_its_code(
    bench: RouteBench, status: int, fields_of_error: dict[str, Any], reply: type[object]
) -> None:
    more = dict(fields_of_error)
    got = sent(bench, error(status, INVALID, more.pop("code", None), **more))
    assert isinstance(got, reply), got


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 502, 302])
def test_answer_of_a_proxy_says_nothing_of_the_outcome(bench: RouteBench, status: int) -> None:
    for step in Step:
        reply = sent(bench, answers(status, b"<html>no</html>", Request_Id="-"), step)
        assert isinstance(reply, Unanswered), reply


@pytest.mark.parametrize(
    "act",
    [
        answers(200, b"<html>welcome</html>"),
        answers(200, {"object": "charge", "id": "ch_1"}),
        answers(200, {"object": "transfer", "id": "tr_1", "amount": 900, "currency": "usd", "created": 5}),
        answers(200, []),
        raw(b""),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n{", then_reset=True),
        sends_nothing,
    ],
)
def test_answer_that_cannot_be_read_is_no_answer(bench: RouteBench, act: Act) -> None:
    assert isinstance(sent(bench, act), Unanswered)


def test_request_that_never_left_is_not_sent() -> None:
    route = StripePayouts(API_KEY, base="http://127.0.0.1:9", timeout_seconds=5)

    async def work() -> object:
        reply = await route.send("k", route.freeze(ORDER))
        await route.close()
        return reply

    assert isinstance(asyncio.run(work()), NotSent)


def test_refused_permission_concerns_the_connected_account(bench: RouteBench) -> None:
    reply = sent(bench, error(403, INVALID), Step.PAYOUT)
    assert isinstance(reply, Misconfigured)
    assert ACCOUNT in reply.message
    assert isinstance(sent(bench, error(401, INVALID), Step.PAYOUT), Denied)


def test_published_codes_of_payouts_have_a_meaning_of_their_own() -> None:
    for code in UNKNOWN_BY_SUBJECT["payouts and transfers"] - {"payout_reconciliation_not_ready"}:
        assert payout_meaning_of(code, "", "") != "unknown", code


# --- requests ---------------------------------------------------------------------------------------------------------


def test_frozen_body_is_canonical_and_complete() -> None:
    route = StripePayouts(API_KEY)
    marks = {"refund_worker_payout": "p1", "refund_worker_attempt": "1", "refund_worker_installation": "inst-1"}
    assert json.loads(route.freeze(ORDER)) == {
        "step": "transfer",
        "account": ACCOUNT,
        "params": {
            "amount": 900,
            "currency": "usd",
            "destination": ACCOUNT,
            "description": "October",
            "transfer_group": "p1",
            "metadata": {**marks, "refund_worker_leg": "p1-1"},
        },
    }
    assert json.loads(route.freeze(order(Step.PAYOUT, method=Method.INSTANT, description=" ")))["params"] == {
        "amount": 900,
        "currency": "usd",
        "method": "instant",
        "metadata": {**marks, "refund_worker_leg": "p1-2"},
    }
    reversal = json.loads(route.freeze(order(Step.REVERSAL, undoes="tr_1", installation="")))
    assert (reversal["transfer"], reversal["params"]["amount"]) == ("tr_1", 900)
    assert reversal["params"]["metadata"].keys() == marks.keys() - {"refund_worker_installation"} | {
        "refund_worker_leg"
    }
    body = route.freeze(ORDER)
    assert body == json.dumps(json.loads(body), sort_keys=True, separators=(",", ":"))
    assert body == route.freeze(ORDER)


@pytest.mark.parametrize(
    "changes",
    [
        {"amount_minor": 0},
        {"amount_minor": -1},
        {"amount_minor": True},
        {"currency": "DOLLAR"},
        {"currency": "HUF", "amount_minor": 150},
        {"currency": "UGX", "amount_minor": 99},
        {"payout_id": ""},
        {"leg_id": "x" * 501},
        {"step": Step.REVERSAL},
        {"step": Step.REVERSAL, "undoes": "tr_1/../x"},
        {"destination": Destination(kind=DestinationKind.PAYPAL, email="mia@example.org")},
    ],
    ids=str,
)
def test_instruction_that_stripe_cannot_take_is_never_frozen(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        StripePayouts(API_KEY).freeze(replace(ORDER, **changes))


def test_whole_units_of_a_currency_are_frozen() -> None:
    for currency in ("HUF", "ISK", "TWD", "UGX"):
        assert StripePayouts(API_KEY).freeze(replace(ORDER, currency=currency, amount_minor=1_500))


def test_wrong_keys_bodies_and_ids_are_never_sent(bench: RouteBench) -> None:
    route = scripted(bench, answers(200, {}))
    body = route.freeze(ORDER)
    for key in ("", "a b", "é", "k" * 256):
        with pytest.raises(ValueError, match="idempotency key"):
            bench.run(route.send(key, body))
    for wrong in (
        "{}",
        "[]",
        "null",
        body.replace("transfer_group", "group"),
        body.replace('"step":"transfer"', '"step":"loan"'),
        body.replace(ACCOUNT, "acct/1"),
    ):
        with pytest.raises(ValueError, match=r".+"):
            bench.run(route.send("k", wrong))
    assert isinstance(bench.run(route.fetch("tr_1/reversals", body)), Misconfigured)
    assert isinstance(bench.run(route.cancel("po_1/x", route.freeze(order(Step.PAYOUT)))), Misconfigured)
    assert bench.server.requests == []


def test_key_and_account_travel_as_headers(bench: RouteBench) -> None:
    for step, account in ((Step.TRANSFER, None), (Step.PAYOUT, ACCOUNT), (Step.REVERSAL, None)):
        sent(bench, answers(200, {}), step)
        (request,) = bench.server.requests
        assert request.headers["idempotency-key"] == "k"
        assert request.headers.get("stripe-account") == account
        assert not {"idempotency_key", "stripe_account"} & request.form.keys()
        assert (
            request.target
            == {
                Step.TRANSFER: "/v1/transfers",
                Step.PAYOUT: "/v1/payouts",
                Step.REVERSAL: "/v1/transfers/tr_1/reversals",
            }[step]
        )


def test_sdk_sends_a_failed_call_only_once(bench: RouteBench) -> None:
    for act in (error(500, API_ERROR), error(409, INVALID), raw(b"")):
        sent(bench, act)
        assert len(bench.server.requests) == 1


def test_another_object_than_the_asked_one_is_not_believed(bench: RouteBench) -> None:
    shown = {"id": "tr_2", "object": "transfer", "amount": 1, "amount_reversed": 0, "created": 5, "currency": "usd"}
    route = scripted(bench, answers(200, shown))
    assert isinstance(bench.run(route.fetch("tr_1", route.freeze(ORDER))), Unanswered)


def test_key_is_in_no_representation_and_no_log(payer: Payer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    payer.transfer()
    payer.payout()
    assert API_KEY not in repr(payer.route) + repr(vars(payer.route)) + caplog.text


# --- payees -----------------------------------------------------------------------------------------------------------


def test_verdict_on_a_payee_follows_its_account(payer: Payer) -> None:
    assert payer.payee() == PayeeRead(PayeeState.READY)
    payer.sandbox.act(
        "change_account",
        account=ACCOUNT,
        disabled_reason="requirements.past_due",
        past_due=["individual.dob.day", "external_account"],
        currently_due=["external_account", "tos_acceptance.date"],
        current_deadline=2_000_000_000,
    )
    assert payer.payee() == PayeeRead(
        PayeeState.INCOMPLETE,
        "requirements.past_due",
        ("individual.dob.day", "external_account", "tos_acceptance.date"),
        2_000_000_000.0,
    )
    for reason in ("under_review", "requirements.pending_verification"):
        payer.sandbox.act("change_account", account=ACCOUNT, disabled_reason=reason)
        assert payer.payee() == PayeeRead(PayeeState.UNDER_REVIEW, reason)
    for reason in ("rejected.fraud", "listed", "platform_paused", "reason_of_next_year"):
        payer.sandbox.act("change_account", account=ACCOUNT, disabled_reason=reason, undocumented=True)
        assert payer.payee() == PayeeRead(PayeeState.REFUSED)  # and not a word more
    payer.sandbox.act("disconnect_account", account=ACCOUNT)
    assert payer.payee() == PayeeRead(PayeeState.INCOMPLETE, "account_invalid")


def test_payee_that_cannot_get_transfers_is_not_ready(payer: Payer) -> None:
    payer.sandbox.act("change_account", account=ACCOUNT, transfers="inactive")
    assert payer.payee() == PayeeRead(PayeeState.INCOMPLETE, "transfers_inactive")
    payer.sandbox.act("change_account", account=ACCOUNT, transfers="pending")
    assert payer.payee() == PayeeRead(PayeeState.UNDER_REVIEW, "transfers_pending")


@pytest.mark.parametrize(
    ("act", "reply"),
    [
        (error(401, INVALID), Denied),
        (error(403, INVALID), Misconfigured),
        (error(404, INVALID, "resource_missing"), PayeeRead),
        (error(429, INVALID, "rate_limit"), Busy),
        (error(500, API_ERROR), Unanswered),
        (answers(403, b"<html>no</html>", Request_Id="-"), Unanswered),
        (answers(200, {"object": "account", "id": "acct_Other2", "payouts_enabled": True}), Unanswered),
        (answers(200, {"object": "account", "id": ACCOUNT}), Unanswered),
        (answers(200, {"object": "account", "id": ACCOUNT, "payouts_enabled": "yes"}), Unanswered),
    ],
)
def test_verdict_is_never_guessed(bench: RouteBench, act: Act, reply: type[object]) -> None:
    route = scripted(bench, act)
    got = bench.run(route.read_payee(DESTINATION))
    assert isinstance(got, reply), got
    assert not isinstance(got, PayeeRead) or got.state is PayeeState.INCOMPLETE


def test_other_destinations_are_not_asked_about(bench: RouteBench) -> None:
    route = scripted(bench, answers(200, {}))
    other = Destination(kind=DestinationKind.PAYPAL, email="mia@example.org")
    assert isinstance(bench.run(route.read_payee(other)), PayeeUnreadable)
    assert bench.server.requests == []


# --- the entry --------------------------------------------------------------------------------------------------------


def test_every_fact_has_its_source() -> None:
    assert ENTRY.payouts is not None
    facts = ENTRY.payouts.capabilities
    # `by_file` is no fact about a processor: no file goes to one that moves money.
    assert facts.sources.keys() == {each.name for each in fields(PayoutCapabilities)} - {"sources", "by_file"}
    assert facts.steps == (Step.TRANSFER, Step.PAYOUT)
    assert facts.return_window_seconds == 7 * DAY_SECONDS
    assert {facts.currency_steps[currency] for currency in ("HUF", "ISK", "TWD", "UGX")} == {100}


def test_entry_makes_a_route_of_its_account(payer: Payer) -> None:
    assert ENTRY.payouts is not None
    settings = StripeSettings(api_key=API_KEY, api_base=payer.sandbox.url)
    route = ENTRY.payouts.make("stripe:uk", settings, 5.0)
    assert route.name == "stripe:uk"
    assert object_of(payer.run(route.send("k", route.freeze(ORDER)))).amount_minor == 900
    payer.run(route.close())
    payer.run(route.close())
