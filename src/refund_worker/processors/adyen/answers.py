"""Adyen's error answers and what each of them means. Pure."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from refund_worker.domain.processor_replies import (
    Busy,
    Denied,
    Misconfigured,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.adyen.errors import ERROR_TYPES, Meaning, meaning_of
from refund_worker.processors.adyen.objects import is_psp_reference
from refund_worker.processors.wire import HttpAnswer, clean

RETRY_AFTER_SECONDS_MAX: Final = 86_400.0
# 4xx statuses that do not judge the request itself: a time-out, a conflict, a failed dependency, too early.
INDEFINITE_STATUSES: Final = frozenset({408, 409, 424, 425})
# docs.adyen.com/development-resources/api-idempotency, read 2026-11: "true" means that the same key may be sent again.
TRANSIENT: Final = "transient-error"

# A code is stored, shown and counted, so it is short and plain.
_CODE: Final = re.compile("[A-Za-z0-9_.-]{1,40}")

Failure = Misconfigured | UnknownRefusal | Busy | Unanswered | Denied


def classify(answer: HttpAnswer) -> Failure:
    """Return the meaning of an answer outside 2xx, from the most general proof to the most specific.

    No answer here ends a refund: Adyen judges a refund later, in an event. A 5xx is never reported as stored under its
    key: the published description gives only 201 and 422 answers the key's header. So the same key is sent again, which
    is safe whether or not the first call was executed.
    """
    if answer.status == 429:
        return Busy("rate_limit", _retry_after_seconds(answer.headers.get("retry-after")))
    error = _own_error(answer)
    given = str(error.get("errorCode", ""))
    code = given if _CODE.fullmatch(given) else "unreadable"
    kind = error.get("errorType")
    summary = " ".join(str(part) for part in (f"HTTP {answer.status}", clean(str(kind or "")), code) if part)
    transient = answer.headers.get(TRANSIENT, "").strip().lower() == "true"
    if not error or transient or answer.status in INDEFINITE_STATUSES or answer.status not in range(400, 500):
        # An earlier call under this key may have been executed, and a proxy may answer for one that was.
        return Unanswered(summary)
    return _classify_refusal(answer.status, code, clean(str(error.get("message") or "")) or summary, error, summary)


def _classify_refusal(status: int, code: str, message: str, error: dict[str, Any], summary: str) -> Failure:
    psp_reference = error.get("pspReference")
    # Not cleaned: many references are 16 digits, as card numbers are.
    request_id = psp_reference if is_psp_reference(psp_reference) else None
    meaning = meaning_of(code)
    if meaning is Meaning.IN_PROGRESS:
        return Unanswered(summary)
    if meaning is Meaning.NOT_FOUND:
        return Misconfigured("not_found", message, request_id)
    if meaning is Meaning.PERSON:
        return Misconfigured(f"adyen_{code}", message, request_id)
    if status in (401, 403):
        return Denied(f"adyen_{code}", message)
    if meaning is Meaning.OURS:
        return Denied(f"adyen_{code}", message, maybe_kept=True)
    return UnknownRefusal(f"adyen_{code}", message, request_id)


def _own_error(answer: HttpAnswer) -> dict[str, Any]:
    """Return Adyen's own error object, or an empty one: a proxy's answer has none and proves nothing.

    It has a code, and a type that we know or Adyen's reference of the request.
    """
    try:
        body = json.loads(answer.body.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict) or not isinstance(body.get("errorCode"), str) or not body["errorCode"]:
        return {}
    if body.get("status") not in (None, answer.status):
        return {}
    kind = body.get("errorType")
    return body if kind in ERROR_TYPES or (kind and body.get("pspReference")) else {}


def _retry_after_seconds(header: str | None) -> float | None:
    try:
        seconds = float(header or "nan")
    except ValueError:
        return None
    return min(seconds, RETRY_AFTER_SECONDS_MAX) if math.isfinite(seconds) and seconds >= 0 else None
