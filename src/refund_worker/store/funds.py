"""Money at each processor account: what was read of it last, and what our unfinished refunds still need of it.

`payouts/needs.py` has the needs of payouts. Both go on after a top-up by `requeue_funded`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, and_, case, exists, func, or_, select, update

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.legs import UNREACHABLE
from refund_worker.domain.payouts.payout import PAYOUT_OPEN
from refund_worker.domain.refund import NON_FINAL, LegStatus, RefundStatus
from refund_worker.domain.state_machine import TO_BE_SENT
from refund_worker.store.database import insert_into, locked
from refund_worker.store.payouts.payouts import requeue_legs
from refund_worker.store.tables import (
    attempts,
    balance_readings,
    events,
    funds,
    legs,
    payees,
    payout_attempts,
    payout_legs,
    payouts,
    refund_objects,
    refunds,
)

QUEUED, APPROVED, BLOCKED, AWAITING = NEEDS = ("queued", "approved", "blocked", "awaiting_approval")
# Refunds and payouts that go on at once after a top-up. The rest follows at the next reading.
REQUEUE_MAX = 500
# A leg is tried up to this often while the readings show no rise: money can go and come back between two of them.
TRIES_WITHOUT_RISE = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """The last reading of a balance. Times are epoch seconds.

    `tried_at` is the last try, `read_at` the last that succeeded, `problem` why the last try failed.
    """

    tried_at: float
    read_at: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Fund:
    """One currency of an account, as last read, in minor units.

    `rose_at` is when a reading last found more than the one before. `short_since` is when our refunds began to need
    more than is available, None while they do not.
    """

    available_minor: int
    pending_minor: int
    rose_at: float
    short_since: float | None


def readings(connection: Connection) -> dict[str, Reading]:
    """Return the last reading of each processor's balance."""
    rows = connection.execute(select(balance_readings))
    return {row.processor: Reading(row.tried_at, row.read_at, row.problem) for row in rows}


def funds_of(connection: Connection, processor: str | None = None) -> dict[tuple[str, str], Fund]:
    """Return the funds by (processor, currency), of one processor or of all."""
    query = select(funds) if processor is None else select(funds).where(funds.c.processor == processor)
    return {
        (row.processor, row.currency): Fund(row.available_minor, row.pending_minor, row.rose_at, row.short_since)
        for row in connection.execute(query)
    }


def store_failed_reading(connection: Connection, processor: str, at: float, problem: str) -> None:
    """Store that the balance could not be read. The last good reading stays, with its time."""
    insert = insert_into(connection, balance_readings).values(processor=processor, tried_at=at, problem=problem)
    changes = {"tried_at": at, "problem": problem}
    connection.execute(insert.on_conflict_do_update(index_elements=["processor"], set_=changes))


def store_reading(connection: Connection, processor: str, at: float, found: Mapping[str, Fund]) -> None:
    """Replace what is stored of this account by a reading at `at`: `found` by currency."""
    values = {"tried_at": at, "read_at": at, "problem": None}
    insert = insert_into(connection, balance_readings).values(processor=processor, **values)
    connection.execute(insert.on_conflict_do_update(index_elements=["processor"], set_=values))
    connection.execute(funds.delete().where(funds.c.processor == processor))
    rows = [
        {
            "processor": processor,
            "currency": currency,
            "available_minor": fund.available_minor,
            "pending_minor": fund.pending_minor,
            "rose_at": fund.rose_at,
            "short_since": fund.short_since,
        }
        for currency, fund in found.items()
    ]
    if rows:
        connection.execute(funds.insert(), rows)


def needs(connection: Connection, low_balance_codes: Collection[str]) -> dict[tuple[str, str], dict[str, int]]:
    """Return, by (processor, currency), the minor units that unfinished refunds need, for each of `NEEDS`.

    A call that is under way, or whose outcome is unknown, is not counted: the processor may have taken its money
    already. Nor is a leg that a person or a dispute stops: it is not sent when the money is there. A refund that the
    processor keeps pending for one of `low_balance_codes` counts as blocked.

    A leg that a payout is to pay needs the money at its payee's account. Once there is a payout, the leg waits for it.
    """
    r, leg, event = refunds.c, legs.c, events.c
    was_approved = exists().where(event.refund_id == r.refund_id, event.kind == "refund_approved")
    of_approval = r.status == RefundStatus.AWAITING_APPROVAL
    is_blocked = leg.status == LegStatus.BLOCKED
    goes_on = or_(leg.attention.is_(None), leg.attention.in_((*low_balance_codes, UNREACHABLE)))
    need = case((of_approval, AWAITING), (is_blocked, BLOCKED), (was_approved, APPROVED), else_=QUEUED).label("need")
    waits_there = and_(
        leg.status == LegStatus.PENDING,
        exists().where(refund_objects.c.leg_id == leg.leg_id, refund_objects.c.pending_reason.in_(low_balance_codes)),
    )
    account = case((leg.processor == PAYOUT, payees.c.processor), else_=leg.processor).label("processor")
    its_payee = and_(leg.processor == PAYOUT, payees.c.payee_id == leg.processor_payment_id)
    classed = (
        select(
            account,
            leg.currency,
            case((leg.status == LegStatus.PENDING, BLOCKED), else_=need).label("need"),
            leg.amount_minor,
        )
        .join(refunds, r.refund_id == leg.refund_id)
        .outerjoin(payees, its_payee)
        .where(r.status.in_(NON_FINAL), or_(and_(leg.status.in_(TO_BE_SENT), goes_on), waits_there))
        .subquery()
    )
    c = classed.c
    query = select(c.processor, c.currency, c.need, func.sum(c.amount_minor)).group_by(c.processor, c.currency, c.need)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for processor, currency, name, minor in connection.execute(query):
        found.setdefault((processor, currency), dict.fromkeys(NEEDS, 0))[name] = int(minor)
    return found


