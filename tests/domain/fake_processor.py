"""A model of a processor, for random walks through the domain: objects, keys, late effects, and a list that lags.

It keeps only the promises that the design relies on. One key has one effect inside `KEY_LIFE_SECONDS`. An effect lands
at most `LATE_SECONDS` after the send. A list shows an object at most `LAG_SECONDS` after it was made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from refund_worker.domain.processor_calls import Cancel, Fetch, LookUp, RefundInstruction, Send
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    Misconfigured,
    NotSent,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)

LATE_SECONDS = 700.0
LAG_SECONDS = 200.0
KEY_LIFE_SECONDS = 4_000.0
UNPAID_FINAL = ("failed", "canceled")

WAYS_TO_SEND = (
    "succeeded",
    "pending",
    "requires_action",
    "timeout_without_effect",
    "timeout_with_effect",
    "timeout_late_effect",
    "error_without_effect",
    "error_late_effect",
    "crash_without_effect",
    "crash_with_effect",
    "crash_late_effect",
    "busy",
    "not_sent",
    "denied",
    "refused",
    "blocked",
    "misconfigured",
    "unknown_status",
    "another_amount",
)
WAYS_TO_ASK = ("honest", "honest", "honest", "timeout", "busy", "denied", "crash")

NEXT_STATUSES = {
    "pending": ("succeeded", "failed", "requires_action"),
    "requires_action": ("pending", "canceled", "failed"),
    "succeeded": ("failed",),
}

REFUSALS: dict[str, Reply] = {
    "refused": Refused("expired_or_canceled_card", "no"),
    "blocked": Blocked("balance_insufficient", "not now"),
    "misconfigured": Misconfigured("resource_missing", "no such charge"),
}


@dataclass
class KeyRecord:
    """The content stored under a key: an answer to replay, or an effect that lands at `lands_at`."""

    first_used_at: float
    order: RefundInstruction
    reply: Reply | None = None
    object_id: str | None = None
    lands_at: float | None = None


@dataclass
class FakeProcessor:
    """A processor; `objects` are its own records. `send` and `ask` return the reply, or None if the caller died."""

    captured_minor: dict[str, int]
    now: float = 0.0
    objects: dict[str, RefundObject] = field(default_factory=dict)
    made_at: dict[str, float] = field(default_factory=dict)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    reports: list[RefundObject] = field(default_factory=list)

    def pass_time(self, now: float) -> None:
        """Set the time to `now`, and let late effects land."""
        self.now = now
        for record in self.keys.values():
            if record.lands_at is None or record.lands_at > now or record.object_id is not None:
                continue
            if self._has_room(record.order):
                self._make(record, "succeeded", record.lands_at)
            else:
                record.reply, record.lands_at = AlreadyRefunded("nothing left"), None

    def may_still_pay(self, key: str) -> bool:
        """Return True if money was paid, or may still be paid, under this key."""
        record = self.keys.get(key)
        if record is None:
            return False
        if record.object_id is not None:
            return self.objects[record.object_id].status not in UNPAID_FINAL
        return record.lands_at is not None and self._has_room(record.order)

    def live_objects(self, leg_id: str) -> list[RefundObject]:
        """Return the leg's objects that paid or may still pay."""
        return [o for o in self.objects.values() if o.leg_id == leg_id and o.status not in UNPAID_FINAL]

    def sent_minor(self, payment: str) -> int:
        """Return the minor units that were refunded over the payment."""
        return sum(
            o.amount_minor
            for o in self.objects.values()
            if o.payment_refs == (payment,) and o.status not in UNPAID_FINAL
        )

    def change_status(self, object_id: str, status: str) -> None:
        """Give the object another status, and report it."""
        self.objects[object_id] = changed = replace(
            self.objects[object_id], status=status, failure_code="declined" if status == "failed" else None
        )
        self.reports.append(changed)

    def send(self, call: Send, way: str, late: float) -> Reply | None:
        """Execute a send in the given `way`; a late effect lands after `late` seconds."""
        match way:
            case "not_sent":
                return NotSent("connection refused")
            case "busy":
                return Busy("rate_limit")
            case "denied":
                return Denied("authentication_error", "bad key")
        reply = self._execute(call, way, late)
        if way.startswith("crash"):
            return None
        if way.startswith("timeout"):
            return Unanswered("timeout")
        return reply

    def ask(self, call: LookUp | Fetch | Cancel, way: str, hides: bool) -> Reply | SearchReply | None:
        """Answer a question, or an order to cancel, in the given `way`; `hides` lets the list lag."""
        if isinstance(call, Cancel) and way in ("honest", "timeout", "crash"):
            item = self.objects[call.processor_refund_id]
            if item.status != "requires_action":
                return UnknownRefusal("invalid_request_error", "it does not wait for the customer")
            self.change_status(call.processor_refund_id, "canceled")
        match way:
            case "timeout":
                return Unanswered("timeout")
            case "busy":
                return Busy("rate_limit")
            case "denied":
                return Denied("authentication_error", "bad key")
            case "crash":
                return None
        if not isinstance(call, LookUp):
            return Answered(self.objects[call.processor_refund_id])
        return Found(
            tuple(
                item
                for item in self.objects.values()
                if item.leg_id == call.leg_id
                and not (hides and self.now - self.made_at[item.processor_refund_id] < LAG_SECONDS)
            )
        )

    def _execute(self, call: Send, way: str, late: float) -> Reply:
        record = self.keys.get(call.key)
        if record is not None and self.now - record.first_used_at < KEY_LIFE_SECONDS:
            return self._replay(record, call)
        if way == "error_without_effect":
            return self._keep(call, Unanswered("500", server_error=True))
        if way.endswith("without_effect"):
            return Unanswered("never arrived")
        if not self._has_room(call.order):
            return self._keep(call, AlreadyRefunded("nothing left"))
        if way in REFUSALS:
            return self._keep(call, REFUSALS[way])
        if way.endswith("late_effect"):
            reply = self._keep(call, Unanswered("500", server_error=True)) if way.startswith("error") else None
            record = self.keys.setdefault(call.key, KeyRecord(self.now, call.order))
            record.lands_at = self.now + late
            return reply or Unanswered("timeout")
        record = self.keys[call.key] = KeyRecord(self.now, call.order)
        refund_object = self._make(record, way if way in ("pending", "requires_action") else "succeeded", self.now)
        if way == "unknown_status":
            return Answered(replace(refund_object, status="thinking"))
        if way == "another_amount":
            return Answered(replace(refund_object, amount_minor=refund_object.amount_minor + 1))
        return Answered(refund_object)

    def _replay(self, record: KeyRecord, call: Send) -> Reply:
        assert record.order == call.order, "the same key with other parameters"
        if record.reply is not None:
            stored = record.reply
            return stored if isinstance(stored, Unanswered) else replace(stored, replayed=True)  # type: ignore[call-arg]
        if record.object_id is None:
            return Busy("idempotency_key_in_use")
        return Answered(self.objects[record.object_id], replayed=True)

    def _keep(self, call: Send, reply: Reply) -> Reply:
        self.keys[call.key] = KeyRecord(self.now, call.order, reply)
        return reply

    def _has_room(self, order: RefundInstruction) -> bool:
        left = self.captured_minor[order.processor_payment_id] - self.sent_minor(order.processor_payment_id)
        return order.amount_minor <= left

    def _make(self, record: KeyRecord, status: str, at: float) -> RefundObject:
        order = record.order
        refund_object = RefundObject(
            processor_refund_id=f"re_{len(self.objects) + 1}",
            status=status,
            amount_minor=order.amount_minor,
            currency=order.currency,
            payment_refs=(order.processor_payment_id,),
            leg_id=order.leg_id,
            attempt=order.attempt,
            failure_code=None,
            created_at=datetime.fromtimestamp(at, UTC),
        )
        self.objects[refund_object.processor_refund_id] = refund_object
        self.made_at[refund_object.processor_refund_id] = at
        self.reports.append(refund_object)
        record.object_id = refund_object.processor_refund_id
        return refund_object
