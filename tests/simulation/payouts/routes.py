"""The engine's routes to the simulated processors of payouts, and the accounts that offer them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Never

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.transfers import (
    NotListed,
    PayeeReply,
    PayeeUnreadable,
    Step,
    TransferAnswered,
    TransferInstruction,
    TransferReply,
    TransfersFound,
    TransfersReply,
)
from refund_worker.domain.processor_replies import Busy, Misconfigured, Refused, Unanswered
from refund_worker.processors.accounts import Account
from refund_worker.processors.base import AccountSettings, ProcessorEntry
from refund_worker.processors.payout_routes import PayoutCapabilities, PayoutEntry, PayoutRoute, TransferHint
from tests.simulation.bank_records import DAY, HOUR, KEY_SECONDS, Sent
from tests.simulation.payouts.transfer_bank import ONE_STEP, Transfer, TransferBank
from tests.simulation.silent_processor import SilentProcessor

# An adapter's list goes back a little further than the first send: clocks differ.
LIST_SLACK_SECONDS = HOUR
EVENT_KIND = "payout.updated"


class SimulatedRoute:
    """Implements `PayoutRoute` for one bank."""

    def __init__(self, bank: TransferBank) -> None:
        self.bank = bank
        self.name = bank.account

    def freeze(self, order: TransferInstruction) -> str:
        """Return the instruction as JSON."""
        body = {
            "account": order.destination.account or order.destination.payer_id or "",
            "amount": order.amount_minor,
            "attempt": order.attempt,
            "currency": order.currency,
            "leg": order.leg_id,
            "payout": order.payout_id,
            "step": order.step,
            "to": order.destination.as_fields(),
            "undoes": order.undoes,
        }
        return json.dumps(body, sort_keys=True)

    async def send(self, key: str, body: str) -> TransferReply:
        """Send a transfer to the bank."""
        bank, faults, world = self.bank, self.bank.faults, self.bank.world
        bank.on_transfer_send(key, body)
        sent = Sent(world.now)
        bank.sent.setdefault(key, []).append(sent)
        world.note("SEND", key, json.loads(body)["amount"])

        def execute() -> TransferReply:
            if faults.strikes("409"):
                return Busy("lock_timeout")
            known = bank.transfer_keys.get(key)
            if known is None or known.until <= world.now:
                broken = self._breaks(key, body)
                if broken is not None:
                    return broken
            reply = self._falsified(bank.take_transfer(key, body))
            if faults.strikes("payout answer lost"):  # and nothing can be asked until the key is too old
                bank.outages.append((world.now, world.now + world.random.uniform(1, 20) * HOUR))
                return Unanswered("the connection broke in mid-answer")
            return reply

        reply: TransferReply = await bank.call("payout", execute, lambda: bank.take_transfer(key, body))
        sent.told = reply  # type: ignore[assignment]
        return reply

    def _breaks(self, key: str, body: str) -> TransferReply | None:
        """Return a 500 with or without effect, or None. Where keys keep errors, it is stored."""
        bank, faults, world = self.bank, self.bank.faults, self.bank.world
        error = Unanswered("HTTP 500", server_error=True)
        if faults.strikes("500, no effect"):
            if bank.keeps_errors:
                bank.keep_transfer(key, body, error)
            return error
        if faults.strikes("500, effect"):
            reply = bank.take_transfer(key, body)
            if bank.keeps_errors:
                bank.keep_transfer(key, body, error)
            elif isinstance(reply, TransferAnswered):
                bank.keep_transfer(key, body, reply)
            return error
        if bank.keeps_errors and faults.strikes("500, effect later"):
            bank.keep_transfer(key, body, error)
            world.after(world.random.uniform(1, bank.late_seconds_max), lambda: bank.order(json.loads(body)))
            return error
        if faults.strikes("effect later, key in use"):
            bank.keep_transfer(key, body, None)
            world.after(world.random.uniform(1, bank.late_seconds_max), lambda: self._finish(key, body))
            return Unanswered("no answer in time")
        return None

    def _finish(self, key: str, body: str) -> None:
        reply = self.bank.order(json.loads(body))
        record = self.bank.transfer_keys[key]
        record.reply = reply
        record.object_id = reply.object.object_id if isinstance(reply, TransferAnswered) else None
        if not self.bank.keeps_errors and not isinstance(reply, TransferAnswered):
            del self.bank.transfer_keys[key]

    def _falsified(self, reply: TransferReply) -> TransferReply:
        if isinstance(reply, TransferAnswered) and self.bank.faults.strikes("another amount"):
            self.bank.falsified |= {reply.object.leg_id, reply.object.object_id}
            return replace(reply, object=replace(reply.object, amount_minor=reply.object.amount_minor + 1))
        return reply

    def _known(self, object_id: str) -> Transfer | None:
        return next((item for item in self.bank.transfers if item.id == object_id), None)

    async def fetch(self, object_id: str, body: str) -> TransferReply:
        """Read one object."""
        bank = self.bank
        bank.world.note("FETCH", object_id)

        def execute() -> TransferReply:
            item = self._known(object_id)
            if item is None:
                return Misconfigured("resource_missing", "no such object")
            return self._falsified(TransferAnswered(bank.describe_transfer(item)))

        reply: TransferReply = await bank.call("fetch", execute)
        return reply

    async def find(self, key: str, body: str, sent_since: float) -> TransfersReply:
        """List the objects of the step, those of others' legs too, or say that there is no list."""
        bank, step = self.bank, json.loads(body)["step"]
        bank.world.note("FIND", key)
        if not bank.two_steps:
            return NotListed("there is no list")

        def execute() -> TransfersReply:
            now = bank.world.now
            found = [
                item
                for item in bank.transfers
                if item.step == step
                and item.listed_from <= now
                and item.created + bank.world.clock_offset >= sent_since - DAY - LIST_SLACK_SECONDS
            ]
            if found and bank.faults.strikes("list shifts"):
                return Unanswered("the object that the next page starts after has gone: the list shifted")
            told = [bank.describe_transfer(item) for item in found]
            if told and bank.faults.strikes("list repeats"):
                told = [*told, *(bank.describe_transfer(item) for item in reversed(found))]
            return TransfersFound(tuple(told))

        reply: TransfersReply = await bank.call("find payout", execute)
        return reply

    async def cancel(self, object_id: str, body: str) -> TransferReply:
        """Call an unclaimed payout off."""
        bank = self.bank
        bank.world.note("CANCEL", object_id)

        def execute() -> TransferReply:
            item = self._known(object_id)
            if item is None or item.status != "unclaimed":
                return Refused("not_unclaimed", "it does not wait for the payee")
            bank.transfer_becomes(item, "canceled")
            return TransferAnswered(bank.describe_transfer(item))

        reply: TransferReply = await bank.call("cancel payout", execute)
        return reply

    async def read_payee(self, destination: Destination) -> PayeeReply:
        """Say nothing about destinations."""
        return PayeeUnreadable("not asked in this simulation")

    async def close(self) -> None:
        """Do nothing."""


