"""A decision's lease: how a worker takes it and how it ends."""

from __future__ import annotations

from dataclasses import replace

from tests.domain.builders import a_refund

from refund_worker.domain.decision import Decision


def test_lease_is_set_and_ended_and_nothing_else_changes() -> None:
    refund = a_refund()
    decision = Decision(before=refund, after=refund)
    leased = decision.leased("lease_1", 60.0)
    assert leased == replace(decision, after=replace(refund, lease_token="lease_1", lease_until=60.0))
    assert leased.released() == decision
