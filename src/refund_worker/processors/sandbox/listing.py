"""The list of refunds: newest first, by payment and time of creation, one page at a time."""

from __future__ import annotations

import operator
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from refund_worker.processors.sandbox.answers import JsonObject, StripeError, missing
from refund_worker.processors.sandbox.book import Book, Refund
from refund_worker.processors.sandbox.form import Params, integer_of, refuse_unknown, text_of

LIST_PARAMS = frozenset({"charge", "payment_intent", "created", "limit", "starting_after", "ending_before", "expand"})
LIMIT_DEFAULT, LIMIT_MAX = 10, 100
COMPARE: dict[str, Callable[[int, int], bool]] = {
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
Disorder = Literal["repeat", "shift"]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Conditions on `created`, each a comparison and a time in epoch seconds."""

    conditions: tuple[tuple[str, int], ...]

    def include(self, created: int) -> bool:
        """Return True if a refund created in this second fulfils all conditions."""
        return all(COMPARE[name](created, second) for name, second in self.conditions)


def list_refunds(
    book: Book, params: Params, *, lag_seconds: float = 0.0, disorder: Disorder | None = None
) -> JsonObject:
    """Return one page of refunds. Refunds younger than `lag_seconds` are not listed yet.

    `disorder` is a fault of a page that follows another: "repeat" shows the last refund of the previous page again,
    "shift" skips one. Raises `StripeError` for parameters that Stripe refuses.
    """
    refuse_unknown(params, LIST_PARAMS)
    limit = integer_of(text_of(params, "limit") or str(LIMIT_DEFAULT), "limit", least=1)
    if limit > LIMIT_MAX:
        raise StripeError(400, f"limit is at most {LIMIT_MAX}.", "parameter_invalid_integer", "limit")
    bounds = _bounds(params)
    after, before = _cursor(book, params, "starting_after"), _cursor(book, params, "ending_before")
    if after is not None and before is not None:
        raise StripeError(400, "Send either starting_after or ending_before, not both.")
    visible_until = book.now() - lag_seconds if lag_seconds else None

    def asked_for(refund: Refund) -> bool:
        created = refund.object["created"]
        return bounds.include(created) and (visible_until is None or created <= visible_until)

    refunds = _candidates(book, params)
    if before is not None:
        newer = refunds[bisect_right(refunds, before.sequence, key=_sequence) :]
        found = list(islice(filter(asked_for, newer), limit + 1))
        return _page(found[:limit][::-1], more=len(found) > limit)
    end = len(refunds) if after is None else _end_of_older(refunds, after, disorder if limit > 1 else None)
    older = map(refunds.__getitem__, range(end - 1, -1, -1))
    found = list(islice(filter(asked_for, older), limit + 1))
    return _page(found[:limit], more=len(found) > limit)


def _sequence(refund: Refund) -> int:
    return refund.sequence


def _end_of_older(refunds: list[Refund], cursor: Refund, disorder: Disorder | None) -> int:
    """Return how many of `refunds`, which are oldest first, may still follow the cursor."""
    end = bisect_left(refunds, cursor.sequence, key=_sequence)
    return min(len(refunds), end + 1) if disorder == "repeat" else end - 1 if disorder == "shift" else end


def _page(refunds: list[Refund], *, more: bool) -> JsonObject:
    data = [refund.object for refund in refunds]
    return {"object": "list", "data": data, "has_more": more, "url": "/v1/refunds"}


def _candidates(book: Book, params: Params) -> list[Refund]:
    """Return the refunds of the requested payment, or all refunds; oldest first."""
    chosen = book.refunds_in_order
    for name in ("charge", "payment_intent"):
        reference = text_of(params, name)
        if reference is None:
            continue
        payment = book.find_payment(reference)
        if payment is None or (name == "charge") == reference.startswith("pi_"):
            raise missing(name, reference, name)
        chosen = payment.refunds
    return chosen


def _cursor(book: Book, params: Params, name: str) -> Refund | None:
    refund_id = text_of(params, name)
    if refund_id is None:
        return None
    refund = book.refunds.get(refund_id)
    if refund is None:
        raise missing("refund", refund_id, name)
    return refund


def _bounds(params: Params) -> Bounds:
    created = params.get("created")
    if created is None:
        return Bounds(())
    if isinstance(created, str):
        second = integer_of(created, "created")
        return Bounds((("gte", second), ("lte", second)))
    for name in created:
        if name not in COMPARE:
            raise StripeError(400, f"Received unknown parameter: created[{name}]", "parameter_unknown", "created")
    return Bounds(tuple((name, integer_of(text, f"created[{name}]")) for name, text in created.items()))
