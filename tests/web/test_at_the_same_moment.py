"""Requests that arrive together at several processes, on a real Postgres: each counts once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime

PROCESSES = 2
REQUESTS = 32
# Number of races of partial refunds over HTTP; `tests/engine/refunds/test_accept.py` has a thousand without HTTP.
RACES = 10


@pytest.fixture(scope="module")
def api(postgres_server: PostgresDatabases) -> Iterator[tuple[str, str]]:
    """Give (URL, an admin's key) of several processes on one socket."""
    url = postgres_server.create(migrate)
    with build_runtime(settings_for(url), processors=False) as runtime:
        key = create_key(runtime.context, name="admin", client="backend", role="admin")
    with WebProcess(url, PROCESSES) as server:
        yield server.url, key
    postgres_server.drop(url)


def at_once(api: tuple[str, str], requests: Sequence[tuple[str, dict[str, Any]]]) -> list[httpx.Response]:
    """Send (idempotency key, body) pairs at one moment, each over its own connection, and return the answers."""
    url, key = api
    barrier = threading.Barrier(len(requests))

    def send(request: tuple[str, dict[str, Any]]) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": request[0]}
        with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
            assert http.get("/readyz").status_code == 200  # connected before the start
            barrier.wait(60)
            return http.post("/v1/refunds", json=request[1])

    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(send, requests))


def pay(api: tuple[str, str], customer: str) -> None:
    url, key = api
    body = {
        **PAYMENT,
        "payment_id": f"pay-{customer}",
        "customer_id": customer,
        "processor_payment_id": f"ch_{customer}",
    }
    assert httpx.post(f"{url}/v1/payments", json=body, headers={"Authorization": f"Bearer {key}"}).status_code == 201


def withdrawal(customer: str, credits: int) -> dict[str, Any]:
    return {"kind": "withdrawal", "to": "source", "customer_id": customer, "credits": credits, "reason": "asked"}


def refunds_of(api: tuple[str, str], customer: str) -> list[dict[str, Any]]:
    url, key = api
    listed = httpx.get(f"{url}/v1/refunds?customer_id={customer}", headers={"Authorization": f"Bearer {key}"})
    found: list[dict[str, Any]] = listed.json()["data"]
    return found


@pytest.mark.slow
def test_32_identical_requests_at_the_same_moment_make_one_refund(api: tuple[str, str]) -> None:
    pay(api, "same")
    answers = at_once(api, [("k-1", withdrawal("same", 20))] * REQUESTS)
    assert sorted(answer.status_code for answer in answers) == [200] * (REQUESTS - 1) + [202]
    assert {answer.json()["id"] for answer in answers} == {refund["id"] for refund in refunds_of(api, "same")}
    assert len(refunds_of(api, "same")) == 1


@pytest.mark.slow
def test_32_requests_with_one_key_and_two_bodies_make_one_refund(api: tuple[str, str]) -> None:
    pay(api, "other")
    answers = at_once(api, [("k-2", withdrawal("other", 20 + number % 2)) for number in range(REQUESTS)])
    assert len(refunds_of(api, "other")) == 1
    good = [answer for answer in answers if answer.status_code in (200, 202)]
    refused = [answer.json() for answer in answers if answer.status_code == 422]
    assert (len(good), len(refused)) == (REQUESTS // 2, REQUESTS // 2)
    assert {(problem["code"], problem["field"]) for problem in refused} == {("idempotency_key_reused", "credits")}


@pytest.mark.slow
def test_exactly_one_of_two_refunds_exceeding_the_payment_passes(api: tuple[str, str]) -> None:
    for race in range(RACES):
        customer = f"race-{race}"
        pay(api, customer)
        answers = at_once(api, [(f"{customer}-{n}", withdrawal(customer, 120)) for n in range(2)])
        assert sorted(answer.status_code for answer in answers) == [202, 422]
        assert len(refunds_of(api, customer)) == 1
