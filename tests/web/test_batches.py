"""Many requests in one call."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.web.client import Web, is_problem

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.web.api.batches import BATCH_BYTES_MAX, ROWS_MAX

ROW = {"kind": "credit_refund", "to": "balance", "customer_id": "cust-1", "transaction_id": "tx-1", "reason": "asked"}


def row(key: str, **fields: Any) -> dict[str, Any]:
    return {"idempotency_key": key, **ROW, "credits": 1, **fields}


def post(web: Web, rows: list[Any]) -> httpx.Response:
    return web.call("POST", "/v1/refund-batches", {"refunds": rows})


def test_each_row_gets_its_own_result_and_bad_rows_stop_no_others(web: Web) -> None:
    rows = [row("a"), row("b", credits=0), row("c", customer_id="nobody"), row("a"), row("d", state="x"), [], row("e")]
    answer = post(web, rows)
    assert answer.status_code == 202
    batch = answer.json()
    assert (batch["status"], batch["accepted"], batch["replayed"]) == ("complete", 2, 1)
    assert [(reject["index"], reject["code"]) for reject in batch["rejected"]] == [
        (1, "invalid_request"),
        (2, "unknown_customer"),
        (4, "invalid_request"),
        (5, "invalid_request"),
    ]
    assert "state" in batch["rejected"][2]["message"]
    assert answer.headers["location"] == f"/v1/refund-batches/{batch['batch_id']}"
    assert web.call("GET", answer.headers["location"]).json() == batch


def test_the_same_batch_again_does_nothing_new(web: Web) -> None:
    rows = [row(f"k-{n}") for n in range(5)]
    assert post(web, rows).json()["accepted"] == 5
    again = post(web, rows).json()
    assert (again["accepted"], again["replayed"], again["rejected"]) == (0, 5, [])
    assert len(web.call("GET", "/v1/refunds").json()["data"]) == 5


def test_in_flight_refunds_count_as_taken_across_chunks(web: Web) -> None:
    count = web.context.batches.intake + 10
    batch = post(web, [row(f"k-{n}") for n in range(count)]).json()
    assert batch["accepted"] == 50
    assert [reject["index"] for reject in batch["rejected"]] == list(range(50, count))
    assert {reject["code"] for reject in batch["rejected"]} == {"exceeds_refundable"}


def test_batch_shows_the_progress_of_its_refunds(web: Web) -> None:
    batch = post(web, [row("a"), row("b")]).json()
    assert batch["refunds_by_status"] == {"queued": 2}
    process_until_idle(web.context)
    told = web.call("GET", f"/v1/refund-batches/{batch['batch_id']}").json()
    assert told["refunds_by_status"] == {"succeeded": 2}


def test_interrupted_batch_continues_when_it_is_sent_again(web: Web) -> None:
    rows = [row("a"), row("b")]
    batch = post(web, rows).json()
    with web.context.database.write() as connection:
        connection.execute(text("UPDATE refund_batches SET status = 'taking_in', updated_at = 0"))
    path = f"/v1/refund-batches/{batch['batch_id']}"
    stopped = web.call("GET", path).json()
    assert (stopped["status"], stopped["message"][:21]) == ("stopped", "stopped after 2 rows:")
    assert post(web, [*rows, row("c")]).json()["batch_id"] != batch["batch_id"], "another batch continued this one"
    assert post(web, rows).json()["batch_id"] == batch["batch_id"]
    assert web.call("GET", path).json()["status"] == "complete"


def test_another_clients_batch_is_not_found(web: Web) -> None:
    batch = post(web, [row("a")]).json()
    stranger = web.key("requester", client="other-backend")
    answer = web.call("GET", f"/v1/refund-batches/{batch['batch_id']}", key=stranger)
    assert is_problem(answer, 404, "not_found")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"refunds": {}}',
        b'{"refunds": [ROW}',
        b'{"refunds": [ROW],}',
        b'{"refunds": [ROW,]}',
        b'{"refunds": [ROW] , "more": 1}',
        b'{"refunds": [ROW]} x',
        b'{"refunds": [ROW ROW]}',
        b'{"refunds": [ROW, NaN1]}',
        b'{"more": 1, "refunds": [ROW]}',
        b'{"refunds": [ROW, ' + b"[" * 100_000 + b"]}",
        b'{"refunds": [ROW, {"note": "' + b"x" * (200 << 10) + b'"}]}',
    ],
)
def test_malformed_batch_is_refused_as_a_whole(web: Web, content: bytes) -> None:
    content = content.replace(b"ROW", json.dumps(row("a")).encode())
    headers = {"Content-Type": "application/json"}
    answer = web.call("POST", "/v1/refund-batches", headers=headers, content=content)
    assert is_problem(answer, 422, "invalid_request")
    assert web.call("GET", "/v1/refunds").json()["data"] == []


def test_batch_with_too_many_rows_or_bytes_is_refused_as_a_whole(web: Web) -> None:
    headers = {"Content-Type": "application/json"}
    content = b'{"refunds": [' + b"{}," * ROWS_MAX + b"{}]}"
    answer = web.call("POST", "/v1/refund-batches", headers=headers, content=content)
    assert is_problem(answer, 422, "invalid_request")
    assert str(ROWS_MAX) in answer.json()["detail"]
    headers["Content-Length"] = str(BATCH_BYTES_MAX + 1)
    assert is_problem(web.call("POST", "/v1/refund-batches", headers=headers, content=b"{}"), 413, "body_too_large")


def test_an_empty_batch_is_done_at_once(web: Web) -> None:
    assert post(web, []).json()["status"] == "complete"
