"""Compare one month of our ledger with the processor's balance transactions, object by object and in sum.

Both sides meet in a private scratch database, so that any number of objects needs little memory. No transaction is open
during a call. Nothing is stored, and nothing is mended: a reconciliation does that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from refund_worker.domain.balance_transactions import (
    DISAGREEMENTS,
    BalanceTransaction,
    Cause,
    Difference,
    TransactionsPage,
    kind_of,
)
from refund_worker.domain.claims.claim import ClaimKind
from refund_worker.domain.processor_replies import Answer, NotReadable
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.booked_objects import Booked, key_of_claim, key_of_leg, known_objects
from refund_worker.engine.processor_sync.listing import ask_one
from refund_worker.processors.base import ReadsTransactions
from refund_worker.store.object_ownership import RecordedObject, legs_of_objects
from refund_worker.store.reporting import booked
from refund_worker.store.reporting.compared_sums import Compared, ComparedSums, Side

MOVEMENTS_AT_ONCE = 1_000
OBJECTS_AT_ONCE = 200
DETAILS_MAX = 10_000  # of each kind of difference; all are counted and summed
NO_CALL = "this adapter has no such call"
NOT_SET_UP = "its access is not set up here"


class State(StrEnum):
    """The result of a comparison."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    NOT_READABLE = "not_readable"
    NOT_ANSWERED = "not_answered"


@dataclass(frozen=True, slots=True)
class Total:
    """The money that left the account in the month for refunds and disputes, less the money that came back."""

    currency: str
    objects: int
    ledger_minor: int
    processor_minor: int


@dataclass(frozen=True, slots=True)
class DifferenceSum:
    """All differences of one kind in one currency."""

    currency: str
    kind: Difference
    objects: int
    ledger_minor: int
    processor_minor: int


@dataclass(frozen=True, slots=True)
class DifferingObject:
    """One object whose sums in the month differ. A leg of ours can have several objects at the processor."""

    kind: Difference
    cause: Cause
    object_ids: tuple[str, ...]
    currency: str
    ledger_minor: int
    processor_minor: int
    refund_id: str | None
    claim_id: str | None
    payment_id: str | None


