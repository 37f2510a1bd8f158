"""The simulated processors of payouts: truthful books of our account, of connected accounts and of the payees' banks.

`stripe` has two steps, a list, and keys that live 24 hours and keep server errors. `onestep` has one step and no list:
the repeat under the same key is the look-up, and unclaimed money comes back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from refund_worker.domain.payouts.transfers import (
    Fault,
    Step,
    TransferAnswered,
    TransferObject,
    TransferReply,
)
from refund_worker.domain.processor_replies import (
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    Refused,
    UnknownRefusal,
)
from refund_worker.domain.refund import ObjectState
from tests.simulation.bank import Bank
from tests.simulation.bank_records import DAY, HOUR, LAG_SECONDS_MAX
from tests.simulation.kernel import Violation

ONE_STEP, TWO_STEPS = "onestep", "stripe"
BOTH = (TWO_STEPS, ONE_STEP)
CLAIM_SECONDS = 30 * DAY
# Words of the processor and their meaning. All others are not known here.
MEANS = {
    "pending": ObjectState.PENDING,
    "unclaimed": ObjectState.REQUIRES_ACTION,
    "paid": ObjectState.SUCCEEDED,
    "failed": ObjectState.FAILED,
    "returned": ObjectState.FAILED,
    "reversed": ObjectState.FAILED,
    "canceled": ObjectState.CANCELED,
    "undone": ObjectState.CANCELED,
}
VOID = ("failed", "returned", "reversed", "canceled", "undone")
FAILURES = (
    ("account_closed", Fault.PAYEE),
    ("no_account", Fault.PAYEE),
    ("could_not_process", Fault.PROCESSOR),
    ("insufficient_funds", Fault.OURS),
    ("account_frozen", Fault.COMPLIANCE),
    ("declined", None),
)


@dataclass(slots=True)
class Transfer:
    """One transfer, payout or reversal in the processor's book. `words` are its statuses over time."""

    id: str
    step: Step
    amount: int
    currency: str
    leg_id: str
    payout_id: str
    attempt: int
    to: str  # the destination as frozen, or the connected account
    created: float
    listed_from: float
    words: list[str]
    said_at: float
    paid_at: float | None = None
    undoes: str | None = None
    failure: str | None = None
    fault: Fault | None = None
    act_by: float | None = None
    returned: int | None = None
    undone_by_us: bool = False

    @property
    def status(self) -> str:
        """The current status."""
        return self.words[-1]

    @property
    def is_void(self) -> bool:
        """True if it moved no money, or its money came back."""
        return self.status in VOID


@dataclass(slots=True)
class TransferKey:
    """The request and its answer under one key; `reply` is None while the first call is running."""

    body: str
    reply: TransferReply | None
    until: float
    object_id: str | None = None


