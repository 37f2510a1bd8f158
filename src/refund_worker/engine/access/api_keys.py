"""API keys: created and shown once, stored as a hash, revocable, with an optional expiry.

A plain SHA-256 is the right hash here: a key is 256 random bits, so it cannot be guessed from its hash. A slow hash,
which passwords need, would only slow down every request.

A signed key has a second secret. It is never sent, but it is needed to verify signatures, so it cannot be stored as a
hash. It is stored encrypted with a pad derived from the key itself (an HMAC of the key; the database has only a hash of
the key). Neither the database nor the network traffic is enough to sign a request.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from refund_worker.domain.decision import Event
from refund_worker.engine.context import Context
from refund_worker.errors import Conflict, InvalidRequest, NotFound
from refund_worker.store import timeline
from refund_worker.store.access import api_keys
from refund_worker.store.database import now
from refund_worker.times import iso

PREFIX = "rw_"
KEY_BYTES = 32
# A console user acts as "console/NAME". A key of a client with that name, in any capitals, could pass for a console
# user.
CONSOLE = "console"
# No slash: "client/name" identifies the actor, and two different pairs must not give the same text.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_KEY = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")
SIGNING_PREFIX = "rws_"
_PAD = b"refund-worker: pad of the signing secret"


class Role(StrEnum):
    """Role of an API key; `engine/access/permissions.py` has the table of permissions."""

    VIEWER = "viewer"
    REQUESTER = "requester"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"


class ConsoleRole(StrEnum):
    """Role of a console user; the table is in `engine/access/permissions.py`. Every role sees the refunds of all
    clients.
    """

    VIEWER = "viewer"
    SUPPORT = "support"
    OPERATOR = "operator"
    APPROVER = "approver"
    ADMIN = "admin"


# Roles of keys that decide about refunds must see those of all clients. The other roles see their own client's only.
SEES_ALL_CLIENTS = frozenset({Role.APPROVER, Role.OPERATOR, Role.ADMIN})


@dataclass(frozen=True, slots=True)
class Identity:
    """The authenticated caller. `expires_at` is in epoch seconds. If `signing_secret` is set, each request must be
    signed.
    """

    key_id: str
    name: str
    client: str
    role: Role | ConsoleRole
    expires_at: float | None = None
    signing_secret: str | None = field(default=None, repr=False)

    @property
    def actor(self) -> str:
        """Return the name under which this caller's actions are recorded."""
        return f"{self.client}/{self.name}"

    @property
    def sees(self) -> str | None:
        """Return the one client whose refunds are visible, or None for all clients."""
        if isinstance(self.role, ConsoleRole) or self.role in SEES_ALL_CLIENTS:
            return None
        return self.client


def create_key(
    context: Context, *, name: str, client: str, role: str, expires_at: float | None = None, actor: str = "unknown"
) -> str:
    """Create a key and return it in plain text; it is not shown again. `expires_at` is in epoch seconds.

    Raises `InvalidRequest` naming the field, `Conflict` if the client already has a live key with this name.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    _store(context, key, None, actor, name=name, client=client, role=role, expires_at=expires_at)
    return key


def create_signed_key(
    context: Context, *, name: str, client: str, role: str, expires_at: float | None = None, actor: str = "unknown"
) -> tuple[str, str]:
    """Create a key with a signing secret; return (key, secret). Every request with this key must be signed with the
    secret.

    Arguments and errors are those of `create_key`.
    """
    key, secret = PREFIX + secrets.token_urlsafe(KEY_BYTES), secrets.token_bytes(KEY_BYTES)
    _store(context, key, _padded(key, secret).hex(), actor, name=name, client=client, role=role, expires_at=expires_at)
    return key, _signing_text(secret)


def _store(
    context: Context,
    key: str,
    signing_box: str | None,
    actor: str,
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
        _note(connection, "key_created", row, at, actor, role=role)

    try:
        context.database.run(work)
    except IntegrityError:
        raise Conflict(f"{client} has a key named {name}: revoke it first or choose another name") from None


def list_keys(context: Context) -> list[dict[str, Any]]:
    """Return all keys, newest first, as JSON objects without the keys, their hashes and their secrets."""
    with context.database.read() as connection:
        at = context.clock(connection)
        return [_view(row, at) for row in api_keys.all_keys(connection)]


def revoke_key(
    context: Context, key_id_or_name: str, *, client: str | None = None, actor: str = "unknown"
) -> dict[str, Any]:
    """Revoke a key by its id or name and return it. Pass `client` if several clients have a key with that name.

    Raises `NotFound`, or `Conflict` if several keys have that name.
    """

    def work(connection: Connection) -> dict[str, Any]:
        at = context.clock(connection)
        found = api_keys.live_keys_named(connection, key_id_or_name, client)
        # An id is unique; a key whose name is the id of another one does not hide it.
        found = [row for row in found if row["key_id"] == key_id_or_name] or found
        if not found:
            raise NotFound(f"no live key has the name or id {key_id_or_name}")
        if len(found) > 1:
            owners = ", ".join(sorted(row["client"] for row in found))
            raise Conflict(f"several clients have a key named {key_id_or_name} ({owners}): say which")
        api_keys.revoke(connection, found[0]["key_id"], at)
        _note(connection, "key_revoked", found[0], at, actor)
        return _view({**found[0], "revoked_at": at}, at)

    return context.database.run(work)


def _note(
    connection: Connection, kind: str, row: Mapping[str, Any] | RowMapping, at: float, actor: str, **detail: str
) -> None:
    named = {"key": f"{row['client']}/{row['name']}", "key_id": row["key_id"]}
    timeline.insert_events(connection, [(None, Event(kind, actor, detail={**named, **detail}))], at)


def authenticate(connection: Connection, presented: str) -> Identity | None:
    """Return the identity of a presented key, or None if the key is unknown, revoked or expired."""
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
    """Encrypt or decrypt the secret with the key's pad. Both are 32 random bytes, and each pad is used for one secret
    only.
    """
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
