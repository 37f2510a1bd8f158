"""Console users as an admin sees them: sign-ins, open sessions, wrong passwords, and other names of the same person."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from refund_worker.domain.persons import CONSOLE_PREFIX, Link
from refund_worker.engine.access import console_users, password_attempts
from refund_worker.engine.context import Context
from refund_worker.store.access import console_users as store
from refund_worker.store.access import persons
from refund_worker.times import iso


def list_people(context: Context) -> list[dict[str, Any]]:
    """Return all users by name, each as `list_users` does, and with what an admin needs to know besides.

    That is last_sign_in_at, sessions (open ones), wrong_passwords in the last day, last_wrong_at, held_back_seconds,
    identities that are linked, and last_admin: True for the only admin who can sign in.
    """
    with context.database.read() as connection:
        now = context.clock(connection)
        rows = store.all_users(connection)
        sessions: dict[str, list[str]] = {row["name"]: [] for row in rows}
        begun, seen = now - console_users.SESSION_SECONDS, now - console_users.IDLE_SECONDS
        for session in store.open_sessions(connection, created_since=begun, seen_since=seen):
            sessions.setdefault(session["name"], []).append(session["session_hash"])
        wrong = password_attempts.wrong_passwords(connection, sessions, now)
        links = persons.links(connection)
    people = []
    for row in rows:
        name, tries = row["name"], wrong.get(row["name"])
        at = row["last_sign_in_at"]
        person = console_users.user_view(row) | {"last_sign_in_at": None if at is None else iso(at)}
        person |= {"sessions": len(sessions[name]), "identities": linked_to(CONSOLE_PREFIX + name, links)}
        person |= {
            "wrong_passwords": tries.count if tries else 0,
            "last_wrong_at": iso(tries.last_at) if tries else None,
        }
        person |= {"held_back_seconds": tries.wait_seconds if tries else 0.0}
        people.append(person | {"last_admin": console_users.is_last_admin(row, rows)})
    return people


def linked_to(actor: str, links: Iterable[Link]) -> list[str]:
    """Return the names that are linked to this one, in either direction, in their order."""
    return sorted({link.identity if link.user == actor else link.user for link in links if actor in link})
