"""The purpose of a correction, forms that notice each other, and a correction that is paid out in parts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import RowMapping
from tests.support.engine_world import DAY, START, World, credit_refund, withdrawal

from refund_worker.domain.ledger import Purpose
from refund_worker.engine.accounts.corrections import correct, reverse_transaction, state_of
from refund_worker.engine.accounts.split_correction import split_correction
from refund_worker.engine.idempotency import Key
from refund_worker.errors import (
    AmountTooSmall,
    ChangedMeanwhile,
    ExceedsRefundable,
    InvalidRequest,
    KeyReused,
    NotReversible,
    RefundWorkerError,
    UnknownTransaction,
)
from refund_worker.store import ledger


def change(world: World, credits: int, *, key: str = "k", actor: str = "anna", **terms: Any) -> RowMapping:
    row, _ = correct(
        world.context,
        customer_id="c",
        credits=credits,
        reason="agreed",
        client="console",
        idempotency_key=key,
        actor=actor,
        **terms,
    )
    return row


def seen(world: World) -> str:
    with world.database.read() as connection:
        return state_of(connection, world.account)


def entries(world: World) -> list[tuple[str, int, str | None]]:
    with world.database.read() as connection:
        rows = ledger.transactions_of(connection, ["c"], limit=50)
    return [(row["kind"], row["credits"], row["purpose"]) for row in reversed(rows) if row["kind"] != "purchase"]


# --- purpose ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("purpose", [Purpose.EXPIRY, Purpose.OTHER])
def test_only_a_correction_for_a_payout_can_be_paid_out(world: World, purpose: Purpose) -> None:
    world.pay()
    entry = change(world, -40, purpose=purpose)
    assert entry["purpose"] == purpose
    with pytest.raises(UnknownTransaction, match="with the purpose payout"):
        world.request(withdrawal(None, transaction_id=entry["transaction_id"]))
    assert world.account.withdrawn == 0
    payable = change(world, -40, key="k2")
    assert payable["purpose"] == Purpose.PAYOUT
    assert world.request(withdrawal(None, transaction_id=payable["transaction_id"])).refund_id


def test_expired_credits_are_an_entry_of_their_own_and_can_be_deleted(world: World) -> None:
    world.pay()
    entry = change(world, -40, purpose=Purpose.EXPIRY)
    assert (entry["kind"], world.account.balance) == ("expiry", 60)
    with world.database.read() as connection:
        assert ledger.corrections_of(connection, ["c"], limit=5)[0]["transaction_id"] == entry["transaction_id"]
    reverse_transaction(world.context, entry["transaction_id"], actor="anna")
    assert world.account.balance == 100
    assert entries(world) == [("expiry", -40, "expiry"), ("reversal", 40, None)]


def test_the_same_key_with_another_purpose_is_refused(world: World) -> None:
    world.pay()
    made = change(world, -40, purpose=Purpose.OTHER)
    assert change(world, -40, purpose=Purpose.OTHER)["transaction_id"] == made["transaction_id"]
    with pytest.raises(KeyReused):
        change(world, -40)
    usual = change(world, -10, key="k2")
    assert change(world, -10, key="k2", purpose=Purpose.PAYOUT)["transaction_id"] == usual["transaction_id"]
    assert world.account.balance == 50


# --- what can be paid out --------------------------------------------------------------------------------------------


def test_payout_correction_that_no_payment_covers_is_not_entered(world: World) -> None:
    world.pay(credits=350, amount_minor=3_500)
    change(world, 50, key="bonus")
    with pytest.raises(ExceedsRefundable, match="only 350 in USD of these 400 credits can be paid out"):
        change(world, -400, payable_only=True)
    assert world.account.balance == 400
    change(world, -350, payable_only=True, key="k2")
    # The same form again returns its entry, although nothing more can be paid out.
    change(world, -350, payable_only=True, key="k2")
    with pytest.raises(ExceedsRefundable, match="none of these 50 credits can be paid out"):
        change(world, -50, payable_only=True, key="k3")
    assert change(world, -50, payable_only=True, purpose=Purpose.OTHER, key="k4")["credits"] == -50


def test_payout_correction_worth_less_than_a_cent_is_not_entered(world: World) -> None:
    world.pay(credits=1_000, amount_minor=100)
    with pytest.raises(AmountTooSmall, match="4 credits are worth less than the smallest unit of money"):
        change(world, -4, payable_only=True)
    assert world.account.balance == 1_000
    entry = change(world, -5, payable_only=True, key="k2")
    assert world.request(withdrawal(None, transaction_id=entry["transaction_id"])).refund_id


def test_refused_payout_names_the_corrections_still_to_be_paid_out(world: World) -> None:
    world.pay(credits=1_000, amount_minor=1_000)
    change(world, 300, key="gift")
    entry = change(world, -300, key="expired")["transaction_id"]
    kept = rf"not paid out yet keep 300 credits: {entry} \(300\)\. Return their money first, or delete them"
    with pytest.raises(ExceedsRefundable, match=r"only 700 in USD of these 1,000 credits.*" + kept):
        change(world, -1_000, payable_only=True)
    reverse_transaction(world.context, entry, actor="anna")
    with pytest.raises(ExceedsRefundable, match=r"only 1,000 in USD of these 1,001 credits can be paid out$"):
        change(world, -1_001, payable_only=True)
    assert change(world, -1_000, payable_only=True, key="k2")["credits"] == -1_000


def test_payout_in_several_currencies_names_a_correction_for_each(world: World) -> None:
    world.pay(1, credits=300, amount_minor=3_000, currency="EUR")
    world.pay(2, credits=200, amount_minor=2_000)
    with pytest.raises(ExceedsRefundable, match="enter a correction for each, 300 in EUR and 50 in USD"):
        change(world, -350, payable_only=True)
    assert world.account.balance == 500


# --- forms that notice each other ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        lambda world: change(world, -350, key="first"),
        lambda world: change(world, 1, key="first"),
        lambda world: world.spend(credits=5),
        lambda world: world.pay(2),
        lambda world: world.withdraw(10),
    ],
    ids=["correction", "added credits", "spend", "payment", "credits held"],
)
def test_form_of_an_account_that_has_changed_enters_nothing(world: World, other: Callable[[World], object]) -> None:
    world.pay(credits=700, amount_minor=7_000)
    state = seen(world)
    other(world)
    after = world.account
    with pytest.raises(ChangedMeanwhile):
        change(world, -350, seen=state)
    assert world.account == after
    change(world, -350, seen=seen(world))


def test_the_same_form_again_returns_its_entry_after_the_change(world: World) -> None:
    world.pay(credits=700, amount_minor=7_000)
    state = seen(world)
    made = change(world, -350, seen=state)
    assert change(world, -350, seen=state)["transaction_id"] == made["transaction_id"]
    assert world.account.balance == 350


def together(*acts: Callable[[], object]) -> list[str]:
    """Start all acts at one moment; return the sorted names of their results: `done`, or the class of the error."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], object]) -> str:
        barrier.wait(30)
        try:
            act()
        except RefundWorkerError as error:
            return type(error).__name__
        return "done"

    with ThreadPoolExecutor(len(acts)) as pool:
        return sorted(pool.map(run, acts))


