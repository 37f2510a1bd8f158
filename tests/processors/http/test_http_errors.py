"""The classification of every error answer of the protocol, and of all that only look like one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.support.pages import DOCS

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.http.errors import CODES, as_list_failure, classify
from refund_worker.processors.wire import HttpAnswer

MEANINGS: dict[str, tuple[int, type]] = {
    "not_refundable": (422, Refused),
    "too_late": (422, Refused),
    "more_than_left": (422, Refused),
    "already_refunded": (422, AlreadyRefunded),
    "low_balance": (422, Blocked),
    "disputed": (422, Blocked),
    "not_settled": (422, Blocked),
    "bad_request": (400, Misconfigured),
    "not_found": (404, Misconfigured),
    "not_cancelable": (409, Misconfigured),
    "key_conflict": (409, KeyConflict),
    "denied": (401, Denied),
    "busy": (503, Busy),
}


def answer(status: int, body: Any, **headers: str) -> HttpAnswer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return HttpAnswer(status, {name.replace("_", "-"): value for name, value in headers.items()}, text)


def problem(code: str, *, executed: Any = False) -> dict[str, Any]:
    return {"code": code, "detail": "why", "executed": executed}


@pytest.mark.parametrize("code", CODES)
def test_each_code_has_its_meaning_under_its_own_status_alone(code: str) -> None:
    status, meaning = MEANINGS[code]
    assert status in CODES[code].statuses
    for each in CODES[code].statuses:
        assert isinstance(classify(answer(each, problem(code))), meaning)
    for other in {400, 402, 404, 409, 418, 422, 429, 500, 502, 503, 504} - CODES[code].statuses:
        reply = classify(answer(other, problem(code)))
        assert reply == Unanswered(f"HTTP {other} {code} why", server_error=other >= 500)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("executed", [None, True, "false", 0, "unknown"])
def test_code_without_executed_false_proves_nothing(code: str, executed: Any) -> None:
    for status in CODES[code].statuses:
        reply = classify(answer(status, problem(code, executed=executed)))
        assert isinstance(reply, Unanswered)
        assert reply.server_error is (status >= 500)
    without = {"code": code, "detail": "why"}
    assert isinstance(classify(answer(min(CODES[code].statuses), without)), Unanswered)


@pytest.mark.parametrize(
    "status", [300, 302, 304, 400, 401, 403, 404, 408, 409, 413, 422, 424, 429, 500, 502, 503, 504]
)
@pytest.mark.parametrize("body", [b"", b"<h1>Bad gateway</h1>", b"[]", b"null", b"\xff", b"{}", b'{"executed": false}'])
def test_error_answer_that_is_no_problem_proves_nothing(status: int, body: bytes) -> None:
    reply = classify(answer(status, body))
    assert isinstance(reply, Unanswered)
    assert reply.server_error is (status >= 500)


def test_unknown_code_is_an_unknown_refusal_and_no_end() -> None:
    assert classify(answer(422, problem("card_is_sad"))) == UnknownRefusal("card_is_sad", "why")
    assert isinstance(classify(answer(500, problem("card_is_sad"))), Unanswered)
    assert isinstance(classify(answer(422, problem("x", executed=None))), Unanswered)


def test_redirect_with_a_problem_proves_nothing() -> None:
    for code in ("busy", "card_is_sad"):
        assert isinstance(classify(answer(307, problem(code))), Unanswered)


def test_more_than_left_is_marked_and_stored_answers_are_replayed() -> None:
    reply = classify(answer(422, problem("more_than_left"), idempotent_replayed="true"))
    assert reply == Refused("more_than_left", "why", replayed=True, more_than_left=True)
    assert classify(answer(422, problem("too_late"))) == Refused("too_late", "why")


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("0", 0.0), ("1e9", 3600.0), ("-1", None), ("nan", None), ("soon", None)]
)
def test_time_to_wait_is_read_and_bounded(header: str, seconds: float | None) -> None:
    assert classify(answer(429, problem("busy"), retry_after=header)) == Busy("busy", seconds)


def test_texts_of_a_server_are_cleaned() -> None:
    secret, card = "sk_live_abcdefgh", "4242424242424242"
    detail = f"ann@example.com paid with {card} and {secret}\x1b[2J" + "x" * 5_000
    reply = classify(answer(422, {"code": "too_late", "detail": detail, "executed": False}))
    assert isinstance(reply, Refused)
    assert len(reply.message) <= 500
    assert not [text for text in (secret, card, "ann@", "\x1b") if text in repr(reply)]


@pytest.mark.parametrize("code", CODES)
def test_list_refuses_nothing(code: str) -> None:
    reply = as_list_failure(classify(answer(min(CODES[code].statuses), problem(code))))
    assert isinstance(reply, Misconfigured | Busy | Denied | Unanswered)


def test_page_has_each_code_with_its_status() -> None:
    page = (DOCS / "paying-systems" / "http.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([0-9]{3}(?:, [0-9]{3})?) \| ([^|]+) \|", page, re.MULTILINE)
    table = {code: ({int(each) for each in statuses.split(",")}, text.strip()) for code, statuses, text in rows}
    assert table == {code: (set(its.statuses), its.says) for code, its in CODES.items()}
