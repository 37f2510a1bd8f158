"""Persons, pure: which authenticated names stand for one person, so that nobody approves what they asked for.

A name is the actor as it stands in the trail: `CLIENT/NAME` for an API key, `console/NAME` for a user of the console,
`cli:NAME` for the user of an operating system. A console user is one person. A key, or an account of an operating
system, may be used by several: it stands for each console user that it is linked to, but makes no two of them the same.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import NamedTuple

CONSOLE_PREFIX = "console/"
# The Celery door: it asks as a whole, or for each declared client by itself.
CELERY = "celery"


class Link(NamedTuple):
    """The console user `user` (as `console/NAME`) is a person behind `identity`, which may be another console user."""

    user: str
    identity: str


def folded(actor: str) -> str:
    """The name without what people don't tell apart: Ivy and ivy are taken for one person."""
    return unicodedata.normalize("NFKC", actor).casefold()


def persons_behind(actor: str, links: Collection[Link]) -> frozenset[str]:
    """The actor and every console user that is, or may be, the person behind it; two console users that are linked
    are one, also by way of a third. Who is linked to the Celery door is behind each of its clients."""
    found = {folded(actor)}
    itself = found | {CELERY} if folded(actor).startswith(f"{CELERY}:") else found
    ends = [(folded(link.user), folded(link.identity)) for link in links]
    ends += [(identity, user) for user, identity in ends]
    more = True
    while more:
        # Only through console users: the next user of a shared key is somebody else.
        through = {name for name in found if name.startswith(CONSOLE_PREFIX)} | itself
        users = {to for start, to in ends if start in through and to.startswith(CONSOLE_PREFIX)}
        more = not users <= found
        found |= users
    return frozenset(found)


def why_not_approve(actor: str, requested_by: str, links: Collection[Link]) -> str | None:
    """Why `actor` can't be the second person for a refund that `requested_by` asked for; None where it can."""
    if folded(actor) == folded(requested_by):
        return f"{requested_by} asked for this refund: whoever asked can't approve it, a second person must"
    if persons_behind(actor, links).isdisjoint(persons_behind(requested_by, links)):
        return None
    return (
        f"{requested_by} asked for this refund, and is linked to the same person as {actor}:"
        " whoever asked can't approve it, a second person must"
    )
