"""Console users, their sessions, and the count of wrong passwords. All times are epoch seconds."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, RowMapping, case, delete, func, select, update

from refund_worker.store import snapshots
from refund_worker.store.database import insert_into
from refund_worker.store.tables import console_sessions, console_tries, console_users

_u, _s, _t = console_users.c, console_sessions.c, console_tries.c


def insert_user(connection: Connection, *, name: str, role: str, password_hash: str, now: float) -> None:
    """Insert a console user, created at `now`.

    Raises `IntegrityError` if the name exists, even as a disabled user: a name belongs to one person for ever.
    """
    row = {"name": name, "role": role, "password_hash": password_hash, "created_at": now}
    connection.execute(console_users.insert().values(**row))
    snapshots.append_current_rows(connection, "console_users", [name])


def find_user(connection: Connection, name: str) -> RowMapping | None:
    """Return the user with this name, in any letter case. If two spellings exist, only the exact one matches."""
    query = select(console_users).where(func.lower(_u.name) == name.lower())
    found = list(connection.execute(query).mappings())
    same = [row for row in found if row["name"] == name]
    return same[0] if same else found[0] if len(found) == 1 else None


def all_users(connection: Connection) -> list[RowMapping]:
    """Return all console users by name, disabled ones included."""
    return list(connection.execute(select(console_users).order_by(_u.name)).mappings())


def disable_user(connection: Connection, name: str, now: float) -> None:
    """Disable a user at `now`: the user cannot sign in any more, and all sessions end."""
    connection.execute(update(console_users).where(_u.name == name, _u.disabled_at.is_(None)).values(disabled_at=now))
    snapshots.append_current_rows(connection, "console_users", [name])
    end_sessions_of(connection, name)


def enable_user(connection: Connection, name: str) -> None:
    """Let a disabled user sign in again."""
    connection.execute(update(console_users).where(_u.name == name).values(disabled_at=None))
    snapshots.append_current_rows(connection, "console_users", [name])


def set_role(connection: Connection, name: str, role: str) -> None:
    """Change a user's role. Live sessions have the new role at once, because they read it from the user."""
    connection.execute(update(console_users).where(_u.name == name).values(role=role))
    snapshots.append_current_rows(connection, "console_users", [name])


def end_sessions_of(connection: Connection, name: str, *, but: str | None = None) -> None:
    """End every session of this user; the one with the hash `but` continues."""
    ended = delete(console_sessions).where(_s.name == name)
    connection.execute(ended if but is None else ended.where(_s.session_hash != but))


def replace_hash(connection: Connection, name: str, password_hash: str) -> None:
    """Replace a user's password hash."""
    connection.execute(update(console_users).where(_u.name == name).values(password_hash=password_hash))
    snapshots.append_current_rows(connection, "console_users", [name])


def insert_session(connection: Connection, session_hash: str, name: str, now: float) -> None:
    """Insert a session that was created, last seen and confirmed at `now`, the user's last sign-in."""
    times = {"created_at": now, "seen_at": now, "confirmed_at": now}
    connection.execute(console_sessions.insert().values(session_hash=session_hash, name=name, **times))
    connection.execute(update(console_users).where(_u.name == name).values(last_sign_in_at=now))


def find_session(connection: Connection, session_hash: str) -> RowMapping | None:
    """Return the session with the role of its user, or None if it does not exist or the user is disabled."""
    query = (
        select(console_sessions, _u.role)
        .join(console_users, _u.name == _s.name)
        .where(_s.session_hash == session_hash, _u.disabled_at.is_(None))
    )
    return connection.execute(query).mappings().first()


def change_session(connection: Connection, session_hash: str, **times: float) -> None:
    """Set `seen_at` or `confirmed_at` of a session."""
    connection.execute(update(console_sessions).where(_s.session_hash == session_hash).values(**times))


def end_session(connection: Connection, session_hash: str) -> None:
    """End one session."""
    connection.execute(delete(console_sessions).where(_s.session_hash == session_hash))


def end_old_sessions(connection: Connection, *, created_before: float, seen_before: float) -> None:
    """End the sessions that were created or last seen before the given times."""
    connection.execute(delete(console_sessions).where((_s.created_at < created_before) | (_s.seen_at < seen_before)))


def tries_of(connection: Connection, subject: str) -> tuple[int, float]:
    """Return (number of wrong passwords, time of the last one) for this subject; (0, 0.0) if there were none."""
    row = connection.execute(select(_t.tries, _t.last_at).where(_t.subject == subject)).first()
    return (row.tries, row.last_at) if row else (0, 0.0)


def tries_of_all(connection: Connection, subjects: Collection[str], since: float) -> dict[str, tuple[int, float]]:
    """Return (wrong passwords, time of the last one) of each subject that had one at `since` or later."""
    query = select(_t.subject, _t.tries, _t.last_at).where(_t.subject.in_(subjects), _t.last_at >= since)
    return {row.subject: (row.tries, row.last_at) for row in connection.execute(query)}


def tries_below(connection: Connection, prefix: str, since: float) -> list[tuple[int, float]]:
    """Return (wrong passwords, time of the last one) of the subjects that begin with `prefix`, not before `since`."""
    query = select(_t.tries, _t.last_at).where(_t.last_at >= since, _t.subject.startswith(prefix, autoescape=True))
    return [(row.tries, row.last_at) for row in connection.execute(query)]


def open_sessions(connection: Connection, *, created_since: float, seen_since: float) -> list[RowMapping]:
    """Return (name, session_hash) of the sessions that were created and last seen at the given times or later."""
    query = select(_s.name, _s.session_hash).where(_s.created_at >= created_since, _s.seen_at >= seen_since)
    return list(connection.execute(query.order_by(_s.name)).mappings())


def count_try(connection: Connection, subject: str, now: float, *, fresh_after: float) -> None:
    """Count one more wrong password in a single statement, so that two at the same time are counted as two.

    Counting restarts at 1 if the last wrong password was before `fresh_after`.
    """
    statement = insert_into(connection, console_tries).values(subject=subject, tries=1, last_at=now)
    tries = case((_t.last_at < fresh_after, 1), else_=_t.tries + 1)
    counted = statement.on_conflict_do_update(index_elements=["subject"], set_={"tries": tries, "last_at": now})
    connection.execute(counted)


def forget_tries(connection: Connection, subject: str) -> None:
    """Delete the count of wrong passwords of this subject."""
    connection.execute(delete(console_tries).where(_t.subject == subject))


def forget_tries_below(connection: Connection, prefix: str) -> None:
    """Delete the counts of all subjects that begin with `prefix`."""
    connection.execute(delete(console_tries).where(_t.subject.startswith(prefix, autoescape=True)))


def sessions_of(connection: Connection, name: str) -> list[str]:
    """Return the session hashes of a user."""
    return list(connection.execute(select(_s.session_hash).where(_s.name == name)).scalars())


def delete_old_tries(connection: Connection, before: float, limit: int) -> int:
    """Delete at most `limit` counts whose last wrong password was before `before`; return how many were deleted."""
    old = select(_t.subject).where(_t.last_at < before).limit(limit)
    return connection.execute(delete(console_tries).where(_t.subject.in_(old), _t.last_at < before)).rowcount
