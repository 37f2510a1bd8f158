"""The Stripe adapter classifies every answer, and every missing answer, of a scripted server on a real socket.

The rows follow Stripe's own pages: docs.stripe.com/api/errors, /error-codes and /api/idempotent_requests.
"""

from __future__ import annotations

import warnings

import pytest
from tests.processors.scripted_stripe import (
    API_ERROR,
    CARD_ERROR,
    HALF,
    HEAD,
    INVALID,
    MESSAGE,
    PATIENCE_SECONDS,
    Act,
    Bench,
    answers,
    drips,
    error,
    raw,
    refund,
    sends_nothing,
)

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(400, INVALID, "charge_already_refunded"), AlreadyRefunded(MESSAGE, "req_1")),
        (error(400, INVALID, "charge_disputed"), Blocked("charge_disputed", MESSAGE, "req_1")),
        (error(400, INVALID, "refund_disputed_payment"), Blocked("refund_disputed_payment", MESSAGE, "req_1")),
        (error(400, INVALID, param="amount"),
         Refused("amount_exceeds_unrefunded", MESSAGE, "req_1", more_than_left=True)),
        (error(400, INVALID), UnknownRefusal(INVALID, MESSAGE, "req_1")),
        (error(400, INVALID, "charge_not_refundable"), Refused("charge_not_refundable", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_invalid_integer", param="amount"),
         Misconfigured("parameter_invalid_integer", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_unknown", param="idempotency_key"),
         Denied("parameter_unknown", MESSAGE, maybe_kept=True)),
        (error(400, INVALID, "parameter_unknown", Idempotent_Replayed="true"),
         Denied("parameter_unknown", MESSAGE, maybe_kept=True, replayed=True)),
        (error(400, INVALID, "a_code_of_next_year"), UnknownRefusal("a_code_of_next_year", MESSAGE, "req_1")),
        (error(422, INVALID, "a_code_of_next_year", param="amount"),
         UnknownRefusal("a_code_of_next_year", MESSAGE, "req_1")),
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(400, INVALID, "resource_missing"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(404, INVALID), Misconfigured("not_found", MESSAGE, "req_1")),
        (error(400, INVALID, "balance_insufficient"), Blocked("balance_insufficient", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, "balance_insufficient"), Blocked("balance_insufficient", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, message_code="insufficient_balance_for_refund"),
         Blocked("insufficient_balance_for_refund", MESSAGE, "req_1")),
        (error(402, CARD_ERROR, "card_declined"), Refused("card_declined", MESSAGE, "req_1")),
        (error(401, INVALID), Denied("http_401", MESSAGE)),
        (error(401, INVALID, "api_key_expired"), Denied("api_key_expired", MESSAGE)),
        (error(403, INVALID, "account_invalid"), Denied("account_invalid", MESSAGE)),
        (answers(403, b"<html>blocked</html>"), Unanswered("HTTP 403")),
        (error(400, "idempotency_error"), KeyConflict(MESSAGE)),
        (error(409, "idempotency_error", "idempotency_key_in_use"), Busy("idempotency_key_in_use")),
        (error(409, INVALID, "lock_timeout"), Busy("lock_timeout")),
        (error(409, INVALID, "a_code_of_next_year"), Unanswered(f"HTTP 409 {INVALID} a_code_of_next_year")),
        (error(409, "idempotency_error"), Busy("rate_limit")),
        (error(429, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(429, INVALID, "lock_timeout"), Busy("lock_timeout")),
        (error(429, INVALID, "rate_limit", Retry_After="7"), Busy("rate_limit", 7.0)),
        (error(429, INVALID, "rate_limit", Retry_After="1e300"), Busy("rate_limit", 86_400.0)),
        (error(429, INVALID, "rate_limit", Retry_After="-1"), Busy("rate_limit")),
        (error(429, INVALID, "rate_limit", Retry_After="Mon, 23 Nov 2026 05:00:00 GMT"), Busy("rate_limit")),
        (answers(429, b"slow down"), Busy("rate_limit")),
        (error(400, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(500, API_ERROR), Unanswered("HTTP 500 api_error", server_error=True)),
        (error(500, INVALID, "charge_already_refunded", Stripe_Should_Retry="false"),
         Unanswered(f"HTTP 500 {INVALID} charge_already_refunded", server_error=True)),
        (answers(502, b"<html>bad gateway</html>"), Unanswered("HTTP 502", server_error=True)),
        (answers(503, b""), Unanswered("HTTP 503", server_error=True)),
        (answers(504, {}), Unanswered("HTTP 504", server_error=True)),
        (error(400, INVALID, "odd", Stripe_Should_Retry="true"), Unanswered(f"HTTP 400 {INVALID} odd")),
        (error(400, API_ERROR, "odd"), UnknownRefusal("odd", MESSAGE, "req_1")),
        (error(400, None, "odd"), Unanswered("HTTP 400 odd")),
        (error(408, INVALID), Unanswered(f"HTTP 408 {INVALID}")),
        (error(424, INVALID, "dependency"), Unanswered(f"HTTP 424 {INVALID} dependency")),
        (answers(400, b"<html>what?</html>"), Unanswered("HTTP 400")),
        (answers(404, b"<html>no such page</html>"), Unanswered("HTTP 404")),
        (answers(400, {"error": {"type": [INVALID], "code": 7}}), Unanswered("HTTP 400")),
    ],
)  # fmt: skip
def test_http_error_is_classified_as_stripe_documents(bench: Bench, act: Act, expected: object) -> None:
    assert bench.send(act) == expected
    assert len(bench.server.requests) == 1, "the SDK must not retry"


@pytest.mark.parametrize(
    "act",
    [
        answers(200, b'{"id": "re_1", "object": "ref'),
        answers(200, b""),
        answers(204, b""),
        answers(200, b"\xff\xfe{}"),
        answers(200, b"null"),
        answers(200, b"[" * 100_000),
        answers(200, b'{"amount": ' + b"9" * 5000 + b"}"),
        answers(200, refund(amount=2**63)),
        answers(200, []),
        answers(200, "a text"),
        answers(200, {"error": {"type": INVALID, "code": "charge_disputed"}}),
        answers(200, {"object": "list", "data": [], "has_more": False}),
        answers(200, refund(object="charge")),
        *(answers(200, {k: v for k, v in refund().items() if k != gone}) for gone in ("id", "object", "amount")),
        *(answers(200, {k: v for k, v in refund().items() if k != gone}) for gone in ("created", "currency")),
        *(answers(200, refund(amount=amount)) for amount in (True, 15.0, -1, "1500", None, float("nan"))),
        *(answers(200, refund(created=created)) for created in (True, -1, 1e9, 10**18)),
        *(answers(200, refund(currency=currency)) for currency in ("", "euro", 978, None)),
        *(answers(200, refund(id=identifier)) for identifier in ("", "../charges", 1, "re 1")),
        answers(200, refund(status=3)),
        answers(302, b"", Location="/elsewhere"),
        answers(400, {"error": "not_an_oauth_code"}),
    ],
)
def test_inconclusive_answer_counts_as_unanswered(bench: Bench, act: Act) -> None:
    reply = bench.send(act)
    assert isinstance(reply, Unanswered)
    assert not reply.server_error
    assert len(bench.server.requests) == 1


@pytest.mark.parametrize(
    "act",
    [
        raw(b""),
        raw(b"", then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nConte"),
        raw(HEAD + HALF),
        raw(HEAD + HALF, then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n", then_reset=True),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"),
        raw(b"SSH-2.0-OpenSSH\r\n\r\n"),
        drips,
        sends_nothing,
    ],
)
def test_no_answer_after_connecting_is_never_a_refusal(bench: Bench, act: Act) -> None:
    started = bench.loop.time()
    reply = bench.send(act)
    assert isinstance(reply, Unanswered)
    assert len(bench.server.requests) == 1, "the adapter must not send a POST twice"
    assert bench.loop.time() - started < PATIENCE_SECONDS / 2


@pytest.mark.parametrize("body", [[], ["x"], "x", 7, None])
def test_error_with_json_of_another_shape_is_unanswered(bench: Bench, body: object) -> None:
    assert bench.send(answers(400, body)) == Unanswered("HTTP 400")


def test_stripe_notice_is_no_error_even_if_warnings_are(bench: Bench) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(bench.send(answers(200, refund(), Stripe_Notice="your version is old")), Answered)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "expired_or_canceled_card", Refused),
        (400, "charge_already_refunded", AlreadyRefunded),
        (400, "balance_insufficient", Blocked),
        (404, "resource_missing", Misconfigured),
        (400, "a_code_of_next_year", UnknownRefusal),
        (400, "parameter_unknown", Denied),
    ],
)
def test_refusal_says_if_it_was_replayed(bench: Bench, status: int, code: str, kind: type, stored: bool) -> None:
    reply = bench.send(error(status, INVALID, code, **({"Idempotent_Replayed": "true"} if stored else {})))
    assert isinstance(reply, kind)
    assert getattr(reply, "replayed") is stored  # noqa: B009 -- each of these types has it
