"""Persons: which authenticated names belong to one person, so that no person approves their own request. Pure.

A name is the actor as recorded in the trail: `CLIENT/NAME` for an API key, `console/NAME` for a user of the console,
`cli:NAME` for the user of an operating system. A console user is one person. A key, or an account of an operating
system, may be used by several persons: it belongs to each console user that it is linked to, but does not make two of
them the same person.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from typing import NamedTuple

CONSOLE_PREFIX = "console/"
# The Celery task as an entry point: one name for all of it, or one name for each declared client.
CELERY = "celery"


class Link(NamedTuple):
    """A link: the console user `user` (as `console/NAME`) is a person behind `identity` (perhaps a console user)."""

    user: str
    identity: str


def folded(actor: str) -> str:
    """Return the name without the differences that people overlook: Ivy and ivy count as the same name."""
    return unicodedata.normalize("NFKC", actor).casefold()


def persons_behind(actor: str, links: Collection[Link]) -> frozenset[str]:
    """Return the actor and every console user that is, or may be, the person behind it.

    Two linked console users are one person, also by way of a third. A user who is linked to the Celery entry point is
    behind each of its clients.
    """
    found = {folded(actor)}
    itself = found | {CELERY} if folded(actor).startswith(f"{CELERY}:") else found
    ends = [(folded(link.user), folded(link.identity)) for link in links]
    ends += [(identity, user) for user, identity in ends]
    more = True
    while more:
        # Only through console users: the next user of a shared key is another person.
        through = {name for name in found if name.startswith(CONSOLE_PREFIX)} | itself
        users = {to for start, to in ends if start in through and to.startswith(CONSOLE_PREFIX)}
        more = not users <= found
        found |= users
    return frozenset(found)


def why_not_approve(actor: str, requested_by: str, links: Collection[Link], what: str = "refund") -> str | None:
    """Return why `actor` cannot be the second person for what `requested_by` asked for, or None if they can."""
    if folded(actor) == folded(requested_by):
        return f"{requested_by} asked for this {what}: the person who asked cannot approve it, a second person must"
    if persons_behind(actor, links).isdisjoint(persons_behind(requested_by, links)):
        return None
    return (
        f"{requested_by} asked for this {what}, and is linked to the same person as {actor}:"
        " the person who asked cannot approve it, a second person must"
    )
