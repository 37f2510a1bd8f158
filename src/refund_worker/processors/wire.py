"""Adapters share these parts for reading and writing a wire format: texts, amounts, and HTTP calls within limits.

An adapter with an SDK of its own needs only the first two.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from refund_worker.domain.money import AMOUNT_MAX, decimal_places
from refund_worker.domain.processor_replies import NotSent, Unanswered
from refund_worker.redaction import HIDDEN, to_redacted, without_emails

MESSAGE_LENGTH_MAX: Final = 500
BODY_BYTES_MAX: Final = 16 * 2**20
CONNECT_SECONDS_MAX: Final = 10.0
_DECIMAL = re.compile(r"([0-9]{1,15})(?:\.([0-9]{1,4}))?")


class Unreadable(ValueError):
    """A 2xx answer with unexpected content: the result at the processor is unknown."""


def clean(text: str) -> str:
    """Return a server's text in a form that can be stored and shown: no card numbers, addresses or control characters,
    bounded length.

    It knows secrets by their form only: bearer tokens, passwords in URLs, the keys of this program. An account's own
    credentials are kept out by `HttpClient(hide=…)`.
    """
    if text.isalpha() and len(text) <= MESSAGE_LENGTH_MAX:
        return text  # nearly every status: letters alone cannot be a card number or a key
    printable = "".join(c if c.isprintable() else " " for c in text[: 4 * MESSAGE_LENGTH_MAX])
    return without_emails(to_redacted(printable, luhn_only=False))[:MESSAGE_LENGTH_MAX]


def to_decimal_text(amount_minor: int, currency: str, decimals: Mapping[str, int]) -> str:
    """Return an amount in our minor units as the decimal text that a processor takes, such as `12.50`.

    `decimals` are the decimals of the processor's amounts for the currencies where they are not 2. Raises ValueError
    for an amount that has more.
    """
    theirs = decimals.get(currency, 2)
    value = Decimal(amount_minor).scaleb(-decimal_places(currency))
    text = f"{value:.{theirs}f}"
    if Decimal(text) != value:
        raise ValueError(f"{currency} has {theirs} decimals at this processor: the amount is no multiple of them")
    return text


def to_minor_units(text: object, currency: str) -> int:
    """Return the decimal text of an amount in our minor units. Raises `Unreadable` for anything else."""
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise Unreadable("an amount is no decimal number")
    minor = Decimal(match.group()).scaleb(decimal_places(currency))
    if minor != minor.to_integral_value() or minor > AMOUNT_MAX:
        raise Unreadable("an amount is no whole number of minor units, or too large")
    return int(minor)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer of a server, read to its end. `headers` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON. Raises `Unreadable`."""
        try:
            return json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Unreadable("the answer is no JSON") from None


class HttpClient:
    """HTTP calls of one adapter, on one event loop: no redirects, no cookies, no retries, bounded size and time.

    Connections are opened at the first call, so an instance may be made before the loop runs. `timeout_seconds` limits
    each request. `hide` are the credentials that the requests carry: wherever an answer repeats one, it is replaced by
    stars before anything reads the answer.
    """

    def __init__(self, timeout_seconds: float, *, hide: Iterable[str] = ()) -> None:
        self.timeout_seconds = timeout_seconds
        self._hidden = tuple(sorted(filter(None, hide), key=len, reverse=True))
        self._session: Any = None

    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> HttpAnswer | NotSent | Unanswered:
        """Return the answer, `NotSent` if no connection was made, or `Unanswered` if it was lost or too large."""
        import aiohttp

        try:
            async with asyncio.timeout(self.timeout_seconds):
                return await self._request(method, url, headers, body)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            return NotSent(clean(f"{type(error).__name__}: {error}"))
        except Unreadable as error:
            return Unanswered(clean(f"unreadable answer: {error}"))
        except TimeoutError:
            return Unanswered("no complete answer within the time allowed")
        except Exception as error:  # noqa: BLE001 -- whatever a server or a network can cause is an answer
            return Unanswered(f"lost while sending or reading ({type(error).__name__})")

    async def close(self) -> None:
        """Close the connections. A second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _request(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: bytes | None
    ) -> HttpAnswer:
        session = self._session or self._open()
        async with session.request(method, url, headers=headers, data=body, allow_redirects=False) as response:
            read = bytearray()
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) > BODY_BYTES_MAX:
                    raise Unreadable(f"the answer is larger than {BODY_BYTES_MAX} bytes")
            headers_read = {name.lower(): self._without_secrets(value) for name, value in response.headers.items()}
            return HttpAnswer(response.status, headers_read, self._body_without_secrets(bytes(read)))

    def _without_secrets(self, text: str) -> str:
        for secret in self._hidden:
            text = text.replace(secret, HIDDEN)
        return text

    def _body_without_secrets(self, body: bytes) -> bytes:
        for secret in self._hidden:
            body = body.replace(secret.encode("utf-8", "surrogatepass"), HIDDEN.encode("ascii"))
        return body

    def _open(self) -> Any:
        import aiohttp

        connect = min(CONNECT_SECONDS_MAX, self.timeout_seconds / 2)
        timeout = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=self.timeout_seconds)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        # Without this, aiohttp makes a GET or a PUT twice if its connection breaks.
        self._session._retry_connection = False
        return self._session