def test_two_forms_sent_at_the_same_moment_enter_one_correction(world: World) -> None:
    world.pay(credits=700, amount_minor=7_000)
    for race in range(3):
        change(world, 700 - world.account.balance, key=f"back-{race}") if race else None
        state = seen(world)
        acts = [
            lambda person=person, race=race, state=state: change(
                world, -350, key=f"{person}-{race}", actor=person, seen=state
            )
            for person in ("anna", "ben")
        ]
        assert together(*acts) == ["ChangedMeanwhile", "done"]
        assert world.account.balance == 350


def test_two_refund_forms_at_the_same_moment_refund_once(world: World) -> None:
    world.pay()
    world.spend(credits=50)
    acts = [lambda key=key: world.request(credit_refund(20, key, left_seen=50)) for key in ("a", "b")]
    assert together(*acts) == ["ChangedMeanwhile", "done"]
    world.work()
    assert world.account.balance == 70
    # The same form again is the same refund, whatever is left now.
    assert {world.request(credit_refund(20, "b", left_seen=30)).replayed for _ in range(2)} <= {True, False}


def test_delete_form_notices_a_change_and_another_persons_delete(world: World) -> None:
    world.pay()
    entry = change(world, -40)["transaction_id"]
    state = seen(world)
    world.spend(credits=5)
    with pytest.raises(ChangedMeanwhile, match="the balance is 55 now, not 60"):
        reverse_transaction(world.context, entry, actor="anna", seen=state)
    state = seen(world)
    made = reverse_transaction(world.context, entry, actor="anna", seen=state)
    again = reverse_transaction(world.context, entry, actor="anna", seen=state)
    assert again["transaction_id"] == made["transaction_id"]
    with pytest.raises(ChangedMeanwhile, match="anna has already deleted this entry"):
        reverse_transaction(world.context, entry, actor="ben", seen=state)
    assert world.account.balance == 95


