"""Payments that were made elsewhere, recorded here; each adds the purchased credits to the customer's balance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain import ledger
from refund_worker.domain.claims.claim import earlier_refund
from refund_worker.domain.ledger import Posting
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.claims import Terms, match_claims
from refund_worker.engine.accounts.fraud_warnings import match_warnings
from refund_worker.engine.accounts.payment_accounts import with_accounts
from refund_worker.engine.accounts.recorded_again import ClosedRecords
from refund_worker.engine.context import Context
from refund_worker.engine.idempotency import run_again_once
from refund_worker.engine.notifications.claim_messages import announce_claims
from refund_worker.errors import AlreadyRecorded, InvalidRequest, RefundWorkerError, WrongField
from refund_worker.store import accounts, claims, payment_refs, payments
from refund_worker.store import ledger as ledger_store
from refund_worker.store.locks import LockedTooFew
from refund_worker.times import DAY, to_millisecond

FUTURE_SECONDS_MAX = DAY
NO_NAMES: Mapping[str, Sequence[str]] = {}


@dataclass(frozen=True, slots=True)
class Recorded:
    """Result for one stored record; `new` is False if it was already stored with the same body."""

    new: bool


def record_payments(
    context: Context, records: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]] = NO_NAMES
) -> list[Recorded | RefundWorkerError]:
    """Store payments in one commit; each raises its customer's balance. Return one answer for each record, in order.

    A record gets `ProcessorAccountMissing` or `ProcessorAccountUnknown` if its account cannot be found. It gets
    `AlreadyRecorded` if its id is stored with another body, or its processor payment belongs to another
    id, by any of the processor's ids for it. It gets `InvalidRequest` if a closed payment had its processor payment,
    and `refunded_minor` is less than what our refunds over that one have paid. A payment that recorded itself takes the
    first other id that names it with equal money, credits and customer, and both ids name it from then on. `names` are
    all ids that the processor has for a payment, by its payment_id, as far as they are known.
    """
    return run_again_once(context, lambda connection: _record_payments(connection, context, records, names))


def answers_to_known_ids(context: Context, records: Sequence[PaymentRecord]) -> dict[str, Recorded | RefundWorkerError]:
    """Return, by payment_id, the answers that `record_payments` has for records whose id is stored. Nothing changes."""
    with context.database.read() as connection:
        placed = with_accounts(connection, context, records)
        records = [record for record in placed if isinstance(record, PaymentRecord)]
        earlier = _Earlier.read(connection, records, NO_NAMES)
    stored = ((record, earlier.by_id(record.payment_id)) for record in records)
    return {r.payment_id: _same(same, r, is_named=earlier.names_it(same, r)) for r, same in stored if same is not None}


def _record_payments(
    connection: Connection, context: Context, given: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
) -> list[Recorded | RefundWorkerError]:
    placed = with_accounts(connection, context, given)
    records = [record for record in placed if isinstance(record, PaymentRecord)]
    answers = iter(_record_placed(connection, context, records, names))
    return [next(answers) if isinstance(record, PaymentRecord) else record for record in placed]


def _record_placed(
    connection: Connection, context: Context, records: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
) -> list[Recorded | RefundWorkerError]:
    now = context.clock(connection)
    records, locked = _lock_customers(connection, records, names)
    earlier = _Earlier.read(connection, records, names)
    # Only now, because a payment that is closed meanwhile is in neither if this is read first.
    closed = ClosedRecords.read(connection, records, names)
    if closed.owners - locked:
        raise LockedTooFew
    answers: list[Recorded | RefundWorkerError] = []
    new: list[PaymentRecord] = []
    aliases: list[tuple[str, str]] = []
    for record in records:
        same, owner = earlier.by_id(record.payment_id), earlier.by_ref(record)
        refused = not_in_future("captured_at", record.captured_at, now) or _unusable_id(context, record)
        if same is not None:
            answers.append(_same(same, record, is_named=earlier.names_it(same, record)))
        elif refused is not None:
            answers.append(refused)
        elif owner is None and (refusal := closed.refusal(connection, record)) is not None:
            answers.append(refusal)
        elif owner is None:
            earlier.add(record)
            new.append(record)
            answers.append(Recorded(new=True))
        elif owner.recorded_by and owner.payment_id not in earlier.named and _is_equal(owner, record):
            earlier.add_alias(record.payment_id, owner.payment_id)
            aliases.append((record.payment_id, owner.payment_id))
            answers.append(Recorded(new=False))
        else:
            told = f"{record.processor_payment_id} is already recorded as payment {owner.payment_id}"
            answers.append(AlreadyRecorded(told))
    _store_new(connection, context, new, names, closed, now)
    payment_refs.add_aliases(connection, aliases, now)
    for processor in {record.processor for record in new if record.payment_id in names}:
        groups = [names.get(record.payment_id, ()) for record in new if record.processor == processor]
        payment_refs.add_refs(connection, processor, groups)
    return answers


def _lock_customers(
    connection: Connection, records: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
) -> tuple[list[PaymentRecord], frozenset[str]]:
    """Lock the customers of the records, and those of closed payments under the same ids of the processor.

    Return the records, each with the customer who survived a merge, and the ids of the locked customers.
    """
    asked = {record.customer_id for record in records}
    locked = accounts.lock_customers(connection, asked | ClosedRecords.read(connection, records, names).owners)
    merged = accounts.survivors(connection, asked - locked.keys())
    records = [replace(record, customer_id=merged.get(record.customer_id, record.customer_id)) for record in records]
    return records, frozenset(locked)


def _store_new(
    connection: Connection,
    context: Context,
    new: Sequence[PaymentRecord],
    names: Mapping[str, Sequence[str]],
    closed: ClosedRecords,
    now: float,
) -> None:
    """Store the new payments, and let the claims on them that came before take their share."""
    # Before the purchases: a closing takes its share again, and none of the new credits.
    freed = [pair for record in new for pair in closed.free_claims(connection, record, Terms.of(context, now))]
    # Only customers of new payments: a refused payment must not leave an empty account behind.
    accounts.insert_missing_customers(connection, [r.customer_id for r in new], now)
    payments.insert_payments(connection, new, now)
    ledger_store.insert_postings(connection, [_purchase(record) for record in new])
    bought: dict[str, int] = {}
    for record in new:
        bought[record.customer_id] = bought.get(record.customer_id, 0) + record.credits
    accounts.add_purchases(connection, bought)
    claims.insert_claims(
        connection, [earlier_refund(record, context.new_id("cl"), now) for record in new if record.refunded_minor]
    )
    matched = match_claims(connection, new, names, Terms.of(context, now))
    announce_claims(connection, context, [*freed, *matched], now)
    match_warnings(connection, context, new, names, now)


@dataclass(slots=True)
class _Earlier:
    """The stored payments that new records may name, by payment_id; `aliases` and `refs` are their other names.

    `named` are the payments that recorded themselves and already have a second id. `freed` are the names that closed
    ones of them had, by payment_id.
    """

    names: Mapping[str, Sequence[str]]
    records: dict[str, PaymentRecord]
    aliases: dict[str, str]
    refs: dict[tuple[str, str], str]
    named: set[str]
    freed: Mapping[str, Collection[tuple[str, str]]]

    @classmethod
    def read(
        cls, connection: Connection, records: Sequence[PaymentRecord], names: Mapping[str, Sequence[str]]
    ) -> _Earlier:
        ids = {record.payment_id for record in records}
        aliases = payment_refs.payments_of_aliases(connection, ids)
        refs: dict[tuple[str, str], str] = {}
        for processor in {record.processor for record in records}:
            asked = [record for record in records if record.processor == processor]
            its = [ref for record in asked for ref in (record.processor_payment_id, *names.get(record.payment_id, ()))]
            found = payment_refs.payments_of_refs(connection, processor, its)
            refs |= {(processor, ref): payment_id for ref, payment_id in found.items()}
        stored = payments.payments_by_id(connection, [*ids, *aliases.values(), *refs.values()])
        themselves = [payment_id for payment_id, record in stored.items() if record.recorded_by]
        named = set(payment_refs.aliases_of(connection, themselves))
        return cls(names, stored, aliases, refs, named, claims.names_at_closing(connection, themselves))

    def by_id(self, payment_id: str) -> PaymentRecord | None:
        return self.records.get(self.aliases.get(payment_id, payment_id))

    def by_ref(self, record: PaymentRecord) -> PaymentRecord | None:
        refs = (record.processor_payment_id, *self.names.get(record.payment_id, ()))
        found = (self.refs.get((record.processor, ref)) for ref in refs)
        return self.records.get(next((payment_id for payment_id in found if payment_id), ""))

    def names_it(self, payment: PaymentRecord, record: PaymentRecord) -> bool:
        """Return True if the record has an id that this payment has at its processor, or had until it was closed."""
        ref = (record.processor, record.processor_payment_id)
        own = (payment.processor, payment.processor_payment_id)
        return self.by_ref(record) is payment or ref == own or ref in self.freed.get(payment.payment_id, ())

    def add(self, record: PaymentRecord) -> None:
        self.records[record.payment_id] = record
        for ref in (record.processor_payment_id, *self.names.get(record.payment_id, ())):
            self.refs.setdefault((record.processor, ref), record.payment_id)

    def add_alias(self, alias: str, payment_id: str) -> None:
        self.aliases[alias] = payment_id
        self.named.add(payment_id)


def not_in_future(field: str, at: float, now: float) -> InvalidRequest | None:
    """Return the refusal of a record whose time (epoch seconds) is more than a day after `now`, otherwise None.

    Such an entry would stay the newest of every list. A day allows for clocks that differ.
    """
    if at <= now + FUTURE_SECONDS_MAX:
        return None
    wrong = "must be at most a day from now: this record is about the past"
    return InvalidRequest(f"{field}: {wrong}", field=field, errors=(WrongField(field, wrong, f"#/{field}"),))


def _unusable_id(context: Context, record: PaymentRecord) -> InvalidRequest | None:
    """Return the refusal of an id that the account cannot have, otherwise None. It may be a secret: it is not shown."""
    entry = context.accounts.entry_of(record.processor)
    try:
        if entry is not None:
            entry.check_payment_id(record.processor_payment_id)
    except ValueError as error:
        field, wrong = "processor_payment_id", str(error)
        return InvalidRequest(f"{field}: {wrong}", field=field, errors=(WrongField(field, wrong, f"#/{field}"),))
    return None


def _same(earlier: PaymentRecord, record: PaymentRecord, *, is_named: bool) -> Recorded | RefundWorkerError:
    """Return the answer to a record whose id is stored. With `is_named`, its id at the processor is the payment's too.

    A payment that recorded itself may differ in the values that the admin backend knows better, such as the time.
    """
    if _with_defaults(earlier) == _with_defaults(record):
        return Recorded(new=False)
    if earlier.recorded_by and is_named and _is_equal(earlier, record):
        return Recorded(new=False)
    return AlreadyRecorded(f"payment {record.payment_id} is already recorded with another body")


def _is_equal(earlier: PaymentRecord, record: PaymentRecord) -> bool:
    """Return True if both have equal money, credits and customer. An amount that is not sent is not compared."""
    return (
        (earlier.customer_id, earlier.amount_minor, earlier.currency, earlier.credits)
        == (record.customer_id, record.amount_minor, record.currency, record.credits)
        and record.captured_minor in (None, earlier.captured_minor or earlier.amount_minor)
        and record.refunded_minor in (0, earlier.refunded_minor)
    )


def _with_defaults(record: PaymentRecord) -> PaymentRecord:
    """Return the record with the default of `captured_minor` filled in, so that both spellings of one body compare
    equal. Earlier versions stored a time more exactly than they showed it.
    """
    captured_minor = record.captured_minor or record.amount_minor
    record = replace(record, captured_minor=captured_minor, recorded_by=None)
    return replace(record, captured_at=to_millisecond(record.captured_at))


def _purchase(record: PaymentRecord) -> Posting:
    return ledger.purchase(
        payment_id=record.payment_id,
        customer_id=record.customer_id,
        processor=record.processor,
        credits=record.credits,
        amount_minor=record.amount_minor,
        currency=record.currency,
        at=record.captured_at,
    )
