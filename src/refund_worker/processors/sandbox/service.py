"""Stripe's API as a plain object: a request goes in, an answer and its manner of delivery come out.

The service never waits and opens no socket.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from refund_worker.processors.sandbox.account_book import PLATFORM
from refund_worker.processors.sandbox.actions import Effect, Plan, key_in_use
from refund_worker.processors.sandbox.answers import Answer, JsonObject, StripeError, answer_of
from refund_worker.processors.sandbox.book import Book, StoredKey, done, later
from refund_worker.processors.sandbox.calls import ACCOUNT_HEADER, Call, Request, Route, read_call, route_of
from refund_worker.processors.sandbox.counts import Counts
from refund_worker.processors.sandbox.decisions import Decision, Notice
from refund_worker.processors.sandbox.endpoints import decide, validate
from refund_worker.processors.sandbox.faults import NOTHING, Faults, Subject
from refund_worker.processors.sandbox.payees import no_access
from refund_worker.processors.sandbox.records import Dispute, FraudWarning, Refund
from refund_worker.processors.sandbox.refunds import Step, decide_reference
from refund_worker.processors.sandbox.scheduled import decide_scheduled

Manner = Literal["whole", "truncated", "mid_body", "reset", "hang"]


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer and its manner: `whole`, `truncated` JSON, broken off in `mid_body`, or not sent (`reset`, `hang`)."""

    answer: Answer
    manner: Manner = "whole"


@dataclass(frozen=True, slots=True)
class Wait:
    """The answer is not ready: call `resume` after `seconds`."""

    seconds: float
    resume: Callable[[], Sent]


NO_ANSWER = Answer(0, b"")
# Requests that concern no payment.
OF_PAYOUTS = frozenset(
    {
        *("create_transfer", "transfers", "transfer", "update_transfer", "create_reversal", "reversals", "reversal"),
        *("create_payout", "payouts", "payout", "update_payout", "cancel_payout", "account", "own_account"),
    }
)
# Trace references in one commit: few commits after a jump of the clock, and each of them short.
BATCH = 500


