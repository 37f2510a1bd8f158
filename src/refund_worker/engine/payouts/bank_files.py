"""Files for a bank without an API: made once and kept, and the bank's answers to them.

A file and the payouts in it are stored in one commit: a payout is in one file at most, and the same file can be fetched
again with the same bytes. Uploading it twice is the bank's to refuse, by the file's id.
"""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Final

from sqlalchemy import Connection

from refund_worker.domain.next_step import attempt_key
from refund_worker.domain.payouts.builder import PayoutBuilder
from refund_worker.domain.payouts.decision import PayoutDecision, SendTransfer, TransferReplied
from refund_worker.domain.payouts.files import keep_out_of_file, leg_for_file, put_into_file
from refund_worker.domain.payouts.next_step import DESTINATION_CHANGED, call_off_unsent, goes_to_an_old_destination
from refund_worker.domain.payouts.payee import Payee, PayeeStatus
from refund_worker.domain.payouts.payout import Payout, PayoutLeg, changed_destination
from refund_worker.domain.payouts.transfers import TransferAnswered, TransferObject
from refund_worker.domain.refund import OBJECT_RANK
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.apply import apply_payouts
from refund_worker.engine.payouts.locking import lock_payouts
from refund_worker.engine.payouts.orders import order_of_leg
from refund_worker.engine.payouts.replies import write_transfer_replies
from refund_worker.errors import InvalidRequest, NotFound, UnreadableFile
from refund_worker.processors.bank_file.answers import BadAnswer, BankAnswerRow, BankFileStatus, read_answer
from refund_worker.processors.bank_file.csv_file import csv_file
from refund_worker.processors.bank_file.entry import BankFileSettings
from refund_worker.processors.bank_file.payments import (
    SEPA_CURRENCY,
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
from refund_worker.store.payouts.erasures import NO_CONTENT
from refund_worker.store.payouts.sealed import open_sealed

PAIN001, CSV = "pain.001", "csv"
FORMATS = (PAIN001, CSV)
# The only currency that files of a form carry. Payouts in it come first, so that those that wait for another form never
# fill up all the places of a file.
CURRENCY_OF_FORM: Final[Mapping[str, str]] = {PAIN001: SEPA_CURRENCY}
PAYMENTS_MAX = 10_000  # of one file


@dataclass(frozen=True, slots=True)
class LeftForOtherForm:
    """A payout that waits on, because only a file of the form `form` can carry it, for the reason `reason`."""

    payout_id: str
    form: str
    reason: str


@dataclass(frozen=True, slots=True)
class ExportResult:
    """The result of an export: the file, or None if no payout was put into one.

    `left_out` are the ids of payouts that a person must see, because no file can carry them.
    """

    file: StoredFile | None
    left_out: tuple[str, ...] = ()
    left_for_other_form: tuple[LeftForOtherForm, ...] = ()


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

    A payout that only a file of another form can carry waits for that one. `execution_date` is today (UTC) if it is not
    given. Raises `InvalidRequest` for an account or a form that makes no files, and `DestinationsKeyMissing`.
    """
    settings = _settings_of(context, processor, form)

    def work(connection: Connection) -> ExportResult:
        first = CURRENCY_OF_FORM.get(form)
        locked = lock_payouts(connection, bank_files.waiting(connection, processor, PAYMENTS_MAX, first))
        now = context.clock(connection)
        day = execution_date or datetime.fromtimestamp(now, UTC).date()
        file_id = context.new_id("bf")
        export = _Export(context, processor, _forms(settings, form), actor, now, installation_id(connection))
        for payout in locked.payouts:
            export.add(payout, locked.payees[payout.payee_id])
        taken, decisions = export.taken, export.decisions
        file = _store(connection, context, processor, form, settings, taken, (file_id, actor, now, day))
        for payout, leg, payment, _ in taken:
            decisions.append(
                put_into_file(
                    payout, leg, file_id, payment.end_to_end_id, now, context.payout_policy, actor=actor
                ).released()
            )
        apply_payouts(connection, decisions, now, notify=context.notify)
        _begin_attempts(connection, context, decisions, taken)
        return ExportResult(file, tuple(export.left_out), tuple(export.left_for_other_form))

    return context.database.run(work)


class _Export:
    """Sorts the payouts that wait: those that the file takes, and the decisions about those that no file takes.

    The first of `forms` is the file's. A payout that another of them can carry is left alone.
    """

    def __init__(
        self, context: Context, processor: str, forms: Sequence[str], actor: str, now: float, installation: str
    ) -> None:
        self._context, self._forms, self._actor, self._now = context, forms, actor, now
        self._route, self._installation = BankFilePayouts(name=processor), installation
        self.taken: list[tuple[Payout, PayoutLeg, BankPayment, str]] = []
        self.decisions: list[PayoutDecision] = []
        self.left_out: list[str] = []
        self.left_for_other_form: list[LeftForOtherForm] = []

    def add(self, payout: Payout, payee: Payee) -> None:
        """Sort one payout. That of a paused payee waits."""
        leg, policy = leg_for_file(payout), self._context.payout_policy
        if leg is None or payee.status is PayeeStatus.PAUSED:
            return
        if goes_to_an_old_destination(payout, payee, policy):
            builder = PayoutBuilder.open(payout, self._now, policy, self._actor)
            call_off_unsent(builder, DESTINATION_CHANGED, code=DESTINATION_CHANGED)
            self.decisions.append(builder.build().released())
            return
        key = attempt_key(leg.leg_id, leg.attempt)
        body = self._route.freeze(order_of_leg(self._context, payout, leg, self._installation, key))
        payment = payment_of(body)
        reasons = {form: why for form in self._forms if (why := _why_not(payment, form)) is not None}
        why = reasons.get(self._forms[0])
        other = next((form for form in self._forms if form not in reasons), None)
        if why is None:
            self.taken.append((payout, leg, payment, body))
        elif other is not None:
            self.left_for_other_form.append(LeftForOtherForm(payout.payout_id, other, why))
        else:
            decision = keep_out_of_file(payout, leg, why, self._now, policy, actor=self._actor)
            self.decisions.append(decision.released())
            self.left_out.append(payout.payout_id)


def _forms(settings: BankFileSettings, first: str) -> list[str]:
    """Return the forms of files that this account can have, `first` before the others."""
    others = [form for form in FORMATS if form != first and (form != PAIN001 or settings.debtor is not None)]
    return [first, *others]


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
    """Return a file and its bytes, always the same, until a customer who is paid by it is erased.

    Raises `NotFound`, also for erased contents, and `DestinationsKeyMissing`.
    """
    with context.database.read() as connection:
        found = bank_files.load(connection, file_id)
    if found is None:
        raise NotFound(f"file {file_id} is not known")
    file, sealed = found
    content = open_sealed(context.box, sealed, f"file {file_id}")
    if content == NO_CONTENT:
        raise NotFound(f"the contents of file {file_id} were erased with a customer whom it paid")
    return file, base64.b64decode(content)


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
        named = set(places)
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
        if place.object_id not in named
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
