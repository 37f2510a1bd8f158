"""The people of one schedule and the scheduler's jobs: requests, corrections, decisions, pauses, and the daily list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine import idempotency
from refund_worker.engine.accounts import corrections, payments, spends
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.context import Context
from refund_worker.engine.jobs import clock_rollback
from refund_worker.engine.processor_sync import pause as processor_sync_pause
from refund_worker.engine.processor_sync import sync, webhook_inbox
from refund_worker.engine.processor_sync.dispute_sync import DISPUTES, ListSync
from refund_worker.engine.refunds import accept, actions
from refund_worker.errors import KeyReused, RefundWorkerError, Refusal, Unavailable
from tests.simulation.allowed_changes import ENDS
from tests.simulation.bank_records import SILENT, STRIPE
from tests.simulation.kernel import Violation
from tests.simulation.plan import DAY, HOUR
from tests.simulation.processes import Processes
from tests.simulation.wiring import IN_TIME_SECONDS, Wiring


class People:
    """Customers' agents, operators and auditors. Each act that a plan can name is a method `act_…`."""

    def __init__(self, wiring: Wiring, processes: Processes) -> None:
        self.wiring, self.processes = wiring, processes
        self.world, self.plan, self.faults = wiring.world, wiring.plan, wiring.faults
        self.bank, self.watch = wiring.bank, wiring.watch
        self.requests: dict[tuple[str, str], RefundRequest] = {}
        self.accepted: dict[tuple[str, str], str] = {}
        self.corrections: dict[str, str] = {}
        self.watch_at: float | None = None

    def record(self, context: Context) -> None:
        """Record the plan's payments and spends."""
        payments.record_payments(context, self.plan.payments)
        spends.record_spends(context, self.plan.spends)

    def act_request(self, requests: list[RefundRequest]) -> None:
        """Request refunds."""
        self.watch.acted |= {request.actor for request in requests}
        self.processes.client("client", lambda context: self._request(context, requests))

    def _request(self, context: Context, requests: list[RefundRequest]) -> None:
        promised = dict(self.accepted)  # a refused request may be accepted when it is repeated, but not the reverse
        answers = accept.request_refunds(context, requests)
        for request, answer in zip(requests, answers, strict=True):
            key = (request.client, request.idempotency_key)
            if isinstance(answer, accept.Accepted):
                if self.accepted.setdefault(key, answer.refund_id) != answer.refund_id:
                    raise Violation(f"I6 {key} is {self.accepted[key]} and {answer.refund_id}")
                self.requests[key] = request
                if self.wiring.healing:
                    self.world.after(IN_TIME_SECONDS, self.wiring.check_in_time)
            elif key in promised and not isinstance(answer, KeyReused):
                raise Violation(f"L5 {key} was accepted as {self.accepted[key]} and is refused now: {answer}")
            self.world.note("REQUEST", *key, answer.code if isinstance(answer, Refusal) else answer.refund_id)

    def act_correct(self, customer_id: str, credits: int, key: str) -> None:
        """Correct a customer's balance."""
        self.watch.acted.add("otto")

        def work(context: Context) -> None:
            try:
                row, _ = corrections.correct(
                    context,
                    customer_id=customer_id,
                    credits=credits,
                    reason="put right",
                    client="desk",
                    idempotency_key=key,
                    actor="otto",
                )
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)
                return
            if self.corrections.setdefault(key, row["transaction_id"]) != row["transaction_id"]:
                raise Violation(f"I6 correction {key} was made twice")

        self.processes.client("desk", work)

    def act_pay_out_correction(self, key: str, correction: str) -> None:
        """Request that a negative correction is paid out."""
        transaction_id = self.corrections.get(correction)
        if transaction_id is None:
            return
        customer = next(row[2] for row in self.watch.transactions if row[1] == transaction_id)
        request = RefundRequest(
            idempotency_key=key,
            kind=Kind.WITHDRAWAL,
            to=To.SOURCE,
            customer_id=customer,
            transaction_id=transaction_id,
            reason="pay out",
            client="desk",
            actor="otto",
        )
        self.act_request([request])

    def ask_again(self, leg_id: str) -> None:
        """Request a failed refund again under a new key: a new refund, and a new object."""
        refund = self.watch.refunds[self.watch.legs[leg_id]["refund_id"]]
        request = self.requests.get((refund["client"], refund["idempotency_key"]))
        if request is not None:
            again = replace(request, idempotency_key=f"{request.idempotency_key}-again")
            self.world.after(self.world.random.uniform(60, DAY), lambda: self.act_request([again]))

    def fall_silent(self) -> None:
        """Start an outage that ends within a second of the end of life of a first send's key.

        At that moment an operator resumes the processor, which makes the waiting refunds due.
        """
        if self.plan.horizon < DAY or self.bank.outages or not self.faults.strikes("silent to the key's edge"):
            return
        now, random = self.world.now, self.world.random
        edge = now + self.plan.policy.key_life_seconds + random.choice((-1, 0, 1))
        self.bank.outages.append((now + random.choice((0, 0.2)), edge - 1.5))
        for at, act in ((edge - 60, self.act_pause), (edge - 0.05, self.act_resume)):
            self.world.at(at, act)

    def act_delete(self, pick: float) -> None:
        """Reverse one of the credit refunds and corrections."""
        made = [row[1] for row in self.watch.transactions if row[3] in ("credit_refund", "correction")]
        if not made:
            return
        transaction_id = made[int(pick * len(made))]
        self.watch.acted.add("otto")

        def work(context: Context) -> None:
            try:
                corrections.reverse_transaction(context, transaction_id, actor="otto")
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        self.processes.client("desk", work)

    def act_command(self, action: Action, reference: str | None = None) -> None:
        """Perform the action on every open refund."""
        for row in list(self.watch.refunds.values()):
            if row["status"] not in ENDS:
                press = idempotency.Key("desk", f"{action} {row['refund_id']} {self.world.now}")
                self.processes.client(
                    "operator", self._command(row["refund_id"], action, "olga", reference, None, press)
                )

    def act_cancel_waiting(self) -> None:
        """Cancel every refund that waits for the customer."""
        waiting = {leg["refund_id"] for leg in self.watch.legs.values() if leg["status"] == "requires_action"}
        for refund_id in sorted(waiting):
            self.faults.count("canceled while the customer is asked")
            self.processes.client("operator", self._command(refund_id, Action.CANCEL, "olga", None, None))

    def act_operate(self, pick: float, choice: float) -> None:
        """Let operators act on one refund, preferably on one that waits for a person."""
        refunds = [r for r in self.watch.refunds.values() if r["status"] not in ENDS]
        wanting = [r for r in refunds if r["status"] in ("needs_attention", "awaiting_approval")] or refunds
        if not wanting:
            return
        refund = wanting[int(pick * len(wanting))]
        if (refund["lease_until"] or 0) > self.world.database_now:
            self.faults.count("operator races a worker")
        for _ in range(2 if self.faults.strikes("two operators at once") else 1):
            self.processes.client("operator", self.operate_on(refund["refund_id"], pick, choice))

    def operate_on(self, refund_id: str, pick: float, choice: float) -> Callable[[Context], None]:
        """Return the act of an operator that fits the refund's status."""
        seen = self.watch.refunds[refund_id]
        if seen["status"] == "awaiting_approval":
            action = Action.APPROVE if choice < 0.7 else Action.REJECT if choice < 0.85 else Action.CANCEL
        elif seen["status"] == "needs_attention":
            action = Action.RETRY if choice < 0.4 and not self.plan.very_late else Action.RESOLVE
        elif choice < 0.4 and self._is_in_doubt(refund_id) and self.faults.strikes("paid by hand while in doubt"):
            return self._command(refund_id, Action.RESOLVE, "olga", f"bank-{refund_id}", None)
        else:
            action = Action.CANCEL if choice < 0.6 else Action.RETRY
        reference = None if choice < 0.8 else f"bank-{refund_id}"

        actor = "olga" if pick < 0.9 else "anna"
        return self._command(refund_id, action, actor, reference, seen["version"] if pick < 0.5 else None)

    def _is_in_doubt(self, refund_id: str) -> bool:
        return any(leg["refund_id"] == refund_id and leg["status"] == "unknown" for leg in self.watch.legs.values())

    def _command(
        self,
        refund_id: str,
        action: Action,
        actor: str,
        reference: str | None,
        version: int | None,
        key: idempotency.Key | None = None,
    ) -> Callable[[Context], None]:
        self.watch.acted.add(actor)

        def work(context: Context) -> None:
            try:
                actions.perform_action(
                    context,
                    refund_id,
                    action,
                    actor=actor,
                    reason="looked into it",
                    reference=reference,
                    version=version,
                    key=key,
                )
                self.world.note("COMMAND", action, refund_id)
            except Unavailable:
                raise
            except RefundWorkerError as refused:
                self.world.note("REFUSED", refused.code)

        return work

    def act_pause(self, account: str = STRIPE) -> None:
        """Pause the account, or all."""
        self.watch.acted.add("olga")
        self.processes.client(
            "operator", lambda c: processor_sync_pause.pause_processor(c, account, actor="olga", reason="maintenance")
        )

    def act_resume(self, account: str = STRIPE) -> None:
        """Resume the account, or end the pause of all."""
        self.watch.acted.add("olga")
        self.processes.client(
            "operator", lambda context: processor_sync_pause.resume_processor(context, account, actor="olga")
        )

    def act_resume_all(self) -> None:
        """End each pause, that of every account and that of all."""
        self.act_resume()
        if self.wiring.silent is not None:
            self.act_resume(SILENT)
            self.act_resume("all")

    def act_switch_refunds(self, account: str, on: bool) -> None:
        """Switch an account's refunds off or on: processes that start from now on have the new setting."""
        if not on:
            self.faults.count("refunds switched off")
        policy = self.plan.policy
        rules = replace(policy.rules_of(account), refunds_on=on)
        self.plan.policy = replace(policy, processors={**policy.processors, account: rules})

    def _resume_beside_another_database(self) -> None:
        """Let an operator resume the processor that was paused because another database uses the same account."""
        if self.watch.rows("SELECT 1 FROM processors WHERE code = ?", sync.RESTORED):
            self.act_resume()

    def look_at_the_list(self, seconds: float) -> None:
        """Schedule the processor's list of refunds for this many seconds from now, unless it is due sooner."""
        if self.plan.polling_only:
            return
        if self.watch_at is not None and self.watch_at <= self.world.now + seconds:
            return
        self.watch_at = at = self.world.now + seconds

        def look() -> None:
            if self.watch_at == at:
                self.watch_at = None
            self.processes.client("watch", _read_lists)
            self.world.after(HOUR, self._resume_beside_another_database)

        self.world.at(at, look)

    def act_look_at_the_list(self) -> None:
        """Read the processor's list of refunds now."""
        self.look_at_the_list(0)

    def act_seal(self) -> None:
        """Seal the audit chain."""
        self.processes.client("auditor", lambda context: hash_chain.Sealer().seal(context))

    def act_clock_jump(self, seconds: float) -> None:
        """Let the database's clock jump."""
        self.faults.count("clock jump")
        self.world.clock_offset += seconds
        self.processes.plan_sweep_again()
        # The next run of the scheduler's periodic job.
        self.world.after(
            self.world.random.uniform(0, 60),
            lambda: self.processes.client("clock", clock_rollback.handle_clock_rollback),
        )


def _read_lists(context: Context) -> None:
    """Do what the scheduler does: read the lists of refunds and disputes, and process the events."""
    sync.sync_all(context, "stripe")
    ListSync(DISPUTES).sync_all(context, "stripe")
    webhook_inbox.process_inbox(context)
