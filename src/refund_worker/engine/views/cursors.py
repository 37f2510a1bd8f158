"""The refusal of a page that begins after something that is not in the list, in the same words for every list."""

from __future__ import annotations

from refund_worker.errors import InvalidRequest


def unknown_cursor(after: str, listed: str) -> InvalidRequest:
    """Return the refusal of the cursor `after`. `listed` says what the list has, such as "payment"."""
    return InvalidRequest(f"starting_after: {after} is no {listed}", field="starting_after")
