"""People who sign in to the console: made by the command line, known by a password, held back when they guess.

Passwords are stored as Argon2 hashes; a session is known only by the hash of what its cookie holds, so that nobody who
reads the database can go on with it. Tries are counted in the database and before the password is looked at: guesses
made side by side, or through several processes, count like any others.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from refund_worker.engine.api_keys import Identity, Role
from refund_worker.engine.bodies import iso
from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store import console_users as store

CLIENT = "console"
PASSWORD_LENGTH_MIN, PASSWORD_LENGTH_MAX = 12, 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")

SESSION_SECONDS = 12 * 3600.0
IDLE_SECONDS = 2 * 3600.0
# How long a password counts as just given: after that, acts with money ask for it again.
CONFIRMED_SECONDS = 600.0
SEEN_EVERY_SECONDS = 60.0

# For one name, and for one address that tries many names.
FREE_TRIES, FREE_TRIES_OF_ADDRESS = 5, 30
WAIT_SECONDS, WAIT_SECONDS_MAX = 2.0, 900.0
TRIES_FORGOTTEN_SECONDS = 86_400.0

_hasher = PasswordHasher()
# Each check takes 64 MiB: a flood of sign-ins must not take all there is.
_checks = threading.BoundedSemaphore(2)
# Checked where there is no such user, so that the time it takes tells nothing.
_NOBODYS_HASH = _hasher.hash(secrets.token_urlsafe(16))


class WrongPassword(RefundWorkerError):
    code, status = "wrong_password", 403


class TooManyTries(RefundWorkerError):
    """`wait_seconds` until the next password is looked at."""

    code, status, retryable = "too_many_tries", 429, True

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"too many wrong passwords: try again in {max(1, round(wait_seconds))} s")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """Somebody signed in. `confirmed` is whether the password was given just now."""

    session_hash: str
    identity: Identity
    confirmed: bool

    @property
    def form_token(self) -> str:
        """What every form of this session carries."""
        return hashlib.sha256(b"form:" + self.session_hash.encode("ascii")).hexdigest()


def create_user(context: Context, *, name: str, role: str, password: str | None = None) -> str:
    """Make a user and return the password, generated unless given.

    Raises `InvalidRequest` naming the field, `Conflict` where the name is taken.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest("name must be 1 to 100 letters, digits or . _ @ + -", field="name")
    if role not in list(Role):
        raise InvalidRequest(f"role must be one of {', '.join(Role)}", field="role")
    given = secrets.token_urlsafe(15) if password is None else password
    if not PASSWORD_LENGTH_MIN <= len(given) <= PASSWORD_LENGTH_MAX:
        message = f"the password must have {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters"
        raise InvalidRequest(message, field="password")
    password_hash = _hasher.hash(given)

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        store.insert_user(connection, name=name, role=role, password_hash=password_hash, now=now)

    try:
        context.database.run(work)
    except IntegrityError:
        raise Conflict(f"there is a user named {name}: a name stands for one person for ever") from None
    return given


def list_users(context: Context) -> list[dict[str, Any]]:
    """All users by name, as JSON objects without their hashes."""
    with context.database.read() as connection:
        return [
            _view(row["name"], row["role"], row["created_at"], row["disabled_at"])
            for row in store.all_users(connection)
        ]


def disable_user(context: Context, name: str) -> dict[str, Any]:
    """End a user's sessions and let them in no more; the name stays taken. Raises `NotFound`."""

    def work(connection: Connection) -> dict[str, Any]:
        row = store.find_user(connection, name)
        if row is None:
            raise NotFound(f"no user is named {name}")
        now = context.clock(connection)
        store.disable_user(connection, name, now)
        return _view(name, row["role"], row["created_at"], row["disabled_at"] or now)

    return context.database.run(work)


def _view(name: str, role: str, created_at: float, disabled_at: float | None) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "status": "active" if disabled_at is None else "disabled",
        "created_at": iso(created_at),
        "disabled_at": None if disabled_at is None else iso(disabled_at),
    }


def sign_in(context: Context, *, name: str, password: str, address: str) -> str:
    """What the session's cookie is to hold. Raises `WrongPassword`, whatever is wrong, or `TooManyTries`."""
    _check_password(context, name, password, address)
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        store.end_old_sessions(connection, created_before=now - SESSION_SECONDS, seen_before=now - IDLE_SECONDS)
        store.forget_old_tries(connection, now - TRIES_FORGOTTEN_SECONDS)
        store.insert_session(connection, _hash(cookie), name, now)

    context.database.run(work)
    return cookie


def confirm(context: Context, session: ConsoleSession, *, password: str, address: str) -> None:
    """The password again, before an act with money. Raises as `sign_in`."""
    _check_password(context, session.identity.name, password, address)

    def work(connection: Connection) -> None:
        store.change_session(connection, session.session_hash, confirmed_at=context.clock(connection))

    context.database.run(work)


def find_session(context: Context, cookie: str) -> ConsoleSession | None:
    """The session behind a cookie; None where it has ended or its user is disabled."""
    session_hash = _hash(cookie)
    with context.database.read() as connection:
        now = context.clock(connection)
        row = store.find_session(connection, session_hash)
    if row is None or now - row["created_at"] > SESSION_SECONDS or now - row["seen_at"] > IDLE_SECONDS:
        return None
    if now - row["seen_at"] > SEEN_EVERY_SECONDS:
        context.database.run(lambda connection: store.change_session(connection, session_hash, seen_at=now))
    identity = Identity(f"user:{row['name']}", row["name"], CLIENT, Role(row["role"]))
    return ConsoleSession(session_hash, identity, now - row["confirmed_at"] <= CONFIRMED_SECONDS)


def sign_out(context: Context, session: ConsoleSession) -> None:
    context.database.run(lambda connection: store.end_session(connection, session.session_hash))


def _check_password(context: Context, name: str, password: str, address: str) -> None:
    by_name = f"name:{name[:100]}"
    context.database.run(lambda connection: _count_try(context, connection, by_name, FREE_TRIES))
    by_address = f"address:{address}"
    context.database.run(lambda connection: _count_try(context, connection, by_address, FREE_TRIES_OF_ADDRESS))
    with context.database.read() as connection:
        row = store.find_user(connection, name)
    known = row is not None and row["disabled_at"] is None
    right = _verify(row["password_hash"] if row is not None and known else _NOBODYS_HASH, password)
    if row is None or not known or not right:
        raise WrongPassword("name or password is wrong")

    def work(connection: Connection) -> None:
        store.forget_tries(connection, by_name)
        if _hasher.check_needs_rehash(row["password_hash"]):
            store.replace_hash(connection, name, _hasher.hash(password))

    context.database.run(work)


def _count_try(context: Context, connection: Connection, subject: str, free: int) -> None:
    """Count one more try, or refuse to look at it: the wait doubles with each beyond the free ones."""
    now = context.clock(connection)
    tries, last = store.tries_of(connection, subject)
    if now - last > TRIES_FORGOTTEN_SECONDS:
        tries = 0
    wait = 0.0 if tries < free else min(WAIT_SECONDS_MAX, WAIT_SECONDS * 2.0 ** min(tries - free, 20))
    if now < last + wait:
        raise TooManyTries(last + wait - now)
    store.write_tries(connection, subject, tries + 1, now)


def _verify(password_hash: str, password: str) -> bool:
    with _checks:
        try:
            return _hasher.verify(password_hash, password[: PASSWORD_LENGTH_MAX + 1])
        except (VerifyMismatchError, InvalidHashError):
            return False


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()
