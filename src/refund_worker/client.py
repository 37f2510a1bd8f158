"""A typed client for the HTTP API: `Client`, and `AsyncClient` with the same calls to be awaited.

What went wrong is raised as `ApiError` with the API's stable `code`. A call that is safe to repeat (it reads, carries
an idempotency key, or names what it records) is repeated after a timeout, a lost connection, 429 and 5xx, with the same
key; an act of a person only where the server says that nothing was done. With a `signing_secret`, which keys made with
`--signed` need, each request is signed. Of this package it imports `signing` alone.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import select
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, NotRequired, Self, TypedDict, TypeVar, cast
from urllib.parse import quote, urlencode, urlsplit

from refund_worker.request_signing import HEADER, SIGNED_HEADERS, signature_header

if TYPE_CHECKING:
    import aiohttp

Kind = Literal["credit_refund", "withdrawal"]
To = Literal["balance", "source"]
Outcome = Literal["paid_manually", "reverse"]
T = TypeVar("T")

ANSWER_BYTES_MAX = 64 << 20
UNREACHABLE = "unreachable"


# --- what is answered ------------------------------------------------------------------------------------------------


class Amount(TypedDict):
    """Minor units of one currency."""

    currency: str
    requested_minor: int
    succeeded_minor: int


class Leg(TypedDict):
    leg_id: str
    payment_id: str
    processor: str
    amount_minor: int
    currency: str
    credits: int
    status: str
    processor_refund_id: str | None
    attempts: int
    failure_code: str | None
    blocked_by: list[str]
    unreturnable_minor: int


class Refund(TypedDict):
    """Times are ISO 8601 in UTC."""

    id: str
    status: str
    kind: Kind
    to: To
    customer_id: str
    transaction_id: str | None
    credits: int
    amounts: list[Amount]
    legs: list[Leg]
    reason: str
    note: str | None
    metadata: dict[str, str]
    idempotency_key: str
    client: str
    actor: str
    requested_by: str | None
    failure_code: str | None
    failure_message: str | None
    available_actions: list[str]
    version: int
    created_at: str
    updated_at: str


# `from` is a word of Python's: this form can hold it.
Event = TypedDict(
    "Event",
    {
        "at": str,
        "what": str,
        "who": str,
        "why": str | None,
        "leg_id": str | None,
        "from": str | None,
        "to": str | None,
        "alarm": bool,
        "detail": dict[str, Any],
    },
)


class Payment(TypedDict):
    """`captured_at` is ISO 8601 with its time zone."""

    payment_id: str
    customer_id: str
    processor: str
    processor_payment_id: str
    amount_minor: int
    currency: str
    credits: int
    captured_at: str
    captured_minor: NotRequired[int]
    refunded_minor: NotRequired[int]


class PaymentWord(TypedDict):
    """What the processor said of a payment, and when; null is what it did not say."""

    captured_minor: int | None
    currency: str
    live: bool | None
    disputed: bool | None
    refunded_minor: int | None
    read_at: str


class PaymentRead(Payment):
    """`verified`: the processor's word agrees, or does not or can't be read; null while nobody has asked."""

    verified: bool | None
    processor_says: PaymentWord | None


class Spend(TypedDict):
    transaction_id: str
    customer_id: str
    credits: int
    occurred_at: str
    description: NotRequired[str]


class Transaction(TypedDict):
    """`credits` is signed."""

    transaction_id: str
    kind: str
    credits: int
    refers_to: str | None
    refund_id: str | None
    description: str
    occurred_at: str


class Customer(TypedDict):
    customer_id: str
    balance: int
    available: int
    payable: int
    recent_corrections: list[Transaction]


class PlannedLeg(TypedDict):
    payment_id: str
    processor: str
    amount_minor: int
    currency: str
    credits: int
    unreturnable_minor: NotRequired[int]


class Preview(TypedDict):
    """`would_be` is "accepted" or {code, message}."""

    would_be: str | dict[str, str]
    credits: int | None
    maximum_credits: int
    legs: list[PlannedLeg]
    amounts: list[Amount]
    balance_before: int | None
    balance_after: int | None
    policy: dict[str, Any]


class Reject(TypedDict):
    """`index` counts the rows from 0."""

    index: int
    code: str
    message: str


class Batch(TypedDict):
    """`status` is complete, taking_in, or stopped; then `message` says what to do."""

    batch_id: str
    status: str
    message: str | None
    accepted: int
    replayed: int
    rejected: list[Reject]
    refunds_by_status: dict[str, int]
    created_at: str
    updated_at: str


class Switch(TypedDict):
    name: str
    paused: bool
    paused_by: str | None
    paused_at: str | None
    paused_until: str | None
    code: str | None
    reason: str | None


class Page(TypedDict, Generic[T]):
    data: list[T]
    has_more: bool


class ApiError(Exception):
    """What the API refused, or that it was not reached: then `code` is "unreachable" and `status` is 0.

    `retryable` says if the same call can succeed later; `fields` are those that are wrong, where it is about some.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 0, retryable: bool = False, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.status, self.retryable, self.fields = code, message, status, retryable, fields


