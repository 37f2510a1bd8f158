"""Files for a bank without an API: made once and kept, and the bank's answers to them.

A file and the payouts in it are stored in one commit: a payout is in one file at most, and the same file can be fetched
again with the same bytes. Uploading it twice is the bank's to refuse, by the file's id.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial

from sqlalchemy import Connection

from refund_worker.domain.next_step import attempt_key
from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import PayoutDecision, SendTransfer, TransferReplied
from refund_worker.domain.payouts.files import keep_out_of_file, leg_for_file, put_into_file
from refund_worker.domain.payouts.next_step import DESTINATION_CHANGED, call_off_unsent, goes_to_an_old_destination
from refund_worker.domain.payouts.payee import PayeeStatus
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, changed_destination
from refund_worker.domain.payouts.transfers import TransferAnswered, TransferObject
from refund_worker.domain.refund import OBJECT_RANK
from refund_worker.engine.context import Context
from refund_worker.engine.payees.payees import open_sealed
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.locking import lock_payouts
from refund_worker.engine.payouts.orders import order_of_leg
from refund_worker.engine.payouts.replies import write_transfer_replies
from refund_worker.errors import InvalidRequest, NotFound, UnreadableFile
from refund_worker.processors.bank_file.answers import BadAnswer, BankAnswerRow, BankFileStatus, read_answer
from refund_worker.processors.bank_file.csv_file import csv_file
from refund_worker.processors.bank_file.entry import BankFileSettings
from refund_worker.processors.bank_file.payments import (
    BadFile,
    BadPayment,
    BankPayment,
    is_message_id_of,
    message_id,
    payment_of,
)
from refund_worker.processors.bank_file.route import BankFilePayouts
from refund_worker.store.installation import installation_id
from refund_worker.store.payouts import attempts, bank_files, payees, payouts
from refund_worker.store.payouts.bank_files import StoredFile

PAIN001, CSV = "pain.001", "csv"
FORMATS = (PAIN001, CSV)
PAYMENTS_MAX = 10_000  # of one file


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export: the file, or None if no payout waits, and the ids of payouts that a person must see."""

    file: StoredFile | None
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerResult:
    """The content of the bank's file: the number of it is about, the ids that are not ours, and the form."""

    form: str
    applied: int
    unknown: tuple[str, ...]


def export_file(
    context: Context, processor: str, *, form: str, actor: str, execution_date: date | None = None
) -> ExportResult:
    """Make one file of all payouts that wait for one at this account, in one commit. The bytes never change.

    `execution_date` is today (UTC) if it is not given. Raises `InvalidRequest` for an account or a form that makes no
    files, and `DestinationsKeyMissing`.
    """
    settings = _settings_of(context, processor, form)
    route = BankFilePayouts(name=processor)

    def work(connection: Connection) -> ExportResult:
        locked = lock_payouts(connection, bank_files.waiting(connection, processor, PAYMENTS_MAX))
        now = context.clock(connection)
        day = execution_date or datetime.fromtimestamp(now, UTC).date()
        file_id, installation = context.new_id("bf"), installation_id(connection)
        taken: list[tuple[Payout, PayoutLeg, BankPayment, str]] = []
        decisions: list[PayoutDecision] = []
        for payout in locked.payouts:
            leg, payee = leg_for_file(payout), locked.payees[payout.payee_id]
            if leg is None or payee.status is PayeeStatus.PAUSED:
                continue
            if goes_to_an_old_destination(payout, payee, context.payout_policy):
                builder = PayoutBuilder.open(payout, now, context.payout_policy, actor)
                call_off_unsent(builder, DESTINATION_CHANGED)
                decisions.append(builder.build().released())
                continue
            body = route.freeze(order_of_leg(context, payout, leg, installation, attempt_key(leg.leg_id, leg.attempt)))
            payment = payment_of(body)
            if (why := _why_not(payment, form)) is not None:
                decision = keep_out_of_file(payout, leg, why, now, context.payout_policy, actor=actor)
                decisions.append(decision.released())
            else:
                taken.append((payout, leg, payment, body))
        left_out = tuple(d.after.payout_id for d in decisions)
        file = _store(connection, context, processor, form, settings, taken, (file_id, actor, now, day))
        for payout, leg, payment, _ in taken:
            decisions.append(
                put_into_file(
                    payout, leg, file_id, payment.end_to_end_id, now, context.payout_policy, actor=actor
                ).released()
            )
        apply_payouts(connection, decisions, now, notify=context.notify)
        _begin_attempts(connection, context, decisions, taken)
        return ExportResult(file, left_out)

    return context.database.run(work)


