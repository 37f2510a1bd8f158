"""The Stripe adapter: only this folder knows Stripe's wire format. It makes no decisions about refunds.

Facts: docs.stripe.com/api/refunds, /error-codes, /idempotency and the source of stripe-python 16.1, read in 2026-11.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from refund_worker.extras import require

try:
    import aiohttp
    import stripe
except ImportError:
    require("stripe")
    raise

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    Answered,
    Denied,
    Found,
    Misconfigured,
    NotReadable,
    NotSent,
    Page,
    PageReply,
    PaymentRead,
    PaymentReply,
    PaymentUnreadable,
    RefundObject,
    Reply,
    SearchReply,
    Unanswered,
)
from refund_worker.processors.stripe.account import ReadsAccount, created_since
from refund_worker.processors.stripe.answers import (
    ErrorAnswer,
    Failure,
    Judge,
    ListFailure,
    Response,
    as_list_failure,
    as_of_connected,
    classify_answer,
    is_replayed,
    request_id,
    summary,
)
from refund_worker.processors.stripe.charges import ReadsCharges
from refund_worker.processors.stripe.errors import meaning_of
from refund_worker.processors.stripe.objects import OPAQUE_ID, payment_parameter, to_refund_object
from refund_worker.processors.stripe.paging import PAGE_PAUSES_SECONDS, PAGE_SIZE, Listing, Pages
from refund_worker.processors.stripe.payments import (
    blocks_refunds,
    charge_reading,
    intent_reading,
    is_no_way_to_read,
    names_of_payment,
)
from refund_worker.processors.stripe.requests import is_header_value, refund_parameters
from refund_worker.processors.stripe.transactions import ReadsTransactions
from refund_worker.processors.wire import Unreadable, clean

# With telemetry on, the SDK writes an id into the home folder and sends the timings of the last call with each request.
stripe.enable_telemetry = False
# Below this level the SDK logs bodies and error messages unredacted.
logging.getLogger("stripe").setLevel(logging.WARNING)

KEY_LENGTH_MAX: Final = 255  # Stripe's limit for an idempotency key

BODY_BYTES_MAX: Final = 16 * 2**20  # a page of 100 refunds with all metadata at its limits is below 4 MiB
CONNECT_SECONDS_MAX: Final = 10.0
_REFUNDS: Final[Listing[RefundObject]] = Listing(
    "/v1/refunds", to_refund_object, lambda refund: refund.processor_refund_id
)


class StripeProcessor(ReadsAccount, ReadsCharges, ReadsTransactions):
    """One Stripe account behind the `Processor` protocol. Make it after the fork and use it from one event loop.

    `base` is a Stripe-compatible server's URL, for tests. `timeout_seconds` is the total deadline of each call:
    connecting, sending and reading, slow responses included. `account` is a connected account's id (header
    Stripe-Account). The SDK never retries; the engine decides when to send again. Raises ValueError for a key that
    cannot be sent in a header.
    """

    reads_payments = True

    def __init__(
        self,
        api_key: str,
        *,
        base: str | None = None,
        timeout_seconds: float = 30,
        name: str = "stripe",
        account: str | None = None,
        page_pauses_seconds: Sequence[float] = PAGE_PAUSES_SECONDS,
        http: _Transport | None = None,
    ) -> None:
        if not is_header_value(api_key):
            raise ValueError("the Stripe API key is empty or holds characters that no key has")
        self.name = name
        self._timeout_seconds = timeout_seconds
        self._account = account
        self._http = transport = http or _Transport(timeout_seconds)

        def made(account_id: str, name: str) -> StripeProcessor:
            # A closure, so that no attribute of the adapter holds the key.
            return StripeProcessor(
                api_key,
                base=base,
                timeout_seconds=timeout_seconds,
                name=name,
                account=account_id,
                page_pauses_seconds=page_pauses_seconds,
                http=transport,
            )

        self._made = made
        self._pages = Pages(self._ask, classify, timeout_seconds, page_pauses_seconds)
        self._failure = partial(_account_failure, account=account)
        self._client = stripe.StripeClient(
            api_key,
            stripe_account=account,
            base_addresses={"api": base.rstrip("/")} if base else None,
            max_network_retries=0,
            http_client=self._http,
        )

    def connected(self, account_id: str, name: str) -> StripeProcessor:
        """Return the adapter of a connected account. It shares this one's connections."""
        return self._made(account_id, name)

    def __repr__(self) -> str:
        return f"StripeProcessor(name={self.name!r})"

    def freeze(self, order: RefundInstruction) -> str:
        """Return the parameters of POST /v1/refunds as JSON with sorted keys.

        Raises ValueError for values that Stripe cannot take: a payment id that is no charge or payment intent, an
        amount below 1, an id of more than 500 characters.
        """
        return json.dumps(refund_parameters(order), sort_keys=True, separators=(",", ":"))

    async def send(self, key: str, body: str) -> Reply:
        """POST the frozen `body` under the idempotency `key`.

        Raises ValueError, before anything is sent, if the key or the body is not one that the engine and `freeze`
        make.
        """
        if not is_header_value(key) or len(key) > KEY_LENGTH_MAX:
            raise ValueError(f"an idempotency key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
        params = json.loads(body)
        # `raw_request` has no argument of its own for options: the SDK takes the key out of these and sends it as a
        # header. A version that sent it as a parameter would be refused by Stripe (stripe-python#853) and by our tests.
        return await self._one("post", "/v1/refunds", {**params, "idempotency_key": key})

    async def fetch(self, processor_refund_id: str) -> Reply:
        """GET one refund object."""
        if not OPAQUE_ID.fullmatch(processor_refund_id):
            return _BAD_REFUND_ID
        return await self._one("get", f"/v1/refunds/{processor_refund_id}", {})

    async def cancel(self, processor_refund_id: str) -> Reply:
        """POST a cancel; Stripe refuses it in every status except requires_action.

        It needs no key of ours: a second cancel of the same object changes nothing.
        """
        if not OPAQUE_ID.fullmatch(processor_refund_id):
            return _BAD_REFUND_ID
        return await self._one("post", f"/v1/refunds/{processor_refund_id}/cancel", {})

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return all refund objects of this payment, ours and others', within one deadline; `leg_id` is not used.

        A payment id that is no charge or payment intent is `Misconfigured`, without a call.
        """
        try:
            where = {payment_parameter(processor_payment_id): processor_payment_id}
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            return Found(await self._pages.of_payment(_REFUNDS, where))
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer, see `classify`
            return search_failure(error, self._account)

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """GET the charge, or the payment intent with its charge, within one deadline.

        A payment id that is no charge or payment intent is `Misconfigured`, without a call.
        """
        try:
            intent = payment_parameter(processor_payment_id) == "payment_intent"
        except ValueError as error:
            return Misconfigured("bad_payment_id", str(error))
        try:
            async with asyncio.timeout(self._timeout_seconds):
                read = await (self._intent(processor_payment_id) if intent else self._charge(processor_payment_id))
                if read.reading.disputed:
                    disputed = await self._is_blocked_by_dispute(processor_payment_id)
                    read = replace(read, reading=replace(read.reading, disputed=disputed))
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer, see `classify`
            return _reading_failure(error, self._account)
        return read

    async def _is_blocked_by_dispute(self, processor_payment_id: str) -> bool:
        """Return True if a dispute blocks refunds of a disputed payment, or if the disputes cannot be read."""
        where = {payment_parameter(processor_payment_id): processor_payment_id, "limit": PAGE_SIZE}
        try:
            return blocks_refunds((await self.call("get", "/v1/disputes", where)).data)
        except Exception:  # noqa: BLE001 -- a server may have no such path; the payment is read again later
            return True

    async def _charge(self, charge_id: str) -> PaymentRead:
        data = (await self.call("get", f"/v1/charges/{charge_id}", {})).data
        return PaymentRead(charge_reading(data, charge_id), names_of_payment(data))

    async def _intent(self, intent_id: str) -> PaymentRead:
        answer = await self.call("get", f"/v1/payment_intents/{intent_id}", {"expand": ["latest_charge"]})
        reading, charge_id = intent_reading(answer.data, intent_id)
        names = names_of_payment(answer.data)
        if charge_id is None:
            return PaymentRead(reading, names)
        charge = await self._charge(charge_id)
        return replace(charge, payment_refs=tuple(dict.fromkeys((*names, *charge.payment_refs))))

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return all refund objects of the account made since `created_gte` (aware), newest first.

        The deadline is for each page, and an unanswered page is requested again: a reconciliation reads more pages
        than one call may take. Raises ValueError for a naive datetime.
        """
        where = created_since(created_gte)
        try:
            return Found(await self._pages.recent(_REFUNDS, where))
        except Exception as error:  # noqa: BLE001 -- as in `find`
            return search_failure(error, self._account)

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return up to 100 refund objects of the account made in this time, newest first, after the object `after`.

        An unanswered page is requested again. Raises ValueError for a naive datetime.
        """
        where = created_since(created_gte)
        if created_lt is not None:
            where["created"]["lt"] = math.ceil(created_lt.timestamp())
        start = {"starting_after": after} if after else {}
        try:
            listed, has_more = await self._pages.one(_REFUNDS, where | start)
            if has_more and (not listed or listed[-1].processor_refund_id == after):
                raise Unreadable("the list says there is more but does not advance")
        except Exception as error:  # noqa: BLE001 -- as in `find`
            return search_failure(error, self._account)
        return Page(tuple(listed), listed[-1].processor_refund_id if has_more else None)

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._http.close_async()

    async def _one(self, method: str, path: str, params: Mapping[str, Any]) -> Reply:
        try:
            answer = await self.call(method, path, params)
            refund = to_refund_object(answer.data)
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer, see `classify`
            return classify(error, self._account)
        return Answered(refund, request_id=request_id(answer.headers), replayed=is_replayed(answer.headers))

    async def call(self, method: str, path: str, params: Mapping[str, Any]) -> Response:
        """Call the API within the deadline. Options of the SDK, such as `stripe_account`, may be among the parameters.

        Raises what the SDK, the connection and the deadline raise: `classify` returns its meaning.
        """
        async with asyncio.timeout(self._timeout_seconds):
            # The raw request avoids building an SDK object, and returns the original JSON, which is checked here.
            response = await self._client.raw_request_async(method, path, **params)
        return Response(response.data, response.headers)

    async def _ask(self, method: str, path: str, params: Mapping[str, Any]) -> object:
        return (await self.call(method, path, params)).data


_BAD_REFUND_ID: Final = Misconfigured("bad_refund_id", "this is no Stripe refund id; nothing was asked")


class _Transport(stripe.HTTPClient):
    """The SDK's HTTP client over aiohttp, with three differences from the SDK's own.

    Redirects are not followed (a redirected POST may become a GET or reach another host). The size of an answer is
    bounded. Errors keep their type, so that `classify` can distinguish a refused connection from a lost answer.
    """

    name = "aiohttp"

    def __init__(self, timeout_seconds: float) -> None:
        super().__init__()
        connect_seconds = min(CONNECT_SECONDS_MAX, timeout_seconds / 2)
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_seconds, sock_read=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str], post_data: Any = None, **_usage: Any
    ) -> tuple[bytes, int, Mapping[str, str]]:
        session = self._session or self._open(url)
        async with session.request(
            method, url, headers=headers, data=post_data, timeout=self._timeout, allow_redirects=False
        ) as response:
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) > BODY_BYTES_MAX:
                    raise Unreadable(f"the answer is larger than {BODY_BYTES_MAX} bytes")
            return bytes(body), response.status, response.headers

    async def close_async(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self, url: str) -> aiohttp.ClientSession:
        # Made on the first call, inside the running loop and after any fork.
        secure = ssl.create_default_context(cafile=stripe.ca_bundle_path) if url.startswith("https:") else True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=secure), cookie_jar=aiohttp.DummyCookieJar()
        )
        return self._session


def classify(error: Exception, account: str | None = None, judge: Judge = meaning_of) -> Failure:
    """Return the meaning of a failed call; `account` is the connected account that it was about. Pure.

    `judge` returns the subject of a refusal, by default of a refund's.

    The result is `Unanswered` unless there is a proof: a connection that was never made (`NotSent`), or an HTTP
    error that Stripe documents.
    """
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
        return NotSent(clean(f"{type(error).__name__}: {error}"))
    if isinstance(error, stripe.StripeError) and error.http_status is not None:
        answer = ErrorAnswer.of(error)
        failure = classify_answer(answer, judge)
        return failure if account is None else as_of_connected(failure, answer, account)
    if isinstance(error, Unreadable):
        return Unanswered(clean(f"unreadable answer: {error}"))
    if isinstance(error, TimeoutError):
        return Unanswered("no complete answer within the time allowed")
    return Unanswered(f"lost while sending or reading ({type(error).__name__})")


def search_failure(error: Exception, account: str | None, judge: Judge = meaning_of) -> ListFailure:
    """Return the meaning of a failed list, as `classify` does.

    A list cannot refuse a refund: an error that would do so is a fault of the set-up here.
    """
    if isinstance(error, stripe.StripeError) and getattr(error, "param", None) == "starting_after":
        return Unanswered("the object that the next page starts after has gone: the list shifted")
    return as_list_failure(classify(error, account, judge))


def _reading_failure(error: Exception, account: str | None) -> PaymentUnreadable | ListFailure:
    """Return the meaning of a failed reading. A refund must not wait for a reading that this server or key does not
    allow.
    """
    if isinstance(error, stripe.StripeError) and error.http_status is not None:
        answer = ErrorAnswer.of(error)
        if is_no_way_to_read(answer.status, answer.code, answer.param):
            return PaymentUnreadable(answer.message or summary(answer))
    return search_failure(error, account)


def _account_failure(error: Exception, account: str | None) -> NotReadable | ListFailure:
    """Return the meaning of a failed reading of disputes, warnings or the balance.

    Refunds need none of them, so only a key that is refused as such is a fault of the set-up: whatever else the server
    or the key does not allow is `NotReadable`.
    """
    failure = _reading_failure(error, account)
    if isinstance(failure, PaymentUnreadable):
        return NotReadable(failure.reason)
    is_refused_key = isinstance(error, stripe.StripeError) and error.http_status == 401
    if isinstance(failure, Denied) and not is_refused_key:
        return NotReadable(failure.message)
    return failure