# --- one call, however it is sent ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """`repeatable`: the same once more does nothing new."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `tries` in all, with waits in seconds that double from `base` to `longest`, each shortened by chance."""

    tries: int = 5
    base: float = 0.5
    longest: float = 20.0

    def wait_seconds(self, failed: int, retry_after: str | None) -> float | None:
        """None where the server asks for a longer wait than anybody here waits."""
        wait = min(self.longest, self.base * 2.0 ** (failed - 1))
        # By chance, so that many clients that failed together do not come back together.
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
        return max(wait, asked) if asked <= self.longest else None


class NotReached(Exception):
    """The call got no whole answer; `began` is False where the server can't have seen it."""

    def __init__(self, why: str, *, began: bool) -> None:
        super().__init__(why)
        self.began = began


def decoded(answer: Answer) -> Any:
    """The JSON of a good answer. Raises `ApiError` for every other one."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if 200 <= answer.status < 300 and body is not None:
        return body
    told = body if isinstance(body, dict) else {}
    retryable = told.get("retryable", answer.status == 429 or answer.status >= 500)
    raise ApiError(
        str(told.get("code", "unexpected_answer")),
        str(told.get("detail", f"the server answered {answer.status}")),
        status=answer.status,
        retryable=bool(retryable),
        fields=tuple(str(name) for name in told.get("fields", ())),
    )


def again(call: Call[Any], outcome: Answer | NotReached) -> bool:
    """Whether the call may be sent once more after this outcome."""
    if isinstance(outcome, NotReached):
        return call.repeatable or not outcome.began
    # 429 and 503 are this server's way of saying that nothing was done.
    return outcome.status in (429, 503) or (outcome.status >= 500 and call.repeatable)


def final(outcome: Answer | NotReached) -> Any:
    if isinstance(outcome, NotReached):
        raise ApiError(UNREACHABLE, f"the refund service was not reached: {outcome}", retryable=True) from outcome
    return decoded(outcome)


def _path(*parts: str) -> str:
    # Everything of an id is quoted, its slashes too: nothing in it can change where a path leads. Dots can't be quoted,
    # and whoever passes the request on may take them for "one level up".
    if "" in parts or any(part in (".", "..") for whole in parts for part in whole.split("/")):
        raise ValueError(f"no id of a path: {'/'.join(parts)!r}")
    return "/v1/" + "/".join(quote(part, safe="@:") for part in parts)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _query(path: str, values: Mapping[str, Any]) -> str:
    given = urlencode(_without_none(values), doseq=True)
    return f"{path}?{given}" if given else path


def _key(given: str) -> dict[str, str]:
    # None is made here: a caller that crashed and asks again would have another one, and be paid twice.
    if not isinstance(given, str) or not given or given != given.strip():
        raise ValueError("idempotency_key must be a text without blanks at its ends: one for each intent, kept with it")
    return {"Idempotency-Key": given}


class Calls:
    """The API, call by call; both clients send these. Raises ValueError for an id or a key that can't be sent."""

    @staticmethod
    def create_refund(fields: Mapping[str, Any], idempotency_key: str) -> Call[Refund]:
        return Call("POST", "/v1/refunds", _without_none(fields), _key(idempotency_key))

    @staticmethod
    def preview_refund(fields: Mapping[str, Any]) -> Call[Preview]:
        return Call("POST", "/v1/refunds/preview", _without_none(fields))

    @staticmethod
    def refund(refund_id: str) -> Call[Refund]:
        return Call("GET", _path("refunds", refund_id))

    @staticmethod
    def refunds(filters: Mapping[str, Any]) -> Call[Page[Refund]]:
        return Call("GET", _query("/v1/refunds", filters))

    @staticmethod
    def events(refund_id: str) -> Call[Page[Event]]:
        return Call("GET", _path("refunds", refund_id, "events"))

    @staticmethod
    def act(refund_id: str, action: str, body: Mapping[str, Any], version: int | None) -> Call[Refund]:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return Call("POST", _path("refunds", refund_id, action), _without_none(body), headers, repeatable=False)

    @staticmethod
    def customer(customer_id: str) -> Call[Customer]:
        return Call("GET", _path("customers", customer_id))

    @staticmethod
    def transactions(customer_id: str, limit: int, after: str | None) -> Call[Page[Transaction]]:
        path = _path("customers", customer_id, "transactions")
        return Call("GET", _query(path, {"limit": limit, "starting_after": after}))

    @staticmethod
    def correct(customer_id: str, credits: int, reason: str, key: str) -> Call[Transaction]:
        body = {"credits": credits, "reason": reason}
        return Call("POST", _path("customers", customer_id, "corrections"), body, _key(key))

    @staticmethod
    def payment(payment_id: str) -> Call[PaymentRead]:
        return Call("GET", _path("payments", payment_id))

    @staticmethod
    def record_payment(payment: Payment) -> Call[Payment]:
        return Call("POST", "/v1/payments", payment)

    @staticmethod
    def record_spend(spend: Spend) -> Call[Transaction]:
        return Call("POST", "/v1/transactions", {"kind": "spend", **spend})

    @staticmethod
    def reverse_transaction(transaction_id: str) -> Call[Transaction]:
        return Call("DELETE", _path("transactions", transaction_id))

    @staticmethod
    def create_batch(refunds: Iterable[Mapping[str, Any]]) -> Call[Batch]:
        return Call("POST", "/v1/refund-batches", {"refunds": [_without_none(each) for each in refunds]})

    @staticmethod
    def batch(batch_id: str) -> Call[Batch]:
        return Call("GET", _path("refund-batches", batch_id))

    @staticmethod
    def switch(name: str, action: str, reason: str) -> Call[Switch]:
        # Not repeated: somebody else may have turned the switch since.
        return Call("POST", _path("processors", name, action), {"reason": reason}, repeatable=False)


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
        self._parts, self._base = parts, parts.path.rstrip("/")
        self._headers = {"Authorization": f"Bearer {key}", "Accept": "application/json", "User-Agent": "refund-worker"}
        self._signing_secret = signing_secret
        self._timeout_seconds = timeout_seconds
        self._retries = retries or Retries()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._parts.scheme}://{self._parts.netloc}{self._base})"

    def _prepared(self, call: Call[Any]) -> tuple[bytes | None, dict[str, str]]:
        headers = self._headers | dict(call.headers)
        body = None
        if call.body is not None:
            body = json.dumps(call.body, allow_nan=False).encode()
            headers["Content-Type"] = "application/json"
        if self._signing_secret is not None:
            # Of each try anew: a signature is good for minutes, and the waits between tries may be longer.
            headers[HEADER] = signature_header(
                self._signing_secret,
                at=int(time.time()),
                method=call.method,
                target=call.path,
                headers=tuple(headers.get(name, "") for name in SIGNED_HEADERS),
                body=body or b"",
            )
        return body, headers


