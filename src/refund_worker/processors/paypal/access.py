"""Access tokens: one request for all calls that need one, cached until shortly before the end of its life.

Facts: developer.paypal.com/api/rest/authentication, read 2026-11. The life, about nine hours, is not read: each answer
says it (`expires_in`).
"""

from __future__ import annotations

import asyncio
import base64
import time
from dataclasses import dataclass, field
from typing import Final

from refund_worker.domain.processor_replies import Busy, Denied, NotSent
from refund_worker.processors.paypal.answers import ErrorAnswer
from refund_worker.processors.wire import HttpAnswer, HttpClient, Unreadable

PATH: Final = "/v1/oauth2/token"
BODY: Final = b"grant_type=client_credentials"
# A token is renewed this long before its end, so that it does not end on the way. At most half of its life.
MARGIN_SECONDS: Final = 120.0
LIFE_SECONDS_MAX: Final = 86_400.0
TOKEN_LENGTH_MAX: Final = 8_192

NoToken = Denied | Busy | NotSent


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. `good_until` is a time of the monotonic clock."""

    value: str = field(repr=False)
    good_until: float


def basic_credentials(client_id: str, client_secret: str) -> str:
    """Return id and secret as the request for a token carries them: the secret can be read from it."""
    return base64.b64encode(f"{client_id}:{client_secret}".encode()).decode("ascii")


def headers(client_id: str, client_secret: str) -> dict[str, str]:
    """Return the headers of the request for a token."""
    return {
        "Authorization": f"Basic {basic_credentials(client_id, client_secret)}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }


def token_of(answer: HttpAnswer, now: float) -> Token | NoToken:
    """Return the token of an answer that came at `now` (monotonic), or the reason why it has no token. Pure.

    Without a token no refund was requested: a failure here is `NotSent` unless PayPal says more.
    """
    if answer.status == 200:
        try:
            return _read(answer.json(), now)
        except Unreadable as unreadable:
            return NotSent(f"no access token: {unreadable}")
    refusal = ErrorAnswer.of(answer)
    if refusal.status == 429:
        return Busy(refusal.name or "rate_limit", refusal.retry_after_seconds)
    if refusal.name and 400 <= refusal.status < 500:
        return Denied(refusal.code, refusal.message or refusal.summary)
    return NotSent(f"no access token: {refusal.summary}")


def _read(data: object, now: float) -> Token:
    fields = data if isinstance(data, dict) else {}
    value, seconds = fields.get("access_token"), fields.get("expires_in")
    usable = isinstance(value, str) and 0 < len(value) <= TOKEN_LENGTH_MAX
    if not isinstance(value, str) or not usable or not (value.isascii() and value.isprintable() and " " not in value):
        raise Unreadable("the answer has no usable token")
    # True is an int to Python, and no number of seconds.
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LIFE_SECONDS_MAX:
        raise Unreadable("the answer does not say how long the token lives")
    return Token(value, now + max(seconds - MARGIN_SECONDS, seconds / 2))


class Access:
    """The tokens of one account, on one event loop. Concurrent calls share one request for a token."""

    def __init__(self, http: HttpClient, base: str, client_id: str, client_secret: str) -> None:
        self._http = http
        self._url = base + PATH
        self._headers = headers(client_id, client_secret)
        self._token: Token | None = None
        self._request: asyncio.Task[Token | NoToken] | None = None

    def __repr__(self) -> str:
        return "Access()"

    async def token(self, *, refused: Token | None = None) -> Token | NoToken:
        """Return a token that is still good and is not the `refused` one, or the reason why there is not any."""
        known = self._token
        if known is not None and known is not refused and time.monotonic() < known.good_until:
            return known
        if self._request is None:
            self._request = asyncio.ensure_future(self._renew())
        # One caller's end must not end the request that others wait for.
        return await asyncio.shield(self._request)

    async def close(self) -> None:
        """End a request that is under way."""
        request, self._request = self._request, None
        if request is not None:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)

    async def _renew(self) -> Token | NoToken:
        try:
            answer = await self._http.request("POST", self._url, headers=self._headers, body=BODY)
            if not isinstance(answer, HttpAnswer):
                return NotSent(f"no access token: {answer.reason}")
            got = token_of(answer, time.monotonic())
            self._token = got if isinstance(got, Token) else None
            return got
        finally:
            self._request = None
