"""Console users: created with the command line, signed in with a password, slowed down after wrong passwords.

Passwords are stored as Argon2 hashes. A session is stored as a hash of its cookie, so that a reader of the database
cannot take it over. `engine/access/password_attempts.py` limits wrong passwords. Every change to a user is an event of
the audit trail, with its actor.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from refund_worker.domain.decision import Event
from refund_worker.engine.access import password_attempts
from refund_worker.engine.access.api_keys import ConsoleRole, Identity, Role
from refund_worker.engine.access.password_attempts import Tries
from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound, RefundWorkerError
from refund_worker.store import locks, timeline
from refund_worker.store.access import console_users as store
from refund_worker.store.locks import Lock
from refund_worker.times import iso

CLIENT = "console"
PASSWORD_LENGTH_MIN, PASSWORD_LENGTH_MAX = 12, 200
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")

SESSION_SECONDS = 12 * 3600.0
IDLE_SECONDS = 2 * 3600.0
# A password counts as recently entered for this long; after that, actions that move money ask for it again.
CONFIRMED_SECONDS = 600.0
SEEN_EVERY_SECONDS = 60.0

_hasher = PasswordHasher()
# Each check takes 64 MiB: a flood of sign-ins must not use up the memory. Attempts are read and counted while the
# semaphore is held, so at most this many parallel guesses are checked before the first of them counts.
_checks = threading.BoundedSemaphore(2)
# Checked if the user does not exist, so that the response time does not reveal it.
_NOBODYS_HASH = _hasher.hash(secrets.token_urlsafe(16))


class WrongPassword(RefundWorkerError):
    """The name or the password is wrong; the error does not say which."""

    code, status = "wrong_password", 403


class TooManyTries(RefundWorkerError):
    """Too many wrong passwords; the next one is checked after `wait_seconds`."""

    code, status, retryable = "too_many_tries", 429, True

    def __init__(self, wait_seconds: float) -> None:
        super().__init__(f"too many wrong passwords: try again in {max(1, round(wait_seconds))} s")
        self.wait_seconds = wait_seconds


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """A signed-in console user. `confirmed` is True if the password was entered recently."""

    session_hash: str
    identity: Identity
    confirmed: bool

    @property
    def form_token(self) -> str:
        """Return the CSRF token that every form of this session carries."""
        return hashlib.sha256(b"form:" + self.session_hash.encode("ascii")).hexdigest()


def create_user(context: Context, *, name: str, role: str, password: str | None = None, actor: str = "unknown") -> str:
    """Create a console user and return the password, generated unless given.

    Raises `InvalidRequest` naming the field, `Conflict` if the name is taken, also in other capitals.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest("name must be 1 to 100 letters, digits or . _ @ + -", field="name")
    checked_role(role)
    new_password, password_hash = _new_password(password)

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        locks.acquire(connection, Lock.ADD_USERS)
        taken = store.find_user(connection, name)
        if taken is not None:
            raise _name_taken(taken, name)
        store.insert_user(connection, name=name, role=role, password_hash=password_hash, now=now)
        _note(connection, "user_created", name, now, actor=actor, role=role)

    try:
        context.database.run(work)
    except IntegrityError:
        raise _name_taken(None, name) from None
    return new_password


def _name_taken(row: RowMapping | None, name: str) -> Conflict:
    known = name if row is None else row["name"]
    if row is not None and row["disabled_at"] is not None:
        return Conflict(f"the user {known} is disabled: let them in again with `refund-worker users enable {known}`")
    return Conflict(f"there is a user named {known}: a name stands for one person, whatever its capitals")


def checked_role(role: str) -> ConsoleRole:
    """Return the console role named `role`. Raises `InvalidRequest` if it is not a console role."""
    if role == Role.REQUESTER:
        raise InvalidRequest("requester is a role of API keys: for a person say support", field="role")
    if role not in list(ConsoleRole):
        raise InvalidRequest(f"role must be one of {', '.join(ConsoleRole)}", field="role")
    return ConsoleRole(role)


def _new_password(password: str | None) -> tuple[str, str]:
    """Return (password, its hash); the password is generated unless given. Raises `InvalidRequest` for a bad length."""
    new_password = secrets.token_urlsafe(15) if password is None else password
    check_length(new_password)
    return new_password, _hasher.hash(new_password)


def check_length(password: str) -> None:
    """Check the length of a new password. Raises `InvalidRequest`."""
    if not PASSWORD_LENGTH_MIN <= len(password) <= PASSWORD_LENGTH_MAX:
        message = f"the password must have {PASSWORD_LENGTH_MIN} to {PASSWORD_LENGTH_MAX} characters"
        raise InvalidRequest(message, field="password")


