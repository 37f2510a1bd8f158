"""Keys of the HTTP door: made and shown once, stored as a hash, revocable, with an end if wanted.

A plain SHA-256 is the right hash here: a key is 256 random bits, so nobody can guess it from its hash, and a slow hash,
which passwords need, would only make every request slow.

A signed key has a second secret, which is never sent and so can't be kept as a hash. It is stored under a pad that only
the key itself gives (HMAC of the key, of which the database has but a hash): neither what is in the database nor what
goes over the wire is enough to sign.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound
from refund_worker.store.access import api_keys
from refund_worker.store.database import now
from refund_worker.times import iso

PREFIX = "rw_"
KEY_BYTES = 32
# A console user acts as "console/NAME": a key of that client, in whatever capitals, could pass for somebody else's act.
CONSOLE = "console"
# No slash: "client/name" is who acts, and two different pairs must not read the same.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
SIGNING_PREFIX = "rws_"
_PAD = b"refund-worker: pad of the signing secret"


class Role(StrEnum):
    """What the holder of a key may do; `engine/access/permissions.py` has the table."""

    VIEWER = "viewer"
    REQUESTER = "requester"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


class ConsoleRole(StrEnum):
    """What a user of the console may do; the same table. Every one of them sees the refunds of all clients."""

    VIEWER = "viewer"
    SUPPORT = "support"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


# Of keys: whoever decides about refunds must see those of all clients; the others see their own client's only.
SEES_ALL_CLIENTS = frozenset({Role.APPROVER, Role.OPERATOR, Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling. `expires_at` is in epoch seconds; with a `signing_secret` each request must be signed with it."""

    key_id: str
    name: str
    client: str
    role: Role | ConsoleRole
    expires_at: float | None = None
    signing_secret: str | None = field(default=None, repr=False)

    @property
    def actor(self) -> str:
        """The name under which this caller's acts are recorded."""
        return f"{self.client}/{self.name}"

    @property
    def sees(self) -> str | None:
        """The one client whose refunds are visible, or None for all."""
        if isinstance(self.role, ConsoleRole) or self.role in SEES_ALL_CLIENTS:
            return None
        return self.client


def create_key(context: Context, *, name: str, client: str, role: str, expires_at: float | None = None) -> str:
    """A new key, in plain text for the only time. `expires_at` is in epoch seconds.

    Raises `InvalidRequest` naming the field, `Conflict` where the client has a live key of this name.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    _store(context, key, None, name=name, client=client, role=role, expires_at=expires_at)
    return key


def create_signed_key(
    context: Context, *, name: str, client: str, role: str, expires_at: float | None = None
) -> tuple[str, str]:
    """The same with a signing secret: (key, secret). Requests with this key must be signed with that secret."""
    key, secret = PREFIX + secrets.token_urlsafe(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    _store(context, key, _padded(key, secret).hex(), name=name, client=client, role=role, expires_at=expires_at)
    return key, _signing_text(secret)


def _store(
    context: Context,
    key: str,
    signing_box: str | None,
    *,
    name: str,
    client: str,
    role: str,
    expires_at: float | None,
) -> None:
    for part, value in (("name", name), ("client", client)):
        if not _NAME.fullmatch(value):
            raise InvalidRequest(f"{part} must be 1 to 100 letters, digits or . _ @ + -", field=part)
    if client.casefold() == CONSOLE:
        raise InvalidRequest(f"client {CONSOLE} is the console's own: its users act under that name", field="client")
    if role not in list(Role):
        raise InvalidRequest(f"role must be one of {', '.join(Role)}", field="role")
    row = {
        "key_id": context.new_id("key"),
        "key_hash": _hash(key),
        "signing_box": signing_box,
        "name": name,
        "client": client,
        "role": role,
        "expires_at": expires_at,
    }

    def work(connection: Connection) -> None:
        at = context.clock(connection)
        if expires_at is not None and expires_at <= at:
            raise InvalidRequest("expires_at is already past", field="expires_at")
        api_keys.insert_key(connection, row | {"created_at": at})

    try:
        context.database.run(work)
    except IntegrityError:
        raise Conflict(f"{client} has a key named {name}: revoke it first or choose another name") from None


def list_keys(context: Context) -> list[dict[str, Any]]:
    """All keys, the newest first, as JSON objects; what opens the door is not among it."""
    with context.database.read() as connection:
        at = context.clock(connection)
        return [_view(row, at) for row in api_keys.all_keys(connection)]


def revoke_key(context: Context, key_id_or_name: str, *, client: str | None = None) -> dict[str, Any]:
    """End a key, by its id or by its name (with `client` where several have one of that name), and return it.

    Raises `NotFound`, or `Conflict` where the name is that of several keys.
    """

    def work(connection: Connection) -> dict[str, Any]:
        at = context.clock(connection)
        found = api_keys.live_keys_named(connection, key_id_or_name, client)
        if not found:
            raise NotFound(f"no live key has the name or id {key_id_or_name}")
        if len(found) > 1:
            owners = ", ".join(sorted(row["client"] for row in found))
            raise Conflict(f"several clients have a key named {key_id_or_name} ({owners}): say which")
        api_keys.revoke(connection, found[0]["key_id"], at)
        return _view({**found[0], "revoked_at": at}, at)

    return context.database.run(work)


def authenticate(connection: Connection, presented: str) -> Identity | None:
    """Whose key this is; None for a key that is unknown, revoked or past its end."""
    if not _KEY.fullmatch(presented):
        return None
    row = api_keys.find_by_hash(connection, _hash(presented))
    if row is None or _state(row, now(connection)) != "active":
        return None
    box = row["signing_box"]
    secret = None if box is None else _signing_text(_padded(presented, bytes.fromhex(box)))
    return Identity(row["key_id"], row["name"], row["client"], Role(row["role"]), row["expires_at"], secret)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("ascii")).hexdigest()


def _padded(key: str, secret: bytes) -> bytes:
    """The secret with its pad put on, or taken off again: both are 32 random bytes, used for each other only."""
    pad = hmac.new(key.encode("ascii"), _PAD, hashlib.sha256).digest()
    return bytes(one ^ other for one, other in zip(secret, pad, strict=True))


def _signing_text(secret: bytes) -> str:
    return SIGNING_PREFIX + base64.urlsafe_b64encode(secret).rstrip(b"=").decode("ascii")


def _state(row: RowMapping | dict[str, Any], at: float) -> str:
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if row["expires_at"] is not None and row["expires_at"] <= at else "active"


def _view(row: RowMapping | dict[str, Any], at: float) -> dict[str, Any]:
    times = {name: None if row[name] is None else iso(row[name]) for name in ("created_at", "expires_at", "revoked_at")}
    named = {name: row[name] for name in ("key_id", "name", "client", "role")}
    return {**named, "signed": row["signing_box"] is not None, "status": _state(row, at), **times}