def _settings_of(context: Context, processor: str, form: str) -> BankFileSettings:
    account = context.accounts.get(processor)
    if account is None or not isinstance(account.settings, BankFileSettings):
        raise InvalidRequest(f"{processor} is no account that is paid by files", field="processor_account")
    if form not in FORMATS:
        raise InvalidRequest(f"the form is one of {', '.join(FORMATS)}", field="form")
    if form == PAIN001 and account.settings.debtor is None:
        told = f"a {PAIN001} file needs debtor_name and debtor_iban of the account {processor}"
        raise InvalidRequest(told, field="form")
    return account.settings


def _why_not(payment: BankPayment, form: str) -> str | None:
    """Return why a file of this form cannot carry the payment, or None. The text has no bank number."""
    from refund_worker.processors.bank_file.pain001 import check_payment  # needs the extra `bank`

    try:
        if form == PAIN001:
            check_payment(payment)
        else:
            csv_file([payment], date(2000, 1, 1))
    except (BadPayment, BadFile) as error:
        return str(error)
    return None


def _store(
    connection: Connection,
    context: Context,
    processor: str,
    form: str,
    settings: BankFileSettings,
    taken: Sequence[tuple[Payout, PayoutLeg, BankPayment, str]],
    made: tuple[str, str, float, date],
) -> StoredFile | None:
    from refund_worker.processors.bank_file.pain001 import pain001_file  # needs the extra `bank`

    if not taken:
        return None
    file_id, actor, now, day = made
    payments = [payment for _, _, payment, _ in taken]
    if form == PAIN001:
        assert settings.debtor is not None
        at = datetime.fromtimestamp(int(now), UTC)
        content = pain001_file(payments, settings.debtor, message_id(file_id), at, day)
    else:
        content = csv_file(payments, day)
    currencies = {payment.currency for payment in payments}
    file = StoredFile(
        file_id=file_id,
        processor=processor,
        format=form,
        currency=currencies.pop() if len(currencies) == 1 else "",
        payments=len(payments),
        amount_minor=sum(payment.amount_minor for payment in payments),
        actor=actor,
        created_at=now,
    )
    bank_files.insert(connection, file, context.box.seal(base64.b64encode(content).decode()))
    return file


def _begin_attempts(
    connection: Connection,
    context: Context,
    decisions: Sequence[PayoutDecision],
    taken: Sequence[tuple[Payout, PayoutLeg, BankPayment, str]],
) -> None:
    after = {leg.leg_id: leg for d in decisions for leg in d.after.legs}
    attempts.begin_attempts(
        connection,
        [
            (
                SendTransfer(leg.leg_id, leg.processor, leg.attempt, attempt_key(leg.leg_id, leg.attempt)),
                after[leg.leg_id],
                context.box.seal(body),
            )
            for _, leg, _, body in taken
        ],
    )


def changed_since(context: Context, file_id: str) -> tuple[str, ...]:
    """Return the ids of the payouts in the file that may still be paid and whose payee has another destination by now.

    The file is kept as it is: a person who has not given it to the bank yet decides.
    """
    with context.database.read() as connection:
        inside = payouts.load(connection, bank_files.payouts_in(connection, file_id))
        now_at = payees.destinations(connection, {payout.payee_id for payout in inside})
    return tuple(payout.payout_id for payout in inside if changed_destination(payout, now_at) is not None)