# --- the two clients -------------------------------------------------------------------------------------------------


class Client(_Base):
    """Each call raises `ApiError`. A client belongs to one thread; close it, or use it as a context manager."""

    _connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def create_refund(
        self,
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
        note: str | None = None,
        requested_by: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str,
    ) -> Refund:
        """Ask for a refund. The key is your own, kept with what it is for: then a crash of yours asks once, too."""
        fields = {name: value for name, value in locals().items() if name not in ("self", "idempotency_key")}
        return self._do(Calls.create_refund(fields, idempotency_key))

    def preview_refund(
        self,
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str | None = None,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
    ) -> Preview:
        """What would happen now; nothing is stored."""
        return self._do(Calls.preview_refund({name: value for name, value in locals().items() if name != "self"}))

    def refund(self, refund_id: str) -> Refund:
        return self._do(Calls.refund(refund_id))

    def refunds(
        self,
        *,
        status: str | None = None,
        customer_id: str | None = None,
        failure_code: str | None = None,
        created_gte: str | None = None,
        idempotency_key: str | None = None,
        page_size: int = 100,
    ) -> Iterator[Refund]:
        """All of them, newest first, fetched page by page."""
        filters = {name: value for name, value in locals().items() if name not in ("self", "page_size")}
        after: str | None = None
        while True:
            page = self._do(Calls.refunds(filters | {"limit": page_size, "starting_after": after}))
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["data"][-1]["id"]

    def events(self, refund_id: str) -> list[Event]:
        """The timeline, oldest first."""
        return self._do(Calls.events(refund_id))["data"]

    def approve(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return self._do(Calls.act(refund_id, "approve", {"reason": reason}, version))

    def reject(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return self._do(Calls.act(refund_id, "reject", {"reason": reason}, version))

    def cancel(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return self._do(Calls.act(refund_id, "cancel", {"reason": reason}, version))

    def retry(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return self._do(Calls.act(refund_id, "retry", {"reason": reason}, version))

    def resolve(
        self,
        refund_id: str,
        *,
        reason: str,
        outcome: Outcome,
        reference: str | None = None,
        version: int | None = None,
    ) -> Refund:
        body = {"reason": reason, "outcome": outcome, "reference": reference}
        return self._do(Calls.act(refund_id, "resolve", body, version))

    def customer(self, customer_id: str) -> Customer:
        return self._do(Calls.customer(customer_id))

    def transactions(self, customer_id: str, *, page_size: int = 100) -> Iterator[Transaction]:
        """All of a customer's, newest first, fetched page by page."""
        after: str | None = None
        while True:
            page = self._do(Calls.transactions(customer_id, page_size, after))
            yield from page["data"]
            if not page["has_more"]:
                return
            after = page["data"][-1]["transaction_id"]

    def correct(self, customer_id: str, *, credits: int, reason: str, idempotency_key: str) -> Transaction:
        """`credits` is signed."""
        return self._do(Calls.correct(customer_id, credits, reason, idempotency_key))

    def payment(self, payment_id: str) -> PaymentRead:
        return self._do(Calls.payment(payment_id))

    def record_payment(self, payment: Payment) -> Payment:
        return self._do(Calls.record_payment(payment))

    def record_spend(self, spend: Spend) -> Transaction:
        return self._do(Calls.record_spend(spend))

    def reverse_transaction(self, transaction_id: str) -> Transaction:
        """The linked reversal, the same one when asked again."""
        return self._do(Calls.reverse_transaction(transaction_id))

    def create_batch(self, refunds: Iterable[Mapping[str, Any]]) -> Batch:
        """Ask for up to 100,000: each the fields of `create_refund` with an `idempotency_key` of its own.

        The answer comes when all are taken in, some thousand in a second: give the client a timeout to match. The same
        again does nothing new and goes on where it broke off.
        """
        return self._do(Calls.create_batch(refunds))

    def batch(self, batch_id: str) -> Batch:
        return self._do(Calls.batch(batch_id))

    def pause_processor(self, name: str, *, reason: str) -> Switch:
        """Stop sending there, to "all" of them where that is the name; looking up goes on."""
        return self._do(Calls.switch(name, "pause", reason))

    def resume_processor(self, name: str, *, reason: str) -> Switch:
        return self._do(Calls.switch(name, "resume", reason))

    def _do(self, call: Call[T]) -> T:
        for failed in range(1, self._retries.tries):
            outcome = self._once(call)
            if not again(call, outcome):
                return cast(T, final(outcome))
            retry_after = outcome.retry_after if isinstance(outcome, Answer) else None
            wait = self._retries.wait_seconds(failed, retry_after)
            if wait is None:
                return cast(T, final(outcome))
            time.sleep(wait)
        return cast(T, final(self._once(call)))

    def _once(self, call: Call[Any]) -> Answer | NotReached:
        body, headers = self._prepared(call)
        began = False
        try:
            connection = self._connected()
            began = True  # from here on the server may have seen it
            connection.request(call.method, self._base + call.path, body, headers)
            answer = connection.getresponse()
            read = answer.read(ANSWER_BYTES_MAX)
            if answer.will_close:
                self.close()
            return Answer(answer.status, read, answer.getheader("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return NotReached(type(error).__name__, began=began)

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is not None and _has_ended(self._connection):
            self.close()
        if self._connection is None:
            make = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            connection = make(str(self._parts.hostname), self._parts.port, timeout=self._timeout_seconds)
            connection.connect()
            self._connection = connection
        return self._connection


def _has_ended(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed an idle connection: seen now, it costs nothing; seen later, it would be a doubt."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


class AsyncClient(_Base):
    """The same, awaited. Each call raises `ApiError`. Use it as an async context manager, or `await close()`."""

    _session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def create_refund(
        self,
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
        note: str | None = None,
        requested_by: str | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str,
    ) -> Refund:
        """Ask for a refund. The key is your own, kept with what it is for: then a crash of yours asks once, too."""
        fields = {name: value for name, value in locals().items() if name not in ("self", "idempotency_key")}
        return await self._do(Calls.create_refund(fields, idempotency_key))

    async def preview_refund(
        self,
        *,
        kind: Kind,
        to: To,
        customer_id: str,
        reason: str | None = None,
        transaction_id: str | None = None,
        credits: int | None = None,
        currency: str | None = None,
    ) -> Preview:
        """What would happen now; nothing is stored."""
        fields = {name: value for name, value in locals().items() if name != "self"}
        return await self._do(Calls.preview_refund(fields))

    async def refund(self, refund_id: str) -> Refund:
        return await self._do(Calls.refund(refund_id))

    async def refunds(
        self,
        *,
        status: str | None = None,
        customer_id: str | None = None,
        failure_code: str | None = None,
        created_gte: str | None = None,
        idempotency_key: str | None = None,
        page_size: int = 100,
    ) -> AsyncIterator[Refund]:
        """All of them, newest first, fetched page by page."""
        filters = {name: value for name, value in locals().items() if name not in ("self", "page_size")}
        after: str | None = None
        while True:
            page = await self._do(Calls.refunds(filters | {"limit": page_size, "starting_after": after}))
            for refund in page["data"]:
                yield refund
            if not page["has_more"]:
                return
            after = page["data"][-1]["id"]

    async def events(self, refund_id: str) -> list[Event]:
        """The timeline, oldest first."""
        return (await self._do(Calls.events(refund_id)))["data"]

    async def approve(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return await self._do(Calls.act(refund_id, "approve", {"reason": reason}, version))

    async def reject(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return await self._do(Calls.act(refund_id, "reject", {"reason": reason}, version))

    async def cancel(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return await self._do(Calls.act(refund_id, "cancel", {"reason": reason}, version))

    async def retry(self, refund_id: str, *, reason: str, version: int | None = None) -> Refund:
        return await self._do(Calls.act(refund_id, "retry", {"reason": reason}, version))

    async def resolve(
        self,
        refund_id: str,
        *,
        reason: str,
        outcome: Outcome,
        reference: str | None = None,
        version: int | None = None,
    ) -> Refund:
        body = {"reason": reason, "outcome": outcome, "reference": reference}
        return await self._do(Calls.act(refund_id, "resolve", body, version))

    async def customer(self, customer_id: str) -> Customer:
        return await self._do(Calls.customer(customer_id))

    async def transactions(self, customer_id: str, *, page_size: int = 100) -> AsyncIterator[Transaction]:
        """All of a customer's, newest first, fetched page by page."""
        after: str | None = None
        while True:
            page = await self._do(Calls.transactions(customer_id, page_size, after))
            for transaction in page["data"]:
                yield transaction
            if not page["has_more"]:
                return
            after = page["data"][-1]["transaction_id"]

    async def correct(self, customer_id: str, *, credits: int, reason: str, idempotency_key: str) -> Transaction:
        """`credits` is signed."""
        return await self._do(Calls.correct(customer_id, credits, reason, idempotency_key))

    async def payment(self, payment_id: str) -> PaymentRead:
        return await self._do(Calls.payment(payment_id))

    async def record_payment(self, payment: Payment) -> Payment:
        return await self._do(Calls.record_payment(payment))

    async def record_spend(self, spend: Spend) -> Transaction:
        return await self._do(Calls.record_spend(spend))

    async def reverse_transaction(self, transaction_id: str) -> Transaction:
        """The linked reversal, the same one when asked again."""
        return await self._do(Calls.reverse_transaction(transaction_id))

    async def create_batch(self, refunds: Iterable[Mapping[str, Any]]) -> Batch:
        """Ask for up to 100,000: each the fields of `create_refund` with an `idempotency_key` of its own.

        The answer comes when all are taken in, some thousand in a second: give the client a timeout to match. The same
        again does nothing new and goes on where it broke off.
        """
        return await self._do(Calls.create_batch(refunds))

    async def batch(self, batch_id: str) -> Batch:
        return await self._do(Calls.batch(batch_id))

    async def pause_processor(self, name: str, *, reason: str) -> Switch:
        """Stop sending there, to "all" of them where that is the name; looking up goes on."""
        return await self._do(Calls.switch(name, "pause", reason))

    async def resume_processor(self, name: str, *, reason: str) -> Switch:
        return await self._do(Calls.switch(name, "resume", reason))

    async def _do(self, call: Call[T]) -> T:
        for failed in range(1, self._retries.tries):
            outcome = await self._once(call)
            if not again(call, outcome):
                return cast(T, final(outcome))
            retry_after = outcome.retry_after if isinstance(outcome, Answer) else None
            wait = self._retries.wait_seconds(failed, retry_after)
            if wait is None:
                return cast(T, final(outcome))
            await asyncio.sleep(wait)
        return cast(T, final(await self._once(call)))

    async def _once(self, call: Call[Any]) -> Answer | NotReached:
        import aiohttp  # only here: the synchronous client does without
        from yarl import URL

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_seconds), cookie_jar=aiohttp.DummyCookieJar()
            )
        body, headers = self._prepared(call)
        url = URL(f"{self._parts.scheme}://{self._parts.netloc}{self._base}{call.path}", encoded=True)
        try:
            async with self._session.request(
                call.method, url, data=body, headers=headers, allow_redirects=False
            ) as answer:
                return Answer(answer.status, await answer.read(), answer.headers.get("Retry-After"))
        except aiohttp.ClientConnectorError as error:
            return NotReached(type(error).__name__, began=False)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return NotReached(type(error).__name__, began=True)