class PayoutsOnly(SilentProcessor):
    """The adapter for refunds of the account that only pays out: every call of it is a broken promise."""

    name = ONE_STEP

    async def send(self, key: str, body: str) -> Never:  # type: ignore[override]
        """Raise `Violation`."""
        self._no_such_call(f"refund {key}")


def event_body(item: Transfer) -> str:
    """Return the body of an event about the object: only ids, as the engine believes no more."""
    return json.dumps({"object": item.id, "leg": item.leg_id}, sort_keys=True)


def _hint(kind: str, body: str) -> TransferHint | None:
    told = json.loads(body) if kind == EVENT_KIND else {}
    return TransferHint(told["object"], told["leg"]) if told else None


def payout_capabilities(
    *, two_steps: bool, key_seconds: float = KEY_SECONDS, key_use_seconds: float | None = None, window: float
) -> PayoutCapabilities:
    """Return the facts of one of the two processors. Times are in seconds."""
    return PayoutCapabilities(
        kinds=frozenset({DestinationKind.STRIPE_ACCOUNT if two_steps else DestinationKind.PAYPAL}),
        steps=(Step.TRANSFER, Step.PAYOUT) if two_steps else (Step.PAYOUT,),
        key_seconds=key_seconds,
        key_use_seconds=key_use_seconds,
        finds=two_steps,
        list_proves_absence=two_steps,
        reads_payees=False,
        return_window_seconds=window,
        cancels=not two_steps,
        sources={"all": "this simulation"},
    )


def account_with_payouts(account: Account, facts: PayoutCapabilities) -> Account:
    """Return the account with these payouts."""
    offered = PayoutEntry(capabilities=facts, make=_made_by_the_wiring, transfer_hint=_hint)
    entry = replace(account.entry, payouts=offered)
    return replace(account, entry=entry)


def payouts_only_account(model: Account, facts: PayoutCapabilities) -> Account:
    """Return an account that only pays out, after the model of another account."""
    entry: ProcessorEntry = replace(model.entry, name=ONE_STEP, payouts=None)
    return account_with_payouts(Account(name=ONE_STEP, entry=entry, settings=AccountSettings()), facts)


def _made_by_the_wiring(name: str, settings: object, timeout_seconds: float) -> PayoutRoute:
    raise AssertionError("the schedule makes the route itself")


__all__ = [
    "EVENT_KIND",
    "SimulatedRoute",
    "account_with_payouts",
    "event_body",
    "payout_capabilities",
    "payouts_only_account",
]
