"""The adapter of our HTTP protocol against answers that a server should never give, and at its limits."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.processors.http.server import SECRET
from tests.processors.http.subject import account

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Denied,
    Found,
    Misconfigured,
    NotSent,
    Page,
    PaymentRead,
    PaymentUnreadable,
    Unanswered,
)
from refund_worker.processors import wire
from refund_worker.processors.http import adapter as adapter_module
from refund_worker.processors.http.adapter import HttpProcessor
from refund_worker.processors.http.objects import refund_body, to_refund_object

REFUND: dict[str, Any] = {
    "id": "r-1",
    "payment": "p-1",
    "amount_minor": 1250,
    "currency": "EUR",
    "status": "succeeded",
    "failure_code": None,
    "created_at": "2026-11-02T10:00:00Z",
    "live": False,
    "ours": {"refund_id": "rf_1", "leg_id": "rf_1-1", "attempt": 1, "installation": "in"},
}
PAYMENT: dict[str, Any] = {
    "id": "p-1",
    "captured_minor": 5000,
    "refunded_minor": 1250,
    "currency": "EUR",
    "disputed": False,
    "live": False,
}
ORDER = RefundInstruction("rf_1", "rf_1-1", 1, "p-1", 1250, "EUR", "asked", installation="in")
SINCE = datetime(2026, 11, 1, tzinfo=UTC)


class Scripted:
    """A server that gives the answers of a script, the last one again and again, and keeps what it was asked."""

    def __init__(self) -> None:
        self.script: list[tuple[int, dict[str, str], bytes]] = []
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.asked.append(f"{self.command} {self.path}")
                status, headers, body = outer.script[0] if len(outer.script) == 1 else outer.script.pop(0)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def answers(self, *documents: Any, status: int = 200, **headers: str) -> None:
        """Give these answers from now on."""
        bodies = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in documents]
        self.script = [(status, {name.replace("_", "-"): value for name, value in headers.items()}, b) for b in bodies]

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()
    yield scripted
    scripted.close()


def ask(server: Scripted, call: Callable[[HttpProcessor], Coroutine[Any, Any, Any]], **table: Any) -> Any:
    """Return the answer of one call."""

    async def work() -> Any:
        adapter = HttpProcessor(account(server.url, **table), timeout_seconds=3, page_pauses_seconds=(0.01,))
        try:
            return await call(adapter)
        finally:
            await adapter.close()

    return asyncio.run(work())


def page(*refunds: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"data": list(refunds), "next": following}


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": ""},
        {"id": "a b"},
        {"id": ".."},
        {"id": 7},
        {"payment": None},
        {"payment": "\n"},
        {"amount_minor": None},
        {"amount_minor": "1250"},
        {"amount_minor": 12.5},
        {"amount_minor": True},
        {"amount_minor": -1},
        {"amount_minor": AMOUNT_MAX + 1},
        {"currency": "eur"},
        {"currency": None},
        {"status": None},
        {"status": ""},
        {"failure_code": 7},
        {"created_at": None},
        {"created_at": "2026-11-02T10:00:00"},
        {"created_at": "2026-11-02"},
        {"created_at": "2026-13-02T10:00:00Z"},
        {"created_at": "0001-01-01T00:00:00+23:59"},
        {"created_at": 1_800_000_000},
    ],
)
def test_refund_with_a_wrong_field_is_unanswered_and_no_refusal(server: Scripted, change: dict[str, Any]) -> None:
    server.answers(REFUND | change, status=201)
    reply = ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER)))
    assert isinstance(reply, Unanswered), reply
    server.answers(page(REFUND, REFUND | change))
    assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "leg")), Unanswered)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 100_000, b'{"code": "busy", "executed": false}']
)
def test_success_without_a_refund_is_unanswered(server: Scripted, body: bytes) -> None:
    server.answers(body, status=201)
    assert isinstance(ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER))), Unanswered)
    assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "leg")), Unanswered)
    assert isinstance(ask(server, lambda adapter: adapter.find_payment("p-1")), Unanswered)


@pytest.mark.parametrize("status", [202, 204, 206, 301, 302, 307, 308])
def test_only_200_and_201_are_success_and_no_redirect_is_followed(server: Scripted, status: int) -> None:
    server.answers(b"" if status == 204 else REFUND, status=status, Location=f"{server.url}/elsewhere")
    assert isinstance(ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER))), Unanswered)
    assert server.asked == ["POST /refunds"]


def test_ids_of_others_are_no_ids_of_ours(server: Scripted) -> None:
    for ours in (None, [], "x", {}, {"leg_id": "\x00", "attempt": True, "installation": 7}, {"attempt": 10**12}):
        refund = to_refund_object(REFUND | {"ours": ours})
        assert (refund.leg_id, refund.attempt, refund.installation) == (None, None, None)


def test_details_are_shown_only_in_their_form() -> None:
    shown = to_refund_object(REFUND | {"method": "card", "trace": {"kind": "arn", "value": "7442 1"}}).details
    assert (shown.method, shown.trace_kind, shown.trace_value) == ("card", "arn", "7442 1")
    hidden = to_refund_object(REFUND | {"method": "Card!", "trace": {"kind": "x", "value": "4242424242424242"}}).details
    assert (hidden.method, hidden.trace_kind, hidden.trace_value) == (None, None, None)
    assert to_refund_object(REFUND | {"trace": 7}).details.trace_value is None


def test_unknown_status_is_passed_on_and_a_code_belongs_to_a_failure() -> None:
    assert to_refund_object(REFUND | {"status": "on_its_way"}).status == "on_its_way"
    assert to_refund_object(REFUND | {"failure_code": "declined"}).failure_code is None
    assert to_refund_object(REFUND | {"status": "failed", "failure_code": "declined"}).failure_code == "declined"


def test_answer_about_another_refund_or_payment_is_unanswered(server: Scripted) -> None:
    server.answers(REFUND)
    assert isinstance(ask(server, lambda adapter: adapter.fetch("r-2")), Unanswered)
    assert isinstance(ask(server, lambda adapter: adapter.cancel("r-2")), Unanswered)
    assert isinstance(ask(server, lambda adapter: adapter.fetch("r-1")), Answered)
    server.answers(PAYMENT)
    assert isinstance(ask(server, lambda adapter: adapter.find_payment("p-2")), Unanswered)
    assert isinstance(ask(server, lambda adapter: adapter.find_payment("p-1")), PaymentRead)


@pytest.mark.parametrize("change", [{"captured_minor": None}, {"refunded_minor": "1"}, {"currency": ""}])
def test_payment_with_a_wrong_field_is_unanswered(server: Scripted, change: dict[str, Any]) -> None:
    server.answers(PAYMENT | change)
    assert isinstance(ask(server, lambda adapter: adapter.find_payment("p-1")), Unanswered)


def test_reading_of_payments_that_is_refused_stops_no_refund(server: Scripted) -> None:
    denied = {"code": "denied", "detail": "no", "executed": False}
    server.answers(denied, status=403)
    assert ask(server, lambda adapter: adapter.find_payment("p-1")) == PaymentUnreadable("no")
    server.answers(denied, status=401)
    assert ask(server, lambda adapter: adapter.find_payment("p-1")) == Denied("denied", "no")
    reply = ask(server, lambda adapter: adapter.find_payment("p-1"), reads_payments=False)
    assert isinstance(reply, PaymentUnreadable)


def test_list_of_other_refunds_than_those_asked_for_is_no_list(server: Scripted) -> None:
    """A server that ignores the condition may as well leave out what was asked for."""
    server.answers(page(REFUND, REFUND | {"id": "r-2", "payment": "p-2"}))
    assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "rf_1-1")), Unanswered)
    by_leg = ask(server, lambda adapter: adapter.find("p-1", "another"), finds_by="leg")
    assert isinstance(by_leg, Unanswered)


def test_refund_is_found_by_our_leg_alone(server: Scripted) -> None:
    server.answers(page(REFUND))
    reply = ask(server, lambda adapter: adapter.find("p-1", "rf_1-1"), finds_by="leg")
    assert isinstance(reply, Found)
    assert server.asked == ["GET /refunds?leg=rf_1-1&limit=100"]


def test_account_without_lists_asks_for_none(server: Scripted) -> None:
    careful = {"finds_by": "nothing", "lists_refunds": False, "list_proves_absence": False}
    for call in (
        lambda adapter: adapter.find("p-1", "leg"),
        lambda adapter: adapter.recent(SINCE),
        lambda adapter: adapter.page(SINCE, None, ""),
    ):
        assert isinstance(ask(server, call, **careful), Misconfigured)
    assert server.asked == []


def test_list_without_an_end_never_passes_for_a_whole_one(server: Scripted) -> None:
    for endless in (
        [page(REFUND, following="2")],
        [page(REFUND, following="2"), page(following="3")],
        [page(REFUND, following="2"), page(REFUND | {"id": "r-2"}, following="2")],
        [{"data": [REFUND]}],
        [{"data": [REFUND], "next": ""}],
        [{"data": [REFUND], "next": 7}],
        [{"next": None}],
    ):
        server.answers(*endless)
        assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "leg")), Unanswered), endless
        server.answers(*endless)
        assert isinstance(ask(server, lambda adapter: adapter.recent(SINCE)), Unanswered), endless


def test_list_of_more_pages_than_are_read_is_no_list(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each page is a new one, as of a server that lists the whole account."""
    monkeypatch.setattr(adapter_module, "PAGES_MAX_OF_A_PAYMENT", 3)
    pages = [page(REFUND | {"id": f"r-{number}"}, following=str(number + 1)) for number in range(3)]
    server.answers(*pages, page())
    assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "leg")), Unanswered)
    server.answers(*pages[:2], page())
    assert isinstance(ask(server, lambda adapter: adapter.find("p-1", "leg")), Found)


