"""The Python client over a line that loses what is sent: what it repeats, and when it ends its tries."""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.client.lossy_line import QUICK, Line

from refund_worker.client import ApiError, AsyncClient, Client, Retries
from refund_worker.testing import RefundWorker, ServedApi


@pytest.mark.parametrize("trouble", ["lose the answer", "lose the request", 500, 502, 503, 429])
def test_request_with_lost_answer_is_repeated_and_refunds_once(
    worker: RefundWorker, api: ServedApi, trouble: str | int
) -> None:
    customer = f"lost-{trouble}".replace(" ", "-")
    worker.add_payment(customer, amount_minor=100, credits=10)
    with Line(api.url, trouble, trouble) as line, Client(line.url, api.key, retries=QUICK) as client:
        refund = client.create_refund(
            kind="withdrawal", to="source", customer_id=customer, credits=1, reason="asked", idempotency_key=customer
        )
        assert len(line.keys) == 3
        assert len(set(line.keys)) == 1
        assert [r["id"] for r in client.refunds(customer_id=customer)] == [refund["id"]]


def test_a_server_that_hangs_is_given_up_in_bounded_time(worker: RefundWorker, api: ServedApi) -> None:
    worker.add_payment("hangs", amount_minor=100, credits=10)
    retries = Retries(tries=2, base=0.01)
    with (
        Line(api.url, *["hang"] * 9) as line,
        Client(line.url, api.key, retries=retries, timeout_seconds=0.3) as client,
    ):
        began = time.monotonic()
        with pytest.raises(ApiError) as error:
            client.create_refund(
                kind="withdrawal", to="source", customer_id="hangs", credits=1, reason="asked", idempotency_key="r-2"
            )
        assert time.monotonic() - began < 5
        assert (error.value.code, error.value.retryable, len(line.keys)) == ("unreachable", True, 2)
        assert api.key not in str(error.value)


def test_short_retry_after_is_obeyed_and_long_one_ends_retries() -> None:
    retries = Retries(base=0.01, longest=20.0)
    assert retries.wait_seconds(1, "7") == 7
    assert retries.wait_seconds(1, "86400") is None


@pytest.mark.parametrize(("trouble", "sent"), [("lose the answer", 1), (500, 1), (503, 2), (429, 2)])
def test_an_act_of_a_person_is_repeated_only_where_nothing_was_done(
    worker: RefundWorker, api: ServedApi, trouble: str | int, sent: int
) -> None:
    customer = f"act-{trouble}".replace(" ", "-")
    worker.add_payment(customer, amount_minor=100, credits=10)
    refund_id = worker.request(customer, credits=1)
    with Line(api.url, trouble) as line, Client(line.url, api.key, retries=QUICK) as client:
        if sent == 1:
            with pytest.raises(ApiError):
                client.cancel(refund_id, reason="no")
        else:
            assert client.cancel(refund_id, reason="no")["status"] == "canceled"
        assert len(line.keys) == sent


def test_a_server_that_is_not_there_is_unreachable(api: ServedApi) -> None:
    with Line(api.url) as gone:
        url = gone.url
    with Client(url, api.key, retries=Retries(tries=2, base=0.01)) as client, pytest.raises(ApiError) as error:
        client.customer("ann")
    assert (error.value.code, error.value.status) == ("unreachable", 0)


def test_the_asynchronous_client_does_the_same(worker: RefundWorker, api: ServedApi) -> None:
    worker.add_payment("async", amount_minor=1_000, credits=100)

    async def story() -> None:
        with Line(api.url, "lose the answer", 503) as line:
            async with AsyncClient(line.url, api.key, retries=QUICK) as client:
                refund = await client.create_refund(
                    kind="withdrawal",
                    to="source",
                    customer_id="async",
                    credits=1,
                    reason="asked",
                    idempotency_key="a-0",
                )
                assert len(line.keys) == 3
                assert len(set(line.keys)) == 1
                several = [
                    client.create_refund(
                        kind="withdrawal",
                        to="source",
                        customer_id="async",
                        credits=1,
                        reason="asked",
                        idempotency_key=f"a-{n}",
                    )
                    for n in range(1, 6)
                ]
                made = {r["id"] for r in await asyncio.gather(*several)} | {refund["id"]}
                assert {r["id"] async for r in client.refunds(customer_id="async", page_size=2)} == made
                assert [t["kind"] async for t in client.transactions("async")] == ["purchase"]
                assert (await client.cancel(refund["id"], reason="no"))["status"] == "canceled"
                line.script.append("lose the answer")
                with pytest.raises(ApiError, match="unreachable"):
                    await client.cancel(min(made - {refund["id"]}), reason="no")
                with pytest.raises(ApiError) as missing:
                    await client.refund("rf_none")
                assert missing.value.status == 404

    asyncio.run(story())
