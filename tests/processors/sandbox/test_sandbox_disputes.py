"""Disputes work over the official client as they do at Stripe: objects, money, events, lists, refused refunds."""

from __future__ import annotations

import itertools
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import stripe
from stripe import Dispute

from refund_worker.processors.sandbox import Sandbox, SandboxError
from refund_worker.processors.sandbox.disputes import REASONS, STATUSES

if TYPE_CHECKING:
    from tests.processors.sandbox.conftest import Receiver

Connect = Callable[..., stripe.StripeClient]
OPENED = "charge.dispute.created"
UPDATED = "charge.dispute.updated"
CLOSED = "charge.dispute.closed"
WITHDRAWN = "charge.dispute.funds_withdrawn"
REINSTATED = "charge.dispute.funds_reinstated"


def movements(dispute: dict[str, Any]) -> list[tuple[int, str]]:
    """Return amount and reporting category of each movement of money of the dispute."""
    return [(each["amount"], each["reporting_category"]) for each in dispute["balance_transactions"]]


def received(sandbox: Sandbox, dispute_id: str) -> int:
    """Return what the customer has through the dispute, in the book."""
    (amount,) = [each["received"] for each in sandbox.book()["disputes"] if each["id"] == dispute_id]
    assert isinstance(amount, int)
    return amount


def refund_error(client: stripe.StripeClient, charge: str) -> str | None:
    """Request a refund of one minor unit. Return the code of its refusal, or None if it is made."""
    try:
        client.v1.refunds.create({"charge": charge, "amount": 1})
    except stripe.InvalidRequestError as refused:
        return refused.code
    return None


def test_statuses_are_those_of_the_official_client() -> None:
    published, _ = typing.get_args(Dispute.__annotations__["status"])
    assert set(typing.get_args(published)) == set(STATUSES)