# --- a correction in parts -------------------------------------------------------------------------------------------


def split(world: World, entry: str, first: str, shown: str, key: str = "s") -> RowMapping:
    return split_correction(
        world.context, entry, first=first, shown=shown, reason="parts", key=Key("console", key), actor="anna"
    )


def test_a_correction_that_is_too_large_is_replaced_by_payable_parts(world: World) -> None:
    world.pay(1, credits=300, amount_minor=3_000, currency="EUR")
    world.pay(2, credits=200, amount_minor=2_000)
    change(world, 50, key="bonus")
    entry = change(world, -550)["transaction_id"]
    with pytest.raises(ChangedMeanwhile, match="200 in USD, 300 in EUR, 50 not paid out"):
        split(world, entry, "USD", "300 in EUR, 200 in USD, 50 not paid out")
    first = split(world, entry, "EUR", "300 in EUR, 200 in USD, 50 not paid out")
    assert split(world, entry, "EUR", "whatever")["transaction_id"] == first["transaction_id"], "the same form again"
    assert world.account.balance == 0
    parts = entries(world)[-4:]
    assert parts == [
        ("reversal", 550, None),
        ("correction", -300, "payout"),
        ("correction", -200, "payout"),
        ("correction", -50, "other"),
    ]
    with pytest.raises(NotReversible):
        split(world, entry, "EUR", "300 in EUR, 200 in USD, 50 not paid out", key="other")
    paid = world.request(withdrawal(None, transaction_id=first["transaction_id"], currency="EUR"))
    assert world.refund(paid.refund_id).credits == 300
    assert world.account.balance == 0


def test_a_correction_in_payout_is_not_replaced(world: World) -> None:
    world.pay()
    entry = change(world, -40)["transaction_id"]
    world.request(withdrawal(None, transaction_id=entry))
    with pytest.raises(RefundWorkerError, match="has a payout"):
        split(world, entry, "USD", "40 in USD")
    assert world.account.balance == 60


# --- times -----------------------------------------------------------------------------------------------------------


def test_records_of_the_future_are_refused(world: World) -> None:
    world.pay(captured_at=START + DAY)
    world.spend(occurred_at=START + DAY)
    refused: dict[str, Callable[[], object]] = {
        "captured_at": lambda: world.pay(2, captured_at=START + DAY + 1),
        "occurred_at": lambda: world.spend("t2", occurred_at=START + DAY + 1),
    }
    for field, record in refused.items():
        with pytest.raises(InvalidRequest, match="at most a day from now") as told:
            record()
        assert [(wrong.field, wrong.pointer) for wrong in told.value.errors] == [(field, f"#/{field}")]
    world.pass_time(-2 * DAY)
    # A record that was stored before is answered as before.
    world.spend(occurred_at=START + DAY)
    assert world.account.balance == 50
