"""Payees: recorded and changed by the admin backend, paused and resumed by people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.account_names import connected_of
from refund_worker.domain.decision import Event
from refund_worker.domain.payouts.destination import Destination, DestinationKind, read_destination
from refund_worker.domain.payouts.payee import Payee, PayeeRecord
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import run_again_once
from refund_worker.errors import (
    AlreadyRecorded,
    DestinationNotPayable,
    DestinationsKeyMissing,
    NotFound,
    ProcessorAccountUnknown,
    UnknownCustomer,
)
from refund_worker.sealing import Box
from refund_worker.store import accounts, timeline
from refund_worker.store.payouts import payees, payouts
from refund_worker.store.payouts.payees import DestinationNames
from refund_worker.store.payouts.sealed import KEY_SETTING, open_sealed

# Called with the changed payee and the names of what differs, in the transaction that changes who gets the money, or
# where: it cancels what is unsent.
CancelUnsent = Callable[[Connection, Payee, frozenset[str], str], None]
# The fields whose change cancels all that is unsent. Of another customer, it cancels the credits of the old one.
CHANGES_DESTINATION = frozenset({"destination", "processor_account", "currency"})


def cancel_nothing(_connection: Connection, _payee: Payee, _differences: frozenset[str], _actor: str) -> None:
    """Cancel nothing: there are no payouts."""


def record_payee(context: Context, record: PayeeRecord, *, actor: str) -> tuple[Payee, bool]:
    """Store a new payee; return it, and False if it was stored before with the same body.

    Raises `AlreadyRecorded` for another body, `ProcessorAccountUnknown`, `DestinationNotPayable`,
    `DestinationsKeyMissing` and `UnknownCustomer`.
    """

    def work(connection: Connection) -> tuple[Payee, bool]:
        now = context.clock(connection)
        placed = replace(record, customer_id=_survivor(connection, record.customer_id))
        stored = payees.load(connection, [record.payee_id], lock=True).get(record.payee_id)
        if stored is not None:
            if _differences(connection, context.box, stored, placed):
                raise AlreadyRecorded(f"payee {record.payee_id} is already recorded with another body")
            return stored, False
        check_payable(context, placed)
        payee = _new(context, placed, now)
        payees.insert_payee(connection, payee, _names(context.box, record.destination))
        _note(connection, payee, Event("payee_recorded", actor), now, destination=payee.destination_masked)
        return payee, True

    return run_again_once(context, work)


def change_payee(
    context: Context, record: PayeeRecord, *, actor: str, cancel_unsent: CancelUnsent = cancel_nothing
) -> Payee:
    """Replace what is stored of the payee; the same body again changes nothing.

    Another destination, or another account that pays to it, is a new destination: it gets an id of its own, nothing is
    paid there before the cool-down has passed, and `cancel_unsent` is called. So it is for another currency, and
    for another customer.

    Raises `NotFound`, and the errors of `record_payee` about the account, the destination and the customer.
    """

    def work(connection: Connection) -> Payee:
        now = context.clock(connection)
        placed = replace(record, customer_id=_survivor(connection, record.customer_id))
        stored = load_payee(connection, record.payee_id, lock=True)
        differences = _differences(connection, context.box, stored, placed)
        if not differences:
            return stored
        check_payable(context, placed)
        payee = replace(
            stored,
            customer_id=placed.customer_id,
            processor=placed.processor,
            currency=placed.currency,
            country=placed.country,
            method=placed.method,
            version=stored.version + 1,
            updated_at=now,
        )
        names = None
        if differences & {"destination", "processor_account"}:
            payee = _with_destination(context, payee, record.destination, now)
            names = _names(context.box, record.destination)
        payees.write_payee(connection, payee, names)
        changed = ", ".join(sorted(differences))
        detail = {"changed": changed, "destination": payee.destination_masked}
        _note(connection, payee, Event("payee_changed", actor), now, **detail)
        if differences & {*CHANGES_DESTINATION, "customer_id"}:
            cancel_unsent(connection, payee, differences, actor)
        return payee

    return run_again_once(context, work)


def check_payable(context: Context, record: PayeeRecord) -> None:
    """Check that the account has payouts to this kind of destination, and that the destination can be stored.

    Raises `ProcessorAccountUnknown`, `DestinationNotPayable` or `DestinationsKeyMissing`.
    """
    account = None if connected_of(record.processor) else context.accounts.get(record.processor)
    if account is None:
        told = f"there is no account {record.processor} here: it is one of {', '.join(context.accounts)}"
        raise ProcessorAccountUnknown(told, field="processor_account")
    kind, offer = record.destination.kind, account.entry.payouts
    if offer is None:
        raise DestinationNotPayable(f"{record.processor} has no payouts", field="processor_account")
    kinds, methods = offer.capabilities.kinds, offer.capabilities.methods
    if kind not in kinds:
        told = f"{record.processor} pays to {', '.join(sorted(kinds))}, and not to {kind}"
        raise DestinationNotPayable(told, field="destination")
    if record.method not in methods:
        told = f"{record.processor} pays {', '.join(sorted(methods))}, and not {record.method}"
        raise DestinationNotPayable(told, field="method")
    if kind is DestinationKind.BANK and not context.box.has_key:
        told = f"bank accounts are stored only sealed: set {KEY_SETTING} to 32 random bytes in base64"
        raise DestinationsKeyMissing(told, field="destination")


def pause_payee(context: Context, payee_id: str, *, actor: str, reason: str) -> Payee:
    """Pay nothing to the payee until it is resumed; a second pause changes nothing. Raises `NotFound`."""
    return _switch(context, payee_id, actor, reason, pause=True)


def resume_payee(context: Context, payee_id: str, *, actor: str, reason: str) -> Payee:
    """End a person's pause; one of a payee that is not paused changes nothing. Raises `NotFound`."""
    return _switch(context, payee_id, actor, reason, pause=False)


