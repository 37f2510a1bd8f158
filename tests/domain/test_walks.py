"""Random walks through the domain against a model of a processor; every invariant is checked after every step.

The walk does what the engine does (`engine/`): it writes decisions, makes the calls and applies the replies, or dies
before a reply. At the end all answers are honest, and the result must be right to the minor unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import event, given, note, settings
from hypothesis import strategies as st
from tests.domain.fake_processor import LATE_SECONDS, NEXT_STATUSES, WAYS_TO_ASK, WAYS_TO_SEND, FakeProcessor

from refund_worker.domain.acceptance import CustomerAccount, RefundableTransaction, accept, accepted
from refund_worker.domain.allocation import RefundablePayment
from refund_worker.domain.claims.displace import CHARGED_BACK, PAYMENT_CLOSED, displace
from refund_worker.domain.decision import Decision, Policy, SendBlock
from refund_worker.domain.decision_builder import MANUAL_PREFIX
from refund_worker.domain.handle_reply import apply_replies
from refund_worker.domain.ledger import CLEARING, CREDITS, EntryKind
from refund_worker.domain.legs import unplaced_legs
from refund_worker.domain.next_step import next_step
from refund_worker.domain.operator_action import apply_action
from refund_worker.domain.outside_refunds import REFUNDED_ELSEWHERE
from refund_worker.domain.processor_calls import Call, RecordedReply, Send
from refund_worker.domain.processor_replies import Answered, Denied, RefundObject, Reply, SearchReply
from refund_worker.domain.refund import FINAL, Kind, LegStatus, Refund, RefundRequest, RefundStatus, To
from refund_worker.domain.state_machine import Action, answer_is_missing, available_actions
from refund_worker.errors import Refusal

T = TypeVar("T")
Draw = Callable[[Any], Any]
Pick = Callable[[Iterable[Any]], Any]

POLICY = Policy(
    lease_seconds=60,
    key_life_seconds=3_000,
    quiet_seconds=LATE_SECONDS + 300,
    retry_base_seconds=2,
    retry_max_seconds=600,
    poll_seconds=100,
)
START_CREDITS, SPENT = 1_000, 300
CAUSES = (REFUNDED_ELSEWHERE, CHARGED_BACK, PAYMENT_CLOSED)
NEVER_IDLE = {RefundStatus.QUEUED, RefundStatus.SENDING, RefundStatus.PENDING, RefundStatus.REVERSING}
NO_MONEY_LEG = (LegStatus.FAILED, LegStatus.CANCELED)


class World:
    """One customer, some payments and some refunds: the content of the database."""

    def __init__(self, payments: list[RefundablePayment], allocation: str) -> None:
        self.now = 1_000.0
        self.policy = replace(POLICY, allocation=allocation)
        self.payments = {p.payment_id: p for p in payments}
        bought = sum(p.credits for p in payments)
        spent = min(bought // 3, SPENT)
        self.start = bought - spent
        self.customer = CustomerAccount(customer_id="c", balance=self.start, bought=bought, net_spent=spent)
        self.transaction = RefundableTransaction(
            transaction_id="t", customer_id="c", kind=EntryKind.SPEND, credits=max(1, spent)
        )
        self.refunds: dict[str, Refund] = {}
        self.processor = FakeProcessor({p.processor_payment_id: p.amount_minor for p in payments}, self.now)
        self.ledger_posted: set[str] = set()
        self.accounts: Counter[tuple[str, str]] = Counter()
        self.in_flight: list[tuple[str, Call]] = []
        self.paid_after_all: set[str] = set()  # legs that were paid after they had released their room

    # --- as the engine does ------------------------------------------------------------------------------------------

    def accept(self, request: RefundRequest) -> None:
        """Accept the request and write the decision."""
        refund = accept(
            request,
            refund_id=f"r{len(self.refunds) + 1}",
            customer=self.customer,
            transaction=self.transaction if request.transaction_id else None,
            payments=list(self.payments.values()),
            now=self.now,
            allocation=self.policy.allocation,
        )
        self.write(accepted(refund, "{}", needs_approval=False))

    def _take(self, payment_id: str, credits: int, money: int) -> None:
        p = self.payments[payment_id]
        self.payments[payment_id] = replace(
            p, credits_taken=p.credits_taken + credits, money_taken=p.money_taken + money
        )

    def process(self, refund_id: str, paused: bool = False) -> tuple[Call, ...]:
        """Decide the next step of a refund, and return its calls."""
        refund = self.refunds[refund_id]
        payments = list(self.payments.values()) if unplaced_legs(refund) else []
        decision = next_step(
            refund, self.now, self.policy, paused={"p": SendBlock(self.now + 60)} if paused else {}, payments=payments
        )
        self.write(decision)
        for call in decision.calls:
            if isinstance(call, Send):
                for earlier in range(1, call.attempt):
                    key = f"{call.leg_id}:{earlier}"
                    assert not self.processor.may_still_pay(key), f"{key} may still pay, and a new attempt is made"
                assert not paused, "sent while the processor is paused"
        return decision.calls

    def apply_reply(
        self, refund_id: str, leg_id: str, call: Call | None, reply: Reply | SearchReply, asked_at: float
    ) -> None:
        """Apply one reply."""
        self.write(
            apply_replies(
                self.refunds[refund_id],
                [RecordedReply(refund_id, leg_id, call, reply, asked_at)],
                self.now,
                self.policy,
            )
        )

    def displace(self, refund_id: str, payment_id: str, code: str) -> None:
        """Take the refund's unsent legs off a payment that others took money of."""
        others = list(self.payments.values())
        if decision := displace(self.refunds[refund_id], payment_id, code, self.now, self.policy, others):
            self.in_flight = [(r, c) for r, c in self.in_flight if r != refund_id]
            self.write(decision)

    def write(self, decision: Decision) -> None:
        """Write a decision, and check every invariant."""
        refund_id = decision.after.refund_id
        if decision.before is not None:
            assert decision.before == self.refunds[refund_id]
            assert decision.after.version == decision.before.version + 1
            before = {leg.leg_id: leg.status for leg in decision.before.legs}
            self.paid_after_all |= {
                leg.leg_id
                for leg in decision.after.legs
                if before.get(leg.leg_id) in NO_MONEY_LEG and leg.status not in NO_MONEY_LEG
            }
        self.refunds[refund_id] = decision.after
        self.customer = self.customer.after(decision.customer)
        for payment_id, delta in decision.payments.items():
            self._take(payment_id, delta.credits, delta.minor)
        self.transaction = replace(self.transaction, taken=self.transaction.taken + decision.transaction_credits)
        for posting in decision.postings:
            assert posting.transaction_id not in self.ledger_posted, f"{posting.transaction_id} is posted twice"
            self.ledger_posted.add(posting.transaction_id)
            for entry in posting.entries:
                self.accounts[entry.account, entry.unit] += entry.amount
        self.check()

    # --- the invariants of every step --------------------------------------------------------------------------------

    def check(self) -> None:
        """Check every invariant."""
        c = self.customer
        assert c.balance == self.start + self.accounts["customer:c", CREDITS]
        assert c.held == sum(
            r.credits
            for r in self.refunds.values()
            if r.kind is Kind.WITHDRAWAL and not r.ledger_posted and r.status is not RefundStatus.CANCELED
        )
        assert c.withdrawn == sum(_withdrawn(r) for r in self.refunds.values())
        assert 0 <= self.transaction.taken <= self.transaction.credits
        self._check_payments()
        assert self.accounts[CLEARING, CREDITS] == sum(_in_clearing(r) for r in self.refunds.values())
        for refund in self.refunds.values():
            assert refund.due_at is not None or refund.status not in NEVER_IDLE, (
                f"{refund.status}, and nothing wakes it"
            )
            for leg in refund.legs:
                assert len(self.processor.live_objects(leg.leg_id)) <= 1, f"{leg.leg_id} is paid twice"

    def _check_payments(self) -> None:
        for p in self.payments.values():
            legs = [
                leg
                for r in self.refunds.values()
                for leg in r.legs
                if leg.payment_id == p.payment_id and leg.status not in NO_MONEY_LEG
            ]
            assert p.credits_taken == sum(leg.payment_credits for leg in legs)
            assert p.money_taken == sum(leg.amount_minor for leg in legs)
            # Another refund may have taken the room that a leg had released; the store shows 0 left then.
            in_room = [leg for leg in legs if leg.leg_id not in self.paid_after_all]
            assert 0 <= sum(leg.payment_credits for leg in in_room) <= p.credits
            assert 0 <= sum(leg.amount_minor for leg in in_room) <= p.amount_minor
            assert self.processor.sent_minor(p.processor_payment_id) <= p.amount_minor


