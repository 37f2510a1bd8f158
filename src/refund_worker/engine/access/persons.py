"""Links between a console user and the same person's other names. The four-eyes rule of approvals uses them."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection

from refund_worker.domain import persons as domain
from refund_worker.domain.decision import Event
from refund_worker.domain.persons import CONSOLE_PREFIX, Link, folded
from refund_worker.engine.context import Context
from refund_worker.errors import InvalidRequest, NotFound
from refund_worker.store import timeline
from refund_worker.store.access import console_users, persons
from refund_worker.times import iso

IDENTITY_LENGTH_MAX = 255
FORMS = "key:CLIENT/NAME for an API key, console/NAME for a console user, cli:NAME for a user of the command line"
_KEY = re.compile(r"(?:key:)?(?P<client>[^:/]+)/(?P<name>[^/]+)")
_USER = re.compile(r"(?:console/|console:|user:)?(?P<name>[^:/]+)")
_CLI = re.compile(r"cli:[^\s:]+")
# Any actor: the Python API accepts any name from trusted code, and the Celery task has a name of its own.
_ANY = re.compile(r"actor:(?P<actor>.+)")


def link_person(context: Context, name: str, identity: str, *, by: str) -> dict[str, Any]:
    """Record that the console user `name` is the person behind `identity`; return {user, identity, linked}.

    `linked` is False if the link existed already. It applies immediately, also to refunds requested earlier. Raises
    `InvalidRequest` for a malformed identity, `NotFound` for a user or key that never existed.
    """

    def work(connection: Connection) -> dict[str, Any]:
        link = _link(connection, name, identity)
        now = context.clock(connection)
        linked = persons.insert_link(connection, link, now=now, by=by)
        if linked:
            _note(connection, persons.LINKED, link, now, by)
        return {**link._asdict(), "linked": linked}

    return context.database.run(work)


def unlink_person(context: Context, name: str, identity: str, *, by: str) -> dict[str, Any]:
    """Remove a link; return {user, identity, linked: False}. Raises as `link_person`, and `NotFound` for an unknown
    link.
    """

    def work(connection: Connection) -> dict[str, Any]:
        link = _link(connection, name, identity)
        if not persons.delete_link(connection, link):
            raise NotFound(f"{link.identity} is not linked to {link.user}: refund-worker users links shows what is")
        _note(connection, persons.UNLINKED, link, context.clock(connection), by)
        return {**link._asdict(), "linked": False}

    return context.database.run(work)


def why_not_approve(connection: Connection, actor: str, requested_by: Collection[str]) -> dict[str, str]:
    """Return the requesters for whom `actor` cannot be the second person, each with the reason as text."""
    links = persons.links(connection)
    reasons = {asked: domain.why_not_approve(actor, asked, links) for asked in requested_by}
    return {asked: why for asked, why in reasons.items() if why is not None}


def list_links(context: Context) -> list[dict[str, Any]]:
    """Return all links by user, as {user, identity, linked_at, linked_by}."""
    with context.database.read() as connection:
        rows = persons.all_links(connection)
    return [
        {"user": row["console_user"], "identity": row["identity"], "linked_at": iso(row["linked_at"])}
        | {"linked_by": row["linked_by"]}
        for row in rows
    ]


def _link(connection: Connection, name: str, identity: str) -> Link:
    user, other = _user(connection, name), _actor(connection, identity)
    if folded(user) == folded(other):
        raise InvalidRequest(f"{user} is that person already: name another identity, {FORMS}", field="identity")
    return Link(user, other)


def _user(connection: Connection, name: str) -> str:
    """Return the actor name of a console user, with the stored capitals of the name."""
    row = console_users.find_user(connection, name)
    if row is None:
        raise NotFound(f"no user is named {name}: refund-worker users list shows who there is")
    return CONSOLE_PREFIX + str(row["name"])


def _actor(connection: Connection, identity: str) -> str:
    """Return the identity in the form that the audit trail uses."""
    if len(identity) > IDENTITY_LENGTH_MAX or not identity.isprintable():
        raise InvalidRequest(f"an identity has at most {IDENTITY_LENGTH_MAX} printable characters", field="identity")
    if _CLI.fullmatch(identity):
        return identity
    if user := _USER.fullmatch(identity):
        return _user(connection, user["name"])
    if key := _KEY.fullmatch(identity):
        if not persons.has_key(connection, key["client"], key["name"]):
            raise NotFound(f"{key['client']} has no key named {key['name']}: refund-worker keys list shows all keys")
        return f"{key['client']}/{key['name']}"
    if other := _ANY.fullmatch(identity):
        return other["actor"]
    raise InvalidRequest(f"an identity is {FORMS}", field="identity")


def _note(connection: Connection, kind: str, link: Link, now: float, by: str) -> None:
    detail = {"user": link.user, "identity": link.identity}
    timeline.insert_events(connection, [(None, Event(kind, by, detail=detail))], now)