@dataclass(frozen=True, slots=True)
class _Legs:
    """The legs of refunds or of payouts: their tables, and the names of the columns that differ."""

    table: Table
    attempts: Table
    owner: str
    attention: str

    def waiting(self, processor: str, codes: Collection[str]) -> tuple[ColumnElement[bool], ...]:
        """Return the conditions of the legs that this account's balance stopped with one of the codes."""
        leg = self.table.c
        return leg.processor == processor, leg.status == LegStatus.BLOCKED, leg[self.attention].in_(codes)


_OF_REFUNDS = _Legs(legs, attempts, "refund_id", "attention")
_OF_PAYOUTS = _Legs(payout_legs, payout_attempts, "payout_id", "attention_code")


class _WaitingLeg(NamedTuple):
    kind: _Legs
    owner_id: str
    leg_id: str
    amount_minor: int

    @property
    def age(self) -> tuple[str, str]:
        """Return a key by which the oldest come first: after its prefix, an id of ours sorts by time."""
        return self.owner_id.partition("_")[2], self.leg_id


def requeue_funded(
    connection: Connection,
    processor: str,
    read_at: float,
    found: Mapping[str, Fund],
    codes: Collection[str],
    now: float,
    *,
    payout_codes: Collection[str] = (),
) -> Sequence[str]:
    """Make due now what waits for money and fits into what was available at `read_at`; return the ids.

    These are refunds that wait with one of `codes`, and payouts that wait with one of `payout_codes`. A leg is tried
    after each rise of the balance, and after readings without a rise until it was tried `TRIES_WITHOUT_RISE` times
    since the last one: the processor may refuse it although the money seems to be there. The oldest come first, and a
    smaller one may pass a larger one that does not fit.
    """
    fitting: list[_WaitingLeg] = []
    for currency, fund in found.items():
        left = fund.available_minor
        waiting = [
            each
            for kind, its in ((_OF_REFUNDS, codes), (_OF_PAYOUTS, payout_codes))
            for each in _waiting_legs(connection, kind, (processor, currency), its, fund, read_at, now)
        ]
        for leg in sorted(waiting, key=lambda each: each.age)[:REQUEUE_MAX]:
            if leg.amount_minor <= left:
                left -= leg.amount_minor
                fitting.append(leg)
    refunds_due = [leg for leg in fitting if leg.kind is _OF_REFUNDS]
    payouts_due = [leg for leg in fitting if leg.kind is _OF_PAYOUTS]
    return [
        *_requeue_refunds(connection, refunds_due, _OF_REFUNDS.waiting(processor, codes), now),
        *requeue_legs(
            connection,
            {leg.leg_id: leg.owner_id for leg in payouts_due},
            and_(*_OF_PAYOUTS.waiting(processor, payout_codes)),
            now,
        ),
    ]


def _waiting_legs(
    connection: Connection,
    kind: _Legs,
    account: tuple[str, str],
    codes: Collection[str],
    fund: Fund,
    read_at: float,
    now: float,
) -> list[_WaitingLeg]:
    """Return the legs that may be tried now, each small enough for the fund, oldest first; `account` has a currency."""
    if not codes:
        return []
    (processor, currency), leg = account, kind.table.c
    owner = leg[kind.owner]
    query = (
        select(owner, leg.leg_id, leg.amount_minor)
        .where(*kind.waiting(processor, codes), _may_be_tried(kind, fund, read_at))
        .where(leg.currency == currency, leg.amount_minor <= max(0, fund.available_minor))
        .where(or_(leg.next_at.is_(None), leg.next_at > now))
        .order_by(owner, leg.leg_id)
        .limit(REQUEUE_MAX)
    )
    if kind is _OF_PAYOUTS:
        # Only the first leg takes money of the account; the ended payouts of years are not searched.
        of_open = owner.in_(select(payouts.c.payout_id).where(payouts.c.status.in_(PAYOUT_OPEN)))
        query = query.where(of_open, leg.number == 1)
    return [_WaitingLeg(kind, *row) for row in connection.execute(query)]


def _requeue_refunds(
    connection: Connection, fitting: Sequence[_WaitingLeg], waiting: Sequence[ColumnElement[bool]], now: float
) -> Sequence[str]:
    """Make these legs of refunds due now, those that still wait; return the ids of the refunds."""
    if not fitting:
        return ()
    ids = sorted({leg.owner_id for leg in fitting})
    # Lock the refunds first, as all others do: a process that has claimed one would write its legs back unchanged.
    of_it = refunds.c.refund_id.in_(ids)
    connection.execute(locked(connection, select(refunds.c.refund_id).where(of_it).order_by(refunds.c.refund_id)))
    still = (legs.c.leg_id.in_([leg.leg_id for leg in fitting]), *waiting)
    connection.execute(update(legs).where(*still).values(next_at=now, held=True, looked_at=None))
    later = or_(refunds.c.due_at.is_(None), refunds.c.due_at > now)
    connection.execute(update(refunds).where(of_it, later).values(due_at=now, version=refunds.c.version + 1))
    return ids


def _may_be_tried(kind: _Legs, fund: Fund, read_at: float) -> ColumnElement[bool]:
    last, sent = kind.table.c.last_sent_at, kind.attempts.c
    tries = (
        select(func.count())
        .where(sent.leg_id == kind.table.c.leg_id, sent.last_sent_at >= fund.rose_at)
        .correlate(kind.table)
        .scalar_subquery()
    )
    return or_(last.is_(None), last < fund.rose_at, and_(last < read_at, tries < TRIES_WITHOUT_RISE))