def _withdrawn(refund: Refund) -> int:
    if refund.status is RefundStatus.CANCELED or refund.to is To.BALANCE:
        return 0
    if refund.kind is Kind.CREDIT_REFUND and not refund.ledger_posted:
        return 0
    return refund.credits - refund.reversed_credits


def _in_clearing(refund: Refund) -> int:
    """Return the credits taken off whose end is not known: all, less those paid for and those returned."""
    if not refund.ledger_posted or refund.to is To.BALANCE:
        return 0
    paid = sum(leg.credits for leg in refund.legs if leg.status is LegStatus.SUCCEEDED)
    return refund.credits - paid - refund.reversed_credits


# --- the walk --------------------------------------------------------------------------------------------------------


@st.composite
def payments(draw: st.DrawFn) -> list[RefundablePayment]:
    """Draw one to four payments."""
    return [
        RefundablePayment(
            payment_id=f"p{number}",
            processor="p",
            processor_payment_id=f"ch_{number}",
            currency="USD",
            amount_minor=draw(st.sampled_from([1, 3, 99, 100, 1_000, 1_999])),
            credits=draw(st.sampled_from([1, 2, 7, 100, 333])),
            captured_at=draw(st.sampled_from([1.0, 2.0])),
        )
        for number in range(1, draw(st.integers(1, 4)) + 1)
    ]


