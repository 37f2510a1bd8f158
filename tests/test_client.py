"""The Python client against the real HTTP API, directly and over a line that loses what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from refund_worker.client import ApiError, AsyncClient, Calls, Client, Payment, Retries, Spend
from refund_worker.testing import Door, RefundWorker
from refund_worker.web.auth import ROLES

AT = "2026-11-01T09:00:00Z"
QUICK = Retries(base=0.01, longest=0.05)
PAYMENT: Payment = {
    "payment_id": "pay/1",
    "customer_id": "ann",
    "processor": "manual",
    "processor_payment_id": "x-1",
    "amount_minor": 2_000,
    "currency": "EUR",
    "credits": 200,
    "captured_at": AT,
}
SPEND: Spend = {"transaction_id": "tx/1", "customer_id": "ann", "credits": 50, "occurred_at": AT}


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RefundWorker]:
    with RefundWorker(tmp_path_factory.mktemp("worker"), APPROVAL_THRESHOLD_MINOR="100000") as running:
        yield running


@pytest.fixture(scope="module")
def door(worker: RefundWorker) -> Iterator[Door]:
    with worker.http() as served:
        yield served


@pytest.fixture
def client(door: Door) -> Iterator[Client]:
    with Client(door.url, door.key, retries=QUICK) as opened:
        yield opened


class Line:
    """A line to the server. `script` says what happens to the next requests: "pass" · "lose the answer" · "lose the
    request" · "hang" · a status that is answered in the server's place."""

    def __init__(self, to: str, *script: str | int) -> None:
        self.script = deque(script)
        self.keys: list[str | None] = []
        target = urlsplit(to)
        line = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                line.keys.append(self.headers.get("Idempotency-Key"))
                way = line.script.popleft() if line.script else "pass"
                if way == "hang":
                    line.over.wait(20)
                if way in ("pass", "lose the answer"):
                    connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=10)
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    content = answer.read()
                    connection.close()
                    if way == "pass":
                        self._send(answer.status, content)
                elif isinstance(way, int):
                    self._send(way, b"the proxy says no")

            do_GET = do_POST = do_DELETE = _any

            def _send(self, status: int, content: bytes) -> None:
                with contextlib.suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(content)))
                    self.send_header("Retry-After", "0")
                    self.end_headers()
                    self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                return None

        self.over = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Line:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(5)


def count(client: Client, **filters: Any) -> int:
    return len(list(client.refunds(**filters)))


def test_everything_the_api_does_is_a_call(worker: RefundWorker, client: Client) -> None:
    assert client.record_payment(PAYMENT)["payment_id"] == "pay/1"
    assert client.record_spend(SPEND)["credits"] == -50
    assert client.customer("ann")["balance"] == 150
    plan = client.preview_refund(kind="withdrawal", to="source", customer_id="ann", credits=10, reason="asked")
    assert (plan["would_be"], plan["balance_after"]) == ("accepted", 140)
    refund = client.create_refund(
        kind="credit_refund",
        to="balance",
        customer_id="ann",
        transaction_id="tx/1",
        credits=20,
        reason="broke off",
        idempotency_key="r-1",
    )
    worker.settle()
    assert client.refund(refund["id"])["status"] == "succeeded"
    assert client.events(refund["id"])[0]["what"] == "accepted"
    correction = client.correct("ann", credits=-30, reason="agreed", idempotency_key="c1")
    assert client.correct("ann", credits=-30, reason="agreed", idempotency_key="c1") == correction
    assert client.reverse_transaction(correction["transaction_id"])["refers_to"] == correction["transaction_id"]
    kinds = [t["kind"] for t in client.transactions("ann", page_size=2)]
    assert kinds == ["reversal", "correction", "credit_refund", "spend", "purchase"]
    for act in (client.approve, client.reject, client.retry):
        with pytest.raises(ApiError) as refused:
            act(refund["id"], reason="try")
        assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        client.resolve(refund["id"], reason="paid by hand", outcome="paid_manually", reference="b-1")
    assert refused.value.code == "action_not_allowed"
    waiting = client.create_refund(
        kind="withdrawal", to="source", customer_id="ann", credits=1, reason="asked", idempotency_key="r-2"
    )
    with pytest.raises(ApiError) as stale:
        client.cancel(waiting["id"], reason="no", version=waiting["version"] + 1)
    assert stale.value.code == "stale_version"
    assert client.cancel(waiting["id"], reason="no", version=waiting["version"])["status"] == "canceled"


