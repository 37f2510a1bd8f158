"""The transition table of payouts, written a second time: a change to it is a change to this file, and is seen."""

from __future__ import annotations

from itertools import product

import pytest
from tests.domain.test_state_machine import read

from refund_worker.domain.payouts.machine import (
    PAYOUT_ACTIONS,
    PayoutAction,
    PayoutOutcome,
    first_payout_status,
    next_payout_status,
)
from refund_worker.domain.payouts.payout import PAYOUT_BEGUN, PAYOUT_ENDS, PAYOUT_OPEN, PAYOUT_PAID, PayoutStatus
from refund_worker.domain.state_machine import ImpossibleMove

COME_TO = "needs_attention returning paid settled failed returned canceled recipient_action sending pending"
NOT_BY_LEGS = ". . . . . . . . . ."
# One column an outcome, one row a status; a dot where the move is impossible.
PAYOUTS = f"""
                  held released posted  approved rejected canceled needs_attention returning paid settled failed returned called_off recipient_action in_progress pending
queued            held .        sending .        .        canceled {NOT_BY_LEGS}
held              held queued   sending .        .        canceled {NOT_BY_LEGS}
awaiting_approval .    .        sending queued   rejected canceled {NOT_BY_LEGS}
sending           .    .        .       .        .        .        {COME_TO}
pending           .    .        .       .        .        .        {COME_TO}
recipient_action  .    .        .       .        .        .        {COME_TO}
paid              .    .        .       .        .        .        {COME_TO}
returning         .    .        .       .        .        .        {COME_TO}
needs_attention   .    .        .       .        .        .        {COME_TO}
settled           .    .        .       .        .        .        {COME_TO}
failed            .    .        .       .        .        .        {COME_TO}
returned          .    .        .       .        .        .        {COME_TO}
canceled          .    .        sending .        .        .        {COME_TO}
rejected          .    .        sending .        .        .        {NOT_BY_LEGS}
"""  # noqa: E501


def test_second_table_names_every_status_and_outcome() -> None:
    assert set(read(PAYOUTS)) == {(str(s), str(o)) for s, o in product(PayoutStatus, PayoutOutcome)}


@pytest.mark.parametrize("status", PayoutStatus)
def test_payout_transitions_match_the_second_table(status: PayoutStatus) -> None:
    for outcome in PayoutOutcome:
        expected = read(PAYOUTS)[status, outcome]
        if expected == ".":
            with pytest.raises(ImpossibleMove):
                next_payout_status(status, outcome)
        else:
            assert next_payout_status(status, outcome) == expected


def test_actions_are_offered_in_these_statuses() -> None:
    assert {action: " ".join(sorted(statuses)) for action, statuses in PAYOUT_ACTIONS.items()} == {
        PayoutAction.APPROVE: "awaiting_approval",
        PayoutAction.REJECT: "awaiting_approval",
        PayoutAction.CANCEL: "awaiting_approval held needs_attention queued recipient_action sending",
        PayoutAction.RETRY: "needs_attention",
        PayoutAction.RESOLVE: "needs_attention paid settled",
    }


def test_groups_of_statuses() -> None:
    assert " ".join(PAYOUT_ENDS) == "settled failed returned canceled rejected"
    assert " ".join(PAYOUT_PAID) == "paid settled"
    assert set(PAYOUT_OPEN) == set(PayoutStatus) - {*PAYOUT_ENDS, PayoutStatus.PAID}
    assert set(PAYOUT_OPEN) - set(PAYOUT_BEGUN) == {PayoutStatus.HELD, PayoutStatus.AWAITING_APPROVAL}
    assert first_payout_status(needs_approval=False) == "queued"
    assert first_payout_status(needs_approval=True) == "awaiting_approval"