@dataclass(slots=True)
class TransferBank(Bank):
    """The book of one account's payouts. It delivers calls as the bank of refunds does."""

    two_steps: bool = True
    keeps_errors: bool = True
    transfers: list[Transfer] = field(default_factory=list)
    transfer_keys: dict[str, TransferKey] = field(default_factory=dict)
    platform: Counter[tuple[str, str]] = field(default_factory=Counter)  # by payout and currency
    connected: Counter[tuple[str, str]] = field(default_factory=Counter)  # by connected account and currency
    connected_of: Counter[tuple[str, str]] = field(default_factory=Counter)  # by payout and currency
    at_payees: Counter[str] = field(default_factory=Counter)  # by payout: what the payee's bank has got
    undone: set[str] = field(default_factory=set)  # payouts whose transfer others have undone
    own_failures: bool = False  # payouts fail for a reason of the bank's own
    told: set[str] = field(default_factory=set)  # objects of which an event arrived
    on_transfer: Callable[[Transfer], None] = lambda _transfer: None
    on_change: Callable[[Transfer], None] = lambda _transfer: None
    on_transfer_send: Callable[[str, str], None] = lambda _key, _body: None

    # --- requests ----------------------------------------------------------------------------------------------------

    def take_transfer(self, key: str, body: str) -> TransferReply:
        """Execute a request that has arrived."""
        record = self.transfer_keys.get(key)
        if record is not None and record.until > self.world.now:
            if record.body != body:
                return KeyConflict("the key was used with other parameters")
            if record.reply is None:
                return Busy("idempotency_key_in_use")
            if not self.two_steps and record.object_id is not None:  # the repeat is the look-up
                return TransferAnswered(self.describe_transfer(self.by_id(record.object_id)), replayed=True)
            if hasattr(record.reply, "replayed"):
                return replace(record.reply, replayed=True)  # type: ignore[call-arg]
            return record.reply
        if self.faults.strikes("refused, not kept"):
            return Refused("processing_error", "not possible just now")
        reply = self.order(json.loads(body))
        if self.two_steps or isinstance(reply, TransferAnswered):
            self.keep_transfer(key, body, reply)
        return reply

    def keep_transfer(self, key: str, body: str, reply: TransferReply | None) -> None:
        """Store the request and its answer under the key, for at least the key's life."""
        longer = self.world.random.uniform(0, 12 * HOUR) if self.faults.strikes("key kept longer") else 0
        object_id = reply.object.object_id if isinstance(reply, TransferAnswered) else None
        self.transfer_keys[key] = TransferKey(body, reply, self.world.now + self.key_seconds + longer, object_id)

    def by_id(self, object_id: str) -> Transfer:
        """Return the object with this id."""
        return next(item for item in self.transfers if item.id == object_id)

    def order(self, order: dict[str, Any]) -> TransferReply:
        """Do as ordered, or return the refusal."""
        refusal = self._refusal(order)
        if refusal is not None:
            return refusal
        return TransferAnswered(self.describe_transfer(self._make(order)))

    def _refusal(self, order: dict[str, Any]) -> TransferReply | None:
        step, strikes = Step(order["step"]), self.faults.strikes
        account = (order["account"], order["currency"])
        if step is Step.REVERSAL:
            undone = self.by_id(order["undoes"])
            if undone.is_void or undone.undone_by_us:
                return Refused("transfer_already_reversed", "there is nothing left to reverse")
            if self.connected[account] < order["amount"]:
                return Refused("balance_insufficient", "the connected account has too little")
        elif step is Step.PAYOUT and self.two_steps and self.connected[account] < order["amount"]:
            return Refused("balance_insufficient", "the connected account has too little")
        if any(start <= self.world.now < end for start, end in self.empty) and step is not Step.REVERSAL:
            self.faults.count("balance empty")
            return Blocked("balance_insufficient", "the balance is empty")
        if strikes("blocked"):
            return Blocked("balance_insufficient", "the balance is empty")
        if strikes("refusal of an unknown code"):
            return UnknownRefusal("payout_moon_phase_unsupported", "not on this day")
        if strikes("our set-up refused"):
            return Denied("parameter_unknown", "Received unknown parameter: moon", maybe_kept=True)
        if strikes("payout misconfigured"):
            return Misconfigured("resource_missing", "no such account")
        if step is not Step.REVERSAL and strikes("payout refused"):
            return Refused("account_closed", "the account is closed")
        return None

    # --- the book ----------------------------------------------------------------------------------------------------

    def _make(self, order: dict[str, Any]) -> Transfer:
        world, step = self.world, Step(order["step"])
        lag = world.random.uniform(0, LAG_SECONDS_MAX) if self.faults.strikes("list lags") else 0
        life = [(0.0, "paid")] if step is not Step.PAYOUT else self._life()
        item = Transfer(
            id=f"{'po' if step is Step.PAYOUT else 'tr' if step is Step.TRANSFER else 'trr'}_{self.account}_"
            f"{len(self.transfers) + 1}",
            step=step,
            amount=order["amount"],
            currency=order["currency"],
            leg_id=order["leg"],
            payout_id=order["payout"],
            attempt=order["attempt"],
            to=json.dumps(order["to"], sort_keys=True),
            created=world.now,
            listed_from=world.now + lag,
            words=[],
            said_at=world.now,
            undoes=order["undoes"],
        )
        self.transfers.append(item)
        if item.undoes is not None:
            self.by_id(item.undoes).undone_by_us = True
        self._book_made(item, order["account"])
        alive = [t.id for t in self.transfers if t.leg_id == item.leg_id and not (t.words and t.is_void)]
        self._becomes(item, life[0][1])
        if len(alive) > 1 and not item.is_void:
            raise Violation(f"I1 {item.leg_id} has {len(alive)} objects that stand: {', '.join(alive)}")
        self.on_transfer(item)
        at = world.now
        for seconds, word in life[1:]:
            at += seconds
            world.at(at, lambda word=word: self.transfer_becomes(item, word))
        return item

    def _life(self) -> list[tuple[float, str]]:
        """Return the statuses of a payout over time."""
        strikes, random = self.faults.strikes, self.world.random

        def uniform(shortest: float, longest: float) -> float:
            return random.uniform(shortest, random.choice((shortest + 60, shortest + HOUR, longest, longest)))

        if strikes("failed at once"):
            return [(0, "failed")]
        life = [(0.0, "paid")]
        if strikes("pending") or self.two_steps:
            life = [(0, "pending"), (uniform(60, 5 * DAY), "paid")]
        if strikes("unknown status"):
            life = [(0, random.choice(("in_review", ""))), (uniform(60, 2 * DAY), life[-1][1])]
        if strikes("pending, then failed"):
            life = [(0, "pending"), (uniform(60, 5 * DAY), "failed")]
        if not self.two_steps and strikes("unclaimed"):
            life = [(0, "unclaimed"), (uniform(60, CLAIM_SECONDS), "paid")]
            if random.random() < 0.5:
                life = [(0, "unclaimed"), (CLAIM_SECONDS, "returned")]
        if life[-1][1] == "paid" and strikes("failed later"):
            latest = random.choice((DAY, 20 * DAY, 60 * DAY))
            life.append((uniform(self.fails_no_sooner_than, latest), "failed" if self.two_steps else "reversed"))
        return life

    def transfer_becomes(self, item: Transfer, word: str) -> None:
        """Give the object its next status, unless it is void."""
        if not item.is_void:
            self._becomes(item, word)

    def _becomes(self, item: Transfer, word: str) -> None:
        was = item.words[-1] if item.words else None
        item.words.append(word)
        item.said_at = self.world.now
        if word == "paid":
            item.paid_at = self.world.now
        item.act_by = self.world.now + CLAIM_SECONDS if word == "unclaimed" else item.act_by
        if word in VOID and item.step is Step.PAYOUT:
            self._fails(item, word)
        self._book_change(item, was, word)
        self.world.note("PAYOUT BOOK", item.id, item.step, word, item.amount, item.leg_id, item.attempt)
        self.on_change(item)

    def _fails(self, item: Transfer, word: str) -> None:
        random = self.world.random
        if word in ("failed", "reversed"):
            item.failure, item.fault = random.choice(FAILURES[2:3] if self.own_failures else FAILURES)
        if word == "returned":
            item.failure = "RETURNED"
        if word == "reversed" and "paid" in item.words and self.faults.strikes("returned less"):
            item.returned = random.randint(0, item.amount - 1)

    def _book_made(self, item: Transfer, account: str) -> None:
        """Let the money leave where it was."""
        ours, theirs = (item.payout_id, item.currency), (account, item.currency)
        sign = -1 if item.step is Step.REVERSAL else 1
        if item.step is Step.PAYOUT and not self.two_steps:
            self.platform[ours] -= item.amount
            return
        if item.step is Step.PAYOUT:
            self.connected[theirs] -= item.amount
            self.connected_of[ours] -= item.amount
            return
        self.platform[ours] -= sign * item.amount
        self.connected[theirs] += sign * item.amount
        self.connected_of[ours] += sign * item.amount

    def _book_change(self, item: Transfer, was: str | None, word: str) -> None:
        if item.step is not Step.PAYOUT:
            return
        if word == "paid":
            self.at_payees[item.payout_id] += item.amount
        elif was == "paid" and word in VOID:
            self.at_payees[item.payout_id] -= item.amount
        if word in VOID:
            ours, back = (item.payout_id, item.currency), item.amount if item.returned is None else item.returned
            if self.two_steps:
                account = json.loads(item.to)["account"]
                self.connected[account, item.currency] += back
                self.connected_of[ours] += back
            else:
                self.platform[ours] += back

    def undo(self, item: Transfer) -> None:
        """Let others undo a transfer: its amount leaves the connected account, which may then owe."""
        if item.is_void or item.undone_by_us:
            return
        self.undone.add(item.payout_id)
        account = json.loads(item.to)["account"]
        self.connected[account, item.currency] -= item.amount
        self.connected_of[item.payout_id, item.currency] -= item.amount
        self.platform[item.payout_id, item.currency] += item.amount
        self._becomes(item, "undone")

    # --- answers -----------------------------------------------------------------------------------------------------

    def describe_transfer(self, item: Transfer, *, in_event: bool = False) -> TransferObject:
        """Return the object as an answer shows it, or as an event does, which is made when the object changes."""
        word = item.words[-1]
        # A replica of the processor's database is behind for a while, and not for days.
        is_fresh = self.world.now - item.said_at < HOUR
        if len(item.words) > 1 and self.faults.strikes("stale answer") and is_fresh and not in_event:
            word = item.words[-2]
        is_void = word in VOID
        return TransferObject(
            object_id=item.id,
            step=item.step,
            status=word or None,
            state=MEANS.get(word),
            amount_minor=item.amount,
            currency=item.currency,
            leg_id=item.leg_id,
            attempt=item.attempt,
            created_at=datetime.fromtimestamp(item.created, UTC),
            failure_code=item.failure if is_void else None,
            fault=item.fault if is_void else None,
            act_by=item.act_by if word == "unclaimed" else None,
            returned_minor=item.returned if is_void else None,
            live=False,
        )