def content_of(context: Context, file_id: str) -> tuple[StoredFile, bytes]:
    """Return a file and its bytes, always the same. Raises `NotFound` and `DestinationsKeyMissing`."""
    with context.database.read() as connection:
        found = bank_files.load(connection, file_id)
    if found is None:
        raise NotFound(f"file {file_id} is not known")
    file, sealed = found
    return file, base64.b64decode(open_sealed(context.box, sealed, f"file {file_id}"))


def import_answer(context: Context, processor: str, content: bytes) -> AnswerResult:
    """Apply the bank's answer to the payouts that it names, in one commit. The same file again changes nothing.

    Raises `UnreadableFile` for a file that is no answer; then nothing is changed.
    """
    try:
        answer = read_answer(content)
    except BadAnswer as error:
        raise UnreadableFile(str(error)) from None

    def work(connection: Connection) -> AnswerResult:
        now = context.clock(connection)
        ids = {row.end_to_end_id for row in answer.rows}
        places = bank_files.places(connection, processor, ids)
        replies = [_reply(places[row.end_to_end_id], row, now) for row in answer.rows if row.end_to_end_id in places]
        named = {place.leg_id for place in places.values()}
        for status in answer.files:
            replies += _of_whole_file(connection, processor, status, named, now)
        _write_in_order(connection, context, replies)
        unknown = tuple(sorted(ids - places.keys()))
        return AnswerResult(answer.form, len({reply.leg_id for reply in replies}), unknown)

    return context.database.run(work)


def _write_in_order(connection: Connection, context: Context, replies: list[TransferReplied]) -> None:
    """Write the replies as they happened, and last what a person must compare.

    One file may name a payment more than once, such as its payment and its return, in any order. Each step is written
    alone: a payout that came back was paid before.
    """
    # All at once: step by step they would not be locked in the order that `engine/payouts/locking.py` has.
    lock_payouts(connection, {reply.payout_id for reply in replies})
    steps: defaultdict[int, list[TransferReplied]] = defaultdict(list)
    for reply in replies:
        assert isinstance(reply.reply, TransferAnswered)
        state = reply.reply.object.state
        steps[len(OBJECT_RANK) if state is None else OBJECT_RANK[state]].append(reply)
    for _, step in sorted(steps.items()):
        write_transfer_replies(connection, context, step)


def _of_whole_file(
    connection: Connection, processor: str, status: BankFileStatus, named: set[str], now: float
) -> list[TransferReplied]:
    """Return the bank's word on a whole file, for each payment in it that no row names."""
    return [
        _reply(place, _row_of(status, place.object_id), now)
        for place in bank_files.places_in_file(connection, processor, partial(is_message_id_of, status.message_id))
        if place.leg_id not in named
    ]


def _reply(place: bank_files.Place, row: BankAnswerRow, now: float) -> TransferReplied:
    return TransferReplied(place.payout_id, place.leg_id, None, TransferAnswered(_object(row, place, now)))


def _row_of(status: BankFileStatus, end_to_end_id: str) -> BankAnswerRow:
    return BankAnswerRow(
        end_to_end_id=end_to_end_id,
        status=status.status,
        state=status.state,
        failure_code=status.failure_code,
        fault=status.fault,
        day=status.day,
    )


def _object(row: BankAnswerRow, place: bank_files.Place, now: float) -> TransferObject:
    """Return the bank's word as a transfer object. Where it names no amount, it is that of the payment."""
    return TransferObject(
        object_id=row.end_to_end_id,
        step=place.step,
        status=row.status,
        state=row.state,
        amount_minor=place.amount_minor if row.amount_minor is None else row.amount_minor,
        currency=place.currency if row.currency is None else row.currency,
        leg_id=place.leg_id,
        attempt=place.attempt,
        created_at=datetime.fromtimestamp(now, UTC),
        failure_code=row.failure_code,
        fault=row.fault,
        returned_minor=row.returned_minor,
        trace=row.trace,
    )
