"""The accounts of a path beside Stripe's and the silent processor's: PayPal's, and a connected account.

Each has a bank of its own, whose rows are in the book that all banks share, so that every check counts them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refund_worker.domain.account_names import connected_of
from refund_worker.processors.accounts import Account, Accounts
from refund_worker.processors.paypal.entry import CAPABILITIES, ENTRY, PayPalSettings
from tests.crashes.crash_path import PAYPAL
from tests.simulation.bank import Bank
from tests.simulation.kernel import Violation
from tests.simulation.simulated_processor import SimulatedProcessor
from tests.simulation.wiring import Wiring


class AccountProcessor(SimulatedProcessor):
    """The engine's adapter for a bank of one account."""

    def __init__(self, bank: Bank) -> None:
        super().__init__(bank)
        self.name = bank.account


class PayPalsProcessor(AccountProcessor):
    """The engine's adapter for PayPal: the lists of the account and its disputes cannot be read."""

    reads_disputes = False

    async def recent(self, created_gte: object) -> Any:
        """Raise `Violation`."""
        raise Violation(f"I16 {self.name} is asked to list its refunds, which it cannot do")


def add_account(wiring: Wiring, name: str, payments: Iterable[str]) -> Bank:
    """Wire a bank for this account, which has these payments. It shares the book of Stripe's bank, and the watch."""
    beside = wiring.bank
    bank = Bank(**beside.shared_book(), account=name, listings=beside.listings, its_payments=frozenset(payments))
    bank.on_call, bank.on_send, bank.on_created = beside.on_call, beside.on_send, beside.on_created
    if name == PAYPAL:
        bank.key_seconds = CAPABILITIES.key_seconds
        account = Account(name=PAYPAL, entry=ENTRY, settings=PayPalSettings())
        wiring.accounts = Accounts({**wiring.accounts, PAYPAL: account})
    wiring.processors[name] = PayPalsProcessor(bank) if name == PAYPAL else AccountProcessor(bank)
    assert name in wiring.accounts, name
    assert name == PAYPAL or connected_of(name), name
    return bank
