"""Double entry: a posting that does not balance cannot be built."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain import ledger
from refund_worker.domain.ledger import CREDITS, Entry, EntryKind, Posting, customer_account, transfer


def a_posting(*entries: Entry, credits: int = 0) -> Posting:
    """Return a posting of these entries."""
    return Posting(
        transaction_id="t", customer_id="c", kind=EntryKind.SPEND, credits=credits, entries=entries, occurred_at=0.0
    )


@given(
    st.lists(
        st.builds(Entry, st.sampled_from(["a", "b"]), st.sampled_from(["USD", CREDITS]), st.integers(-3, 3)), max_size=6
    )
)
def test_posting_is_built_only_if_every_unit_sums_to_zero(entries: list[Entry]) -> None:
    balanced = all(sum(e.amount for e in entries if e.unit == unit) == 0 for unit in ("USD", CREDITS))
    if balanced:
        a_posting(*entries)
    else:
        with pytest.raises(ValueError, match="sum to zero"):
            a_posting(*entries)


def test_account_names_are_those_of_existing_ledgers() -> None:
    """Existing ledgers are read by these names: another name would begin another account."""
    credits = (ledger.ISSUED, ledger.USED, ledger.CORRECTIONS, ledger.CLEARING, ledger.REDEEMED)
    assert credits == ("house:issued", "house:used", "house:corrections", "house:clearing", "house:redeemed")
    money = (ledger.SALES, ledger.REFUNDS, ledger.MANUAL)
    assert money == ("house:sales", "house:refunds", "house:paid_by_hand")
    assert customer_account("mia") == "customer:mia"


def test_money_does_not_balance_another_currency() -> None:
    with pytest.raises(ValueError, match="sum to zero"):
        a_posting(Entry("a", "USD", 5), Entry("b", "EUR", -5))


def test_posting_that_moves_other_credits_is_refused() -> None:
    entries = transfer(customer_account("c"), "house:used", CREDITS, 5)
    assert a_posting(*entries, credits=-5).credits == -5
    for wrong in (5, 0, -4):
        with pytest.raises(ValueError, match="another amount"):
            a_posting(*entries, credits=wrong)


def test_transfer_of_zero_has_no_entries() -> None:
    assert transfer("a", "b", CREDITS, 0) == ()


def test_reversal_moves_exactly_the_opposite() -> None:
    correction = ledger.correction(transaction_id="t", customer_id="c", credits=-7, reason="", actor="a", at=0.0)
    reversal = ledger.reversal(
        of="t", kind=EntryKind.CORRECTION, customer_id="c", credits=-7, refund_id=None, actor="a", at=0.0
    )
    assert {(e.account, -e.amount) for e in reversal.entries} == {(e.account, e.amount) for e in correction.entries}
    assert reversal.refers_to == "t"


def test_purchase_and_spend_move_the_balance_by_their_credits() -> None:
    bought = ledger.purchase(
        payment_id="p", customer_id="c", processor="stripe", credits=10, amount_minor=100, currency="USD", at=0.0
    )
    spent = ledger.spend(transaction_id="t", customer_id="c", credits=4, description="", at=0.0)
    assert (bought.credits, spent.credits) == (10, -4)
    assert {e.unit: e.amount for e in bought.entries if e.account.startswith("processor:")} == {"USD": 100}
    with pytest.raises(ValueError, match="sum to zero"):
        replace(bought, entries=bought.entries[:-1])
