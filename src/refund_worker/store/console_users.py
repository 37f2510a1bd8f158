"""People who sign in to the console, their sessions, and passwords that were tried."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, RowMapping, delete, select, update

from refund_worker.store import snapshots
from refund_worker.store.database import insert_into, locked
from refund_worker.store.tables import console_sessions, console_tries, console_users

_u, _s, _t = console_users.c, console_sessions.c, console_tries.c


def insert_user(connection: Connection, *, name: str, role: str, password_hash: str, now: float) -> None:
    """IntegrityError where the name is taken, by a disabled user too: a name stands for one person for ever."""
    row = {"name": name, "role": role, "password_hash": password_hash, "created_at": now}
    connection.execute(console_users.insert().values(**row))
    snapshots.take_as_they_stand(connection, "console_users", [name])


def find_user(connection: Connection, name: str) -> RowMapping | None:
    return connection.execute(select(console_users).where(_u.name == name)).mappings().first()


def all_users(connection: Connection) -> list[RowMapping]:
    return list(connection.execute(select(console_users).order_by(_u.name)).mappings())


def disable_user(connection: Connection, name: str, now: float) -> None:
    """The user signs in no more, and every session ends."""
    connection.execute(update(console_users).where(_u.name == name, _u.disabled_at.is_(None)).values(disabled_at=now))
    snapshots.take_as_they_stand(connection, "console_users", [name])
    connection.execute(delete(console_sessions).where(_s.name == name))


def replace_hash(connection: Connection, name: str, password_hash: str) -> None:
    connection.execute(update(console_users).where(_u.name == name).values(password_hash=password_hash))
    snapshots.take_as_they_stand(connection, "console_users", [name])


def insert_session(connection: Connection, session_hash: str, name: str, now: float) -> None:
    times = {"created_at": now, "seen_at": now, "confirmed_at": now}
    connection.execute(console_sessions.insert().values(session_hash=session_hash, name=name, **times))


def find_session(connection: Connection, session_hash: str) -> RowMapping | None:
    """The session with the role of its user; None where the user is disabled."""
    query = (
        select(console_sessions, _u.role)
        .join(console_users, _u.name == _s.name)
        .where(_s.session_hash == session_hash, _u.disabled_at.is_(None))
    )
    return connection.execute(query).mappings().first()


def change_session(connection: Connection, session_hash: str, **times: float) -> None:
    """Set `seen_at` or `confirmed_at`."""
    connection.execute(update(console_sessions).where(_s.session_hash == session_hash).values(**times))


def end_session(connection: Connection, session_hash: str) -> None:
    connection.execute(delete(console_sessions).where(_s.session_hash == session_hash))


def end_old_sessions(connection: Connection, *, created_before: float, seen_before: float) -> None:
    connection.execute(delete(console_sessions).where((_s.created_at < created_before) | (_s.seen_at < seen_before)))


def tries_of(connection: Connection, subject: str) -> tuple[int, float]:
    """(how often, when last); locked, so that two tries at once are counted as two."""
    row = connection.execute(locked(connection, select(_t.tries, _t.last_at).where(_t.subject == subject))).first()
    return (row.tries, row.last_at) if row else (0, 0.0)


def write_tries(connection: Connection, subject: str, tries: int, now: float) -> None:
    insert = insert_into(connection, console_tries)
    values: dict[str, Any] = {"tries": tries, "last_at": now}
    statement = insert.values(subject=subject, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["subject"], set_=values))


def forget_tries(connection: Connection, subject: str) -> None:
    connection.execute(delete(console_tries).where(_t.subject == subject))


def forget_old_tries(connection: Connection, before: float) -> None:
    connection.execute(delete(console_tries).where(_t.last_at < before))
