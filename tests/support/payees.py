"""Payees for tests of the engine: an account whose payouts a script answers, and the calls that record payees."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, select

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.earnings import Earning, EarningRecord
from refund_worker.domain.payouts.payee import Payee, PayeeBalance, PayeeRecord
from refund_worker.domain.payouts.transfers import (
    Method,
    PayeeRead,
    PayeeReply,
    PayeeState,
    Step,
    TransferInstruction,
    TransferReply,
    TransfersReply,
)
from refund_worker.engine.payees.earnings import StoredEarning, record_earnings
from refund_worker.engine.payees.payees import record_payee
from refund_worker.errors import RefundWorkerError
from refund_worker.processors.accounts import Accounts, default_accounts
from refund_worker.processors.payout_routes import PayoutCapabilities, PayoutEntry
from refund_worker.sealing import Box
from refund_worker.store import timeline
from refund_worker.store.payouts import payees
from refund_worker.store.tables import earnings, payee_entries
from tests.support.engine_world import World

KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
OTHER_KEY = base64.urlsafe_b64encode(b"o" * 32).decode()
IBAN = "DE89370400440532013000"
BANK = Destination(kind=DestinationKind.BANK, iban=IBAN, holder="M. Example")
CONNECTED = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account="acct_1Abcd")
CAPABILITIES = PayoutCapabilities(
    kinds=frozenset({DestinationKind.STRIPE_ACCOUNT, DestinationKind.BANK}),
    steps=(Step.PAYOUT,),
    key_seconds=86_400,
    finds=True,
    list_proves_absence=True,
    reads_payees=True,
    return_window_seconds=86_400,
    sources={},
)


@dataclass
class ScriptedRoute:
    """A route that only reads destinations: it gives the same reply until the test changes it, and counts its calls."""

    reply: PayeeReply = field(default_factory=lambda: PayeeRead(PayeeState.READY))
    asked: list[Destination] = field(default_factory=list)
    name: str = "stripe"
    fails: bool = False

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Return the reply of the script."""
        self.asked.append(destination)
        if self.fails:
            raise RuntimeError("a defect of the adapter")
        return self.reply

    def freeze(self, order: TransferInstruction) -> str:
        """Freeze nothing: these tests send no money."""
        raise NotImplementedError

    async def send(self, key: str, body: str) -> TransferReply:
        """Send nothing."""
        raise NotImplementedError

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Fetch nothing."""
        raise NotImplementedError

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Find nothing."""
        raise NotImplementedError

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Call nothing off."""
        raise NotImplementedError

    async def close(self) -> None:
        """Do nothing: there is no connection."""


def payout_accounts() -> Accounts:
    """Return `stripe` with payouts, and `manual`."""
    offered = PayoutEntry(capabilities=CAPABILITIES, make=lambda _name, _settings, _timeout: ScriptedRoute())
    found = dict(default_accounts().items())
    stripe = found["stripe"]
    return Accounts({**found, "stripe": replace(stripe, entry=replace(stripe.entry, payouts=offered))})


def with_payouts(world: World, *, key: str | None = KEY) -> ScriptedRoute:
    """Give the world's account payouts, and return its route."""
    route = ScriptedRoute()
    changed: dict[str, Any] = {"accounts": payout_accounts(), "routes": {"stripe": route}}
    world.context = replace(world.context, box=Box((key,) if key else ()), **changed)
    return route


def a_payee(payee_id: str = "p1", **changes: Any) -> PayeeRecord:
    """Return a payee with a bank account, who is paid in USD."""
    record = PayeeRecord(
        payee_id=payee_id,
        customer_id=None,
        processor="stripe",
        destination=BANK,
        currency="USD",
        country="DE",
        method=Method.STANDARD,
    )
    return replace(record, **changes)


def add_payee(world: World, payee_id: str = "p1", **changes: Any) -> Payee:
    """Record a payee."""
    return record_payee(world.context, a_payee(payee_id, **changes), actor="shop")[0]


def an_earning(earning_id: str = "e1", amount_minor: int = 500, **changes: Any) -> EarningRecord:
    """Return an earning of the payee `p1` of the spend `t`."""
    values = {"payee_id": "p1", "currency": "USD", "transaction_id": "t", "description": "Chat"} | changes
    return EarningRecord(earning_id=earning_id, amount_minor=amount_minor, **values)


def earn(world: World, earning_id: str = "e1", amount_minor: int = 500, **changes: Any) -> StoredEarning:
    """Record an earning. Raise its refusal."""
    (answer,) = record_earnings(world.context, [an_earning(earning_id, amount_minor, **changes)], actor="shop")
    if isinstance(answer, RefundWorkerError):
        raise answer
    return answer


def earning_of(world: World, earning_id: str = "e1") -> Earning:
    """Return the earning as it is stored now."""
    from refund_worker.store.payouts.earnings import earnings_by_id

    with world.database.read() as connection:
        return earnings_by_id(connection, [earning_id])[earning_id]


def balance_of(world: World, payee_id: str = "p1", currency: str = "USD") -> PayeeBalance:
    """Return the payee's sums now."""
    with world.database.read() as connection:
        return payees.balances(connection, [(payee_id, currency)], world.now)[payee_id, currency]


def events_about(world: World, payee_id: str = "p1") -> list[str]:
    """Return the kinds of the payee's events, oldest first."""
    with world.database.read() as connection:
        return [str(row["kind"]) for row in timeline.events_about(connection, payee_id)]


def assert_payees_balance(connection: Connection) -> None:
    """Check each payee's sums against the earnings and the payee's entries."""
    rows = connection.execute(select(payees.payee_balances)).mappings().all()
    entries = connection.execute(select(payee_entries)).mappings().all()
    earned = connection.execute(select(earnings)).mappings().all()
    for row in rows:
        own = (row["payee_id"], row["currency"])
        its = [e for e in earned if (e["payee_id"], e["currency"]) == own]
        net = row["earned_minor"] - row["clawed_back_minor"] - row["in_flight_minor"] - row["paid_minor"]
        assert row["earned_minor"] == sum(e["amount_minor"] for e in its)
        assert row["clawed_back_minor"] == sum(e["clawed_back_minor"] for e in its)
        assert net == sum(e["amount_minor"] for e in entries if (e["payee_id"], e["currency"]) == own)