def _switch(context: Context, payee_id: str, actor: str, reason: str, *, pause: bool) -> Payee:
    def work(connection: Connection) -> Payee:
        now = context.clock(connection)
        stored = load_payee(connection, payee_id, lock=True)
        if (stored.paused_by is not None) == pause:
            return stored
        payee = replace(
            stored,
            paused_by=actor if pause else None,
            paused_at=now if pause else None,
            pause_reason=reason if pause else None,
            version=stored.version + 1,
            updated_at=now,
        )
        payees.write_payee(connection, payee)
        if not pause:
            payouts.requeue_held(connection, [payee_id], now)
        _note(connection, payee, Event("payee_paused" if pause else "payee_resumed", actor, reason=reason), now)
        return payee

    return context.database.run(work)


def reveal_destination(context: Context, payee_id: str, *, actor: str) -> dict[str, str]:
    """Return the whole destination, in the form of the API. The read is noted in the payee's timeline.

    Raises `NotFound`, and `DestinationsKeyMissing` if its key is not set here.
    """

    def work(connection: Connection) -> dict[str, str]:
        now = context.clock(connection)
        payee = load_payee(connection, payee_id, lock=True)
        destination = open_destination(context.box, payee)
        _note(connection, payee, Event("destination_read", actor), now, destination_id=payee.destination_id)
        return destination.as_fields()

    return context.database.run(work)


def open_destination(box: Box, payee: Payee) -> Destination:
    """Return the payee's destination. Raises `DestinationsKeyMissing` if it was sealed with a key that is not here."""
    fields: Mapping[str, str] = json.loads(open_sealed(box, payee.destination_box, f"payee {payee.payee_id}"))
    return read_destination(fields)


def load_payee(connection: Connection, payee_id: str, *, lock: bool = False) -> Payee:
    """Return the payee. Raises `NotFound`."""
    found = payees.load(connection, [payee_id], lock=lock).get(payee_id)
    if found is None:
        raise NotFound(f"payee {payee_id} is not known")
    return found


def _survivor(connection: Connection, customer_id: str | None) -> str | None:
    """Return the id of the customer, after merges. Raises `UnknownCustomer`."""
    if customer_id is None:
        return None
    account = accounts.find_customer(connection, accounts.survivor_of(connection, customer_id))
    if account is None:
        raise UnknownCustomer(f"customer {customer_id} is not known", field="customer_id")
    return account.customer_id


def _differences(connection: Connection, box: Box, stored: Payee, record: PayeeRecord) -> frozenset[str]:
    """Return the names of the fields that are stored with another value."""
    owner = stored.customer_id and accounts.survivor_of(connection, stored.customer_id)
    pairs = {
        "customer_id": (owner, record.customer_id),
        "processor_account": (stored.processor, record.processor),
        "currency": (stored.currency, record.currency),
        "country": (stored.country, record.country),
        "method": (stored.method, record.method),
    }
    found = {name for name, (before, after) in pairs.items() if before != after}
    fingerprint = payees.hash_of_destination(connection, stored.payee_id) or ""
    return frozenset(found if box.matches(_text(record.destination), fingerprint) else {*found, "destination"})


def _new(context: Context, record: PayeeRecord, now: float) -> Payee:
    payee = Payee(
        payee_id=record.payee_id,
        customer_id=record.customer_id,
        processor=record.processor,
        currency=record.currency,
        country=record.country,
        method=record.method,
        destination_id="",
        destination_kind=record.destination.kind,
        destination_box="",
        destination_masked="",
        destination_changed_at=now,
        created_at=now,
        updated_at=now,
    )
    return _with_destination(context, payee, record.destination, now)


def _with_destination(context: Context, payee: Payee, destination: Destination, now: float) -> Payee:
    """Return the payee with another destination, of which neither a verdict nor a failure is known."""
    return replace(
        payee,
        destination_id=context.new_id("dst"),
        destination_kind=destination.kind,
        destination_box=context.box.seal(_text(destination)),
        destination_masked=destination.masked,
        destination_ref=_names(context.box, destination).ref,
        destination_changed_at=now,
        destination_failure=None,
        verdict=None,
        verdict_reason=None,
        verdict_needs=(),
        verdict_act_by=None,
        verdict_read_at=None,
    )


def _names(box: Box, destination: Destination) -> DestinationNames:
    return DestinationNames(box.fingerprint(_text(destination)), destination.account or destination.payer_id)


def _text(destination: Destination) -> str:
    return json.dumps(destination.as_fields(), sort_keys=True)


def _note(connection: Connection, payee: Payee, event: Event, now: float, **detail: str) -> None:
    told = replace(event, detail={"payee_id": payee.payee_id, **detail})
    timeline.insert_events_about(connection, [(payee.payee_id, told)], now)
