"""Lists of Stripe: each page is read, an unanswered one again, and half a list never passes for the whole."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from refund_worker.domain.processor_replies import Busy, NotSent, Unanswered
from refund_worker.processors.stripe.answers import Failure
from refund_worker.processors.wire import Unreadable

PAGE_SIZE: Final = 100  # Stripe's maximum
PAGES_MAX_OF_A_PAYMENT: Final = 50  # 5,000 refunds of one payment: no real payment has them
PAGES_MAX_RECENT: Final = 2_000  # 200,000 refunds in one reconciliation window
# Pauses between the tries of one page of a long list. Reading is safe to repeat. With hundreds of pages, one failure in
# a hundred calls would otherwise keep every list from being read to its end.
PAGE_PAUSES_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
PAGE_DEADLINES: Final = 4  # all tries of one page together take at most the time of this many calls

T = TypeVar("T")
Page = tuple[list[T], bool]  # the objects, and True if there are more pages
# Ask the API: the method, the path and the parameters → the JSON of the answer.
Ask = Callable[[str, str, Mapping[str, Any]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """One list of the API: its path, how one object is read, and its id."""

    path: str
    read: Callable[[object], T]
    id_of: Callable[[T], str]


@dataclass(frozen=True, slots=True)
class Pages:
    """Reads lists to their end.

    `classify` returns the meaning of a failed call. `timeout_seconds` is the time of one call.
    """

    ask: Ask
    classify: Callable[[Exception], Failure]
    timeout_seconds: float
    pauses_seconds: Sequence[float]

    async def of_payment(self, listing: Listing[T], where: Mapping[str, Any]) -> tuple[T, ...]:
        """Return every object of a short list, within the time of one call. Raises what a call raises."""
        async with asyncio.timeout(self.timeout_seconds):
            return await self._all(listing, where, PAGES_MAX_OF_A_PAYMENT, self._page)

    async def recent(self, listing: Listing[T], where: Mapping[str, Any]) -> tuple[T, ...]:
        """Return every object of a long list. The deadline is for each page, and an unanswered page is requested again.

        Raises what the last try of a page raised.
        """
        return await self._all(listing, where, PAGES_MAX_RECENT, self._page_patiently)

    async def one(self, listing: Listing[T], where: Mapping[str, Any]) -> Page[T]:
        """Return one page of a long list. Raises what its last try raised."""
        return await self._page_patiently(listing, {**where, "limit": PAGE_SIZE})

    async def _page(self, listing: Listing[T], params: Mapping[str, Any]) -> Page[T]:
        return to_page(await self.ask("get", listing.path, params), listing.read)

    async def _page_patiently(self, listing: Listing[T], params: Mapping[str, Any]) -> Page[T]:
        """Return one page; repeat the request while there is no answer, or only "not now"."""
        async with asyncio.timeout(self.timeout_seconds * PAGE_DEADLINES):
            for pause_seconds in self.pauses_seconds:
                try:
                    return await self._page(listing, params)
                except Exception as error:
                    match self.classify(error):
                        case Busy(retry_after_seconds=seconds):
                            await asyncio.sleep(max(pause_seconds, seconds or 0))
                        case NotSent() | Unanswered():
                            await asyncio.sleep(pause_seconds)
                        case _:
                            raise
            return await self._page(listing, params)

    async def _all(
        self,
        listing: Listing[T],
        where: Mapping[str, Any],
        pages_max: int,
        ask: Callable[[Listing[T], Mapping[str, Any]], Awaitable[Page[T]]],
    ) -> tuple[T, ...]:
        """Return every object of the list once, in order.

        Raises `Unreadable` for a list without an end: half a list must never pass for the whole.
        """
        seen: dict[str, T] = {}
        after: dict[str, str] = {}
        for _ in range(pages_max):
            page, has_more = await ask(listing, {**where, "limit": PAGE_SIZE, **after})
            before = len(seen)
            # Pages shift while objects are being made: one that appears twice is one object, and its later state
            # counts.
            seen.update((listing.id_of(each), each) for each in page)
            if not has_more:
                return tuple(seen.values())
            if len(seen) == before:
                raise Unreadable("the list says there is more but does not advance")
            after = {"starting_after": listing.id_of(page[-1])}
        raise Unreadable(f"the list has more than {pages_max} pages")


def to_page(data: object, read: Callable[[object], T]) -> Page[T]:
    """Return (the objects of one page, True if more follow). Raises `Unreadable` for any malformed part."""
    if not isinstance(data, dict) or data.get("object") != "list":
        raise Unreadable("not a list")
    listed, has_more = data.get("data"), data.get("has_more")
    if not isinstance(listed, list) or not isinstance(has_more, bool):
        raise Unreadable("a list without data or has_more")
    return [read(each) for each in listed], has_more
