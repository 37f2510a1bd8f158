"""Malformed and malicious bodies: refused as problems that name the field, never stored, never a 5xx."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import tracemalloc
from typing import Any

import pytest
from tests.web.client import Web, is_problem
from tests.web.roles_of_routes import everything

from refund_worker.errors import InvalidRequest
from refund_worker.strict_json import DEPTH_MAX
from refund_worker.web.request_body import BODY_BYTES_MAX, parse_object, rows_of

REFUND = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}


def send(web: Web, content: bytes, path: str = "/v1/refunds", media_type: str | None = "application/json"):  # type: ignore[no-untyped-def]
    headers = {"Idempotency-Key": "hostile"} | ({"Content-Type": media_type} if media_type else {})
    return web.call("POST", path, headers=headers, content=content)


def nothing_is_stored(web: Web) -> bool:
    listed: dict[str, Any] = web.call("GET", "/v1/refunds").json()
    return listed == {"data": [], "has_more": False}


def with_credits(literal: str) -> bytes:
    return json.dumps(REFUND).replace('"credits": 10', f'"credits": {literal}').encode()


@pytest.mark.parametrize(
    "literal",
    [
        "0",
        "-1",
        "1.0",
        "1e1",
        "true",
        '"10"',
        '"١٠"',
        "NaN",
        "Infinity",
        "-Infinity",
        "[10]",
        "{}",
        "9007199254740993",
        "9223372036854775808",
        "1" * 40,
        "1" * 5000,
        "1e400",
        "-0",
        "010",
        "0x10",
        "+1",
        "1_0",
        "١",
    ],
)
def test_credits_that_are_not_a_positive_integer_are_refused(web: Web, literal: str) -> None:
    assert is_problem(send(web, with_credits(literal)), 422, "invalid_request")
    assert nothing_is_stored(web)


@pytest.mark.parametrize("field", ["state", "status", "approved", "processor_refund_id", "client", "id", "destination"])
def test_an_unknown_field_is_refused_by_name(web: Web, field: str) -> None:
    answer = send(web, json.dumps({**REFUND, field: "succeeded"}).encode())
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == field
    assert answer.json()["fields"] == [field]
    assert nothing_is_stored(web)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "gift"}, "kind"),
        ({"kind": None}, "kind"),
        ({"to": "card"}, "to"),
        ({"to": "balance"}, "to"),
        ({"customer_id": ""}, "customer_id"),
        ({"customer_id": "a b "}, "customer_id"),
        ({"customer_id": "x" * 201}, "customer_id"),
        ({"customer_id": "a\x00"}, "customer_id"),
        ({"customer_id": 7}, "customer_id"),
        ({"currency": "euro"}, "currency"),
        ({"currency": "eu\u0131"}, "currency"),
        ({"currency": "ＥＵＲ"}, "currency"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 1001}, "reason"),
        ({"reason": "card 4242 4242 4242 4242"}, "reason"),
        ({"note": "bell \x07"}, "note"),
        ({"metadata": {"a": 1.5}}, "metadata.a"),
        ({"metadata": {"a": True}}, "metadata.a"),
        ({"metadata": {"a": None}}, "metadata.a"),
        ({"metadata": {"a": 4111111111111111}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(21)}}, "metadata"),
        ({"metadata": {"k": "x" * 501}}, "metadata.k"),
        ({"metadata": []}, "metadata"),
    ],
)
def test_a_field_that_is_wrong_is_named(web: Web, fields: dict[str, Any], named: str) -> None:
    answer = send(web, json.dumps({**REFUND, **fields}).encode())
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == named
    assert nothing_is_stored(web)


def test_a_field_that_is_missing_is_named(web: Web) -> None:
    for field in ("kind", "to", "customer_id", "reason"):
        body = {name: value for name, value in REFUND.items() if name != field}
        assert send(web, json.dumps(body).encode()).json()["field"] == field
    assert nothing_is_stored(web)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe{\x00}\x00",
        b'{"kind": "\xff"}',
        b'{"credits": 1, "credits": 2}',
        b'{"reason": "\\ud800"}',
        b'{"\\ud800": 1}',
        b'{"a": 1} {"b": 2}',
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        gzip.compress(b"{}", mtime=0),
        b'{"reason": "a\nb"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"metadata": ' + b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1) + b"}",
    ],
)
def test_body_that_is_not_a_plain_json_object_is_refused(web: Web, content: bytes) -> None:
    assert is_problem(send(web, content), 422, "invalid_request")
    assert nothing_is_stored(web)


@pytest.mark.parametrize("first", [1, 20])
def test_repeated_field_is_refused(web: Web, first: int) -> None:
    body = json.dumps(REFUND)[:-1] + f', "credits": {first}}}'
    answer = send(web, body.encode())
    assert is_problem(answer, 422, "invalid_request")
    assert "twice" in answer.json()["detail"]


@pytest.mark.parametrize(
    "media_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "application/json; charset=utf-16"],
)
def test_only_json_bodies_are_accepted(web: Web, media_type: str | None) -> None:
    assert is_problem(send(web, json.dumps(REFUND).encode(), media_type=media_type), 415, "unsupported_media_type")
    assert nothing_is_stored(web)


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON;charset=UTF-8"])
def test_every_spelling_of_json_is_accepted(web: Web, media_type: str) -> None:
    assert send(web, json.dumps(REFUND).encode(), media_type=media_type).status_code == 202


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "deflate", "x"])
@pytest.mark.parametrize(
    "path", ["/v1/refunds", "/v1/refund-batches", "/webhooks/stripe", "/v1/processors/stripe/pause"]
)
def test_a_compressed_body_is_refused_and_told_what_is_taken(web: Web, path: str, coding: str) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1", "Content-Encoding": coding}
    answer = web.call("POST", path, headers=headers, content=gzip.compress(json.dumps(REFUND).encode()))
    assert is_problem(answer, 415, "unsupported_media_type")
    assert answer.headers["accept-encoding"] == "identity"
    assert nothing_is_stored(web)


def test_a_byte_order_mark_and_identity_change_nothing(web: Web) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k-1", "Content-Encoding": "Identity"}
    body = b"\xef\xbb\xbf" + json.dumps(REFUND).encode()
    assert web.call("POST", "/v1/refunds", headers=headers, content=body).status_code == 202
    batch = b"\xef\xbb\xbf" + json.dumps({"refunds": [REFUND | {"idempotency_key": "k-2"}]}).encode()
    taken = web.call("POST", "/v1/refund-batches", headers={"Content-Type": "application/json"}, content=batch)
    assert (taken.status_code, taken.json()["accepted"]) == (202, 1)


# Blanks, and characters that are drawn as nothing.
BLANK = [" ", "\t \n", "\u00a0", "\u3000", "\u200b", "\u2060 \ufeff", "\u3164", "\u2800", "\u00ad", "\u180b\ufe0f"]


@pytest.mark.parametrize("reason", BLANK)
def test_a_reason_in_which_nothing_can_be_read_is_refused(web: Web, reason: str) -> None:
    refund = web.refund("earlier").json()["id"]
    key = {"Idempotency-Key": "k-1"}
    before = everything(web)
    for path, body in (
        ("/v1/refunds", REFUND),
        ("/v1/customers/cust-1/corrections", {"credits": 5}),
        (f"/v1/refunds/{refund}/cancel", {}),
        (f"/v1/refunds/{refund}/resolve", {"outcome": "reverse"}),
    ):
        answer = web.call("POST", path, {**body, "reason": reason}, headers=key)
        assert is_problem(answer, 422, "invalid_request"), path
        assert answer.json()["field"] == "reason"
    assert everything(web) == before
    batch = web.call("POST", "/v1/refund-batches", {"refunds": [{**REFUND, "reason": reason, "idempotency_key": "b"}]})
    assert [row["code"] for row in batch.json()["rejected"]] == ["invalid_request"]


def test_a_blank_reason_that_is_optional_is_none(web: Web) -> None:
    for reason in BLANK:
        paused = web.call("POST", "/v1/processors/stripe/pause", {"reason": reason})
        assert paused.json()["reason"] == "paused manually"
    assert web.call("POST", "/v1/refunds/preview", REFUND | {"reason": " "}).status_code == 200


def test_a_reason_keeps_its_blanks_between_words(web: Web) -> None:
    assert web.refund("k-1", reason=" the chat\nbroke off ").json()["reason"] == " the chat\nbroke off "


def test_too_large_body_is_refused_before_it_is_fully_read(web: Web) -> None:
    assert is_problem(send(web, b" " * (BODY_BYTES_MAX + 1)), 413, "body_too_large")
    sent = 0

    async def endless():  # type: ignore[no-untyped-def]
        nonlocal sent
        while sent < 100 * BODY_BYTES_MAX:
            sent += 1 << 16
            yield b" " * (1 << 16)

    # A streamed body has no Content-Length.
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    answer = web.call("POST", "/v1/refunds", headers=headers, content=endless())
    assert is_problem(answer, 413, "body_too_large")
    assert sent < 3 * BODY_BYTES_MAX
    assert is_problem(send(web, b" " * (BODY_BYTES_MAX + 1), path="/webhooks/stripe"), 413, "body_too_large")


@pytest.mark.parametrize("key", ["x" * 256, "é", "tab\there", "nul\x00"])
def test_an_idempotency_key_that_cannot_be_used_is_refused(web: Web, key: str) -> None:
    answer = web.call("POST", "/v1/refunds", REFUND, headers={b"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "idempotency_key"
    assert nothing_is_stored(web)


def test_two_idempotency_keys_in_one_request_are_refused(web: Web) -> None:
    pairs = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    assert is_problem(web.call("POST", "/v1/refunds", REFUND, headers=pairs), 400, "idempotency_key_missing")
    assert nothing_is_stored(web)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"a": NaN}', "not a number"),
        ('{"a": [-Infinity]}', "not a number"),
        ('{"a": ' + "[" * DEPTH_MAX + "]" * DEPTH_MAX + "}", "nested"),
        ('{"a": "\\udc00"}', "surrogate"),
        ('{"\\udc00": 1}', "surrogate"),
        ('{"a": {"b": 1, "b": 1}}', "twice"),
    ],
)
def test_parser_refuses_invalid_json_for_any_model(body: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        parse_object(body)


def test_parser_accepts_input_just_within_its_limits() -> None:
    text = '{"a": ' + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1) + ', "b": "\\ud83d\\ude00"}'
    assert parse_object(text)["b"] == "😀"


def test_unknown_field_with_a_lone_surrogate_is_a_client_error(web: Web) -> None:
    answer = send(web, json.dumps({**REFUND, "\ud800": 1}).encode())
    assert is_problem(answer, 422, "invalid_request")


def test_numbers_with_very_many_digits_cost_no_time() -> None:
    def seconds(body: str) -> float:
        started = time.process_time()
        with contextlib.suppress(InvalidRequest):
            parse_object(body)
        return time.process_time() - started

    with pytest.raises(InvalidRequest, match="more digits"):
        parse_object('{"a": ' + "9" * 900_000 + "}")
    # Converting it would take a thousand times as long as reading a text of that length, on any machine.
    text = max(seconds('{"a": "' + "9" * 900_000 + '"}') for _ in range(3))
    assert seconds('{"a": ' + "9" * 900_000 + "}") < 100 * max(text, 0.001)


def test_a_large_batch_is_read_row_by_row() -> None:
    row = json.dumps({**REFUND, "idempotency_key": "k", "metadata": {"note": "x" * 200}})
    raw = ('{"refunds": [' + ",\n".join([row] * 20_000) + "]}").encode()
    tracemalloc.start()
    count = sum(1 for _ in rows_of(raw, "refunds"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 20_000
    assert peak < 1 << 20
