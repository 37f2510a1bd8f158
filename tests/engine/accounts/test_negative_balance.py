"""A late effect may leave a balance below zero. Adding credits is never refused for that reason."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import RowMapping
from tests.support.engine_world import World

from refund_worker.domain import ledger
from refund_worker.domain.decision import AccountDelta
from refund_worker.engine.accounts.corrections import correct, reverse_transaction
from refund_worker.errors import BalanceSpent, InsufficientBalance
from refund_worker.store import accounts
from refund_worker.store import ledger as ledger_store


def change(world: World, credits: int) -> RowMapping:
    """Correct the balance of customer "c" by `credits` and return the stored row."""
    row, _ = correct(
        world.context,
        customer_id="c",
        credits=credits,
        reason="r",
        client="a",
        idempotency_key=f"k{credits}",
        actor="a",
    )
    return row


@pytest.fixture
def owing(world: World) -> World:
    """Return a world where customer "c" has a balance of -480.

    A withdrawal that was paid after it had been reversed leaves such a balance.
    """
    world.pay()
    late = ledger.correction(
        transaction_id="late", customer_id="c", credits=-580, reason="paid after all", actor="a", at=1.0
    )
    posting = replace(late, refund_id="rf_late")  # as of a refund whose money went out after all
    with world.database.write() as connection:
        ledger_store.insert_postings(connection, [posting])
        accounts.change_customers(connection, {"c": AccountDelta(balance=-580)})
    assert world.account.available == -480
    return world


@pytest.mark.parametrize("credits", [1, 20, 479, 480, 1_000])
def test_positive_correction_is_accepted_on_negative_balance(owing: World, credits: int) -> None:
    assert change(owing, credits)["credits"] == credits
    assert owing.account.balance == -480 + credits


def test_negative_correction_can_be_deleted_on_negative_balance(world: World) -> None:
    world.pay()
    entered = change(world, -30)
    late = ledger.correction(
        transaction_id="late", customer_id="c", credits=-550, reason="paid after all", actor="a", at=1.0
    )
    posting = replace(late, refund_id="rf_late")  # as of a refund whose money went out after all
    with world.database.write() as connection:
        ledger_store.insert_postings(connection, [posting])
        accounts.change_customers(connection, {"c": AccountDelta(balance=-550)})
    assert reverse_transaction(world.context, entered["transaction_id"], actor="a")["credits"] == 30
    assert world.account.balance == -450


def test_a_positive_one_that_is_spent_can_not_be_deleted(owing: World) -> None:
    entered = change(owing, 20)
    with pytest.raises(BalanceSpent):
        reverse_transaction(owing.context, entered["transaction_id"], actor="a")


def test_a_negative_one_is_refused_as_ever(owing: World) -> None:
    with pytest.raises(InsufficientBalance, match="1 credits to take off, -480 available"):
        change(owing, -1)
    change(owing, 485)
    with pytest.raises(InsufficientBalance):
        change(owing, -6)
    assert change(owing, -5)["credits"] == -5