REQUESTS = st.builds(
    lambda kind, to, credits: RefundRequest(
        idempotency_key="k",
        kind=kind,
        to=To.SOURCE if kind is Kind.WITHDRAWAL else to,
        customer_id="c",
        transaction_id="t" if kind is Kind.CREDIT_REFUND else None,
        credits=credits,
        reason="asked",
    ),
    st.sampled_from(Kind),
    st.sampled_from([To.SOURCE, To.SOURCE, To.BALANCE]),
    st.none() | st.sampled_from([1, 2, 50, 100, 334]),
)
STEPS = (*["process"] * 3, *["lost"] * 2, *["time"] * 2, *["report"] * 2, "objects", "person", "pause", "others")


@settings(max_examples=250)
@given(st.data())
def test_no_answer_of_a_processor_pays_twice_or_loses_money(data: st.DataObject) -> None:
    draw = data.draw
    world = World(draw(payments()), draw(st.sampled_from(["newest_first", "oldest_first", "pro_rata"])))
    for request in draw(st.lists(REQUESTS, min_size=1, max_size=3)):
        try:
            world.accept(request)
        except Refusal:
            continue
    if not world.refunds:
        return
    world.check()
    for _ in range(draw(st.sampled_from([5, 15, 30, 60]))):
        _step(world, draw(st.sampled_from(STEPS)), draw)
    _settle(world)
    for refund_object in list(world.processor.objects.values()):
        _report(world, refund_object)
    _settle(world)
    for refund in world.refunds.values():
        event(f"ended as {refund.status}")
    _check_the_end(world)


def _step(world: World, step: str, draw: Draw) -> None:
    def pick(options: Iterable[T]) -> T:
        picked: T = draw(st.sampled_from(list(options)))
        return picked

    refund_id = pick(world.refunds)
    refund = world.refunds[refund_id]
    open_objects = [item for item in world.processor.objects.values() if item.status in NEXT_STATUSES]
    match step:
        case "process" | "pause":
            busy = {r for r, _ in world.in_flight}
            if refund_id not in busy and refund.due_at is not None and refund.due_at <= world.now:
                for call in world.process(refund_id, paused=step == "pause"):
                    _call(world, refund_id, call, pick)
        case "lost":
            world.in_flight = [(r, c) for r, c in world.in_flight if r != refund_id]
        case "time":
            _pass_time(world, pick([0.1, 5, 61, 200, 1_001, 3_500, 5_000]))
        case "others":
            world.displace(refund_id, pick(world.payments), pick(CAUSES))
        case "report" if world.processor.reports:
            _report(world, pick(world.processor.reports))
        case "objects" if open_objects:
            refund_object = pick(open_objects)
            world.processor.change_status(
                refund_object.processor_refund_id, pick(NEXT_STATUSES[str(refund_object.status)])
            )
        case "person":
            actions = available_actions(refund)
            if actions:
                _act(world, refund_id, pick(actions), pick([None, "cheque-1"]))


def _pass_time(world: World, seconds: float) -> None:
    world.now += seconds
    world.processor.pass_time(world.now)
    # A worker that died in a call holds its lease for this long.
    world.in_flight = [] if seconds > POLICY.lease_seconds else world.in_flight


