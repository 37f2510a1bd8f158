"""The result of a request: records for the book, the object to answer with, and the events to send."""

from __future__ import annotations

from dataclasses import dataclass

from refund_worker.processors.sandbox.answers import JsonObject


@dataclass(frozen=True, slots=True)
class Notice:
    """An event to send to the webhook receiver, about one object. `previous` has the values that changed.

    `account` is the object's account, or None for that of the decision.
    """

    type: str
    object_id: str
    previous: JsonObject | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The result of a request once committed: the records, the object to answer with, the events to send."""

    records: tuple[JsonObject, ...]
    object: JsonObject
    notices: tuple[Notice, ...] = ()