def test_refund_that_two_pages_show_is_one_refund(server: Scripted) -> None:
    later = REFUND | {"status": "failed", "failure_code": "declined"}
    server.answers(page(REFUND, following="2"), page(later, REFUND | {"id": "r-2"}))
    reply = ask(server, lambda adapter: adapter.find("p-1", "leg"))
    assert [(each.processor_refund_id, each.status) for each in reply.objects] == [
        ("r-1", "failed"),
        ("r-2", "succeeded"),
    ]


def test_page_that_is_lost_is_asked_for_again(server: Scripted) -> None:
    server.answers(b"{", page(REFUND))
    assert isinstance(ask(server, lambda adapter: adapter.recent(SINCE)), Found)
    assert len(server.asked) == 2


def test_refunds_outside_the_time_are_left_out(server: Scripted) -> None:
    made = datetime(2026, 11, 2, 10, tzinfo=UTC)
    server.answers(page(REFUND, following="9"))
    inside = ask(server, lambda adapter: adapter.page(made, made + timedelta(seconds=1), ""))
    assert isinstance(inside, Page)
    assert (len(inside.objects), inside.after) == (1, "9")
    for since, until in ((made + timedelta(seconds=1), None), (made - timedelta(days=1), made)):
        outside = ask(server, lambda adapter, s=since, u=until: adapter.page(s, u, ""))
        assert isinstance(outside, Page)
        assert (outside.objects, outside.after) == ((), "9")
    server.answers(page(REFUND))
    assert ask(server, lambda adapter: adapter.recent(made + timedelta(seconds=1))) == Found(())


