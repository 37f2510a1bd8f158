"""Call routes for payouts safely: no text of an answer shows the payee's destination whole."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from functools import partial
from typing import TypeVar

from refund_worker.domain.payouts.destination import Destination, mask_in, read_destination
from refund_worker.domain.payouts.transfers import with_texts
from refund_worker.domain.processor_replies import Unanswered
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.safe_call import call_safely

A = TypeVar("A")


async def call_route(
    context: Context, processor: str, name: str, call: Awaitable[A], destination_box: str
) -> A | Unanswered:
    """Return the answer as `call_safely` does, with the destination masked in all texts of the processor.

    Here, and not where texts are shown, because they are also stored, logged, and part of alarms and notifications.
    `destination_box` is the payout's sealed destination.
    """

    async def masked() -> A:
        return with_texts(await call, partial(mask_in, destination=_opened(context, destination_box)))

    return await call_safely(context, processor, name, masked())


def _opened(context: Context, sealed: str) -> Destination | None:
    """Return the destination, or None if its key is not set here: then it is recognized only by its form."""
    try:
        return read_destination(json.loads(context.box.open(sealed)))
    except ValueError:
        return None
