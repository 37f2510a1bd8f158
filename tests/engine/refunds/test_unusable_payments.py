"""Payments that an earlier version recorded under an id that cannot be sent: a person is notified."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import select
from tests.support.engine_world import World

from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.views.api_objects import refund_view
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.processors.accounts import Accounts
from refund_worker.processors.payment_ids import check_payment_id, check_processor_name
from refund_worker.store import tables

SECRET = "pi_3MtwBw_secret_YrKJUKribcBjcG8H"
CODE = "payment_id_unusable"


@pytest.mark.parametrize("id", ["ch_a.b", SECRET, "PAYID-1"])
def test_a_refund_over_it_goes_to_a_person_and_no_batch_breaks(world: World, id: str) -> None:
    payment = world.pay(1)
    good = world.withdraw(10, "good")
    by_an_earlier_version = replace(world.context, accounts=Accounts({}))
    assert record_payments(by_an_earlier_version, [replace(payment, payment_id="pay9", processor_payment_id=id)])
    bad = world.withdraw(10, "bad")
    world.work()
    view = refund_view(world.refund(bad))
    assert (view["status"], view["failure_code"]) == ("needs_attention", CODE)
    assert CODE in FAILURE_CODES
    assert view["available_actions"] == ["retry", "resolve"]
    assert "put_aside" not in "".join(world.events(bad))
    assert world.refund(good).status is RefundStatus.SUCCEEDED
    with world.database.read() as connection:
        bodies = connection.execute(select(tables.attempts.c.body)).scalars().all()
    assert not any(id in body for body in bodies)
    world.work_for(3 * 86_400)
    world.command(bad, Action.RETRY)
    world.work_for(3 * 86_400)
    assert world.refund(bad).failure_code == CODE
    world.command(bad, Action.RESOLVE, "paid at the bank")
    world.work()
    assert world.refund(bad).status is RefundStatus.SUCCEEDED
    assert len(world.processor.sends) == 1


@pytest.mark.parametrize("id", ["ch_1", "py_1AbC_2", "pi_3MtwBw", "ch_race-0"])
def test_the_door_and_the_adapter_agree_on_what_can_be_sent(id: str) -> None:
    check_payment_id("stripe", id)
    check_payment_id("manual", SECRET)


@pytest.mark.parametrize("id", ["", "ch_a.b", "ch_a/b", "ch_é", " ch_1", "ch_1\n", "re_1", SECRET, "ch_" + "1" * 300])
def test_and_on_what_can_not(id: str) -> None:
    with pytest.raises(ValueError, match=r"stripe|secret") as refused:
        check_payment_id("stripe", id)
    assert not id or id not in str(refused.value)


def test_no_processor_is_called_as_the_switch_of_all() -> None:
    assert check_processor_name("all_pay") == "all_pay"
    with pytest.raises(ValueError, match="kill switch"):
        check_processor_name("all")