def list_users(context: Context) -> list[dict[str, Any]]:
    """Return all users by name, as JSON objects without password hashes."""
    with context.database.read() as connection:
        return [user_view(row) for row in store.all_users(connection)]


def disable_user(context: Context, name: str, *, actor: str = "unknown", keep_an_admin: bool = False) -> dict[str, Any]:
    """Disable a user and end the user's sessions; the name stays reserved. Raises `NotFound`.

    With `keep_an_admin` also `Conflict` if no admin could sign in afterwards.
    """

    def change(connection: Connection, row: RowMapping, now: float) -> None:
        if keep_an_admin:
            _check_admin_remains(connection, row)
        store.disable_user(connection, row["name"], now)
        if row["disabled_at"] is None:
            _note(connection, "user_disabled", row["name"], now, actor=actor)

    return _changed(context, name, change)


def enable_user(context: Context, name: str, *, actor: str) -> dict[str, Any]:
    """Let a disabled user sign in again with the earlier password and role. Raises `NotFound`."""

    def change(connection: Connection, row: RowMapping, now: float) -> None:
        if row["disabled_at"] is not None:
            store.enable_user(connection, row["name"])
            _note(connection, "user_enabled", row["name"], now, actor=actor)

    return _changed(context, name, change)


def set_role(context: Context, name: str, role: str, *, actor: str, keep_an_admin: bool = False) -> dict[str, Any]:
    """Change the role of a user, in live sessions immediately. Raises `NotFound`, `InvalidRequest`.

    With `keep_an_admin` also `Conflict` if no admin could sign in afterwards.
    """
    checked_role(role)

    def change(connection: Connection, row: RowMapping, now: float) -> None:
        if keep_an_admin and role != ConsoleRole.ADMIN:
            _check_admin_remains(connection, row)
        if row["role"] != role:
            store.set_role(connection, row["name"], role)
            _note(connection, "user_role_set", row["name"], now, actor=actor, role=role, before=row["role"])

    return _changed(context, name, change)


def set_password(
    context: Context, name: str, *, password: str | None = None, actor: str, session_hash: str | None = None
) -> tuple[dict[str, Any], str]:
    """Change the password of a user; return (user, password). The password is generated unless given.

    The user's sessions end, and earlier wrong passwords are forgotten. With `session_hash`, that session makes the
    change and continues. Raises `NotFound`, `InvalidRequest`, and `WrongPassword` if that session has ended meanwhile.
    """
    new_password, password_hash = _new_password(password)

    def change(connection: Connection, row: RowMapping, now: float) -> None:
        # An admin may have set another password, or disabled the user, since the current password was checked.
        if session_hash is not None and store.find_session(connection, session_hash) is None:
            raise WrongPassword("the session has ended: sign in again")
        password_attempts.forget_all_of(connection, row["name"])
        store.replace_hash(connection, row["name"], password_hash)
        store.end_sessions_of(connection, row["name"], but=session_hash)
        _note(connection, "user_password_set", row["name"], now, actor=actor)

    return _changed(context, name, change), new_password


def change_own_password(context: Context, session: ConsoleSession, *, current: str, new: str) -> None:
    """Change the password of the signed-in user, who gives the current one; the user's other sessions end.

    Raises `InvalidRequest` for a bad new password, and for the current one the same errors as `sign_in`.
    """
    check_length(new)
    who = session.identity
    _checked_user(context, who.name, current, password_attempts.of_new_password(session.session_hash, who.name))
    set_password(context, who.name, password=new, actor=who.actor, session_hash=session.session_hash)


def unlock_user(context: Context, name: str, *, actor: str) -> dict[str, Any]:
    """Forget a user's wrong passwords, so that the next one is checked immediately. Raises `NotFound`."""

    def change(connection: Connection, row: RowMapping, now: float) -> None:
        password_attempts.forget_all_of(connection, row["name"])
        _note(connection, "user_unlocked", row["name"], now, actor=actor)

    return _changed(context, name, change)


def is_last_admin(row: RowMapping, all_rows: Sequence[RowMapping]) -> bool:
    """Return True if this user is the only admin who can sign in."""
    admins = [each["name"] for each in all_rows if each["disabled_at"] is None and _role_of(each) is ConsoleRole.ADMIN]
    return admins == [row["name"]]


def _check_admin_remains(connection: Connection, row: RowMapping) -> None:
    if is_last_admin(row, store.all_users(connection)):
        raise Conflict(
            f"the only admin who can sign in is {row['name']}: make another user admin first, or use the command line"
        )