def test_open_dispute_has_the_published_shape(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    made = sandbox.act(
        "open_dispute", payment=charge, amount_minor=400, reason="duplicate", due_by=1_800_000_000, fee_minor=1500
    )
    shown = client.v1.disputes.retrieve(made["id"])
    assert shown.to_dict() == made
    assert (shown.id[:3], shown.object, shown.charge, shown.payment_intent) == ("dp_", "dispute", charge, None)
    assert (shown.amount, shown.currency, shown.reason, shown.status) == (400, "gbp", "duplicate", "needs_response")
    assert (shown.livemode, shown.is_charge_refundable) == (False, False)
    assert shown.evidence_details.to_dict() == {
        "due_by": 1_800_000_000,
        "enhanced_eligibility": {},
        "has_evidence": False,
        "past_due": False,
        "submission_count": 0,
        "submission_method": "not_submitted",
    }
    (withdrawal,) = made["balance_transactions"]
    assert (withdrawal["type"], withdrawal["source"]) == ("adjustment", made["id"])
    assert (withdrawal["amount"], withdrawal["fee"], withdrawal["net"]) == (-400, 1500, -1900)
    assert set(made) <= set(Dispute.__annotations__)
    assert set(withdrawal) <= set(stripe.BalanceTransaction.__annotations__)
    assert client.v1.charges.retrieve(charge).disputed is True


@pytest.mark.parametrize(
    ("statuses", "events", "money", "refundable"),
    [
        (["needs_response"], [OPENED, WITHDRAWN], 1000, False),
        (["needs_response", "under_review"], [OPENED, WITHDRAWN, UPDATED], 1000, False),
        (["needs_response", "under_review", "won"], [OPENED, WITHDRAWN, UPDATED, CLOSED, REINSTATED], 0, True),
        (["needs_response", "lost"], [OPENED, WITHDRAWN, CLOSED], 1000, False),
        (["needs_response", "lost", "won"], [OPENED, WITHDRAWN, CLOSED, CLOSED, REINSTATED], 0, True),
        (["needs_response", "won", "lost"], [OPENED, WITHDRAWN, CLOSED, REINSTATED, CLOSED, WITHDRAWN], 1000, False),
        (["prevented"], [OPENED], 0, True),
        (["needs_response", "prevented"], [OPENED, WITHDRAWN, CLOSED, REINSTATED], 0, True),
        (["warning_needs_response"], [OPENED], 0, True),
        (["warning_needs_response", "warning_under_review", "warning_closed"], [OPENED, UPDATED, CLOSED], 0, True),
        (["warning_needs_response", "needs_response"], [OPENED, UPDATED, WITHDRAWN], 1000, False),
        (["warning_needs_response", "needs_response", "lost"], [OPENED, UPDATED, WITHDRAWN, CLOSED], 1000, False),
    ],
)
def test_status_moves_money_sends_events_and_closes_to_refunds(
    client: stripe.StripeClient,
    sandbox: Sandbox,
    receiver: Receiver,
    charge: str,
    statuses: list[str],
    events: list[str],
    money: int,
    refundable: bool,
) -> None:
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    dispute = sandbox.act("open_dispute", payment=charge, status=statuses[0])
    for status in statuses[1:]:
        dispute = sandbox.act("move_dispute", dispute=dispute["id"], status=status)
    heard = receiver.events(len(events))
    assert [event.type for event in heard] == events
    assert {event.data.object["id"] for event in heard} == {dispute["id"]}
    assert heard[-1].data.object["status"] == statuses[-1]
    assert received(sandbox, dispute["id"]) == money
    assert dispute["is_charge_refundable"] is refundable
    assert client.v1.charges.retrieve(charge).disputed is True
    sandbox.send_webhooks_to(None)
    assert refund_error(client, charge) == (None if refundable else "charge_disputed")


def test_loss_can_be_reinstated_later_and_only_once(sandbox: Sandbox, receiver: Receiver, charge: str) -> None:
    dispute = sandbox.act("open_dispute", payment=charge, amount_minor=300)["id"]
    sandbox.act("move_dispute", dispute=dispute, status="lost")
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    after = sandbox.act("reinstate_funds", dispute=dispute)
    assert (after["status"], movements(after)) == ("lost", [(-300, "dispute"), (300, "dispute_reversal")])
    assert received(sandbox, dispute) == 0
    with pytest.raises(SandboxError, match="No funds"):
        sandbox.act("reinstate_funds", dispute=dispute)
    assert movements(sandbox.act("withdraw_funds", dispute=dispute))[2:] == [(-300, "dispute")]
    assert [event.type for event in receiver.events(2)] == [REINSTATED, WITHDRAWN]
    with pytest.raises(SandboxError, match="already withdrawn"):
        sandbox.act("withdraw_funds", dispute=dispute)


def test_funds_can_be_left_where_they_are(sandbox: Sandbox, charge: str) -> None:
    dispute = sandbox.act("open_dispute", payment=charge, withdraw=False)
    assert movements(dispute) == []
    sandbox.act("withdraw_funds", dispute=dispute["id"])
    won = sandbox.act("move_dispute", dispute=dispute["id"], status="won", funds=False)
    assert movements(won) == [(-1000, "dispute")]
    assert movements(sandbox.act("reinstate_funds", dispute=dispute["id"]))[1:] == [(1000, "dispute_reversal")]


def test_two_disputes_share_what_was_captured(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    first = sandbox.act("open_dispute", payment=charge, amount_minor=300)["id"]
    with pytest.raises(SandboxError, match="700 can be disputed"):
        sandbox.act("open_dispute", payment=charge, amount_minor=701)
    second = sandbox.act("open_dispute", payment=charge)
    assert second["amount"] == 700
    sandbox.act("move_dispute", dispute=first, status="won")
    assert refund_error(client, charge) == "charge_disputed"
    sandbox.act("move_dispute", dispute=second["id"], status="won")
    assert refund_error(client, charge) is None
    listed = client.v1.disputes.list({"charge": charge})
    assert [dispute.id for dispute in listed.data] == [second["id"], first]


def test_refunded_payment_can_be_disputed_all_the_same(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    client.v1.refunds.create({"charge": charge})
    dispute = sandbox.act("open_dispute", payment=charge)
    assert (dispute["amount"], received(sandbox, dispute["id"])) == (1000, 1000)


def test_dispute_can_fail_the_refunds_that_are_pending(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Receiver, charge: str
) -> None:
    pending = sandbox.act("dashboard_refund", payment=charge, amount_minor=300, status="pending")["id"]
    done = sandbox.act("dashboard_refund", payment=charge, amount_minor=200)["id"]
    sandbox.send_webhooks_to(receiver.url, receiver.secret)
    sandbox.act("open_dispute", payment=charge, fails_pending_refunds=True)
    failed = client.v1.refunds.retrieve(pending)
    assert (failed.status, failed.failure_reason) == ("failed", "charge_for_pending_refund_disputed")
    assert client.v1.refunds.retrieve(done).status == "succeeded"
    assert sorted(event.type for event in receiver.events(4)) == [OPENED, WITHDRAWN, "refund.failed", "refund.updated"]


def test_book_says_what_customers_received(own_sandbox: Sandbox) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    own_sandbox.act("dashboard_refund", payment="ch_1", amount_minor=200)
    own_sandbox.act("dashboard_refund", payment="ch_1", amount_minor=100, status="pending")
    warning = own_sandbox.act("fraud_warning", payment="ch_1")
    first = own_sandbox.act("open_dispute", payment="ch_1", amount_minor=400)["id"]
    own_sandbox.act("open_dispute", payment="ch_1", amount_minor=30)
    assert own_sandbox.book()["received"] == {"gbp": {"refunds": 200, "disputes": 430}}
    own_sandbox.act("move_dispute", dispute=first, status="won")
    assert own_sandbox.book()["received"] == {"gbp": {"refunds": 200, "disputes": 30}}
    assert own_sandbox.book()["early_fraud_warnings"] == [{**warning, "actionable": False}]


def test_event_after_a_restart_has_an_id_of_its_own(own_sandbox: Sandbox, receiver: Receiver) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    dispute = own_sandbox.act("open_dispute", payment="ch_1")["id"]
    for _ in range(2):
        own_sandbox.restart()
        own_sandbox.send_webhooks_to(receiver.url, receiver.secret)
        for status in ("lost", "under_review"):
            own_sandbox.act("move_dispute", dispute=dispute, status=status)
        receiver.events(2)
    events = receiver.events(4)
    assert [event.type for event in events] == [CLOSED, UPDATED, CLOSED, UPDATED]


def test_close_concedes_a_dispute_that_waits_for_us(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    dispute = sandbox.act("open_dispute", payment=charge)["id"]
    assert client.v1.disputes.close(dispute).status == "lost"
    with pytest.raises(stripe.InvalidRequestError, match="this one is lost"):
        client.v1.disputes.close(dispute)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.disputes.close("dp_of_nobody")
    assert (refused.value.http_status, refused.value.code) == (404, "resource_missing")


def test_disputes_are_listed_by_payment_and_time_in_pages(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("pi_1", 700)
    own_sandbox.register_payment("ch_2", 100)
    times = itertools.chain([5000, 1000, 4000, 2000, 3000, 6000])  # recorded out of order
    made = {
        second: own_sandbox.act("open_dispute", payment="ch_1", amount_minor=100, created=second)["id"]
        for second in times
    }
    other = own_sandbox.act("open_dispute", payment="ch_2", created=2500)["id"]
    newest_first = [made[second] for second in sorted(made, reverse=True)]

    def listed(params: stripe.params.DisputeListParams) -> list[str]:
        return [dispute.id for dispute in client.v1.disputes.list(params).auto_paging_iter()]

    assert listed({"payment_intent": "pi_1", "limit": 2}) == newest_first
    assert listed({"charge": "ch_2"}) == [other]
    assert listed({"created": {"gte": 2500, "lt": 5000}, "limit": 1}) == [made[4000], made[3000], other]
    assert listed({"created": {"gt": 2500, "lte": 5000}}) == [made[5000], made[4000], made[3000]]
    assert listed({"created": 2500}) == [other]
    back = client.v1.disputes.list({"limit": 2, "ending_before": other, "created": {"lt": 6000}})
    assert [each.id for each in back.data] == [made[4000], made[3000]]
    assert back.has_more is True
    for wrong in ({"charge": "ch_9"}, {"starting_after": "dp_9"}, {"colour": "red"}, {"limit": 0}):
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.disputes.list(wrong)  # type: ignore[arg-type]


def test_disputes_outlive_a_kill(own_sandbox: Sandbox, connect: Connect) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    lost = own_sandbox.act("open_dispute", payment="ch_1", amount_minor=600)["id"]
    own_sandbox.act("move_dispute", dispute=lost, status="lost")
    own_sandbox.act("open_dispute", payment="ch_1", amount_minor=100)
    before = own_sandbox.book()
    own_sandbox.kill()
    own_sandbox.start()
    assert {**own_sandbox.book(), "requests": None} == {**before, "requests": None}
    assert refund_error(connect(own_sandbox), "ch_1") == "charge_disputed"
    third = own_sandbox.act("open_dispute", payment="ch_1")
    assert third["amount"] == 300
    assert len({dispute["id"] for dispute in own_sandbox.book()["disputes"]}) == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"action": "open_disputes", "payment": "CHARGE"}, "There are: .*open_dispute"),
        ({"action": "open_dispute"}, "needs payment"),
        ({"action": "open_dispute", "payment": "ch_of_nobody"}, "No such payment"),
        ({"action": "open_dispute", "payment": "CHARGE", "amount": 5}, "has no field amount.* amount_minor"),
        ({"action": "open_dispute", "payment": "CHARGE", "amount_minor": 0}, "amount_minor must be a whole number"),
        ({"action": "open_dispute", "payment": "CHARGE", "amount_minor": True}, "amount_minor must be a whole number"),
        ({"action": "open_dispute", "payment": "CHARGE", "amount_minor": 1001}, "1000 can be disputed"),
        ({"action": "open_dispute", "payment": "CHARGE", "status": "loost"}, "status must be one of: .*lost"),
        ({"action": "open_dispute", "payment": "CHARGE", "reason": "anger"}, "reason must be one of: .*fraudulent"),
        ({"action": "move_dispute", "dispute": "dp_of_nobody", "status": "won"}, "No such dispute"),
    ],
)
def test_wrong_action_says_what_is_wrong_and_changes_nothing(
    sandbox: Sandbox, charge: str, fields: dict[str, Any], message: str
) -> None:
    fields = {name: charge if value == "CHARGE" else value for name, value in fields.items()}
    before = sandbox.book()["disputes"]
    with pytest.raises(SandboxError, match=message):
        sandbox.act(**fields)
    assert sandbox.book()["disputes"] == before


def test_a_status_of_next_year_can_be_played(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    dispute = sandbox.act("open_dispute", payment=charge, status="arbitration", reason="anger", undocumented=True)
    assert client.v1.disputes.retrieve(dispute["id"]).status == "arbitration"
    assert refund_error(client, charge) == "charge_disputed"


def test_reasons_are_the_documented_ones() -> None:
    assert {"fraudulent", "product_not_received", "unrecognized"} <= REASONS
    assert len(REASONS) == 15


def test_list_of_disputes_can_have_faults(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    sandbox.act("open_dispute", payment=charge)
    sandbox.add_fault({"list_lag_seconds": 60}, match={"path_kind": "disputes", "payment": charge})
    sandbox.add_fault({"forbidden": True}, match={"path_kind": "disputes", "payment": charge, "nth": 2})
    assert client.v1.disputes.list({"charge": charge}).data == []
    with pytest.raises(stripe.PermissionError):
        client.v1.disputes.list({"charge": charge})
    assert len(client.v1.disputes.list({"charge": charge}).data) == 1
