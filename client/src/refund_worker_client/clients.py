"""`Client` and `AsyncClient`: the same calls, made by the same code, over httpx.

A call that is safe to repeat (it reads, carries an idempotency key, or names what it records) is repeated after a
timeout, a lost connection, 429 and 5xx, with the same key. A person's action is repeated only where the server says
that nothing was done.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import itertools
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Concatenate, ParamSpec, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from refund_worker_client.api_schema import Page
from refund_worker_client.calls import Call, Calls, Listing
from refund_worker_client.errors import Answer, NotReached, Retries, again, final
from refund_worker_client.request_signing import HEADER, SIGNED_HEADERS, signature_header

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ANSWER_BYTES_MAX = 64 << 20
# The server cannot have seen the request: no connection was made.
_NOT_BEGUN = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Base:
    def __init__(
        self,
        url: str,
        key: str,
        *,
        signing_secret: str | None = None,
        timeout_seconds: float = 30.0,
        retries: Retries | None = None,
    ) -> None:
        """`url` such as https://refunds.example, `key` of `refund-worker keys create`. Raises ValueError for others."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError("the URL must be http:// or https://, without a user name and a query")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError("the key is not one of refund-worker's")
        self._url = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._headers = {
            "Authorization": f"Bearer {key}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "refund-worker",
        }
        self._signing_secret = signing_secret
        self._timeout_seconds = timeout_seconds
        self._retries = retries or Retries()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._url})"

    def _options(self) -> dict[str, Any]:
        """httpx's options: the machine's certificates, no proxy and no password of its environment, no cookies."""
        return {
            "timeout": self._timeout_seconds,
            "verify": ssl.create_default_context() if self._url.startswith("https:") else False,
            "trust_env": False,
            "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        }

    def _request(self, call: Call[Any]) -> dict[str, Any]:
        """The arguments of httpx's `stream`. Each try has its own signature: one is valid for minutes only."""
        headers = self._headers | dict(call.headers)
        body = None
        if call.body is not None:
            body = json.dumps(call.body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        if self._signing_secret is not None:
            headers[HEADER] = signature_header(
                self._signing_secret,
                at=int(time.time()),
                method=call.method,
                target=call.path,
                headers=tuple(headers.get(name, "") for name in SIGNED_HEADERS),
                body=body or b"",
            )
        if any(sign in value for value in headers.values() for sign in "\r\n\0"):
            raise ValueError("a header cannot hold a line break")
        encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
        return {"method": call.method, "url": self._url + call.path, "headers": encoded, "content": body}

    def _wait_seconds(self, call: Call[Any], failed: int, outcome: Answer | NotReached) -> float | None:
        """The wait before the next try after `failed` tries, or None where this outcome is the last."""
        if failed >= self._retries.tries or not again(call, outcome):
            return None
        return self._retries.wait_seconds(failed, outcome.retry_after if isinstance(outcome, Answer) else None)


def _answer(response: httpx.Response, body: bytearray) -> Answer:
    return Answer(response.status_code, bytes(body), response.headers.get("Retry-After"))


def _not_reached(error: Exception) -> NotReached:
    return NotReached(type(error).__name__, began=not isinstance(error, _NOT_BEGUN))


def _like(made: F, method: Callable[..., Any]) -> F:
    """`made` with the name, the text and the parameters of `method`, for people and their tools."""
    functools.update_wrapper(made, method)
    parameters = inspect.signature(method).parameters.values()
    this = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    made.__signature__ = inspect.Signature([this, *parameters])  # type: ignore[attr-defined]
    return made


def _now(method: Callable[P, Call[T]]) -> Callable[Concatenate[Client, P], T]:
    def send(self: Client, /, *args: P.args, **values: P.kwargs) -> T:
        return self._do(method(*args, **values))

    return _like(send, method)


def _later(method: Callable[P, Call[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def send(self: AsyncClient, /, *args: P.args, **values: P.kwargs) -> T:
        return await self._do(method(*args, **values))

    return _like(send, method)


def _pages(method: Callable[P, Listing[T]]) -> Callable[Concatenate[Client, P], Iterator[T]]:
    def iterate(self: Client, /, *args: P.args, **values: P.kwargs) -> Iterator[T]:
        listing = method(*args, **values)
        call: Call[Page[T]] | None = listing.page()
        while call is not None:
            page = self._do(call)
            yield from page["data"]
            call = listing.next_page(page)

    return _like(iterate, method)


def _pages_later(method: Callable[P, Listing[T]]) -> Callable[Concatenate[AsyncClient, P], AsyncIterator[T]]:
    async def iterate(self: AsyncClient, /, *args: P.args, **values: P.kwargs) -> AsyncIterator[T]:
        listing = method(*args, **values)
        call: Call[Page[T]] | None = listing.page()
        while call is not None:
            page = await self._do(call)
            for each in page["data"]:
                yield each
            call = listing.next_page(page)

    return _like(iterate, method)


class Client(_Base):
    """Each call raises `ApiError`. A client belongs to one thread; close it, or use it as a context manager."""

    _http: httpx.Client | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        http, self._http = self._http, None
        if http is not None:
            http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    create_refund = _now(Calls.create_refund)
    preview_refund = _now(Calls.preview_refund)
    refund = _now(Calls.refund)
    refunds = _pages(Calls.refunds)
    events = _now(Calls.events)
    waits = _now(Calls.waits)
    sync = _now(Calls.sync)
    search = _now(Calls.search)
    funds = _now(Calls.funds)
    create_payout = _now(Calls.create_payout)
    preview_payout = _now(Calls.preview_payout)
    payout = _now(Calls.payout)
    payouts = _pages(Calls.payouts)
    payout_events = _now(Calls.payout_events)
    sync_payout = _now(Calls.sync_payout)
    approve_payout = _now(Calls.approve_payout)
    reject_payout = _now(Calls.reject_payout)
    cancel_payout = _now(Calls.cancel_payout)
    retry_payout = _now(Calls.retry_payout)
    resolve_payout = _now(Calls.resolve_payout)
    create_payout_run = _now(Calls.create_payout_run)
    payout_run = _now(Calls.payout_run)
    payout_runs = _pages(Calls.payout_runs)
    payout_run_rows = _pages(Calls.payout_run_rows)
    payout_run_events = _now(Calls.payout_run_events)
    approve_payout_run = _now(Calls.approve_payout_run)
    cancel_payout_run = _now(Calls.cancel_payout_run)
    approve = _now(Calls.approve)
    reject = _now(Calls.reject)
    cancel = _now(Calls.cancel)
    retry = _now(Calls.retry)
    resolve = _now(Calls.resolve)
    customer = _now(Calls.customer)
    transactions = _pages(Calls.transactions)
    correct = _now(Calls.correct)
    merge_customer = _now(Calls.merge_customer)
    erase_customer = _now(Calls.erase_customer)
    export_customer = _now(Calls.export_customer)
    payment = _now(Calls.payment)
    payments = _pages(Calls.payments)
    outside_refund = _now(Calls.outside_refund)
    decide_outside_refund = _now(Calls.decide_outside_refund)
    decide_dispute = _now(Calls.decide_dispute)
    link_outside_refund = _now(Calls.link_outside_refund)
    close_payment = _now(Calls.close_payment)
    outside_refunds = _pages(Calls.outside_refunds)
    dispute = _now(Calls.dispute)
    disputes = _pages(Calls.disputes)
    fraud_warnings = _pages(Calls.fraud_warnings)
    record_payment = _now(Calls.record_payment)
    record_spend = _now(Calls.record_spend)
    reverse_transaction = _now(Calls.reverse_transaction)
    create_batch = _now(Calls.create_batch)
    batch = _now(Calls.batch)
    pause_processor = _now(Calls.pause_processor)
    resume_processor = _now(Calls.resume_processor)
    start_reconciliation = _now(Calls.start_reconciliation)
    reconciliation = _now(Calls.reconciliation)
    apply_difference = _now(Calls.apply_difference)
    acknowledge_difference = _now(Calls.acknowledge_difference)
    reconciliations = _pages(Calls.reconciliations)
    differences = _pages(Calls.differences)
    record_payee = _now(Calls.record_payee)
    change_payee = _now(Calls.change_payee)
    payee = _now(Calls.payee)
    payee_destination = _now(Calls.payee_destination)
    payee_events = _now(Calls.payee_events)
    payee_statement = _now(Calls.payee_statement)
    record_earning = _now(Calls.record_earning)
    earning = _now(Calls.earning)
    pause_payee = _now(Calls.pause_payee)
    resume_payee = _now(Calls.resume_payee)
    link_dispute = _now(Calls.link_dispute)
    payees = _pages(Calls.payees)
    earnings = _pages(Calls.earnings)

    def _do(self, call: Call[T]) -> T:
        for failed in itertools.count(1):
            outcome = self._send(call)
            wait = self._wait_seconds(call, failed, outcome)
            if wait is None:
                break
            time.sleep(wait)
        return call.result(final(outcome))

    def _send(self, call: Call[Any]) -> Answer | NotReached:
        request = self._request(call)
        if self._http is None:
            self._http = httpx.Client(**self._options())
        body = bytearray()
        try:
            with self._http.stream(**request) as response:
                for part in response.iter_raw():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:  # what is cut off is no JSON, and so no answer
                        break
                return _answer(response, body[:ANSWER_BYTES_MAX])
        except (httpx.TransportError, OSError) as error:
            return _not_reached(error)


class AsyncClient(_Base):
    """The same calls, awaited. Each raises `ApiError`. Use it as an async context manager, or `await close()`."""

    _http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    create_refund = _later(Calls.create_refund)
    preview_refund = _later(Calls.preview_refund)
    refund = _later(Calls.refund)
    refunds = _pages_later(Calls.refunds)
    events = _later(Calls.events)
    waits = _later(Calls.waits)
    sync = _later(Calls.sync)
    search = _later(Calls.search)
    funds = _later(Calls.funds)
    create_payout = _later(Calls.create_payout)
    preview_payout = _later(Calls.preview_payout)
    payout = _later(Calls.payout)
    payouts = _pages_later(Calls.payouts)
    payout_events = _later(Calls.payout_events)
    sync_payout = _later(Calls.sync_payout)
    approve_payout = _later(Calls.approve_payout)
    reject_payout = _later(Calls.reject_payout)
    cancel_payout = _later(Calls.cancel_payout)
    retry_payout = _later(Calls.retry_payout)
    resolve_payout = _later(Calls.resolve_payout)
    create_payout_run = _later(Calls.create_payout_run)
    payout_run = _later(Calls.payout_run)
    payout_runs = _pages_later(Calls.payout_runs)
    payout_run_rows = _pages_later(Calls.payout_run_rows)
    payout_run_events = _later(Calls.payout_run_events)
    approve_payout_run = _later(Calls.approve_payout_run)
    cancel_payout_run = _later(Calls.cancel_payout_run)
    approve = _later(Calls.approve)
    reject = _later(Calls.reject)
    cancel = _later(Calls.cancel)
    retry = _later(Calls.retry)
    resolve = _later(Calls.resolve)
    customer = _later(Calls.customer)
    transactions = _pages_later(Calls.transactions)
    correct = _later(Calls.correct)
    merge_customer = _later(Calls.merge_customer)
    erase_customer = _later(Calls.erase_customer)
    export_customer = _later(Calls.export_customer)
    payment = _later(Calls.payment)
    payments = _pages_later(Calls.payments)
    outside_refund = _later(Calls.outside_refund)
    decide_outside_refund = _later(Calls.decide_outside_refund)
    decide_dispute = _later(Calls.decide_dispute)
    link_outside_refund = _later(Calls.link_outside_refund)
    close_payment = _later(Calls.close_payment)
    outside_refunds = _pages_later(Calls.outside_refunds)
    dispute = _later(Calls.dispute)
    disputes = _pages_later(Calls.disputes)
    fraud_warnings = _pages_later(Calls.fraud_warnings)
    record_payment = _later(Calls.record_payment)
    record_spend = _later(Calls.record_spend)
    reverse_transaction = _later(Calls.reverse_transaction)
    create_batch = _later(Calls.create_batch)
    batch = _later(Calls.batch)
    pause_processor = _later(Calls.pause_processor)
    resume_processor = _later(Calls.resume_processor)
    start_reconciliation = _later(Calls.start_reconciliation)
    reconciliation = _later(Calls.reconciliation)
    apply_difference = _later(Calls.apply_difference)
    acknowledge_difference = _later(Calls.acknowledge_difference)
    reconciliations = _pages_later(Calls.reconciliations)
    differences = _pages_later(Calls.differences)
    record_payee = _later(Calls.record_payee)
    change_payee = _later(Calls.change_payee)
    payee = _later(Calls.payee)
    payee_destination = _later(Calls.payee_destination)
    payee_events = _later(Calls.payee_events)
    payee_statement = _later(Calls.payee_statement)
    record_earning = _later(Calls.record_earning)
    earning = _later(Calls.earning)
    pause_payee = _later(Calls.pause_payee)
    resume_payee = _later(Calls.resume_payee)
    link_dispute = _later(Calls.link_dispute)
    payees = _pages_later(Calls.payees)
    earnings = _pages_later(Calls.earnings)

    async def _do(self, call: Call[T]) -> T:
        for failed in itertools.count(1):
            outcome = await self._send(call)
            wait = self._wait_seconds(call, failed, outcome)
            if wait is None:
                break
            await asyncio.sleep(wait)
        return call.result(final(outcome))

    async def _send(self, call: Call[Any]) -> Answer | NotReached:
        request = self._request(call)
        if self._http is None:
            self._http = httpx.AsyncClient(**self._options())
        body = bytearray()
        try:
            # The limit is on the whole call, however slowly its bytes come.
            async with asyncio.timeout(self._timeout_seconds), self._http.stream(**request) as response:
                async for part in response.aiter_raw():
                    body += part
                    if len(body) > ANSWER_BYTES_MAX:
                        break
                return _answer(response, body[:ANSWER_BYTES_MAX])
        except (httpx.TransportError, TimeoutError, OSError) as error:
            return _not_reached(error)