def _call(world: World, refund_id: str, call: Call, pick: Pick) -> None:
    reply: Reply | SearchReply | None
    asked_at = world.now
    if isinstance(call, Send):
        way = pick(WAYS_TO_SEND)
        note(f"{world.now} {call.key} {way}")
        reply = world.processor.send(call, way, pick([1.0, 100.0, LATE_SECONDS]))
    else:
        way = pick(WAYS_TO_ASK)
        reply = world.processor.ask(call, way, pick([True, False]))
        note(f"{world.now} {call} {way}")
    if reply is None:
        world.in_flight.append((refund_id, call))
        return
    world.now += pick([0.0, 20.0])
    world.processor.pass_time(world.now)
    world.apply_reply(refund_id, call.leg_id, call, reply, asked_at)


def _report(world: World, refund_object: RefundObject) -> None:
    """Report an object's status by a webhook or a reconciliation, perhaps an old one, perhaps once more."""
    leg_id = refund_object.leg_id
    assert leg_id is not None
    world.apply_reply(leg_id.rpartition("-")[0], leg_id, None, Answered(refund_object), world.now)


def _act(world: World, refund_id: str, action: Action, reference: str | None) -> None:
    note(f"{world.now} {refund_id} {action} {reference}")
    if action is Action.RESOLVE and answer_is_missing(world.refunds[refund_id]):
        reference = "cheque-1"  # while an answer is missing the credits cannot be returned
    world.write(
        apply_action(
            world.refunds[refund_id], action, world.now, world.policy, actor="op", reason="because", reference=reference
        )
    )
    world.in_flight = [(r, c) for r, c in world.in_flight if r != refund_id]


def _settle(world: World) -> None:
    """From now on every answer is honest and every event arrives. No person does anything except retry."""
    _pass_time(world, POLICY.lease_seconds + LATE_SECONDS)
    rounds = 0
    while due := [r for r in world.refunds.values() if r.due_at is not None]:
        rounds += 1
        assert rounds < 300, f"never comes to an end: {[(r.status, r.legs) for r in due]}"
        refund = min(due, key=lambda r: r.due_at or 0)
        _pass_time(world, max(0.0, (refund.due_at or 0) - world.now))
        for call in world.process(refund.refund_id):
            if isinstance(call, Send):
                reply: Reply | SearchReply | None = world.processor.send(call, "succeeded", 0)
            else:
                reply = world.processor.ask(call, "honest", hides=False)
            assert reply is not None
            assert not isinstance(reply, Denied)
            world.apply_reply(refund.refund_id, call.leg_id, call, reply, world.now)
        for refund_object in list(world.processor.objects.values()):
            if refund_object.status in ("pending", "requires_action"):
                world.processor.change_status(refund_object.processor_refund_id, "succeeded")
        for refund_id, settled in list(world.refunds.items()):
            if settled.status is RefundStatus.NEEDS_ATTENTION and settled.due_at is None:
                _act(world, refund_id, Action.RETRY, None)
                rounds += 5


def _check_the_end(world: World) -> None:
    world.check()
    balance = world.start
    for refund in world.refunds.values():
        assert refund.due_at is None
        assert refund.status in FINAL | {RefundStatus.NEEDS_ATTENTION}
        if refund.status is RefundStatus.CANCELED:
            continue
        paid = sum(
            leg.amount_minor
            for leg in refund.legs
            if leg.status is LegStatus.SUCCEEDED and not (leg.processor_refund_id or "").startswith(MANUAL_PREFIX)
        )
        truth = sum(o.amount_minor for leg in refund.legs for o in world.processor.live_objects(leg.leg_id))
        assert paid == truth, "our book and the processor's differ"
        if refund.kind is Kind.CREDIT_REFUND:
            balance += refund.credits
        if refund.to is To.SOURCE:
            balance -= refund.credits - refund.reversed_credits
            _check_returned(refund)
    if all(r.status in FINAL for r in world.refunds.values()):
        assert world.accounts[CLEARING, CREDITS] == 0
        assert world.customer.balance == balance


def _check_returned(refund: Refund) -> None:
    match refund.status:
        case RefundStatus.SUCCEEDED:
            assert refund.reversed_credits == 0
        case RefundStatus.FAILED:
            assert refund.reversed_credits == refund.credits
            assert not any(leg.status is LegStatus.SUCCEEDED for leg in refund.legs)
        case RefundStatus.PARTIALLY_SUCCEEDED:
            assert any(leg.status is LegStatus.SUCCEEDED for leg in refund.legs)
            assert any(leg.status in NO_MONEY_LEG for leg in refund.legs)
