"""A route for payouts that does as a test says, with a book of its own that shows what each payee got."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from refund_worker.domain.payouts.destination import Destination
from refund_worker.domain.payouts.transfers import (
    NotListed,
    PayeeRead,
    PayeeReply,
    PayeeState,
    Step,
    TransferAnswered,
    TransferInstruction,
    TransferObject,
    TransferReply,
    TransfersFound,
    TransfersReply,
)
from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    NotSent,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.domain.refund import ObjectState

NOTHING_DONE: dict[str, TransferReply] = {
    "nothing": Unanswered("the connection broke"),
    "server_error": Unanswered("HTTP 500", server_error=True),
    "refused": Refused("account_closed", "the account is closed"),
    "blocked": Blocked("balance_insufficient", "too little"),
    "unknown": UnknownRefusal("strange", "a word that is not known"),
    "denied": Denied("bad_key", "the key is not valid"),
    "busy": Busy("rate_limit"),
    "not_sent": NotSent("no connection"),
    "misconfigured": Misconfigured("resource_missing", "no such account"),
}


@dataclass
class ScriptedRoute:
    """Implements `PayoutRoute`. Each send takes the next word of `script`; "pending" when it is empty.

    Words: a state of the new object ("pending", "succeeded", "failed", "requires_action"), one of `NOTHING_DONE`, or
    "lost", "error" (5xx) and "late" for a call that is executed without an answer; a late one only at `land`.
    """

    clock: Callable[[], float]
    name: str = "stripe"
    finds: bool = True
    script: list[str] = field(default_factory=list)
    book: dict[str, TransferObject] = field(default_factory=dict)  # by key
    bodies: dict[str, str] = field(default_factory=dict)
    answers: dict[str, TransferReply] = field(default_factory=dict)  # stored by key
    calls: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[tuple[str, str]] = field(default_factory=list)
    payee: PayeeReply = field(default_factory=lambda: PayeeRead(PayeeState.READY))
    cancel_works: bool = True
    down: bool = False

    def freeze(self, order: TransferInstruction) -> str:
        """Return the instruction as JSON."""
        return json.dumps(
            {
                "step": order.step,
                "leg": order.leg_id,
                "attempt": order.attempt,
                "payout": order.payout_id,
                "amount": order.amount_minor,
                "currency": order.currency,
                "to": order.destination.as_fields(),
                "undoes": order.undoes,
                "installation": order.installation,
            },
            sort_keys=True,
        )

    async def send(self, key: str, body: str) -> TransferReply:
        """Do as the script says."""
        self.calls.append(("send", key))
        if self.down:
            return Unanswered("no answer")
        if key in self.bodies and self.bodies[key] != body:
            return KeyConflict("the key was used with another body")
        if key in self.answers:
            return replace_object(self.answers[key], self.book.get(key))
        word = self.script.pop(0) if self.script else "pending"
        if word in NOTHING_DONE:
            answer = NOTHING_DONE[word]
            if word in ("refused", "blocked", "unknown"):
                self.bodies[key], self.answers[key] = body, answer
            return answer
        if word == "late":
            self.waiting.append((key, body))
            return Unanswered("no answer in time")
        return self.execute(key, body, word)

    def execute(self, key: str, body: str, word: str = "pending") -> TransferReply:
        """Make the object, and return the answer that the caller gets."""
        order = json.loads(body)
        lost = word in ("lost", "error")
        state = ObjectState.PENDING if lost else ObjectState(word)
        item = TransferObject(
            object_id=f"tr_{len(self.book) + 1}",
            step=Step(order["step"]),
            status=state,
            state=state,
            amount_minor=order["amount"],
            currency=order["currency"],
            leg_id=order["leg"],
            attempt=order["attempt"],
            created_at=datetime.fromtimestamp(self.clock(), UTC),
            act_by=self.clock() + 30 * 86_400 if state is ObjectState.REQUIRES_ACTION else None,
        )
        self.book[key], self.bodies[key] = item, body
        self.answers[key] = TransferAnswered(item)
        if word == "error":
            return Unanswered("HTTP 500", server_error=True)
        return Unanswered("no answer in time") if lost else TransferAnswered(item)

    def land(self) -> None:
        """Let the late calls arrive now: one under a known key does nothing new."""
        for key, body in self.waiting:
            if key not in self.answers:
                self.execute(key, body)
        self.waiting.clear()

    def set(self, key: str, state: ObjectState | None, **values: object) -> TransferObject:
        """Change the object of a key, and return it."""
        status = values.pop("status", state or "strange")
        changed = replace(self.book[key], state=state, status=status, **values)  # type: ignore[arg-type]
        self.book[key] = changed
        return changed

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Return the object."""
        self.calls.append(("fetch", object_id))
        if self.down:
            return Unanswered("no answer")
        found = next((item for item in self.book.values() if item.object_id == object_id), None)
        return Misconfigured("resource_missing", "no such object") if found is None else TransferAnswered(found)

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """Return the objects of the same step, ours and others'."""
        self.calls.append(("find", key))
        if self.down:
            return Unanswered("no answer")
        if not self.finds:
            return NotListed("there is no list")
        step = json.loads(body)["step"]
        return TransfersFound(tuple(item for item in self.book.values() if item.step == step))

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Call the object off, if that works."""
        self.calls.append(("cancel", object_id))
        key = next(key for key, item in self.book.items() if item.object_id == object_id)
        if not self.cancel_works or self.book[key].state is not ObjectState.REQUIRES_ACTION:
            return Refused("not_cancelable", "it waits for nothing")
        return TransferAnswered(self.set(key, ObjectState.CANCELED))

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Return the verdict."""
        self.calls.append(("payee", destination.masked))
        return self.payee

    async def close(self) -> None:
        """Do nothing."""

    def paid_minor(self) -> Counter[str]:
        """Return the money that is at payees or on its way to them, by payout."""
        total: Counter[str] = Counter()
        for key, item in self.book.items():
            order = json.loads(self.bodies[key])
            if order["step"] == Step.PAYOUT and item.state not in (ObjectState.FAILED, ObjectState.CANCELED):
                total[order["payout"]] += item.amount_minor
        return total

    def sends(self) -> list[str]:
        """Return the keys of the sends, in order."""
        return [key for kind, key in self.calls if kind == "send"]


def replace_object(answer: TransferReply, item: TransferObject | None) -> TransferReply:
    """Return a stored answer with the object as it is now."""
    return replace(answer, object=item) if isinstance(answer, TransferAnswered) and item else answer
