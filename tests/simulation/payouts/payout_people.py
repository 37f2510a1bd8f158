"""The people around payouts: the admin backend, operators, payees, and others at the processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refund_worker.domain.payouts.decision import TransferReplied
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.transfers import TransferAnswered
from refund_worker.engine.context import Context
from refund_worker.engine.payees import payees
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.payouts import destination_changes
from refund_worker.engine.payouts.accept import AcceptedPayout, request_payouts
from refund_worker.engine.payouts.actions import perform_payout_action
from refund_worker.engine.payouts.replies import record_transfer_replies
from refund_worker.errors import KeyReused, RefundWorkerError, Refusal, Unavailable
from refund_worker.store import inbox
from tests.simulation.kernel import Violation
from tests.simulation.payouts.payout_plan import PayoutPlan, destination_of
from tests.simulation.payouts.payout_watch import PAYOUT_ENDS, PayoutWatch
from tests.simulation.payouts.routes import EVENT_KIND, event_body
from tests.simulation.payouts.transfer_bank import TWO_STEPS, Transfer, TransferBank
from tests.simulation.plan import DAY, HOUR
from tests.simulation.processes import Processes
from tests.simulation.wiring import Wiring

# Of choices between 0 and 1.
NAMES_NONE, NAMES_NONE_SELDOM, NAMES_ANOTHER = 0.7, 0.4, 0.85


class PayoutPeople:
    """Each act that a plan can name is a method `act_…`."""

    def __init__(
        self, wiring: Wiring, processes: Processes, plan: PayoutPlan, watch: PayoutWatch, banks: dict[str, TransferBank]
    ) -> None:
        self.wiring, self.processes = wiring, processes
        self.world, self.faults, self.plan, self.watch, self.banks = wiring.world, wiring.faults, plan, watch, banks
        self.accepted: dict[tuple[str, str], str] = {}
        self.payees: dict[str, PayeeRecord] = {payee.payee_id: payee for payee in plan.payees}
        self.destinations = 1
        self.is_recorded = False
        watch.acted |= {"anna", "otto", "olga", "vera"}

    def record(self, context: Context) -> None:
        """Record the payees."""
        for payee in self.plan.payees:
            payees.record_payee(context, payee, actor="otto")
        self.is_recorded = True

    def act_earn(self, records: list[EarningRecord]) -> None:
        """Record earnings."""

        def work(context: Context) -> None:
            for answer in record_earnings(context, records, actor="otto"):
                if isinstance(answer, Unavailable):
                    raise answer
                self.world.note("EARN", answer.code if isinstance(answer, RefundWorkerError) else answer.new)

        self.processes.client("desk", work)

    def act_ask_payouts(self, requests: list[PayoutRequest]) -> None:
        """Request payouts."""

        def work(context: Context) -> None:
            promised = dict(self.accepted)
            answers = request_payouts(context, requests)
            for request, answer in zip(requests, answers, strict=True):
                key = (request.client, request.idempotency_key)
                if isinstance(answer, AcceptedPayout):
                    if self.accepted.setdefault(key, answer.payout_id) != answer.payout_id:
                        raise Violation(f"I6 {key} is {self.accepted[key]} and {answer.payout_id}")
                elif key in promised and not isinstance(answer, KeyReused):
                    raise Violation(f"L5 {key} was accepted as {promised[key]} and is refused now: {answer}")
                self.world.note("ASK", *key, answer.code if isinstance(answer, Refusal) else answer.payout_id)

        self.processes.client("client", work)

    def act_operate_payout(self, pick: float, choice: float) -> None:
        """Let operators act on one payout, preferably on one that waits for a person."""
        open_ones = [p for p in self.watch.payouts.values() if p["status"] not in PAYOUT_ENDS]
        wanting = [p for p in open_ones if p["status"] in ("needs_attention", "awaiting_approval")] or open_ones
        if not wanting:
            return
        payout_id = wanting[int(pick * len(wanting))]["payout_id"]
        for _ in range(2 if self.faults.strikes("two operators at once") else 1):
            self.processes.client("operator", self.operate_on(payout_id, pick, choice))

    def operate_on(self, payout_id: str, pick: float, choice: float) -> Callable[[Context], None]:
        """Return the act of an operator that fits the payout's status."""
        seen = self.watch.payouts[payout_id]
        if seen["status"] == "awaiting_approval":
            action = PayoutAction.APPROVE if choice < 0.7 else PayoutAction.REJECT
        elif seen["status"] == "needs_attention":
            action = PayoutAction.RETRY if choice < self._retry_share else PayoutAction.RESOLVE
        else:
            action = PayoutAction.CANCEL if choice < 0.4 else PayoutAction.RETRY
        reference = self._reference(payout_id, seen["processor"], choice)
        if seen["failure_code"] == "outcome_unknown" and action is PayoutAction.RESOLVE:
            # The person looks at the processor, which cannot be asked by a call.
            bank = self.banks[seen["processor"]]
            reference = next((t.id for t in bank.transfers if t.payout_id == payout_id and not t.is_void), None)
        actor = "olga" if pick < 0.9 else "anna"
        version = seen["version"] if pick < 0.5 else None

        def work(context: Context) -> None:
            try:
                perform_payout_action(
                    context, payout_id, action, actor=actor, reason="looked", reference=reference, version=version
                )
                self.world.note("COMMAND", action, payout_id, reference)
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        return work

    @property
    def _retry_share(self) -> float:
        return 0.2 if self.plan.persons_decide else 0.5

    def _reference(self, payout_id: str, processor: str, choice: float) -> str | None:
        """Return the payment that a person names: none, another way, or an object of this payout at the processor."""
        if choice < (NAMES_NONE_SELDOM if self.plan.persons_decide else NAMES_NONE):
            return None
        own = [item.id for item in self.banks[processor].transfers if item.payout_id == payout_id]
        if choice < NAMES_ANOTHER or not own:
            return f"wire-{payout_id}"
        self.faults.count("own object named")
        return own[int((choice - NAMES_ANOTHER) / (1 - NAMES_ANOTHER) * len(own))]

    def act_change_destination(self, payee_id: str, cancels: bool) -> None:
        """Give the payee another destination."""
        if not self.is_recorded:
            return
        self.destinations += 1
        record = self.payees[payee_id]
        record = replace(record, destination=destination_of(record.processor, payee_id, self.destinations))
        self.payees[payee_id] = record

        change = destination_changes.change_payee if cancels else payees.change_payee
        self.processes.client("desk", lambda context: change(context, record, actor="otto"))

    def act_pause_payee(self, payee_id: str) -> None:
        """Pause a payee."""
        if not self.is_recorded:
            return
        self.processes.client("operator", lambda c: payees.pause_payee(c, payee_id, actor="olga", reason="odd"))

    def act_resume_payee(self, payee_id: str) -> None:
        """Resume a payee."""
        if not self.is_recorded:
            return
        self.processes.client("operator", lambda c: payees.resume_payee(c, payee_id, actor="olga", reason="fine"))

    def resume_all(self) -> None:
        """Resume every payee."""
        for payee in self.plan.payees:
            self.act_resume_payee(payee.payee_id)

    def act_undo_transfer(self, pick: float) -> None:
        """Let others undo one of our transfers."""
        bank = self.banks[TWO_STEPS]
        done = [t for t in bank.transfers if t.step == "transfer" and not t.is_void]
        if done:
            self.faults.count("transfer undone by others")
            bank.undo(done[int(pick * len(done))])

    def act_drain(self, pick: float) -> None:
        """Let a connected account lose what it has, for example by disputes there."""
        bank = self.banks[TWO_STEPS]
        full = sorted(account for account, amount in bank.connected.items() if amount > 0)
        if full:
            self.faults.count("connected account drained")
            account = full[int(pick * len(full))]
            self.world.note("DRAIN", *account)
            bank.connected[account] = 0

    # --- reports -----------------------------------------------------------------------------------------------------

    def report(self, bank: TransferBank, item: Transfer) -> None:
        """Tell of a change of an object as a webhook does: late, repeated, overtaken or never."""
        strikes, random = self.faults.strikes, self.world.random
        is_late = item.is_void and item.paid_at is not None and item.said_at > item.paid_at + self.plan.window_seconds
        if strikes("report lost") and not is_late:
            return  # after the window nothing else would tell of a return
        carries = strikes("report carries the object")
        told, event_id = bank.describe_transfer(item, in_event=True), f"evt_{item.id}_{len(item.words)}"
        for _ in range(3 if strikes("report three times") else 1):
            late = random.uniform(HOUR, 3 * DAY) if strikes("report late") else random.uniform(0, 3)
            reply = TransferReplied(item.payout_id, item.leg_id, None, TransferAnswered(told))

            def receive(context: Context, reply: TransferReplied = reply) -> None:
                if carries:
                    record_transfer_replies(context, [reply])
                    return
                with context.database.write() as connection:
                    now = context.clock(connection)
                    inbox.insert_event(connection, bank.account, event_id, EVENT_KIND, event_body(item), now)
                self.world.after(0, self.processes.read_news)

            def arrive(receive: Callable[[Context], None] = receive) -> None:
                bank.told.add(item.id)
                self.processes.client("receiver", receive)

            self.world.after(late, arrive)
