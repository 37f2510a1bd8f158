"""Requests that the Celery task refused, stored for operators: the sender of a task gets no answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from refund_worker.engine.context import Context
from refund_worker.engine.views.api_objects import Json
from refund_worker.errors import RefundWorkerError
from refund_worker.redaction import masked_email, to_redacted
from refund_worker.store import dead_letters as store
from refund_worker.times import iso

NAME_LENGTH_MAX = 255
BODY_LENGTH_MAX = 2_000
LIMIT_MAX = 1_000
_CUT = "…"


def keep_refused(context: Context, entry_point: str, fields: Mapping[str, Any], refusal: RefundWorkerError) -> None:
    """Store that an entry point refused the request `fields`, and why. Secrets are redacted and long text is
    cut.

    Raises `Unavailable` if the database cannot be used.
    """
    asked = {name: value for name, value in fields.items() if name not in ("client", "idempotency_key")}
    if "instructions_email" in asked:
        asked["instructions_email"] = masked_email(str(asked["instructions_email"]))
    row = {
        "door": entry_point,
        "client": _name(fields.get("client")),
        "idempotency_key": _name(fields.get("idempotency_key")),
        "code": refusal.code,
        "message": _storable(refusal.message, BODY_LENGTH_MAX),
        "body": _storable(_text(asked), BODY_LENGTH_MAX),
    }

    def work(connection: Connection) -> None:
        store.insert_refused(connection, row, context.clock(connection))

    context.database.run(work)


def _name(value: object) -> str:
    """Return the client or the key as it was sent; empty if it was not text."""
    return _storable(value, NAME_LENGTH_MAX) if isinstance(value, str) else ""


def _text(asked: Mapping[str, Any]) -> str:
    try:
        return json.dumps(asked, sort_keys=True, default=str)
    except (TypeError, ValueError, RecursionError):
        return "(not JSON)"


def _storable(text: str, length_max: int) -> str:
    """Redact, then cut the text, so that no half of a secret remains. Replace characters that a database or terminal
    rejects.
    """
    # Redact a little more than is stored; a text of many megabytes need not be searched to its end.
    clean = to_redacted(text[: length_max * 4])
    clean = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in clean)
    return clean if len(clean) <= length_max else clean[: length_max - len(_CUT)] + _CUT


def refused_requests(connection: Connection, limit: int = 100, *, idempotency_key: str | None = None) -> list[Json]:
    """Return refused requests, latest first.

    Each is {door, client, idempotency_key, code, message, body, times, first_at, at}.
    """
    rows = store.refused(connection, limit, idempotency_key=idempotency_key)
    names = ("door", "client", "idempotency_key", "code", "message", "body", "times")
    return [
        {name: row[name] for name in names} | {"first_at": iso(row["first_at"]), "at": iso(row["at"])} for row in rows
    ]
