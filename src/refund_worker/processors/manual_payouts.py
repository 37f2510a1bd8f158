"""Payouts that a person moves: the route sends nothing, and its table of facts. `manual` and `bank_file` share them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import ClassVar, Final

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    NotListed,
    PayeeReply,
    PayeeUnreadable,
    Step,
    TransferInstruction,
    TransferReply,
    TransfersReply,
)
from refund_worker.domain.processor_replies import Blocked, Misconfigured
from refund_worker.processors.payout_routes import PayoutCapabilities, PayoutEntry

DAY: Final = 86_400.0
YEAR: Final = 366 * DAY
RETURN_WINDOW_SECONDS: Final = 60 * DAY
PAY_MANUALLY = Blocked("manual_payout", "pay it to the destination, then resolve with paid_manually and the reference")
NO_OBJECTS = Misconfigured("manual_payout", "a person pays: there are no transfer objects")


class ManualPayouts:
    """Implements `PayoutRoute` without any I/O: it moves no money, so its answer to every send is `Blocked`.

    A subclass sets `KINDS`, the kinds of destinations that its person can pay to, and `REPLY`, the answer.
    """

    KINDS: ClassVar[frozenset[DestinationKind]] = frozenset(DestinationKind)
    REPLY: ClassVar[Blocked] = PAY_MANUALLY

    def __init__(self, *, name: str = "manual") -> None:
        self.name = name

    def freeze(self, order: TransferInstruction) -> str:
        """Return the payment to make, with its whole destination, as canonical JSON.

        Raises ValueError, without the destination in it, for a kind of destination that the route does not pay to and
        for any step but a payout.
        """
        if order.destination.kind not in self.KINDS:
            raise ValueError(f"{self.name} pays to no destination of the kind {order.destination.kind}")
        if order.step is not Step.PAYOUT:
            raise ValueError(f"{self.name} has no step {order.step}")
        body = {
            "amount": order.amount_minor,
            "currency": order.currency,
            "description": order.description,
            "destination": order.destination.as_fields(),
            "refund_worker_attempt": order.attempt,
            "refund_worker_leg": order.leg_id,
            "refund_worker_payout": order.payout_id,
            **self._own_fields(order),
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":"))

    def _own_fields(self, order: TransferInstruction) -> Mapping[str, str]:
        """Return further fields of the body."""
        return {}

    async def send(self, key: str, body: str) -> TransferReply:
        """Return `Blocked`: nothing was created, a person must act."""
        return self.REPLY

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Return `Misconfigured`: no transfer object exists here."""
        return NO_OBJECTS

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Return `NotListed`."""
        return NotListed("a person pays: nothing is listed")

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Return `Misconfigured`, as `fetch` does."""
        return NO_OBJECTS

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Return `PayeeUnreadable`."""
        return PayeeUnreadable("a person pays: no processor can be asked about the destination")

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


_FACTS: Final = tuple(fact.name for fact in fields(PayoutCapabilities) if fact.name != "sources")


def manual_capabilities(
    kinds: frozenset[DestinationKind],
    sources: Mapping[str, str],
    *,
    minimum_minor: Mapping[str, int] | None = None,
    maximum_minor: Mapping[str, int] | None = None,
    by_file: bool = False,
) -> PayoutCapabilities:
    """Return the table of a route whose money a person moves. `sources` are those of the facts that are its own."""
    return PayoutCapabilities(
        kinds=kinds,
        steps=(Step.PAYOUT,),
        moves_money=False,
        # No call is made, so a repeated one is safe at any time.
        key_seconds=YEAR,
        finds=False,
        list_proves_absence=False,
        reads_payees=False,
        return_window_seconds=RETURN_WINDOW_SECONDS,
        minimum_minor=minimum_minor or {},
        maximum_minor=maximum_minor or {},
        by_file=by_file,
        sources=dict.fromkeys(_FACTS, "processors/manual_payouts.py: nothing is ever sent, a person pays")
        | {
            "return_window_seconds": "our choice: a careful figure. Not read, known: the payee's bank returns a SEPA "
            "transfer within 3 banking days; a recall takes weeks, and one for fraud may come after 13 months. Such a "
            "late return counts too"
        }
        | dict(sources),
    )


ENTRY: Final = PayoutEntry(
    capabilities=manual_capabilities(
        ManualPayouts.KINDS, {"kinds": "our choice: a person can pay to any of them, in a portal or in cash"}
    ),
    make=lambda name, settings, timeout_seconds: ManualPayouts(name=name),
)
