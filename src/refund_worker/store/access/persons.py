"""Links between console users and the other names of the same persons."""

from __future__ import annotations

import json

from sqlalchemy import Connection, RowMapping, delete, literal, select, union_all

from refund_worker.domain.persons import Link
from refund_worker.store.database import insert_into
from refund_worker.store.tables import api_keys, events, person_links

_l, _e = person_links.c, events.c
# The lines of the trail that say of a link that it stands, and that it does no more.
LINKED, UNLINKED = "person_linked", "person_unlinked"
_STANDS = "stands"


def insert_link(connection: Connection, link: Link, *, now: float, by: str) -> bool:
    """False where it was there already."""
    row = {"console_user": link.user, "identity": link.identity, "linked_at": now, "linked_by": by}
    statement = insert_into(connection, person_links).values(**row).on_conflict_do_nothing().returning(_l.identity)
    return connection.execute(statement).first() is not None


def delete_link(connection: Connection, link: Link) -> bool:
    """False where there was none."""
    statement = delete(person_links).where(_l.console_user == link.user, _l.identity == link.identity)
    return connection.execute(statement).rowcount == 1


def all_links(connection: Connection) -> list[RowMapping]:
    return list(connection.execute(select(person_links).order_by(_l.console_user, _l.identity)).mappings())


def links(connection: Connection) -> tuple[Link, ...]:
    """All of them: as many as people with a second name, so there is no need to choose."""
    return tuple(Link(row["console_user"], row["identity"]) for row in all_links(connection))


def links_and_trail(connection: Connection) -> tuple[set[Link], dict[Link, int]]:
    """(the links that stand, those that stand by the trail with the number of the line that says so).

    By one statement, so that a link that is made just now shows in both or in neither.
    """
    stand = select(literal(0).label("seq"), literal(_STANDS).label("kind"), _l.console_user, _l.identity)
    lines = select(_e.seq, _e.kind, _e.detail, literal(""))
    both = union_all(stand, lines.where(_e.refund_id.is_(None), _e.kind.in_((LINKED, UNLINKED)))).order_by("seq")
    standing, said = set[Link](), dict[Link, int]()
    for seq, kind, text, identity in connection.execute(both):
        if kind == _STANDS:
            standing.add(Link(text, identity))
            continue
        link = Link(*(str(json.loads(text).get(name)) for name in ("user", "identity")))
        if kind == LINKED:
            said[link] = seq
        else:
            said.pop(link, None)
    return standing, said


def has_key(connection: Connection, client: str, name: str) -> bool:
    """Whether there is an API key of this name, or was one: what it asked for stays."""
    k = api_keys.c
    query = select(k.key_id).where(k.client == client, k.name == name).limit(1)
    return connection.execute(query).first() is not None
