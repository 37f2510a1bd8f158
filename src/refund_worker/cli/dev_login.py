"""The console user and the API key of `refund-worker dev`, kept for the next start in the same folder."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NamedTuple

from refund_worker.cli.options import acting_user
from refund_worker.engine.access.api_keys import authenticate, create_key
from refund_worker.engine.access.console_users import (
    TooManyTries,
    WrongPassword,
    create_user,
    disable_user,
    find_session,
    list_users,
    sign_in,
    sign_out,
)
from refund_worker.engine.context import Context

FILE = "dev-login.json"
PREFIX = "dev-"
# A key is replaced at a start that finds it with less than a working day left.
KEY_SECONDS, KEY_SECONDS_LEFT = 30 * 86_400.0, 12 * 3600.0


class Login(NamedTuple):
    """A console user with the role admin, its password, and an API key."""

    user: str
    password: str
    key: str


def login(context: Context, folder: Path) -> Login:
    """Return the login of the last start in this folder, or a new one if it no longer works with this database."""
    kept = _read(folder / FILE)
    if kept is None or not _signs_in(context, kept):
        kept = _new_login(context)
    elif not _is_live(context, kept.key):
        kept = kept._replace(key=_new_key(context))
    _write(folder / FILE, kept)
    return kept


def _read(file: Path) -> Login | None:
    try:
        kept = Login(**json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return kept if all(isinstance(part, str) for part in kept) else None


def _write(file: Path, kept: Login) -> None:
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as text:
        json.dump(kept._asdict(), text)
    part.replace(file)


def _signs_in(context: Context, kept: Login) -> bool:
    try:
        cookie = sign_in(context, name=kept.user, password=kept.password, address="127.0.0.1")
    except TooManyTries:
        return True  # wrong passwords of a person say nothing about the kept one
    except WrongPassword:
        return False
    session = find_session(context, cookie)
    if session is not None:
        sign_out(context, session)
    return True


def _is_live(context: Context, key: str) -> bool:
    with context.database.read() as connection:
        identity = authenticate(connection, key)
        now = context.clock(connection)
    return identity is not None and identity.expires_at is not None and identity.expires_at - now > KEY_SECONDS_LEFT


def _new_login(context: Context) -> Login:
    """Make a user that replaces those of earlier starts, whose passwords are lost."""
    for user in list_users(context):
        if user["name"].startswith(PREFIX) and not user["disabled_at"]:
            disable_user(context, user["name"], actor=acting_user())
    name = _new_name()
    return Login(name, create_user(context, name=name, role="admin", actor=acting_user()), _new_key(context))


def _new_key(context: Context) -> str:
    return create_key(context, name=_new_name(), client="dev", role="admin", expires_at=time.time() + KEY_SECONDS)


def _new_name() -> str:
    return f"{PREFIX}{time.time_ns() // 1_000_000}"
