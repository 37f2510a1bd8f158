"""The instruction to the processor for a leg of a payout."""

from __future__ import annotations

import json

from refund_worker.domain.payouts.destination import read_destination
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import TransferInstruction
from refund_worker.engine.context import Context
from refund_worker.store.payouts.sealed import open_sealed


def order_of_leg(context: Context, payout: Payout, leg: PayoutLeg, installation: str, key: str) -> TransferInstruction:
    """Return the instruction to the processor for the leg's current attempt.

    Raises `DestinationsKeyMissing` if the destination was sealed with a key that is not here.
    """
    fields = json.loads(open_sealed(context.box, payout.destination_box, f"payout {payout.payout_id}"))
    return TransferInstruction(
        payout_id=payout.payout_id,
        leg_id=leg.leg_id,
        attempt=leg.attempt,
        step=leg.step,
        destination=read_destination(fields),
        amount_minor=leg.amount_minor,
        currency=leg.currency,
        description=payout.description,
        end_to_end_id=key,
        method=payout.method,
        country=payout.country,
        undoes=leg.undoes,
        installation=installation,
    )


def request_of_attempt(context: Context, payout_id: str, sealed: str) -> str:
    """Return the frozen request of an attempt. Raises `DestinationsKeyMissing` as above."""
    return open_sealed(context.box, sealed, f"payout {payout_id}")