class Service:
    """Stripe's refund API over a book, with faults.

    `send_event` is called with the events of each commit and the account they are about.
    """

    def __init__(self, book: Book, faults: Faults, send_event: Callable[[Notice, str], None] = lambda *_: None) -> None:
        self.book = book
        self.faults = faults
        self.counts = Counts()
        self._send_event = send_event
        if faults.seed is None:
            faults.seed = book.seed
        self._locked_keys: dict[tuple[str, str], str] = {}
        for what in book.postponed():
            if what["do"] == "call" and what["holds_key"]:
                self._lock_key(Call.of_record(what["call"]))

    # -- one request --------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> Sent | Wait:
        """Answer a request to /v1. Raise `OSError` if the book cannot be written; then nothing has happened."""
        self.run_due()
        route = route_of(request.method, request.path)
        if route is None:
            route = Route(request.method, "unknown")
            unknown = StripeError(404, f"Unrecognized request URL ({request.method}: {request.path[:200]}).")
            return self._finish(route, Sent(unknown.answer()))
        try:
            call = read_call(request, route)
            if self.book.find_account(call.account) is None:
                raise no_access(call.account)
        except StripeError as refused:
            return self._finish(route, Sent(refused.answer()), request.header(ACCOUNT_HEADER))
        plan = self.faults.plan(self._subject(call)) if self.faults.active else NOTHING
        if plan.timeout is not None and plan.timeout.effect == "later" and self._executable(call):
            self._postpone(call, plan, plan.timeout)
            return self._finish(route, Sent(NO_ANSWER, "hang"), call.account)
        if not plan.delay_seconds:
            return self._finish(route, self._proceed(call, plan), call.account)
        return self._slowly(call, plan)

    def _slowly(self, call: Call, plan: Plan) -> Wait:
        locked = plan.not_executed is None and self._executable(call)
        if locked:
            self._lock_key(call)

        def resume() -> Sent:
            if locked:
                self._unlock_key(call)
            return self._finish(call.route, self._proceed(call, plan), call.account)

        return Wait(plan.delay_seconds, resume)

    def _proceed(self, call: Call, plan: Plan) -> Sent:
        if plan.not_executed is not None:
            return Sent(plan.not_executed.answer())
        if plan.reset == "before":
            return Sent(NO_ANSWER, "reset")
        if plan.timeout is not None and plan.timeout.effect == "none":
            return Sent(NO_ANSWER, "hang")
        answer = self._answer(call, plan)
        if plan.timeout is not None:
            return Sent(NO_ANSWER, "hang")
        if plan.reset is not None:
            return Sent(answer, "mid_body" if plan.reset == "mid_body" else "reset")
        return Sent(answer, "truncated" if plan.truncate else "whole")

    def _finish(self, route: Route, sent: Sent, account: str = PLATFORM) -> Sent:
        self.counts.add(route, sent.answer.status if sent.manner == "whole" else None, sent.answer.headers, account)
        return sent

    # -- idempotency --------------------------------------------------------------------------------------------------

    def _answer(self, call: Call, plan: Plan) -> Answer:
        """Return the answer by Stripe's rules for keys: replay, refuse, or execute and store."""
        try:
            stored = self._stored(call)
            if stored is not None:
                return _replay(call, stored)
            if call.key is not None and (call.account, call.key) in self._locked_keys:
                self._refuse_other_use(call, self._locked_keys[call.account, call.key])
                raise key_in_use()
            validate(call)
        except StripeError as refused:
            return refused.answer()
        return self._execute(call, plan)

    def _stored(self, call: Call) -> StoredKey | None:
        if call.key is None:
            return None
        return self.book.find_key(call.account, call.key, self.faults.key_life_seconds)

    def _refuse_other_use(self, call: Call, use: str) -> None:
        if use != _use_of(call):
            raise other_use(call, same_endpoint=use.startswith(call.route.endpoint + "|"))

    def _executable(self, call: Call) -> bool:
        """Return True if the call would be executed now: well-formed, its key neither stored nor in use."""
        if call.route.method != "POST" or self._stored(call) is not None:
            return False
        if call.key is not None and (call.account, call.key) in self._locked_keys:
            return False
        try:
            validate(call)
        except StripeError:
            return False
        return True

    def _lock_key(self, call: Call) -> None:
        """Mark the call's key as in use, as Stripe does while a request runs."""
        if call.key is not None:
            self._locked_keys[call.account, call.key] = _use_of(call)

    def _unlock_key(self, call: Call) -> None:
        """Mark the call's key as no longer in use."""
        if call.key is not None:
            self._locked_keys.pop((call.account, call.key), None)

    # -- execution ----------------------------------------------------------------------------------------------------

    def _execute(self, call: Call, plan: Plan) -> Answer:
        """Execute the call with the faults of the plan, and store the answer under the key in the same commit."""
        failing = plan.server_error
        if failing is not None and failing.effect == "later" and call.route.method == "POST":
            return self._fail_now_take_effect_later(call, plan, failing)
        decision, answer = self._decide(call, plan)
        if failing is not None:
            error = _server_error(failing)
            if failing.effect == "none":
                self._commit(call, None, error if failing.sticky else None)
            else:
                self._commit(call, decision, error if failing.sticky else answer)
            return error
        self._commit(call, decision, answer)
        return answer

    def _decide(self, call: Call, plan: Plan) -> tuple[Decision | None, Answer]:
        if plan.refuse is not None:
            return None, plan.refuse.answer()
        try:
            decision = decide(self.book.of(call.account), self.faults, call, plan)
        except StripeError as refused:
            return None, refused.answer()
        return decision, answer_of(_altered(decision.object, plan))

    def commit(self, decision: Decision, account: str = PLATFORM) -> JsonObject:
        """Commit a decision of the sandbox itself and send its events. Return the object it is about."""
        self.book.commit(*decision.records, account=account)
        self._send_events(decision, account)
        return decision.object

    def _send_events(self, decision: Decision | None, account: str) -> None:
        for notice in decision.notices if decision is not None else ():
            self._send_event(notice, account if notice.account is None else notice.account)

    def _commit(self, call: Call, decision: Decision | None, kept: Answer | None) -> None:
        records = list(decision.records) if decision is not None else []
        if call.key is not None and kept is not None:
            records.append(self._key_record(call, kept))
        if records:
            self.book.commit(*records, account=call.account)
        self._send_events(decision, call.account)

    def _key_record(self, call: Call, kept: Answer) -> JsonObject:
        return {
            "kind": "key",
            "account": call.account,
            "key": call.key,
            "endpoint": call.route.endpoint,
            "fingerprint": call.fingerprint,
            "status": kept.status,
            "body": kept.body.decode(),
            "created": self.book.now(),
        }

    # -- scheduled work -----------------------------------------------------------------------------------------------

    def _postpone(self, call: Call, plan: Plan, effect: Effect) -> None:
        if effect.holds_key:
            self._lock_key(call)
        self.book.commit(self._later_call(call, plan, effect, holds_key=effect.holds_key, keeps_answer=True))

    def _fail_now_take_effect_later(self, call: Call, plan: Plan, effect: Effect) -> Answer:
        error = _server_error(effect)
        records = [self._later_call(call, plan, effect, holds_key=False, keeps_answer=not effect.sticky)]
        if call.key is not None and effect.sticky:
            records.append(self._key_record(call, error))
        self.book.commit(*records)
        return error

    def _later_call(self, call: Call, plan: Plan, effect: Effect, *, holds_key: bool, keeps_answer: bool) -> JsonObject:
        life = [step.as_record() for step in plan.lifecycle or ()]
        what = {"do": "call", "call": call.as_record(), "life": life, "holds_key": holds_key, "keeps": keeps_answer}
        return later(self.book.now() + effect.after_seconds, what)

    def due_at(self) -> float | None:
        """Return when the next scheduled work is due in the sandbox's epoch seconds. Return None without any."""
        due = self.book.due_at()
        since = self.book.reference_awaited_since()
        if since is None or self.faults.reference_seconds is None:
            return due
        reference_due = since + self.faults.reference_seconds
        return reference_due if due is None else min(due, reference_due)

    def run_due(self) -> None:
        """Run everything that is due by now, in order."""
        while (due := self.book.next_due()) is not None:
            number, what = due
            at = self.book.due_at() or self.book.now()
            if what["do"] == "call":
                self._run_call(number, what)
            else:
                self._run_change(number, what, at)
        while self._show_references():
            pass

    def _show_references(self) -> int:
        """Show the trace reference of refunds that succeeded long enough ago. Return how many."""
        wait_seconds = self.faults.reference_seconds
        if wait_seconds is None or self.book.reference_awaited_since() is None:
            return 0
        refunds = self.book.take_references(self.book.now() - wait_seconds, BATCH)
        decisions = [(decide_reference(refund), account) for refund, account in refunds]
        if decisions:
            self.book.commit(*({**each, "account": account} for made, account in decisions for each in made.records))
        for decision, account in decisions:
            self._send_events(decision, account)
        return len(decisions)

    def _run_change(self, number: int, what: JsonObject, at: float) -> None:
        account = what["account"]
        decision = decide_scheduled(self.book.of(account), what, at)
        self.book.commit(done(number), *(decision.records if decision is not None else ()), account=account)
        self._send_events(decision, account)

    def _run_call(self, number: int, what: JsonObject) -> None:
        call = Call.of_record(what["call"])
        if what["holds_key"]:
            self._unlock_key(call)
        self.book.commit(done(number))
        # A late request has no effect if another request with its key was stored first. A late request with a stored
        # error does take effect: Stripe rolls a failed request forward.
        if what["keeps"] and self._stored(call) is not None:
            return
        plan = Plan(lifecycle=_life_of(what["life"])) if what["life"] else NOTHING
        decision, answer = self._decide(call, plan)
        self._commit(call, decision, answer if what["keeps"] else None)

    # -- the subject of faults ----------------------------------------------------------------------------------------

    def _subject(self, call: Call) -> Subject:
        object_id, book = call.route.object_id or "", self.book.of(call.account)
        entry = book.refunds.get(object_id) or book.disputes.get(object_id) or book.warnings.get(object_id)
        moved = book.transfers.get(object_id) or book.payouts.get(object_id)
        known = entry or (moved if call.route.path_kind != "create_reversal" else None)
        metadata = known.object.get("metadata", {}) if known is not None else call.params.get("metadata", {})
        return Subject(
            method=call.route.method,
            path_kind=call.route.path_kind,
            payment=self._payment_named(call, entry),
            metadata=metadata if isinstance(metadata, dict) else {},
            object_id=call.route.object_id,
            replaying=call.route.method == "POST" and not self._executable(call),
            account=call.account,
        )

    def _payment_named(self, call: Call, entry: Refund | Dispute | FraudWarning | None) -> str | None:
        book = self.book.of(call.account)
        if entry is not None:
            return book.payment_of(entry).id
        if call.route.path_kind in OF_PAYOUTS:
            destination = call.params.get("destination")
            return destination if isinstance(destination, str) else None
        named = call.params.get("charge") or call.params.get("payment_intent") or call.route.object_id
        if not isinstance(named, str):
            return None
        payment = book.find_payment(named)
        return payment.id if payment is not None else named


