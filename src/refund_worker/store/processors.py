"""The kill switch of each processor: paused by a person, or by the circuit after a failure of our own set-up."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping, and_, bindparam, case, exists, func, or_, select

from refund_worker.domain.account_names import CONNECTED
from refund_worker.domain.timing import CLOCK_SLACK_SECONDS
from refund_worker.store import snapshots
from refund_worker.store.database import insert_into
from refund_worker.store.tables import events, legs, processors

# The kill switch of all processors, under a name that no processor has.
ALL = "all"


_PAUSED = select(processors.c.name, processors.c.paused_until).where(processors.c.paused_by.is_not(None))


def paused_processors(connection: Connection, now: float) -> dict[str, float | None]:
    """Return the names to which nothing may be sent at `now`, and until when (None: until a person resumes).

    `ALL` is the pause of all processors. Look-ups continue. Times are epoch seconds.
    """
    return {name: until for name, until in connection.execute(_PAUSED) if until is None or until > now}


def pause(
    connection: Connection, name: str, now: float, *, by: str, code: str, reason: str, until: float | None = None
) -> None:
    """Stop sending to `name`, until a time or until a person resumes it.

    A person's pause is never shortened by an automatic one. An automatic pause that is renewed for the same `code`
    keeps its `paused_at`, also if it ended shortly before.
    """
    p = processors.c
    insert = insert_into(connection, processors)
    values = {"paused_by": by, "paused_at": now, "paused_until": until, "code": code, "reason": reason}
    statement = insert.values(name=name, **values)
    if until is None:
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
    else:
        goes_on = and_(p.paused_by == by, p.code == code, p.paused_until > now - (until - now))
        begin = case((goes_on, p.paused_at), else_=now)
        where = p.paused_by.is_(None) | p.paused_until.is_not(None)
        renewed = statement.on_conflict_do_update(
            index_elements=["name"], set_={**values, "paused_at": begin}, where=where
        )
        connection.execute(renewed)
    snapshots.append_current_rows(connection, "processors", [name])


def is_new_cause(connection: Connection, name: str, code: str, since: float) -> bool:
    """Return True if people are to be alerted of a pause of `name` for `code`.

    They are not during a person's pause, or if they were alerted of this code since `since`.
    """
    p = processors.c
    known = select(p.name).where(p.name == name, p.paused_by.is_not(None))
    lasting = p.paused_until.is_(None) | ((p.code == code) & (p.alarmed_at > since))
    return connection.execute(known.where(lasting)).first() is None


def record_alarm(connection: Connection, name: str, at: float) -> None:
    """Record that people were alerted of the automatic pause of `name`."""
    connection.execute(processors.update().where(processors.c.name == name).values(alarmed_at=at))


def resume(connection: Connection, name: str, now: float) -> bool:
    """End the pause of `name` at `now`; return False if it was not paused.

    Sending begins again after the processor's refunds have been listed.
    """
    p = processors.c
    cleared = {"paused_by": None, "paused_at": None, "paused_until": now, "code": None, "reason": None}
    changed = connection.execute(processors.update().where(p.name == name, p.paused_by.is_not(None)).values(**cleared))
    snapshots.append_current_rows(connection, "processors", [name])
    return changed.rowcount > 0


def has_times_after(connection: Connection, at: float) -> bool:
    """Return True if an automatic pause lasts longer than `at`, or people were alerted of one later than `at`."""
    p = processors.c
    lasting = and_(p.paused_by.is_not(None), p.paused_until > at)
    return connection.execute(select(p.name).where(or_(lasting, p.alarmed_at > at)).limit(1)).first() is not None


def end_pauses_after(connection: Connection, until: float, now: float) -> None:
    """End at `now` the automatic pauses that would last longer than `until`; those made by a person stay.

    Alarms later than `until` are forgotten: a cause that is found again is alarmed again.
    """
    p = processors.c
    connection.execute(processors.update().where(p.alarmed_at > until).values(alarmed_at=None))
    made_then = (p.paused_by.is_not(None), p.paused_until > until)
    names = connection.execute(select(p.name).where(*made_then)).scalars().all()
    connection.execute(processors.update().where(*made_then).values(paused_until=now))
    snapshots.append_current_rows(connection, "processors", names)


def end_automatic_pause(connection: Connection, name: str, at: float, until: float) -> bool:
    """End at `at` the automatic pause of `name`, unless it lasts longer than `until`. Return True if one was ended."""
    p = processors.c
    lasting = (p.name == name, p.paused_by.is_not(None), p.paused_until > at, p.paused_until <= until)
    changed = connection.execute(processors.update().where(*lasting).values(paused_until=at))
    if changed.rowcount:
        snapshots.append_current_rows(connection, "processors", [name])
    return changed.rowcount > 0


def open_circuits(connection: Connection, now: float) -> frozenset[str]:
    """Return the processors that the program has paused until a time after `now`: they accept no call of ours."""
    return frozenset(name for name, until in paused_processors(connection, now).items() if until is not None)


_listed_at = processors.c.looked_at
_switch_of_all = processors.alias()
_platform = processors.alias()
# A connected account was not listed since the end of the pause of its platform.
_PLATFORM_PAUSED = exists().where(
    _platform.c.paused_until <= bindparam("now"),
    _listed_at < _platform.c.paused_until,
    processors.c.name.startswith(_platform.c.name + CONNECTED),
)
_all_paused_until = select(_switch_of_all.c.paused_until).where(_switch_of_all.c.name == ALL).scalar_subquery()
_OLD = or_(
    _listed_at < bindparam("at"),
    _listed_at > bindparam("now") + CLOCK_SLACK_SECONDS,
    *(and_(until <= bindparam("now"), _listed_at < until) for until in (processors.c.paused_until, _all_paused_until)),
    _PLATFORM_PAUSED,
)
_ON_ANOTHER = and_(_listed_at.is_not(None), processors.c.listed_on.is_distinct_from(func.refund_worker_server()))
_STALE = {
    "sqlite": select(processors.c.name).where(_OLD),
    "postgresql": select(processors.c.name).where(or_(_OLD, _ON_ANOTHER)),
}


def listed_before(connection: Connection, at: float, now: float) -> frozenset[str]:
    """Return the processors that were not listed since `at`, since the end of their last pause, or on this server.

    The pause of a platform is one of its connected accounts too.

    A list in the future counts for nothing: the clock went back, so the age of the list is unknown. Another server
    is a promoted standby, or holds a restored backup: the last commits may be missing there.
    """
    return frozenset(connection.execute(_STALE[connection.dialect.name], {"at": at, "now": now}).scalars())


def listed_ones(connection: Connection, names: Collection[str]) -> frozenset[str]:
    """Return those of `names` whose refunds were ever listed."""
    query = select(processors.c.name).where(processors.c.name.in_(names), _listed_at.is_not(None))
    return frozenset(connection.execute(query).scalars())


def last_listing(connection: Connection, name: str) -> tuple[float | None, float | None]:
    """Return (time of the last listing, time up to which a person was alerted), each None if it never happened.

    The second is the creation time of the newest unknown refund that was reported to a person.
    """
    query = select(processors.c.looked_at, processors.c.told_until).where(processors.c.name == name)
    row = connection.execute(query).one_or_none()
    return (None, None) if row is None else (row.looked_at, row.told_until)


def record_listing(connection: Connection, name: str, at: float, server: str | None) -> None:
    """Record that the processor's refunds were listed at `at`, when the database server was `server`."""
    _set(connection, name, looked_at=at, listed_on=server)


