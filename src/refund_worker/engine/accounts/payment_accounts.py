"""Find the account at a processor to which a payment belongs, before the payment is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from refund_worker.domain.account_names import connected_name, platform_of, processor_of
from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.context import Context
from refund_worker.errors import (
    InvalidRequest,
    ProcessorAccountMissing,
    ProcessorAccountUnknown,
    RefundWorkerError,
    WrongField,
)
from refund_worker.store import payment_refs, payments


def with_accounts(
    connection: Connection, context: Context, records: Sequence[PaymentRecord]
) -> list[PaymentRecord | RefundWorkerError]:
    """Return each record with the name of its account as `processor`, or the error that says what is wrong.

    The account is the one that the record names, or else the only one of its processor. Where there are several, a
    payment that is recorded already keeps its own. A processor of which there is no account keeps its name: a person
    pays its refunds. A payment that recorded itself names its account.
    """
    several = [record for record in records if _is_ambiguous(context, record)]
    stored = _stored_accounts(connection, several) if several else {}
    return [_placed(context, record, stored.get(record.payment_id)) for record in records]


def _is_ambiguous(context: Context, record: PaymentRecord) -> bool:
    asked = record.asked_account or record.recorded_by
    return asked is None and len(context.accounts.of_processor(record.processor)) > 1


def _stored_accounts(connection: Connection, records: Sequence[PaymentRecord]) -> dict[str, str]:
    ids = {record.payment_id for record in records}
    aliases = payment_refs.payments_of_aliases(connection, ids)
    stored = payments.payments_by_id(connection, [*ids, *aliases.values()])
    named = ((each, stored.get(aliases.get(each, each))) for each in ids)
    return {each: platform_of(payment.processor) for each, payment in named if payment is not None}


def _placed(context: Context, record: PaymentRecord, stored: str | None) -> PaymentRecord | RefundWorkerError:
    if record.recorded_by is not None:
        return record
    account = _account_of(context, record, stored)
    if isinstance(account, RefundWorkerError):
        return account
    entry = context.accounts.entry_of(account)
    is_connected = (record.connect_account, record.connect_reverse_transfer, record.connect_refund_application_fee)
    if any(part is not None for part in is_connected) and not (entry is not None and entry.capabilities.connects):
        return _wrong("connect", f"{account} has no connected accounts")
    if record.connect_account is not None and not record.connect_reverse_transfer:
        account = connected_name(account, record.connect_account)
    return replace(record, processor=account, asked_account=None)


def _account_of(context: Context, record: PaymentRecord, stored: str | None) -> str | RefundWorkerError:
    asked, known = record.asked_account, context.accounts.of_processor(record.processor)
    if asked is not None:
        if processor_of(asked) != record.processor:
            return _wrong("processor_account", f"must be an account of the processor {record.processor}")
        if asked not in known:
            return ProcessorAccountUnknown(_listed(f"there is no account {asked}", known), field="processor_account")
        return asked
    if len(known) == 1:
        return known[0]
    if not known or stored is not None:
        return stored or record.processor
    return ProcessorAccountMissing(
        _listed(f"{record.processor} has several accounts", known), field="processor_account"
    )


def _listed(problem: str, known: Sequence[str]) -> str:
    return f"{problem}: name one of {', '.join(known)}" if known else f"{problem} here"


def _wrong(field: str, wrong: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {wrong}", field=field, errors=(WrongField(field, wrong, f"#/{field}"),))