@dataclass(slots=True)
class Comparison:
    """The comparison of one processor account. `reason` says why an account was not compared.

    The totals differ by exactly the sums of all kinds. `differences` are the first objects of each kind.
    """

    processor_account: str
    state: State
    reason: str | None = None
    totals: list[Total] = field(default_factory=list)
    sums: list[DifferenceSum] = field(default_factory=list)
    differences: list[DifferingObject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Span:
    """The time to compare, in epoch seconds, without its end."""

    begin: float
    end: float


Progress = Callable[[int], None]


def no_progress(read: int) -> None:
    """Ignore the progress of a comparison."""


def compare_balance(context: Context, processor: str, span: Span, progress: Progress = no_progress) -> Comparison:
    """Compare the ledger's movements at the processor with its balance transactions of the same time."""
    adapter = context.processors.get(processor)
    if adapter is None:
        return Comparison(processor, State.NOT_READABLE, NOT_SET_UP)
    if not isinstance(adapter, ReadsTransactions):
        return Comparison(processor, State.NOT_READABLE, NO_CALL)
    account = _Account(context, processor, adapter)
    try:
        with closing(ComparedSums()) as sums:
            account.read_theirs(sums, span, progress)
            _read_ours(context, processor, span, sums)
            return _compared(account, sums)
    except _NotRead as failure:
        return Comparison(processor, failure.state, failure.reason)


class _NotRead(Exception):
    def __init__(self, reply: Answer) -> None:
        told = getattr(reply, "message", None) or getattr(reply, "reason", None) or getattr(reply, "code", "")
        self.reason = str(told)
        self.state = State.NOT_READABLE if isinstance(reply, NotReadable) else State.NOT_ANSWERED


@dataclass(frozen=True, slots=True)
class _Account:
    """The processor account that is asked, within its rate."""

    context: Context
    processor: str
    adapter: ReadsTransactions

    def _ask(self, call: Callable[[], Awaitable[Answer]]) -> TransactionsPage:
        reply = ask_one(self.context, self.processor, lambda _: call())
        if not isinstance(reply, TransactionsPage):
            raise _NotRead(reply)
        return reply

    def read_theirs(self, sums: ComparedSums, span: Span, progress: Progress) -> None:
        """Add all balance transactions of this time. Raises `_NotRead`."""
        since, until = (datetime.fromtimestamp(at, UTC) for at in (span.begin, span.end))
        after: str | None = None
        read = 0
        while True:
            place = after
            page = self._ask(lambda: self.adapter.balance_transactions(since, until, place))  # noqa: B023
            within = [each for each in page.transactions if since <= each.created_at < until]
            sums.add_theirs(_sides(self.context, self.processor, within))
            read += len(within)
            progress(read)
            if page.after is None:
                return
            after = page.after

    def whole_sum(self, object_ids: Collection[str], currency: str) -> int | None:
        """Return what left the account for these objects over all time, or None if not all of it is in this currency.

        Raises `_NotRead`.
        """
        found: dict[str, BalanceTransaction] = {}
        for object_id in object_ids:
            page = self._ask(lambda: self.adapter.balance_transactions_of(object_id))  # noqa: B023
            found |= {each.transaction_id: each for each in page.transactions if each.cause is not Cause.PAYMENT}
        if any(each.is_converted or each.currency != currency for each in found.values()):
            return None
        return -sum(each.amount_minor for each in found.values())


def _sides(context: Context, processor: str, transactions: Sequence[BalanceTransaction]) -> dict[str, Side]:
    """Return the part of each transaction, by its id. A refund object that is one of ours counts for its leg."""
    of_refunds = [each.object_id for each in transactions if each.cause is Cause.REFUND]
    with context.database.read() as connection:
        legs = legs_of_objects(connection, processor, of_refunds)
    found = {}
    for each in transactions:
        leg = legs.get(each.object_id) if each.cause is Cause.REFUND else None
        key = key_of_leg(leg.leg_id) if leg is not None else f"{each.cause}:{each.object_id}"
        found[each.transaction_id] = Side(
            key, each.currency, -each.amount_minor, each.payment_refs, each.installation, each.is_converted
        )
    return found


def _read_ours(context: Context, processor: str, span: Span, sums: ComparedSums) -> None:
    after: booked.Place | None = None
    while True:
        with context.database.read() as connection:
            found, after = booked.movements(connection, processor, span.begin, span.end, after, MOVEMENTS_AT_ONCE)
            outside = [each.object_id for each in found if each.claim_kind is ClaimKind.OUTSIDE_REFUND]
            legs = legs_of_objects(connection, processor, outside)
        sums.add_ours(Side(_key_of(each, legs), each.currency, each.minor) for each in found)
        if after is None:
            return


def _key_of(movement: booked.Movement, legs: Mapping[str, RecordedObject]) -> str:
    if movement.claim_kind is None:
        return key_of_leg(movement.leg_id)
    return key_of_claim(movement.claim_kind, movement.object_id, legs)


def _compared(account: _Account, sums: ComparedSums) -> Comparison:
    totals = [Total(currency, objects, ours, theirs) for currency, ours, theirs, objects in sums.totals()]
    counted: Counter[tuple[str, Difference]] = Counter()
    minor: dict[tuple[str, Difference], tuple[int, int]] = {}
    details: list[DifferingObject] = []
    for rows in sums.differing(OBJECTS_AT_ONCE):
        for each in _explained(account, rows):
            name = (each.currency, each.kind)
            counted[name] += 1
            ours, theirs = minor.get(name, (0, 0))
            minor[name] = ours + each.ledger_minor, theirs + each.processor_minor
            if counted[name] <= DETAILS_MAX:
                details.append(each)
    kinds = [
        DifferenceSum(currency, kind, counted[currency, kind], *minor[currency, kind]) for currency, kind in counted
    ]
    state = State.DISAGREES if any(each.kind in DISAGREEMENTS for each in kinds) else State.AGREES
    order = {kind: place for place, kind in enumerate(Difference)}
    kinds.sort(key=lambda each: (each.currency, order[each.kind]))
    details.sort(key=lambda each: (each.currency, order[each.kind]))
    return Comparison(account.processor, state, None, totals, kinds, details)


def _explained(account: _Account, rows: Sequence[Compared]) -> list[DifferingObject]:
    with account.context.database.read() as connection:
        known = known_objects(connection, account.processor, rows)
    return [_differing(account, row, known) for row in rows]


# Kinds that no sum of other months can change.
_SURE_AT_ONCE = frozenset({Difference.CONVERTED, Difference.NOT_RECORDED, Difference.OTHER_INSTALLATION})


def _differing(account: _Account, row: Compared, known: Mapping[str, Booked]) -> DifferingObject:
    its = known[row.key]
    kind = kind_of(its.known, row.theirs_minor, is_converted=row.is_converted)
    if kind not in _SURE_AT_ONCE and its.may_be_asked:
        # The processor may have the rest, or more, in another month.
        theirs = account.whole_sum(its.object_ids, row.currency)
        kind = kind_of(its.known, theirs or 0, is_converted=theirs is None)
    return DifferingObject(
        kind,
        its.cause,
        its.object_ids,
        row.currency,
        row.ours_minor,
        row.theirs_minor,
        its.refund_id,
        its.claim_id,
        its.payment_id,
    )
