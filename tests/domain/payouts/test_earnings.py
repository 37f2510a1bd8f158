"""Claw-backs follow from the spend's position, and repeated ones add up to the whole share."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

from refund_worker.domain.ledger import SHARES, EntryKind, payee_account
from refund_worker.domain.payouts.earnings import Earning, SpendPosition, claw_back, earned, to_claw_back


def an_earning(amount_minor: int = 100, **changes: object) -> Earning:
    values: dict[str, object] = {
        "earning_id": "e1",
        "payee_id": "p1",
        "amount_minor": amount_minor,
        "currency": "EUR",
        "transaction_id": "t",
        "description": "Chat",
        "available_at": 0.0,
    }
    return Earning(**values | changes)  # type: ignore[arg-type]


def test_a_half_is_rounded_up() -> None:
    for amount, spent in itertools.product((1, 2, 3, 7, 10, 99, 101), (1, 2, 3, 7, 8)):
        for returned in range(spent + 1):
            exact = Fraction(amount * returned, spent)
            expected = (exact + Fraction(1, 2)).__floor__()
            assert to_claw_back(an_earning(amount), SpendPosition(spent, returned)) == expected


def test_partial_refunds_add_up_to_the_whole_share() -> None:
    rng = random.Random(4)
    for _ in range(300):
        spent, earning, returned, total = rng.randrange(1, 60), an_earning(rng.randrange(1, 500)), 0, 0
        while returned < spent:
            returned = min(spent, returned + rng.randrange(1, 9))
            change = claw_back(earning, SpendPosition(spent, returned), "system", 1.0)
            if change is not None:
                earning, total = change.earning, total + change.amount_minor
        assert total == earning.clawed_back_minor == earning.amount_minor


def test_the_same_position_changes_nothing() -> None:
    change = claw_back(an_earning(), SpendPosition(10, 3), "system", 1.0)
    assert change is not None
    assert change.amount_minor == 30
    assert claw_back(change.earning, SpendPosition(10, 3), "system", 2.0) is None


def test_a_position_that_goes_back_undoes_the_claw_back() -> None:
    first = claw_back(an_earning(), SpendPosition(10, 10), "system", 1.0)
    assert first is not None
    undone = claw_back(first.earning, SpendPosition(10, 0), "op", 2.0)
    assert undone is not None
    assert undone.amount_minor == -100
    assert undone.earning.clawed_back_minor == 0
    assert (first.posting.kind, undone.posting.kind) == (EntryKind.CLAWBACK, EntryKind.CLAWBACK_REVERSAL)
    assert undone.posting.actor == "op"
    again = claw_back(undone.earning, SpendPosition(10, 5), "system", 3.0)
    assert again is not None
    assert len({change.posting.transaction_id for change in (first, undone, again)}) == 3


def test_no_more_than_the_earning_is_clawed_back() -> None:
    assert to_claw_back(an_earning(), SpendPosition(10, 11)) == 100
    assert to_claw_back(an_earning(), SpendPosition(10, -1)) == 0
    assert to_claw_back(an_earning(), SpendPosition(0, 0)) == 0


def test_entries_go_between_the_shares_and_the_payee() -> None:
    posting = earned(an_earning(), "key:k", 1.0)
    assert {(e.account, e.amount) for e in posting.entries} == {(SHARES, -100), (payee_account("p1"), 100)}
    back = claw_back(an_earning(), SpendPosition(10, 3), "system", 1.0)
    assert back is not None
    assert {(e.account, e.amount) for e in back.posting.entries} == {(SHARES, 30), (payee_account("p1"), -30)}


def test_ids_of_entries_differ_for_any_two_earnings() -> None:
    """Callers choose the ids of earnings: one may look like the id of another's claw-back."""
    names = ("a", "1-a", "a-1", "clawback-1-a", "earning-a", "2-1-a")
    ids = []
    for name in names:
        earning = an_earning(earning_id=name)
        ids.append(earned(earning, "system", 1.0).transaction_id)
        for _ in range(3):
            change = claw_back(earning, SpendPosition(10, 5 if earning.clawbacks % 2 == 0 else 0), "system", 1.0)
            assert change is not None
            earning = change.earning
            ids.append(change.posting.transaction_id)
    assert len(set(ids)) == len(ids)
