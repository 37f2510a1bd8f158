"""PayPal's route for payouts: one batch with one item for each attempt. It makes no decisions about payouts.

Two things guard against a duplicate, each for 30 days: the header PayPal-Request-Id, which is the key, and the
`sender_batch_id`, which is made of it. The published description names both. Others saw that PayPal's sandbox does not
act on the first, so only the second counts here: PayPal refuses its repeat with a link to the first batch, and this
batch is then read and compared. Nothing else finds a batch whose id is not known.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from refund_worker.domain.payouts.destination import Destination
from refund_worker.domain.payouts.transfers import (
    NotListed,
    PayeeReply,
    PayeeUnreadable,
    TransferAnswered,
    TransferInstruction,
    TransferReply,
    TransfersReply,
    with_texts,
)
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    KeyConflict,
    Misconfigured,
    Unanswered,
)
from refund_worker.processors.paypal.answers import ErrorAnswer, Failure, debug_id
from refund_worker.processors.paypal.calls import Calls, Failed, Stage
from refund_worker.processors.paypal.payout_answers import BATCH_ID, classify_payout_answer, duplicate_batch
from refund_worker.processors.paypal.payout_errors import NOT_CANCELED
from refund_worker.processors.paypal.payout_objects import (
    Batch,
    FrozenPayout,
    created_batch,
    frozen_payout,
    to_batch,
    to_item,
    to_transfer,
)
from refund_worker.processors.wire import Unreadable, clean
from refund_worker.redaction import HIDDEN

PATH: Final = "/v1/payments/payouts"
KEY_LENGTH_MAX: Final = 1_000


class PayPalPayouts:
    """The payouts of one PayPal account, as `PayoutRoute`. Make it after the fork and use it from one event loop.

    The parameters are those of `PayPalProcessor`.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        *,
        base: str,
        live: bool,
        timeout_seconds: float = 30,
        name: str = "paypal",
    ) -> None:
        self.name = name
        self._live = live
        self._timeout_seconds = timeout_seconds
        self._calls = Calls(
            client_id, client_secret, base=base, timeout_seconds=timeout_seconds, classify=classify_payout_answer
        )

    def __repr__(self) -> str:
        return f"PayPalPayouts(name={self.name!r})"

    def freeze(self, order: TransferInstruction) -> str:
        """Return the request as canonical JSON. Raises ValueError for what PayPal cannot take: see `frozen_payout`."""
        return frozen_payout(order)

    async def send(self, key: str, body: str) -> TransferReply:
        """POST the batch that is frozen in `body`, and read it.

        The first answer has the batch's id alone. If the batch cannot be read then, the payout is pending: its id is
        more than a repeat could tell. A batch of another request under this `sender_batch_id` is a `KeyConflict`.
        Raises ValueError, before anything is sent, for a key or a body that the engine and `freeze` do not make.
        """
        if not key.isascii() or not key.isprintable() or not 0 < len(key.strip()) == len(key) <= KEY_LENGTH_MAX:
            raise ValueError(f"a key has 1 to {KEY_LENGTH_MAX} printable ASCII characters")
        frozen = FrozenPayout.of(body)
        return _without_receiver(await self._send(key, frozen), frozen)

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """GET the batch of this id."""
        frozen = FrozenPayout.of(body)
        return _without_receiver(await self._fetch(object_id, frozen), frozen)

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Return `NotListed`: PayPal finds no batch by an id of ours."""
        return NotListed("PayPal finds no payout by our id; a repeat of the request tells its batch for 30 days")

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Cancel the item if it is unclaimed, and return the batch's state, which is the old one if it was not."""
        frozen = FrozenPayout.of(body)
        return _without_receiver(await self._cancel(object_id, frozen), frozen)

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Return `PayeeUnreadable`: PayPal judges a receiver only when it is paid."""
        return PayeeUnreadable("PayPal says nothing of a receiver before a payout")

    async def close(self) -> None:
        """Close the connections; a second call does nothing."""
        await self._calls.close()

    async def _send(self, key: str, frozen: FrozenPayout) -> TransferReply:
        stage, created = Stage(), None
        until = asyncio.get_running_loop().time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(until):
                answer = await self._calls.ok("POST", PATH, frozen.request, {"PayPal-Request-Id": key}, stage)
                created = created_batch(answer.json())
                request_id, replayed = debug_id(answer), answer.status == 200
                batch, _ = await self._batch(created.batch_id)
        except Exception as error:  # noqa: BLE001 -- whatever a server can cause is an answer
            if created is None:
                return await self._not_accepted(error, stage, frozen, until)
            batch = created
        return self._described(batch, frozen, request_id, replayed=replayed)

    async def _not_accepted(self, error: Exception, stage: Stage, frozen: FrozenPayout, until: float) -> TransferReply:
        """Return the meaning of a request without PayPal's acceptance; for a repeat it is the first batch.

        If that batch cannot be read, the outcome is unknown, whatever the reason: only a repeat finds it again.
        """
        if not isinstance(error, Failed):
            return _lost(error, stage)
        batch_id = None if error.answer is None else duplicate_batch(error.answer)
        if batch_id is None:
            return _reply(error.reply)
        if not batch_id:
            return Unanswered("PayPal refuses the repeat and does not name the first batch")
        try:
            async with asyncio.timeout_at(until):
                batch, request_id = await self._batch(batch_id)
        except Exception as unread:  # noqa: BLE001 -- as in `_send`
            answer = unread.answer if isinstance(unread, Failed) else None
            why = type(unread).__name__ if answer is None else ErrorAnswer.of(answer).summary
            return Unanswered(f"the first batch could not be read: {why}")
        return self._described(batch, frozen, request_id, replayed=True)

    async def _fetch(self, object_id: str, frozen: FrozenPayout) -> TransferReply:
        if not BATCH_ID.fullmatch(object_id):
            return _bad_id()
        stage = Stage()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                batch, request_id = await self._batch(object_id, stage)
            transfer = to_transfer(batch, frozen, live=self._live, read_at=datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 -- as in `_send`
            return _reply(error.reply) if isinstance(error, Failed) else _lost(error, stage)
        return TransferAnswered(transfer, request_id)

    async def _cancel(self, object_id: str, frozen: FrozenPayout) -> TransferReply:
        if not BATCH_ID.fullmatch(object_id):
            return _bad_id()
        stage = Stage()
        try:
            async with asyncio.timeout(self._timeout_seconds):
                batch, request_id = await self._canceled(object_id, stage)
            transfer = to_transfer(batch, frozen, live=self._live, read_at=datetime.now(UTC))
        except Exception as error:  # noqa: BLE001 -- as in `_send`
            return _reply(error.reply) if isinstance(error, Failed) else _lost(error, stage)
        return TransferAnswered(transfer, request_id)

    async def _canceled(self, batch_id: str, stage: Stage) -> tuple[Batch, str | None]:
        """Cancel the item of a batch, and return the batch as it is then. Raises `Failed` or `Unreadable`."""
        batch, request_id = await self._batch(batch_id, stage)
        if batch.item is None:
            return batch, request_id
        try:
            answer = await self._calls.ok("POST", f"{PATH}-item/{batch.item.item_id}/cancel")
        except Failed as failed:
            if failed.answer is None or ErrorAnswer.of(failed.answer).name not in NOT_CANCELED:
                raise
            return await self._batch(batch_id)
        return replace(batch, item=to_item(answer.json(), batch_id)), debug_id(answer)

    async def _batch(self, batch_id: str, stage: Stage | None = None) -> tuple[Batch, str | None]:
        """Return a batch and the id of the request. Raises `Failed` or `Unreadable`."""
        answer = await self._calls.ok("GET", f"{PATH}/{batch_id}", stage=stage)
        return to_batch(answer.json(), batch_id), debug_id(answer)

    def _described(
        self, batch: Batch, frozen: FrozenPayout, request_id: str | None, *, replayed: bool
    ) -> TransferReply:
        if not frozen.fits(batch):
            return _conflict()
        try:
            transfer = to_transfer(batch, frozen, live=self._live, read_at=datetime.now(UTC))
        except Unreadable as error:
            return _lost(error, Stage())
        return TransferAnswered(transfer, request_id, replayed)


def _bad_id() -> Misconfigured:
    return Misconfigured("bad_batch_id", "this is no id of a batch at PayPal; nothing was asked")


def _conflict() -> KeyConflict:
    return KeyConflict("the sender_batch_id belongs to another payout: PayPal answered with that one")


def _reply(failure: Failure) -> TransferReply:
    """Return the reply of a failed call; no call about payouts has the one that is left out."""
    return Unanswered("an answer that no payout has") if isinstance(failure, AlreadyRefunded) else failure


def _lost(error: Exception, stage: Stage) -> TransferReply:
    match error:
        case Unreadable():
            return Unanswered(clean(f"unreadable answer: {error}"))
        case TimeoutError():
            return stage.lost("no complete answer within the time allowed")
    return stage.lost(f"lost while sending or reading ({type(error).__name__})")


def _without_receiver(reply: TransferReply, frozen: FrozenPayout) -> TransferReply:
    """Return a reply none of whose texts repeats the payee's address, as PayPal's own texts may."""
    return with_texts(reply, partial(re.compile(re.escape(frozen.receiver), re.IGNORECASE).sub, HIDDEN))
