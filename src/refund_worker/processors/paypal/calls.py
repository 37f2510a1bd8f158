"""Calls of PayPal's API with an access token: refunds and payouts share them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from refund_worker.domain.processor_replies import NotSent, Unanswered
from refund_worker.processors.paypal.access import Access, Token, basic_credentials
from refund_worker.processors.paypal.answers import ErrorAnswer, Failure
from refund_worker.processors.wire import HttpAnswer, HttpClient


class Failed(Exception):
    """A call without the answer that was asked for. `answer` is None if there was no answer at all."""

    def __init__(self, reply: Failure, answer: HttpAnswer | None = None) -> None:
        super().__init__()
        self.reply = reply
        self.answer = answer

    @property
    def status(self) -> int:
        """Return the HTTP status, 0 without an answer."""
        return 0 if self.answer is None else self.answer.status


class Stage:
    """How far a call came: until it has a token, no byte of the request has left."""

    def __init__(self) -> None:
        self._begun = False

    def begin(self) -> None:
        """Note that the request itself is sent from now on."""
        self._begun = True

    def lost(self, reason: str) -> NotSent | Unanswered:
        """Return the meaning of a call that ended without an answer."""
        return Unanswered(reason) if self._begun else NotSent(f"no access token: {reason}")


class Calls:
    """The calls of one account, on one event loop. `classify` gives the meaning of an answer other than 200 and 201."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        base: str,
        timeout_seconds: float,
        classify: Callable[[HttpAnswer], Failure],
    ) -> None:
        self._base = base.rstrip("/")
        self._classify = classify
        self._http = HttpClient(timeout_seconds, hide=[client_secret, basic_credentials(client_id, client_secret)])
        self._access = Access(self._http, self._base, client_id, client_secret)

    def __repr__(self) -> str:
        return "Calls()"

    async def ok(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        extra: Mapping[str, str] | None = None,
        stage: Stage | None = None,
    ) -> HttpAnswer:
        """Return a 200 or 201 answer. Raises `Failed`. A token that PayPal refuses is renewed once."""
        stage = stage or Stage()
        token = await self._token(None)
        stage.begin()
        answer = await self._asked(method, path, body, extra, token)
        if answer.status == 401 and ErrorAnswer.of(answer).name:
            # PayPal itself refused the token, so nothing was executed. Without its error object, a proxy may have.
            token = await self._token(token)
            answer = await self._asked(method, path, body, extra, token)
        if answer.status not in (200, 201):
            raise Failed(self._classify(answer), answer)
        return answer

    async def close(self) -> None:
        """Close the connections. A second call does nothing."""
        await self._access.close()
        await self._http.close()

    async def _token(self, refused: Token | None) -> Token:
        got = await self._access.token(refused=refused)
        if not isinstance(got, Token):
            raise Failed(got)
        return got

    async def _asked(
        self, method: str, path: str, body: bytes | None, extra: Mapping[str, str] | None, token: Token
    ) -> HttpAnswer:
        headers = {"Authorization": f"Bearer {token.value}", "Accept": "application/json", **(extra or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        answer = await self._http.request(method, self._base + path, headers=headers, body=body)
        if not isinstance(answer, HttpAnswer):
            raise Failed(answer)
        return answer
