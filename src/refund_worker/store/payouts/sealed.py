"""Open what is stored sealed of payees and payouts: destinations, frozen requests and files for banks."""

from __future__ import annotations

from refund_worker.errors import DestinationsKeyMissing
from refund_worker.sealing import Box

KEY_SETTING = "REFUND_WORKER_DESTINATIONS_KEY"


def open_sealed(box: Box, sealed: str, whose: str) -> str:
    """Return what was sealed; `whose` names the owner for people.

    Raises `DestinationsKeyMissing` if it was sealed with a key that is not here.
    """
    try:
        return box.open(sealed)
    except ValueError:
        told = f"the destination of {whose} was sealed with a key that {KEY_SETTING} does not hold"
        raise DestinationsKeyMissing(told) from None
