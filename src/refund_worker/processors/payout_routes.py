"""Interfaces of a route for payouts, which an adapter can offer beside refunds, and its table of facts.

As for refunds, a route translates one processor's wire format and decides nothing. It raises no error for a failure of
a server or a network: every outcome, a missing answer included, is a reply of `domain/payouts/transfers.py` or
`domain/processor_replies.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from refund_worker.domain.decision import ProcessorRules
from refund_worker.domain.payouts.decision import RouteRules
from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    Fault,
    Method,
    PayeeReply,
    Step,
    TransferInstruction,
    TransferReply,
    TransfersReply,
)


class PayoutRoute(Protocol):
    """The payouts of one account at a processor.

    An instance is made after the fork, is used by one event loop, and is closed at the end.
    """

    name: str

    def freeze(self, order: TransferInstruction) -> str:
        """Return the request as canonical JSON.

        The function is pure: the text is stored before the first call and sent again unchanged. It holds everything
        that `send`, `find` and `fetch` need, the step and a connected account included. Raises ValueError for an
        instruction that the processor cannot take.
        """

    async def send(self, key: str, body: str) -> TransferReply:
        """Ask for the transfer that is frozen in `body`, under the idempotency key `key`, within the timeout."""

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Return the current state of a transfer object that `body` made."""

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Return every transfer object that `body` may have made since then (epoch seconds), with all pages read.

        Objects of other legs may be among them: the engine sorts them out.
        """

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Call off a transfer object that waits for the payee, and return its new state."""

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Return whether the processor pays to this destination."""

    async def close(self) -> None:
        """Release connections. A second call does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutCapabilities:
    """The facts about a processor's payouts on which the program relies, each with its source.

    - `kinds`: the kinds of destinations that it pays to.
    - `steps`: the steps of one payout, in order.
    - `methods`: how fast the money can go.
    - `moves_money`: False if a person, or a file that a person takes to the bank, moves it.
    - `key_seconds`, `key_use_seconds`: as for refunds (`Capabilities`).
    - `finds`: `find` returns what an attempt made. `list_proves_absence`: what it does not return does not exist, once
      the quiet window has passed.
    - `reads_payees`: `read_payee` says more than `PayeeUnreadable`.
    - `return_window_seconds`: how long after it was paid the money may still come back. A later return counts too.
    - `minimum_minor`, `maximum_minor`: by currency; "" for all others. `currency_steps` are those of amounts in our
      minor units, where they are coarser than ours.
    - `low_balance_codes`: codes that mean: our balance there is too low. Such payouts go on after a top-up.
    - `refusal_faults`: codes of refusals → whose fault they are, as far as that is known.
    - `cancels`: a payout that waits for the payee can be called off.
    - `by_file`: a payout waits for a file that a person takes to the bank.
    - `sources`: the name of each fact above → where it is written, with the date of reading.
    """

    kinds: frozenset[DestinationKind]
    steps: tuple[Step, ...]
    methods: frozenset[Method] = frozenset({Method.STANDARD})
    moves_money: bool = True
    key_seconds: float
    key_use_seconds: float | None = None
    finds: bool
    list_proves_absence: bool
    reads_payees: bool
    return_window_seconds: float
    minimum_minor: Mapping[str, int] = field(default_factory=dict)
    maximum_minor: Mapping[str, int] = field(default_factory=dict)
    currency_steps: Mapping[str, int] = field(default_factory=dict)
    low_balance_codes: frozenset[str] = frozenset()
    refusal_faults: Mapping[str, Fault] = field(default_factory=dict)
    cancels: bool = False
    by_file: bool = False
    sources: Mapping[str, str]

    def rules(
        self, *, live: bool | None = None, key_use_seconds: float | None = None, quiet_seconds: float | None = None
    ) -> ProcessorRules:
        """Return the rules about calls that decisions need; the arguments are as for refunds (`Capabilities.rules`)."""
        return ProcessorRules(
            key_seconds=self.key_seconds,
            key_use_seconds=_earlier(key_use_seconds, self.key_use_seconds),
            quiet_seconds=quiet_seconds,
            finds_refunds=self.finds,
            list_proves_absence=self.list_proves_absence,
            steps=self.currency_steps,
            live=live,
            reads_refunds=self.moves_money,
        )

    def route(self) -> RouteRules:
        """Return the rules of payouts that decisions need."""
        return RouteRules(
            steps=self.steps,
            return_window_seconds=self.return_window_seconds,
            moves_money=self.moves_money,
            minimum_minor=self.minimum_minor,
            maximum_minor=self.maximum_minor,
            by_file=self.by_file,
            refusal_faults=self.refusal_faults,
        )


def _earlier(own: float | None, known: float | None) -> float | None:
    """Return the shorter of an account's own setting and the processor's fact, None without either."""
    return min((seconds for seconds in (own, known) if seconds is not None), default=None)


@dataclass(frozen=True, slots=True)
class TransferHint:
    """The subject of a webhook event about payouts. It is a hint: the object is fetched before anything is decided.

    `object_id` is that of a transfer object, or for `is_payee` the processor's id of a destination. `leg_id` is our id
    in the object, None if the event does not give it.
    """

    object_id: str
    leg_id: str | None
    is_payee: bool = False


def no_transfer(kind: str, body: str) -> TransferHint | None:
    """Return None: the processor sends no events about payouts."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutEntry:
    """The payouts of an adapter, as its `ProcessorEntry` names them. Imports no SDK and no HTTP client.

    - `make(name, settings, timeout_seconds)`: the route of the account `name`, which has its credentials.
    - `transfer_hint(kind, body)`: the subject of a stored webhook event, None for any other event. Never raises.
    """

    capabilities: PayoutCapabilities
    make: Callable[[str, Any, float], PayoutRoute]
    transfer_hint: Callable[[str, str], TransferHint | None] = no_transfer