def _changed(context: Context, name: str, change: Callable[[Connection, RowMapping, float], None]) -> dict[str, Any]:
    """Run `change` on the user and return the user after it. Raises `NotFound`."""

    def work(connection: Connection) -> dict[str, Any]:
        locks.acquire(connection, Lock.ADD_USERS)
        row = store.find_user(connection, name)
        if row is None:
            raise NotFound(f"no user is named {name}: see `refund-worker users list`")
        change(connection, row, context.clock(connection))
        after = store.find_user(connection, row["name"])
        assert after is not None
        return user_view(after)

    return context.database.run(work)


def _note(connection: Connection, kind: str, name: str, now: float, *, actor: str, **detail: str) -> None:
    event = Event(kind, actor, detail={"user": name, **detail})
    timeline.insert_events(connection, [(None, event)], now)


def user_view(row: RowMapping) -> dict[str, Any]:
    """Return a user as a JSON object without the password hash."""
    disabled_at = row["disabled_at"]
    return {
        "name": row["name"],
        "role": _role_of(row),
        "status": "active" if disabled_at is None else "disabled",
        "created_at": iso(row["created_at"]),
        "disabled_at": None if disabled_at is None else iso(disabled_at),
    }


def _role_of(row: RowMapping) -> ConsoleRole:
    """Return the role of a user row. The previous version, which may still run during an upgrade, stores support as
    requester.
    """
    return ConsoleRole.SUPPORT if row["role"] == Role.REQUESTER else ConsoleRole(row["role"])


def sign_in(context: Context, *, name: str, password: str, address: str) -> str:
    """Check the password, start a session and return the value of its cookie.

    Raises `WrongPassword` for an unknown or disabled user too, or `TooManyTries`.
    """
    row = _checked_user(context, name, password, password_attempts.of_sign_in(name, address))
    cookie = secrets.token_urlsafe(32)

    def work(connection: Connection) -> None:
        now = context.clock(connection)
        store.end_old_sessions(connection, created_before=now - SESSION_SECONDS, seen_before=now - IDLE_SECONDS)
        store.insert_session(connection, _hash(cookie), row["name"], now)

    context.database.run(work)
    return cookie


def confirm(context: Context, session: ConsoleSession, *, password: str) -> None:
    """Check the password again before an action that moves money. Raises the same errors as `sign_in`."""
    _checked_user(context, session.identity.name, password, password_attempts.of_session(session.session_hash))

    def work(connection: Connection) -> None:
        store.change_session(connection, session.session_hash, confirmed_at=context.clock(connection))

    context.database.run(work)


def find_session(context: Context, cookie: str, *, seen: bool = True) -> ConsoleSession | None:
    """Return the session of a cookie, or None if it has ended or its user is disabled.

    `seen` is True for a request by a person and False for a page that refreshes itself: only a person keeps the
    session from expiring.
    """
    session_hash = _hash(cookie)
    with context.database.read() as connection:
        now = context.clock(connection)
        row = store.find_session(connection, session_hash)
    if row is None or now - row["created_at"] > SESSION_SECONDS or now - row["seen_at"] > IDLE_SECONDS:
        return None
    if seen and now - row["seen_at"] > SEEN_EVERY_SECONDS:
        context.database.run(lambda connection: store.change_session(connection, session_hash, seen_at=now))
    identity = Identity(f"user:{row['name']}", row["name"], CLIENT, _role_of(row))
    return ConsoleSession(session_hash, identity, now - row["confirmed_at"] <= CONFIRMED_SECONDS)


def sign_out(context: Context, session: ConsoleSession) -> None:
    """End the session."""
    context.database.run(lambda connection: store.end_session(connection, session.session_hash))


def _checked_user(context: Context, name: str, password: str, tries: Tries) -> RowMapping:
    """Check the password and return the user. Raises `WrongPassword`, which does not say what is wrong, or
    `TooManyTries`.
    """
    with _checks:
        with context.database.read() as connection:
            wait = password_attempts.seconds_to_wait(connection, tries, context.clock(connection))
            if wait > 0:
                raise TooManyTries(wait)
            row = store.find_user(connection, name)
        known = row is not None and row["disabled_at"] is None
        right = _verify(row["password_hash"] if row is not None and known else _NOBODYS_HASH, password)
        if row is None or not known or not right:
            context.database.run(lambda c: password_attempts.count_wrong(c, tries, context.clock(c)))
            raise WrongPassword("name or password is wrong")
    found = row

    def work(connection: Connection) -> None:
        password_attempts.forget_own(connection, tries)
        if _hasher.check_needs_rehash(found["password_hash"]):
            store.replace_hash(connection, found["name"], _hasher.hash(password))

    context.database.run(work)
    return found


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password[: PASSWORD_LENGTH_MAX + 1])
    except (VerifyMismatchError, InvalidHashError):
        return False


def _hash(cookie: str) -> str:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).hexdigest()