def test_a_batch_and_the_switches_are_calls_too(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("batch", amount_minor=1_000, credits=100)
    asked = {"kind": "withdrawal", "to": "source", "customer_id": "batch", "reason": "cancelled", "note": None}
    rows = [{**asked, "credits": 10, "idempotency_key": f"b-{n}"} for n in range(3)]
    batch = client.create_batch([*rows, {**asked, "credits": 500, "idempotency_key": "b-much"}])
    assert (batch["status"], batch["accepted"], batch["message"]) == ("complete", 3, None)
    assert [(reject["index"], reject["code"]) for reject in batch["rejected"]] == [(3, "exceeds_refundable")]
    assert client.batch(batch["batch_id"]) == batch
    assert client.create_batch(rows)["replayed"] == 3
    assert client.pause_processor("stripe", reason="fire")["reason"] == "fire"
    assert client.resume_processor("stripe", reason="out")["paused"] is False


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


def test_an_id_with_a_slash_is_one_segment_of_the_path(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("shop/transactions", amount_minor=100, credits=10)
    assert client.customer("shop/transactions")["balance"] == 10
    assert [each["kind"] for each in client.transactions("shop/transactions")] == ["purchase"]
    assert client.correct("shop/transactions", credits=1, reason="r", idempotency_key="s")["credits"] == 1


def test_there_is_a_call_for_every_route_of_the_api(worker: RefundWorker) -> None:
    plan: Any = {"kind": "withdrawal", "to": "source", "customer_id": "_"}
    calls = [
        Calls.create_refund(**plan, reason="", idempotency_key="k"),
        Calls.preview_refund(**plan),
        Calls.refund("_"),
        Calls.refunds().page(),
        Calls.events("_"),
        *(act("_", reason="") for act in (Calls.approve, Calls.reject, Calls.cancel, Calls.retry)),
        Calls.resolve("_", reason="", outcome="reverse"),
        Calls.customer("_"),
        Calls.transactions("_").page(),
        Calls.correct("_", credits=1, reason="", idempotency_key="k"),
        Calls.payment("_"),
        Calls.record_payment(PAYMENT),
        Calls.record_spend(SPEND),
        Calls.reverse_transaction("_"),
        Calls.create_batch([]),
        Calls.batch("_"),
        *(switch("_", reason="") for switch in (Calls.pause_processor, Calls.resume_processor)),
    ]
    offered = {(method, re.sub(r"{\w+}", "_", path)) for method, path in ROLES if path.startswith("/v1/")}
    assert {(call.method, call.path.partition("?")[0]) for call in calls} == offered


def test_a_list_goes_on_over_its_pages_and_each_comes_once(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("pages", amount_minor=700, credits=7)
    made = [worker.request("pages", credits=1) for _ in range(7)]
    found = [refund["id"] for refund in client.refunds(customer_id="pages", page_size=3)]
    assert found == sorted(made, reverse=True)
    assert [r["id"] for r in client.refunds(customer_id="pages", status="succeeded")] == []


def test_a_refusal_has_its_code_its_fields_and_is_not_repeated(worker: RefundWorker, door: Door) -> None:
    worker.add_payment("fields", amount_minor=100, credits=10)
    with Line(door.url) as line, Client(line.url, door.key, retries=QUICK) as client:
        client.create_refund(
            kind="withdrawal", to="source", customer_id="fields", credits=1, reason="a", idempotency_key="same"
        )
        with pytest.raises(ApiError) as refused:
            client.create_refund(
                kind="withdrawal", to="source", customer_id="fields", credits=2, reason="b", idempotency_key="same"
            )
        assert len(line.keys) == 2
    error = refused.value
    assert (error.status, error.code, error.retryable) == (422, "idempotency_key_reused", False)
    assert set(error.fields) == {"credits", "reason"}


@pytest.mark.parametrize("trouble", ["lose the answer", "lose the request", 500, 502, 503, 429])
def test_a_request_whose_answer_is_lost_is_repeated_under_its_key_and_makes_one_refund(
    worker: RefundWorker, door: Door, trouble: str | int
) -> None:
    customer = f"lost-{trouble}".replace(" ", "-")
    worker.add_payment(customer, amount_minor=100, credits=10)
    with Line(door.url, trouble, trouble) as line, Client(line.url, door.key, retries=QUICK) as client:
        refund = client.create_refund(
            kind="withdrawal", to="source", customer_id=customer, credits=1, reason="asked", idempotency_key=customer
        )
        assert len(line.keys) == 3
        assert len(set(line.keys)) == 1
        assert [r["id"] for r in client.refunds(customer_id=customer)] == [refund["id"]]


def test_a_server_that_hangs_is_given_up_in_bounded_time(worker: RefundWorker, door: Door) -> None:
    worker.add_payment("hangs", amount_minor=100, credits=10)
    retries = Retries(tries=2, base=0.01)
    with (
        Line(door.url, *["hang"] * 9) as line,
        Client(line.url, door.key, retries=retries, timeout_seconds=0.3) as client,
    ):
        began = time.monotonic()
        with pytest.raises(ApiError) as error:
            client.create_refund(
                kind="withdrawal", to="source", customer_id="hangs", credits=1, reason="asked", idempotency_key="r-2"
            )
        assert time.monotonic() - began < 5
        assert (error.value.code, error.value.retryable, len(line.keys)) == ("unreachable", True, 2)
        assert door.key not in str(error.value)


def test_a_wait_that_the_server_asks_for_is_kept_and_one_of_hours_is_not_begun() -> None:
    retries = Retries(base=0.01, longest=20.0)
    assert retries.wait_seconds(1, "7") == 7
    assert retries.wait_seconds(1, "86400") is None


@pytest.mark.parametrize(("trouble", "sent"), [("lose the answer", 1), (500, 1), (503, 2), (429, 2)])
def test_an_act_of_a_person_is_repeated_only_where_nothing_was_done(
    worker: RefundWorker, door: Door, trouble: str | int, sent: int
) -> None:
    customer = f"act-{trouble}".replace(" ", "-")
    worker.add_payment(customer, amount_minor=100, credits=10)
    refund_id = worker.request(customer, credits=1)
    with Line(door.url, trouble) as line, Client(line.url, door.key, retries=QUICK) as client:
        if sent == 1:
            with pytest.raises(ApiError):
                client.cancel(refund_id, reason="no")
        else:
            assert client.cancel(refund_id, reason="no")["status"] == "canceled"
        assert len(line.keys) == sent


def test_a_server_that_is_not_there_is_unreachable(door: Door) -> None:
    with Line(door.url) as gone:
        url = gone.url
    with Client(url, door.key, retries=Retries(tries=2, base=0.01)) as client, pytest.raises(ApiError) as error:
        client.customer("ann")
    assert (error.value.code, error.value.status) == ("unreachable", 0)


def test_a_signed_key_serves_whoever_has_its_secret_and_each_try_is_signed(worker: RefundWorker) -> None:
    worker.add_payment("signed", amount_minor=100, credits=10)
    with worker.http(signed=True) as door, Line(door.url, 503) as line:
        for secret in (None, "rws_wrong"):
            with Client(door.url, door.key, signing_secret=secret) as client, pytest.raises(ApiError) as error:
                client.customer("signed")
            assert error.value.status == 401
        with Client(line.url, door.key, signing_secret=door.signing_secret, retries=QUICK) as client:
            refund = client.create_refund(
                kind="withdrawal", to="source", customer_id="signed", credits=1, reason="a", idempotency_key="r-3"
            )
            assert count(client, customer_id="signed") == 1
            assert client.cancel(refund["id"], reason="no", version=refund["version"])["status"] == "canceled"
            assert str(door.signing_secret) not in repr(vars(client)["_headers"])

        async def story() -> None:
            async with AsyncClient(door.url, door.key, signing_secret=door.signing_secret) as client:
                assert (await client.customer("signed"))["balance"] == 10
                assert [r["id"] async for r in client.refunds(customer_id="signed")] == [refund["id"]]

        asyncio.run(story())


def test_a_wrong_key_opens_nothing_and_no_key_is_shown(door: Door) -> None:
    with Client(door.url, "rw_wrong", retries=QUICK) as client, pytest.raises(ApiError) as error:
        client.customer("ann")
    assert (error.value.status, error.value.code) == (401, "unauthenticated")
    assert door.key not in repr(Client(door.url, door.key))


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


def test_the_asynchronous_client_does_the_same(worker: RefundWorker, door: Door) -> None:
    worker.add_payment("async", amount_minor=1_000, credits=100)

    async def story() -> None:
        with Line(door.url, "lose the answer", 503) as line:
            async with AsyncClient(line.url, door.key, retries=QUICK) as client:
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


def test_both_clients_have_the_same_calls_with_the_same_arguments() -> None:
    import inspect

    names = {name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")}
    assert names == {name for name, value in vars(AsyncClient).items() if callable(value) and not name.startswith("_")}
    for name in names:
        one, other = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (Client, AsyncClient))
        assert one == other, name


def test_the_client_alone_loads_nothing_of_the_engine(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, refund_worker.client; "
        "print(sorted({'sqlalchemy', 'celery', 'stripe', 'pydantic', 'fastapi', 'aiohttp'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
