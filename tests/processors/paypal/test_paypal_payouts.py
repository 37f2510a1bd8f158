"""The route for payouts with the local PayPal: lost answers, repeats, duplicates, cancellation, proxies and secrets."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.processors.paypal.payout_bench import EMAIL, LEG, PAYER, PayoutBench, instruction, to_email
from tests.support.openapi_check import described

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    Fault,
    NotListed,
    PayeeUnreadable,
    Step,
    TransferAnswered,
    TransferObject,
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
from refund_worker.processors.payout_routes import TransferHint
from refund_worker.processors.paypal.entry import ENTRY, PayPalSettings
from refund_worker.processors.paypal.payouts import PayPalPayouts
from refund_worker.processors.paypal.sandbox.book import DAY, PAYOUT_READINGS, PAYOUTS
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET
from refund_worker.processors.paypal.sandbox.server import PayPalServer


@pytest.fixture
def bench(server: PayPalServer) -> Iterator[PayoutBench]:
    bench = PayoutBench(server)
    yield bench
    bench.close()


@pytest.fixture(params=[True, False], ids=["keys kept", "keys forgotten"])
def either(request: pytest.FixtureRequest, bench: PayoutBench) -> PayoutBench:
    """Return a bench whose server acts on PayPal-Request-Id, as published, or does not, as others saw it."""
    bench.server.book.payouts.remembers_request_ids = request.param
    return bench


def object_of(reply: object) -> TransferObject:
    """Return the object of an answer."""
    assert isinstance(reply, TransferAnswered), reply
    return reply.object


# --- a payout that is paid --------------------------------------------------------------------------------------------


def test_payout_is_one_batch_with_one_item(bench: PayoutBench) -> None:
    reply = bench.send(bench.route())
    made = object_of(reply)
    (item,) = bench.items
    assert (item.receiver, item.amount, item.currency, item.recipient_type) == (EMAIL, Decimal("9.00"), "USD", "EMAIL")
    assert (item.sender_item_id, item.note) == (f"{LEG}:1", "October")
    assert bench.server.book.payouts.batches[item.batch_id].sender_batch_id == f"{LEG}:1"
    assert made.object_id == item.batch_id
    assert made.refs == (item.item_id, item.transaction_id)
    assert (made.state, made.status, made.step) == (ObjectState.SUCCEEDED, "SUCCESS", Step.PAYOUT)
    assert (made.amount_minor, made.currency, made.leg_id, made.attempt) == (900, "USD", LEG, 1)
    assert (made.fee_minor, made.trace, made.live) == (18, item.transaction_id, False)
    assert isinstance(reply, TransferAnswered)
    assert reply.request_id
    assert not reply.replayed


def test_payer_id_is_paid_too(bench: PayoutBench) -> None:
    destination = Destination(kind=DestinationKind.PAYPAL, payer_id=PAYER)
    assert object_of(bench.send(bench.route(), instruction(destination=destination))).state is ObjectState.SUCCEEDED
    assert (bench.items[0].recipient_type, bench.items[0].receiver) == ("PAYPAL_ID", PAYER)


@pytest.mark.parametrize(
    ("currency", "minor", "text"), [("JPY", 900, "900"), ("HUF", 900_00, "900"), ("EUR", 5, "0.05")]
)
def test_amount_has_the_decimals_of_paypal(bench: PayoutBench, currency: str, minor: int, text: str) -> None:
    made = object_of(bench.send(bench.route(), instruction(minor, currency)))
    assert str(bench.items[0].amount) == text
    assert (made.amount_minor, made.currency) == (minor, currency)


def test_request_has_the_key_and_fits_the_published_description(bench: PayoutBench) -> None:
    bench.send(bench.route())
    (exchange,) = [each for each in bench.server.exchanges if each.method == "POST"]
    assert exchange.headers["paypal-request-id"] == f"{LEG}:1"
    published = described("paypal_payments_payouts_batch_v1.json")
    assert published.faults(exchange.request, published.request("/v1/payments/payouts", "POST")) == []


def test_payout_is_pending_until_its_item_is_there(bench: PayoutBench) -> None:
    bench.server.book.payouts.seconds = 60
    route = bench.route()
    first = object_of(bench.send(route))
    assert (first.state, first.status, first.refs) == (ObjectState.PENDING, "PENDING", ())
    assert (first.amount_minor, first.currency, first.leg_id, first.attempt) == (900, "USD", LEG, 1)
    bench.server.book.clock_offset += 61
    later = object_of(bench.fetch(route, first))
    assert later.object_id == first.object_id
    assert later.state is ObjectState.SUCCEEDED
    assert len(later.refs) == 2


# --- after a lost answer ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["reset", "cut", "timeout", "error500", "proxy"])
def test_lost_answer_is_unknown_and_a_repeat_pays_once(either: PayoutBench, fault: str) -> None:
    either.server.book.faults[PAYOUTS].append(fault)
    assert isinstance(either.send(either.route(timeout_seconds=0.5)), Unanswered)
    assert len(either.items) == 1
    repeated = either.send(either.route())
    assert object_of(repeated).state is ObjectState.SUCCEEDED
    assert object_of(repeated).leg_id == LEG
    assert len(either.items) == 1


@pytest.mark.parametrize("fault", ["error503", "lost"])
def test_request_that_was_not_executed_is_paid_by_the_repeat(either: PayoutBench, fault: str) -> None:
    either.server.book.faults[PAYOUTS].append(fault)
    assert isinstance(either.send(either.route()), Unanswered)
    assert not either.items
    assert object_of(either.send(either.route())).state is ObjectState.SUCCEEDED
    assert len(either.items) == 1


@pytest.mark.parametrize(
    ("fault", "expected"),
    [("409", Busy("PREVIOUS_REQUEST_IN_PROGRESS")), ("429", Busy("RATE_LIMIT_REACHED", 3.0))],
)
def test_busy_server_has_not_executed_the_request(bench: PayoutBench, fault: str, expected: Busy) -> None:
    bench.server.book.faults[PAYOUTS].append(fault)
    assert bench.send(bench.route()) == expected
    assert not bench.items


@pytest.mark.parametrize("fault", ["error503", "reset", "timeout", "429", "issue:INVALID_RESOURCE_ID", "proxy"])
def test_batch_that_cannot_be_read_yet_is_pending(bench: PayoutBench, fault: str) -> None:
    bench.server.book.faults[PAYOUT_READINGS].append(fault)
    route = bench.route(timeout_seconds=0.7)
    made = object_of(bench.send(route))
    assert (made.state, made.refs, made.amount_minor, made.leg_id) == (ObjectState.PENDING, (), 900, LEG)
    assert object_of(bench.fetch(route, made)).state is ObjectState.SUCCEEDED


def test_payout_without_a_token_was_never_sent(bench: PayoutBench) -> None:
    bench.server.token_fault = "error500"
    assert isinstance(bench.send(bench.route()), NotSent)
    bench.server.token_fault = "hang"
    assert isinstance(bench.send(bench.route(timeout_seconds=0.3)), NotSent)
    assert not bench.server.exchanges


def test_server_without_a_listener_was_never_reached(bench: PayoutBench) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert isinstance(bench.send(bench.route(base=base)), NotSent)


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_repeat_under_the_same_id_is_the_first_batch(bench: PayoutBench) -> None:
    bench.server.book.payouts.remembers_request_ids = False
    route = bench.route()
    first, again = object_of(bench.send(route)), bench.send(route)
    assert object_of(again) == first
    assert isinstance(again, TransferAnswered)
    assert again.replayed


def test_repeat_of_a_payout_that_failed_later_is_failed(bench: PayoutBench) -> None:
    bench.server.book.payouts.remembers_request_ids = False
    route = bench.route()
    bench.send(route)
    bench.server.payouts.change(bench.items[0].item_id, "REVERSED")
    assert object_of(bench.send(route)).state is ObjectState.FAILED


@pytest.mark.parametrize(
    "other",
    [
        {"amount_minor": 901},
        {"currency": "EUR"},
        {"destination": to_email("bob@example.com")},
        {"destination": Destination(kind=DestinationKind.PAYPAL, payer_id=PAYER)},
    ],
    ids=["amount", "currency", "address", "payer id"],
)
def test_other_request_under_the_same_id_is_a_conflict(either: PayoutBench, other: dict[str, Any]) -> None:
    route = either.route()
    either.send(route)
    assert isinstance(either.send(route, instruction(**other)), KeyConflict)
    assert len(either.items) == 1


def test_other_item_in_a_batch_of_that_id_is_a_conflict(either: PayoutBench) -> None:
    route = either.route()
    either.send(route)
    either.items[0].sender_item_id = "another"
    assert isinstance(either.send(route), KeyConflict)


def test_batch_of_another_id_under_the_key_is_a_conflict(bench: PayoutBench) -> None:
    route = bench.route()
    bench.send(route)
    body = route.freeze(instruction(attempt=2))
    assert isinstance(bench.run(route.send(f"{LEG}:1", body)), KeyConflict)


@pytest.mark.parametrize("fault", ["error503", "reset", "429", "issue:INVALID_RESOURCE_ID", "issue:PERMISSION_DENIED"])
def test_first_batch_that_cannot_be_read_is_unknown(bench: PayoutBench, fault: str) -> None:
    bench.server.book.payouts.remembers_request_ids = False
    route = bench.route()
    bench.send(route)
    bench.server.book.faults[PAYOUT_READINGS].append(fault)
    assert isinstance(bench.send(route), Unanswered)
    assert object_of(bench.send(route)).state is ObjectState.SUCCEEDED


def test_new_attempt_has_ids_of_its_own(bench: PayoutBench) -> None:
    bench.server.book.payouts.outcomes[EMAIL] = "FAILED", "RECEIVING_LIMIT_EXCEEDED"
    route = bench.route()
    assert object_of(bench.send(route)).state is ObjectState.FAILED
    bench.server.book.payouts.outcomes.clear()
    second = object_of(bench.send(route, instruction(attempt=2)))
    assert (second.state, second.attempt) == (ObjectState.SUCCEEDED, 2)
    assert len(bench.items) == 2


# --- later ------------------------------------------------------------------------------------------------------------


def test_unclaimed_payout_waits_for_the_payee_and_comes_back(bench: PayoutBench) -> None:
    bench.server.book.payouts.outcomes[EMAIL] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    made = object_of(bench.send(bench.route()))
    assert (made.state, made.fault, made.failure_code) == (
        ObjectState.REQUIRES_ACTION,
        Fault.PAYEE,
        "RECEIVER_UNREGISTERED",
    )
    assert made.act_by == pytest.approx(bench.server.book.now() + 30 * DAY, abs=60)
    bench.server.book.clock_offset += 31 * DAY
    route = bench.route()
    returned = object_of(bench.fetch(route, made))
    assert (returned.state, returned.status, returned.act_by) == (ObjectState.FAILED, "RETURNED", None)


def test_paid_payout_can_fail_later(bench: PayoutBench) -> None:
    route = bench.route()
    made = object_of(bench.send(route))
    bench.server.payouts.change(bench.items[0].item_id, "REVERSED")
    reversed_one = object_of(bench.fetch(route, made))
    assert (reversed_one.state, reversed_one.failure_code) == (ObjectState.FAILED, "REVERSED")


def test_unclaimed_payout_is_canceled_once(bench: PayoutBench) -> None:
    bench.server.book.payouts.outcomes[EMAIL] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    route, body = bench.route(), bench.route().freeze(instruction())
    made = object_of(bench.send(route))
    for _ in range(2):
        canceled = object_of(bench.run(route.cancel(made.object_id, body)))
        assert (canceled.state, canceled.status, canceled.object_id) == (
            ObjectState.FAILED,
            "RETURNED",
            made.object_id,
        )
    assert not bench.server.book.payouts.received()


def test_claimed_payout_is_not_canceled(bench: PayoutBench) -> None:
    route, body = bench.route(), bench.route().freeze(instruction())
    made = object_of(bench.send(route))
    assert object_of(bench.run(route.cancel(made.object_id, body))).state is ObjectState.SUCCEEDED


def test_payout_without_an_item_is_not_canceled(bench: PayoutBench) -> None:
    bench.server.book.payouts.seconds = 60
    route, body = bench.route(), bench.route().freeze(instruction())
    made = object_of(bench.send(route))
    assert object_of(bench.run(route.cancel(made.object_id, body))).state is ObjectState.PENDING


@pytest.mark.parametrize("fault", ["reset", "error500", "timeout", "proxy"])
def test_lost_answer_to_a_cancellation_is_unknown(bench: PayoutBench, fault: str) -> None:
    bench.server.book.payouts.outcomes[EMAIL] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    route, body = bench.route(timeout_seconds=0.7), bench.route().freeze(instruction())
    made = object_of(bench.send(route))
    bench.server.book.faults[PAYOUTS].append(fault)
    assert isinstance(bench.run(route.cancel(made.object_id, body)), Unanswered)
    assert object_of(bench.fetch(route, made)).status == "RETURNED"


def test_unknown_batch_is_a_fault_of_one_record(bench: PayoutBench) -> None:
    route, body = bench.route(), bench.route().freeze(instruction())
    reply = bench.run(route.fetch("PYB1", body))
    assert isinstance(reply, Misconfigured)
    assert reply.code == "not_found"
    for act in (route.fetch, route.cancel):
        assert isinstance(bench.run(act("../refunds/1", body)), Misconfigured)


def test_paypal_lists_nothing_and_judges_no_payee(bench: PayoutBench) -> None:
    route = bench.route()
    assert isinstance(bench.run(route.find(f"{LEG}:1", route.freeze(instruction()), 0.0)), NotListed)
    assert isinstance(bench.run(route.read_payee(to_email())), PayeeUnreadable)
    assert not bench.server.exchanges


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_low_balance_blocks_and_pays_nothing(bench: PayoutBench) -> None:
    bench.server.book.balance["USD"] = Decimal("9.10")
    reply = bench.send(bench.route())
    assert isinstance(reply, Blocked)
    assert ENTRY.payouts is not None
    assert reply.code in ENTRY.payouts.capabilities.low_balance_codes
    assert not bench.items


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("AUTHORIZATION_ERROR", Denied),
        ("SENDER_RESTRICTED", Denied),
        ("REQUIRED_SCOPE_MISSING", Denied),
        ("NON_HOLDING_CURRENCY", Misconfigured),
        ("RECEIVER_ACCOUNT_LOCKED", Refused),
        ("SOMETHING_NEW", UnknownRefusal),
    ],
)
def test_refusal_is_classified_by_its_name(bench: PayoutBench, name: str, kind: type) -> None:
    bench.server.book.faults[PAYOUTS].append(f"issue:{name}")
    assert isinstance(bench.send(bench.route()), kind)


def test_refused_token_is_renewed_once(bench: PayoutBench) -> None:
    route = bench.route()
    bench.send(route)
    bench.server.revoke_tokens()
    assert isinstance(bench.send(route, instruction(attempt=2)), TransferAnswered)
    assert bench.server.token_requests == 2


def test_wrong_secret_is_denied(bench: PayoutBench) -> None:
    reply = bench.send(bench.route(secret="another_secret_value"))
    assert isinstance(reply, Denied)
    assert "another_secret_value" not in repr(reply)


class Proxy(BaseHTTPRequestHandler):
    """A server that is not PayPal: it gives tokens, and answers everything else with one text."""

    status, text, kind = 200, "", "application/json"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_token = self.path == "/v1/oauth2/token"
        text = '{"access_token": "A21", "expires_in": 300}' if is_token else self.text
        self.send_response(200 if is_token else self.status)
        self.send_header("Content-Type", "application/json" if is_token else self.kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    do_POST = do_GET = _answer

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


DUPLICATE = {"field": "SENDER_BATCH_ID", "issue": "Batch with given sender_batch_id already exists"}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (200, "<html>maintenance</html>"),
        (200, "[]"),
        (201, '{"batch_header": {}}'),
        (201, '{"batch_header": {"payout_batch_id": 7, "batch_status": "PENDING"}}'),
        (202, "{}"),
        (302, "{}"),
        (400, "<html>bad</html>"),
        (403, "{}"),
        (404, '{"message": "no route"}'),
        (408, '{"name": "REQUEST_TIMEOUT"}'),
        (409, '{"name": "SOMETHING_NEW"}'),
        (422, '{"name": 7}'),
        (502, "bad gateway"),
        (400, json.dumps({"name": "USER_BUSINESS_ERROR", "details": [DUPLICATE]})),
        (
            400,
            json.dumps({"name": "USER_BUSINESS_ERROR", "details": [DUPLICATE | {"link": [{"href": "https://x/y"}]}]}),
        ),
        (400, '{"name": "INTERNAL_ERROR"}'),
    ],
)
def test_answer_that_is_not_paypals_leaves_the_outcome_unknown(bench: PayoutBench, status: int, text: str) -> None:
    handler = type("Answering", (Proxy,), {"status": status, "text": text})
    with HTTPServer(("127.0.0.1", 0), handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        reply = bench.send(bench.route(base=f"http://127.0.0.1:{proxy.server_port}"))
        proxy.shutdown()
        thread.join(5)
    assert isinstance(reply, Unanswered), reply


def test_link_of_a_duplicate_is_never_followed_to_another_host(bench: PayoutBench) -> None:
    bench.server.book.payouts.remembers_request_ids = False
    route = bench.route()
    bench.send(route)
    bench.server.url, true = "http://127.0.0.1:9", bench.server.url
    try:
        assert object_of(bench.send(route)).state is ObjectState.SUCCEEDED
    finally:
        bench.server.url = true


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("receiver", [EMAIL, "Ann.Payee@Example.com", "o'neil@example.com", PAYER])
def test_receiver_is_in_no_reply_and_no_log(
    bench: PayoutBench, caplog: pytest.LogCaptureFixture, receiver: str
) -> None:
    caplog.set_level(logging.DEBUG)
    by_id = Destination(kind=DestinationKind.PAYPAL, payer_id=PAYER)
    order = instruction(destination=by_id if receiver == PAYER else to_email(receiver))
    route = bench.route(timeout_seconds=0.5)
    said: list[object] = [route]
    for fault in ("", "reset", "error500", "proxy", "timeout", "issue:SOMETHING_NEW"):
        bench.server.book.faults[PAYOUTS].extend([fault] if fault else [])
        said.append(bench.send(route, order))
    detail = {"field": "items[0].receiver", "issue": f"{receiver.upper()} is wrong", "value": receiver}
    text = json.dumps({"name": "VALIDATION_ERROR", "message": f"no {receiver}", "details": [detail]})
    handler = type("Answering", (Proxy,), {"status": 400, "text": text})
    with HTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        refused = bench.send(bench.route(base=f"http://127.0.0.1:{proxy.server_port}"), order)
        proxy.shutdown()
    assert isinstance(refused, Refused)
    assert refused.code == "INVALID_RECEIVER"
    said.append(refused)
    shown = (repr(said) + caplog.text).casefold()
    assert receiver.casefold() not in shown
    assert receiver.partition("@")[0].casefold() not in shown


BATCH = {"payout_batch_id": "B1", "batch_status": f"TO_{PAYER}", "sender_batch_header": {"sender_batch_id": f"{LEG}:1"}}


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (429, {"name": f"{PAYER}_TOO_OFTEN"}, Busy),
        (422, {"name": f"NEW_{PAYER}"}, UnknownRefusal),
        (401, {"name": f"NEW_{PAYER}", "message": f"not to {PAYER}"}, Denied),
        (500, {"name": f"NEW_{PAYER}"}, Unanswered),
        (201, {"batch_header": BATCH | {"sender_batch_header": {"sender_batch_id": PAYER}}}, KeyConflict),
        (201, {"batch_header": BATCH}, TransferAnswered),
    ],
)
def test_receiver_in_a_word_of_paypals_is_in_no_reply(
    bench: PayoutBench, status: int, answer: object, kind: type
) -> None:
    handler = type("Answering", (Proxy,), {"status": status, "text": json.dumps(answer)})
    with HTTPServer(("127.0.0.1", 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        order = instruction(destination=Destination(kind=DestinationKind.PAYPAL, payer_id=PAYER))
        reply = bench.send(bench.route(base=f"http://127.0.0.1:{proxy.server_port}"), order)
        proxy.shutdown()
    assert isinstance(reply, kind), reply
    assert PAYER not in repr(reply)


# --- the entry --------------------------------------------------------------------------------------------------------


def test_entry_makes_the_route_of_an_account(bench: PayoutBench) -> None:
    settings = PayPalSettings(client_id=CLIENT_ID, client_secret=CLIENT_SECRET, api_base=bench.server.url)
    assert ENTRY.payouts is not None
    route = ENTRY.payouts.make("paypal:eu", settings, 5)
    assert isinstance(route, PayPalPayouts)
    bench.routes.append(route)
    assert route.name == "paypal:eu"
    assert object_of(bench.send(route)).live is False


def test_each_fact_has_its_source() -> None:
    assert ENTRY.payouts is not None
    table = ENTRY.payouts.capabilities
    facts = {name for name in type(table).__dataclass_fields__ if name != "sources"}
    assert facts - {"minimum_minor", "by_file"} <= table.sources.keys()
    assert table.key_use_seconds is not None
    assert table.key_use_seconds < table.key_seconds == 30 * DAY
    assert table.return_window_seconds >= 30 * DAY


def test_each_event_is_a_hint_at_the_batch(bench: PayoutBench, server: PayPalServer) -> None:
    server.webhook_url = "http://127.0.0.1:9/nowhere"
    assert ENTRY.payouts is not None
    made = object_of(bench.send(bench.route()))
    for status in ("UNCLAIMED", "ONHOLD", "BLOCKED", "FAILED", "RETURNED", "REFUNDED"):
        server.payouts.change(bench.items[0].item_id, status)
    bench.send(bench.route())
    assert len(server.events) == 8
    for event in server.events:
        hint = ENTRY.payouts.transfer_hint(event.kind, event.body.decode())
        assert hint == TransferHint(made.object_id, LEG), event.kind
        assert ENTRY.webhooks is not None
        assert ENTRY.webhooks.event_hint(event.kind, event.body.decode()) is None
        assert ENTRY.webhooks.event_subject(event.kind, event.body.decode()) is None


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("PAYMENT.CAPTURE.REFUNDED", '{"resource": {"payout_batch_id": "PYB1"}}'),
        ("PAYMENT.PAYOUTS-ITEM.FAILED", "no json"),
        ("PAYMENT.PAYOUTS-ITEM.FAILED", "[]"),
        ("PAYMENT.PAYOUTS-ITEM.FAILED", '{"resource": {"payout_batch_id": "../1"}}'),
        ("PAYMENT.PAYOUTSBATCH.DENIED", '{"resource": {"batch_header": 7}}'),
    ],
)
def test_other_event_is_no_hint(kind: str, body: str) -> None:
    assert ENTRY.payouts is not None
    assert ENTRY.payouts.transfer_hint(kind, body) is None


def test_event_about_a_payout_of_others_names_no_leg() -> None:
    item = {"payout_batch_id": "PYB1", "payout_item": {"sender_item_id": "item_2"}}
    assert ENTRY.payouts is not None
    hint = ENTRY.payouts.transfer_hint("PAYMENT.PAYOUTS-ITEM.SUCCEEDED", json.dumps({"resource": item}))
    assert hint == TransferHint("PYB1", None)


def test_event_names_the_leg_by_its_item_or_its_batch() -> None:
    assert ENTRY.payouts is not None
    for ids in ({"payout_item": {"sender_item_id": f"{LEG}:2"}}, {"payout_item": {}, "sender_batch_id": f"{LEG}:2"}):
        body = json.dumps({"resource": {"payout_batch_id": "PYB1", **ids}})
        assert ENTRY.payouts.transfer_hint("PAYMENT.PAYOUTS-ITEM.UNCLAIMED", body) == TransferHint("PYB1", LEG)
    header = {"payout_batch_id": "PYB1", "sender_batch_header": {"sender_batch_id": f"{LEG}:2"}}
    body = json.dumps({"resource": {"batch_header": header}})
    assert ENTRY.payouts.transfer_hint("PAYMENT.PAYOUTSBATCH.SUCCESS", body) == TransferHint("PYB1", LEG)
