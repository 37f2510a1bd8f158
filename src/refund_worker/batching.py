"""Long sequences in pieces: rows of a commit, ids of a statement or of a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Return the items in order, in lists of `size`; the last may be shorter. They are read list by list."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
