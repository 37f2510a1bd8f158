"""The instruction to the processor for a leg of a payout."""

from __future__ import annotations

import json

from refund_worker.domain.payouts.destination import read_destination
from refund_worker.domain.payouts.payout import Payout, PayoutLeg
from refund_worker.domain.payouts.transfers import TransferInstruction
from refund_worker.engine.context import Context


def order_of_leg(context: Context, payout: Payout, leg: PayoutLeg, installation: str, key: str) -> TransferInstruction:
    """Return the instruction to the processor for the leg's current attempt."""
    return TransferInstruction(
        payout_id=payout.payout_id,
        leg_id=leg.leg_id,
        attempt=leg.attempt,
        step=leg.step,
        destination=read_destination(json.loads(context.box.open(payout.destination_box))),
        amount_minor=leg.amount_minor,
        currency=leg.currency,
        description=payout.description,
        end_to_end_id=key,
        method=payout.method,
        country=payout.country,
        undoes=leg.undoes,
        installation=installation,
    )
