"""Webhook events: built and signed as Stripe does, delivered in the background with retries."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import TYPE_CHECKING, Any

from refund_worker.processors.sandbox.book import Book
from refund_worker.processors.sandbox.decisions import Notice
from refund_worker.processors.sandbox.events import event_object, topic_of
from refund_worker.processors.sandbox.faults import WEBHOOK, Faults, Subject

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)

# Events of one object share a lane and so keep their order. Several lanes, so that one slow answer cannot delay all.
LANES = 8
TRIES_MAX = 8
TIMEOUT_SECONDS = 10.0
# An event that is to arrive after the next event of its object is sent after this time if there is no next event.
HELD_SECONDS_MAX = 3.0


def signature_header(secret: str, body: bytes, at_second: int) -> str:
    """Return the value of Stripe-Signature for `body`, sent at `at_second` (epoch seconds)."""
    digest = hmac.new(secret.encode(), b"%d." % at_second + body, sha256).hexdigest()
    return f"t={at_second},v1={digest}"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The body of an event on its way. `of_connected` is True if it is about a connected account."""

    body: bytes
    of_connected: bool


class Webhooks:
    """Sends events to one receiver. Without a receiver, events are neither sent nor stored for later.

    Removing the receiver drops the events that wait, as deleting an endpoint does: a later receiver gets none of them.
    A new receiver in place of another gets them, as an endpoint with a new address does.
    """

    def __init__(self, book: Book, faults: Faults) -> None:
        self._book = book
        self._faults = faults
        self._url: str | None = None
        self._secret = self._connect_secret = ""
        self._event_counts: Counter[str] = Counter()
        self._lanes: list[asyncio.Queue[Delivery]] = []
        self._held_back: dict[str, list[Delivery]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    def set_receiver(self, url: str | None, secret: str, connect_secret: str | None = None) -> None:
        """Send events from now on to `url`, signed with `secret`; without a url nothing is sent, and none waits.

        At Stripe the events of connected accounts have an endpoint of their own: here it has the same address, and
        `connect_secret` signs them.
        """
        self._url, self._secret, self._connect_secret = url, secret, connect_secret or secret
        if url is None:
            self._drop_what_waits()

    def _drop_what_waits(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._lanes.clear()
        self._held_back.clear()

    def send(self, notice: Notice, account: str = "") -> None:
        """Build the event and send it with the faults of its plan. Needs the running loop if there is a receiver."""
        if self._url is None:
            return
        book = self._book.of(account)
        topic = topic_of(book, notice)
        metadata = topic.object.get("metadata", {})
        payment = topic.payment.id if topic.payment is not None else None
        subject = Subject("POST", WEBHOOK, payment, metadata, notice.object_id, notice.type, account=account)
        how = self._faults.plan(subject).webhook
        if how.get("lose"):
            return
        self._event_counts[notice.object_id] += 1
        event = event_object(book, notice, topic, self._event_counts[notice.object_id])
        body = Delivery(json.dumps(event, separators=(",", ":")).encode(), bool(account))
        delay_seconds = how.get("delay_seconds", 0)
        for _ in range(how.get("copies", 1)):
            if how.get("after_next"):
                self._hold_back(notice.object_id, body)
            elif delay_seconds:
                self._after(delay_seconds, lambda: self._enqueue(notice.object_id, body))
            else:
                self._enqueue(notice.object_id, body)
        if not how.get("after_next"):
            self._release_held_back(notice.object_id)

    # -- order --------------------------------------------------------------------------------------------------------

    def _hold_back(self, object_id: str, body: Delivery) -> None:
        self._held_back.setdefault(object_id, []).append(body)
        self._after(HELD_SECONDS_MAX, lambda: self._release_held_back(object_id))

    def _release_held_back(self, object_id: str) -> None:
        for body in self._held_back.pop(object_id, ()):
            self._enqueue(object_id, body)

    def _enqueue(self, object_id: str, body: Delivery) -> None:
        if not self._lanes:
            self._lanes = [asyncio.Queue() for _ in range(LANES)]
            for lane in self._lanes:
                self._start(self._work(lane))
        # Not hash(): it differs from process to process.
        lane_number = blake2b(object_id.encode(), digest_size=1).digest()[0] % LANES
        self._lanes[lane_number].put_nowait(body)

    # -- delivery -----------------------------------------------------------------------------------------------------

    async def _work(self, lane: asyncio.Queue[Delivery]) -> None:
        while True:
            body = await lane.get()
            if not await self._delivered(body):
                self._start(self._retry(body))

    async def _retry(self, body: Delivery) -> None:
        wait_seconds = self._faults.webhook_retry_seconds
        for _ in range(TRIES_MAX - 1):
            await asyncio.sleep(wait_seconds)
            if await self._delivered(body):
                return
            wait_seconds *= 2
        log.warning("an event was dropped after %d tries", TRIES_MAX)

    async def _delivered(self, delivery: Delivery) -> bool:
        """Try to deliver once. Return True if the receiver answered 2xx, or if there is no receiver any more."""
        if self._url is None:
            return True
        import aiohttp  # slow to import, and most runs have no receiver

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS))
        body, secret = delivery.body, self._connect_secret if delivery.of_connected else self._secret
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signature_header(secret, body, int(time.time())),
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        async def wait() -> None:
            await asyncio.sleep(seconds)
            act()

        self._start(wait())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop. Undelivered events are lost, as when a receiver misses them."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._session is not None:
            await self._session.close()
