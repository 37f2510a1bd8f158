"""The outcomes of a call: an answer or none, the error that it means, and the wait before the next try."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from refund_worker_client.calls import Call

UNREACHABLE = "unreachable"


class ApiError(Exception):
    """A refusal of the API, or a server that was not reached: then `code` is "unreachable" and `status` is 0.

    `retryable` says if the same call can succeed later; `fields` names the wrong fields where the error is about some.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 0, retryable: bool = False, fields: tuple[str, ...] = ()
    ) -> None:
        super().__init__(f"{message} ({code})")
        self.code, self.message, self.status, self.retryable, self.fields = code, message, status, retryable, fields


class NotReached(Exception):
    """The call got no complete answer; `began` is False where the server cannot have seen it."""

    def __init__(self, why: str, *, began: bool) -> None:
        super().__init__(why)
        self.began = began


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; `retry_after` is the header of that name."""

    status: int
    body: bytes
    retry_after: str | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to `tries` calls in all, with waits in seconds that double from `base` to `longest`, shortened at random."""

    tries: int = 5
    base: float = 0.5
    longest: float = 20.0

    def wait_seconds(self, failed: int, retry_after: str | None) -> float | None:
        """Return the wait after `failed` tries, or None where the server asks for a longer wait than `longest`."""
        wait = min(self.longest, self.base * 2.0 ** (failed - 1))
        # At random, so that many clients that failed together do not come back together.
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        asked = float(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0.0
        return max(wait, asked) if asked <= self.longest else None


def decoded(answer: Answer) -> Any:
    """Return the JSON of a good answer. Raises `ApiError` for every other answer."""
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if 200 <= answer.status < 300 and body is not None:
        return body
    problem = body if isinstance(body, dict) else {}
    retryable = problem.get("retryable", answer.status == 429 or answer.status >= 500)
    raise ApiError(
        str(problem.get("code", "unexpected_answer")),
        str(problem.get("detail", f"the server answered {answer.status}")),
        status=answer.status,
        retryable=bool(retryable),
        fields=tuple(str(name) for name in problem.get("fields", ())),
    )


def again(call: Call[Any], outcome: Answer | NotReached) -> bool:
    """Return True if the call may be sent once more after this outcome."""
    if isinstance(outcome, NotReached):
        return call.repeatable or not outcome.began
    # With 429 and 503 this server says that nothing was done.
    return outcome.status in (429, 503) or (outcome.status >= 500 and call.repeatable)


def final(outcome: Answer | NotReached) -> Any:
    """Return the JSON of the last outcome. Raises `ApiError`."""
    if isinstance(outcome, NotReached):
        raise ApiError(UNREACHABLE, f"the refund service was not reached: {outcome}", retryable=True) from outcome
    return decoded(outcome)