def _use_of(call: Call) -> str:
    return f"{call.route.endpoint}|{call.fingerprint}"


def other_use(call: Call, *, same_endpoint: bool) -> StripeError:
    """Return the 400 idempotency_error of a key that belongs to another request."""
    what = "other parameters" if same_endpoint else "another endpoint"
    return StripeError(400, f"The idempotency key was first used with {what}.", type="idempotency_error")


def _replay(call: Call, stored: StoredKey) -> Answer:
    if (stored.endpoint, stored.fingerprint) != (call.route.endpoint, call.fingerprint):
        raise other_use(call, same_endpoint=stored.endpoint == call.route.endpoint)
    return Answer(stored.status, stored.body.encode(), (("Idempotent-Replayed", "true"),))


def _server_error(effect: Effect) -> Answer:
    return StripeError(effect.status, "Something went wrong on the server's side.", type="api_error").answer()


def _altered(body: JsonObject, plan: Plan) -> JsonObject:
    """Return the answer with the false fields of the plan; in a list, each object gets them."""
    if not plan.answer:
        return body
    if body["object"] == "list":
        return {**body, "data": [{**item, **plan.answer} for item in body["data"]]}
    return {**body, **plan.answer}


def _life_of(steps: list[JsonObject]) -> tuple[Step, ...]:
    return tuple(Step(**step) for step in steps)