def forget_listing(connection: Connection, name: str) -> bool:
    """Forget that the processor's refunds were ever listed; return False if they were not."""
    p = processors.c
    known = processors.update().where(p.name == name, p.looked_at.is_not(None))
    return connection.execute(known.values(looked_at=None, listed_on=None)).rowcount > 0


def set_alerted(connection: Connection, name: str, until: float) -> None:
    """Record that a person was alerted of unknown refunds created until `until`."""
    _set(connection, name, told_until=until)


def _set(connection: Connection, name: str, **values: float | str | None) -> None:
    insert = insert_into(connection, processors)
    known = connection.execute(select(processors.c.name).where(processors.c.name == name)).first()
    connection.execute(insert.values(name=name, **values).on_conflict_do_update(index_elements=["name"], set_=values))
    if known is None:
        snapshots.append_current_rows(connection, "processors", [name])


def status_of_processors(connection: Connection) -> list[RowMapping]:
    """Return the rows of all processors that were ever paused or listed, by name."""
    return list(connection.execute(select(processors).order_by(processors.c.name)).mappings())


# Enough events for the calls of a minute; in a busier minute the result is a lower bound.
LINES_MAX = 10_000


def sends_since(connection: Connection, since: float) -> dict[str, int]:
    """Return how many sends were begun since `since`, by processor, among the last `LINES_MAX` timeline events."""
    last = select(func.max(events.c.seq)).scalar_subquery()
    query = (
        select(legs.c.processor, func.count())
        .join(events, events.c.leg_id == legs.c.leg_id)
        .where(events.c.seq > last - LINES_MAX, events.c.at >= since, events.c.kind == "leg_sent")
        .group_by(legs.c.processor)
    )
    return {row[0]: row[1] for row in connection.execute(query)}