def test_times_without_a_zone_are_a_bug_of_ours(server: Scripted) -> None:
    for call in (
        lambda adapter: adapter.recent(SINCE.replace(tzinfo=None)),
        lambda adapter: adapter.page(SINCE.replace(tzinfo=None), None, ""),
    ):
        with pytest.raises(ValueError, match="without a zone"):
            ask(server, call)


def test_amount_that_breaks_the_step_is_not_sent(server: Scripted) -> None:
    server.answers(REFUND, status=201)
    reply = ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER)), currency_steps="EUR:100")
    assert isinstance(reply, Misconfigured)
    assert server.asked == []
    assert isinstance(
        ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER)), currency_steps="EUR:50"), Answered
    )


@pytest.mark.parametrize("key", ["", " k", "k ", "a\nb", "ü", "k" * 256])
def test_key_that_no_header_can_carry_is_a_bug_of_ours(server: Scripted, key: str) -> None:
    with pytest.raises(ValueError, match="an idempotency key has"):
        ask(server, lambda adapter: adapter.send(key, adapter.freeze(ORDER)))
    assert server.asked == []


def test_id_that_would_ask_for_something_else_is_not_asked(server: Scripted) -> None:
    server.answers(REFUND)
    for odd in ("", "..", ".", "a b", "a\nb", "ü"):
        for call in ("fetch", "cancel", "find_payment"):
            assert isinstance(ask(server, lambda adapter, c=call, o=odd: getattr(adapter, c)(o)), Misconfigured)
    assert server.asked == []
    ask(server, lambda adapter: adapter.fetch("../payments/p-1?x=1#y"))
    assert server.asked == ["GET /refunds/..%2Fpayments%2Fp-1%3Fx=1%23y"]


def test_answer_that_is_too_large_is_unanswered(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_BYTES_MAX", 1_000)
    server.answers(REFUND | {"x": "y" * 2_000}, status=201)
    assert isinstance(ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER))), Unanswered)


def test_only_a_refused_connection_is_not_sent(server: Scripted) -> None:
    server.close()
    assert isinstance(ask(server, lambda adapter: adapter.send("k", adapter.freeze(ORDER))), NotSent)


def test_secret_is_in_no_representation(server: Scripted) -> None:
    settings = account(server.url)
    adapter = HttpProcessor(settings)
    assert SECRET.removeprefix("whsec_") not in repr((adapter, settings, settings.secret))
    asyncio.run(adapter.close())


def test_frozen_body_has_our_ids_and_nothing_that_changes() -> None:
    assert refund_body(ORDER) == {
        "payment": "p-1",
        "amount_minor": 1250,
        "currency": "EUR",
        "reason": "asked",
        "ours": {"refund_id": "rf_1", "leg_id": "rf_1-1", "attempt": 1, "installation": "in"},
    }
