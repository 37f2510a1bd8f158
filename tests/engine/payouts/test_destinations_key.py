"""A process without the key of the destinations: nothing is sent there, nothing is lost, and all else continues."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
from tests.engine.payouts.test_sync_payout import ask
from tests.support.payees import KEY, OTHER_KEY
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.domain.refund import ObjectState
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.errors import DestinationsKeyMissing
from refund_worker.sealing import Box

KEY_MISSING = "destinations_key_missing"
MANY = 12  # more than may fail in one batch before the cause counts as systemic


def set_key(world: PayoutWorld, *keys: str) -> None:
    world.context = replace(world.context, box=Box(keys))


@pytest.fixture
def sealed(world: PayoutWorld) -> PayoutWorld:
    """Return the world with a further payee, "s", whose destination is sealed; then the key is taken away."""
    set_key(world, KEY)
    world.add_payee("s")
    world.earn("e0", 5_000, payee_id="s")
    return world


def test_payout_without_its_key_waits_others_are_sent(sealed: PayoutWorld, caplog: pytest.LogCaptureFixture) -> None:
    sealed.earn("e1", 4_000)
    waits, other = sealed.ask(payee_id="s"), sealed.ask(key="other")
    set_key(sealed, OTHER_KEY)
    sealed.settle(DAY, step=600)
    assert sealed.route.sends() == [f"{other}-1:1"]
    payout = sealed.payout(waits)
    assert (payout.failure_code, payout.ledger_posted, payout.legs[0].sends) == (KEY_MISSING, False, 0)
    assert sealed.events(waits).count("internal_error") == 1
    alarms = [line for line in caplog.records if line.levelno == logging.ERROR]
    assert len(alarms) == 1
    set_key(sealed, OTHER_KEY, KEY)
    sealed.settle(DAY, step=600)
    assert (sealed.payout(waits).status, sealed.payout(waits).failure_code) == ("pending", None)
    assert sum(sealed.route.paid_minor().values()) == 9_000


def test_many_without_their_key_are_tried_rarely(sealed: PayoutWorld) -> None:
    for number in range(MANY):
        sealed.add_payee(f"s{number}")
        sealed.earn(f"e{number + 1}", 1_000, payee_id=f"s{number}")
        sealed.ask(key=f"k{number}", payee_id=f"s{number}")
    set_key(sealed)
    assert process_due_payouts(sealed.context) == MANY
    assert process_due_payouts(sealed.context) == 0
    sealed.now += 600
    assert process_due_payouts(sealed.context) == MANY
    assert sealed.route.calls == []


def test_call_whose_answer_is_missing_is_not_repeated_blindly(sealed: PayoutWorld) -> None:
    sealed.route.script = ["lost"]
    payout_id = sealed.ask(payee_id="s")
    sealed.step()
    set_key(sealed)
    sealed.settle(DAY, step=600)
    assert (sealed.payout(payout_id).failure_code, sealed.payout(payout_id).legs[0].status) == (KEY_MISSING, "unknown")
    set_key(sealed, KEY)
    sealed.settle(DAY, step=600)
    assert (sealed.payout(payout_id).status, len(sealed.route.book)) == ("pending", 1)


def test_question_about_a_payout_without_its_key_is_refused(sealed: PayoutWorld) -> None:
    payout_id = sealed.ask(payee_id="s")
    sealed.settle()
    sealed.route.set(f"{payout_id}-1:1", ObjectState.SUCCEEDED)
    asked = len(sealed.route.calls)
    set_key(sealed)
    with pytest.raises(DestinationsKeyMissing, match=f"payout {payout_id} was sealed with a key"):
        ask(sealed, payout_id)
    assert len(sealed.route.calls) == asked
    assert sealed.payout(payout_id).status == "pending"
