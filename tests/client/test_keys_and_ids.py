"""The keys, signatures, ids and URLs that the Python client takes and refuses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.client.lossy_line import QUICK, Line

from refund_worker.client import ApiError, AsyncClient, Client
from refund_worker.testing import RefundWorker, ServedApi


def count(client: Client, **filters: Any) -> int:
    return len(list(client.refunds(**filters)))


@pytest.mark.parametrize("key", [None, "", " ", "k ", "\tk", 7])
def test_the_client_makes_no_key_of_its_own(client: Client, key: Any) -> None:
    asked: dict[str, Any] = {"kind": "withdrawal", "to": "source", "customer_id": "ann", "credits": 1, "reason": "a"}
    before = count(client, customer_id="ann")
    with pytest.raises(ValueError, match="idempotency_key"):
        client.create_refund(**asked, idempotency_key=key)
    with pytest.raises(ValueError, match="idempotency_key"):
        client.correct("ann", credits=1, reason="a", idempotency_key=key)
    for act in (lambda: client.create_refund(**asked), lambda: client.correct("ann", credits=1, reason="a")):
        with pytest.raises(TypeError, match="idempotency_key"):
            act()
    assert count(client, customer_id="ann") == before


def test_signed_key_needs_its_secret_and_each_attempt_is_signed(worker: RefundWorker) -> None:
    worker.add_payment("signed", amount_minor=100, credits=10)
    with worker.http(signed=True) as api, Line(api.url, 503) as line:
        for secret in (None, "rws_wrong"):
            with Client(api.url, api.key, signing_secret=secret) as client, pytest.raises(ApiError) as error:
                client.customer("signed")
            assert error.value.status == 401
        with Client(line.url, api.key, signing_secret=api.signing_secret, retries=QUICK) as client:
            refund = client.create_refund(
                kind="withdrawal", to="source", customer_id="signed", credits=1, reason="a", idempotency_key="r-3"
            )
            assert count(client, customer_id="signed") == 1
            assert client.cancel(refund["id"], reason="no", version=refund["version"])["status"] == "canceled"
            assert str(api.signing_secret) not in repr(vars(client)["_headers"])

        async def story() -> None:
            async with AsyncClient(api.url, api.key, signing_secret=api.signing_secret) as client:
                assert (await client.customer("signed"))["balance"] == 10
                assert [r["id"] async for r in client.refunds(customer_id="signed")] == [refund["id"]]

        asyncio.run(story())


def test_a_wrong_key_opens_nothing_and_no_key_is_shown(api: ServedApi) -> None:
    with Client(api.url, "rw_wrong", retries=QUICK) as client, pytest.raises(ApiError) as error:
        client.customer("ann")
    assert (error.value.status, error.value.code) == (401, "unauthenticated")
    assert api.key not in repr(Client(api.url, api.key))


@pytest.mark.parametrize("refund_id", ["..", "../customers/ann", "", "rf_1/../../x", "."])
def test_an_id_can_not_lead_to_another_path(client: Client, refund_id: str) -> None:
    with pytest.raises(ValueError, match="no id"):
        client.refund(refund_id)


@pytest.mark.parametrize("url", ["ftp://x", "refunds.example", "http://u:p@x", "http://x?a=1"])
def test_a_bad_url_or_key_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        Client(url, "rw_x")
    with pytest.raises(ValueError, match="key"):
        Client("http://x", "rw_x\r\nX-Evil: 1")
