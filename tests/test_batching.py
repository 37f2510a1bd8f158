"""Sequences in lists of at most n."""

from __future__ import annotations

from refund_worker.batching import batched


def test_lists_have_the_size_and_the_last_holds_the_rest() -> None:
    assert list(batched("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(batched("ab", 2)) == [["a", "b"]]
    assert list(batched("", 2)) == []


def test_items_are_read_only_when_their_list_is_wanted() -> None:
    items = iter(range(10))
    lists = batched(items, 3)
    assert next(lists) == [0, 1, 2]
    assert next(items) == 3
