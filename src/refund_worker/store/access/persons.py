"""Links between console users and other names of the same persons."""

from __future__ import annotations

import json

from sqlalchemy import Connection, RowMapping, delete, literal, select, union_all

from refund_worker.domain.persons import Link
from refund_worker.store.database import insert_into
from refund_worker.store.tables import api_keys, events, person_links

_l, _e = person_links.c, events.c
# Kinds of the events that record that a link was made or removed.
LINKED, UNLINKED = "person_linked", "person_unlinked"
_EXISTS = "exists"


def insert_link(connection: Connection, link: Link, *, now: float, by: str) -> bool:
    """Insert a link, made by `by` at `now` (epoch seconds); return False if it existed already."""
    row = {"console_user": link.user, "identity": link.identity, "linked_at": now, "linked_by": by}
    statement = insert_into(connection, person_links).values(**row).on_conflict_do_nothing().returning(_l.identity)
    return connection.execute(statement).first() is not None


def delete_link(connection: Connection, link: Link) -> bool:
    """Delete a link; return False if it did not exist."""
    statement = delete(person_links).where(_l.console_user == link.user, _l.identity == link.identity)
    return connection.execute(statement).rowcount == 1


def all_links(connection: Connection) -> list[RowMapping]:
    """Return all links as rows, by user and identity."""
    return list(connection.execute(select(person_links).order_by(_l.console_user, _l.identity)).mappings())


def links(connection: Connection) -> tuple[Link, ...]:
    """Return all links. There are only as many as persons with a second name, so no filter is needed."""
    return tuple(Link(row["console_user"], row["identity"]) for row in all_links(connection))


def links_and_trail(connection: Connection) -> tuple[set[Link], dict[Link, int]]:
    """Return (the existing links, the links that the audit trail says exist).

    The second is a mapping from link to the `seq` of the event that made it. Both are read in one statement, so that a
    link made at this moment shows in both or in neither.
    """
    existing = select(literal(0).label("seq"), literal(_EXISTS).label("kind"), _l.console_user, _l.identity)
    recorded = select(_e.seq, _e.kind, _e.detail, literal(""))
    both = union_all(existing, recorded.where(_e.refund_id.is_(None), _e.kind.in_((LINKED, UNLINKED)))).order_by("seq")
    links_now, links_in_trail = set[Link](), dict[Link, int]()
    for seq, kind, text, identity in connection.execute(both):
        if kind == _EXISTS:
            links_now.add(Link(text, identity))
            continue
        link = Link(*(str(json.loads(text).get(name)) for name in ("user", "identity")))
        if kind == LINKED:
            links_in_trail[link] = seq
        else:
            links_in_trail.pop(link, None)
    return links_now, links_in_trail


def has_key(connection: Connection, client: str, name: str) -> bool:
    """Return True if the client has or had an API key with this name. Revoked keys count: what they requested stays."""
    k = api_keys.c
    query = select(k.key_id).where(k.client == client, k.name == name).limit(1)
    return connection.execute(query).first() is not None
