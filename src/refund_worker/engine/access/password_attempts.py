"""Wrong passwords, counted so that guessing stays slow and no stranger can keep anybody out.

Only wrong passwords count, and only against whoever gave them:

- at sign-in, a name from one address: five are free, then each further one makes this name wait at this address, one
  second, two, four, up to half a minute. The same name from another address is not touched.
- one name from many addresses: after a hundred, at most one password a second is looked at, among those from addresses
  that have used up their five. Whoever gives the right one within five tries is looked at at once.
- confirming in a live session counts for that session alone.

A right password forgets what its address, or its session, has counted. What was held back is not counted.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.store.access import console_users as store

FREE_TRIES = 5
WAIT_SECONDS, WAIT_SECONDS_MAX = 1.0, 30.0
# Only who is signed in is held back by these, and signing in again goes round it.
SESSION_WAIT_SECONDS_MAX = 900.0
FREE_TRIES_OF_NAME, NAME_WAIT_SECONDS = 100, 1.0
TRIES_FORGOTTEN_SECONDS = 86_400.0
# Whoever has an IPv6 address has this whole network.
IPV6_PREFIX = 64
# In these the whole of IPv4 is one such network: the IPv4 address in them tells people apart.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Tries:
    """What the passwords of one person at one place count for. `name` is None in a live session."""

    own: str
    name: str | None
    wait_seconds_max: float


def of_sign_in(name: str, address: str) -> Tries:
    """Those of whoever signs in as `name` from `address`."""
    by_name = f"name:{_subject(name)}"
    return Tries(f"{by_name}|{place_of(address)}", by_name, WAIT_SECONDS_MAX)


def of_session(session_hash: str) -> Tries:
    """Those of a live session that gives its password again."""
    return Tries(f"session:{session_hash}", None, SESSION_WAIT_SECONDS_MAX)


def seconds_to_wait(connection: Connection, tries: Tries, now: float) -> float:
    """How long until the next password is looked at; 0 where it is now."""
    count, last = _counted(connection, tries.own, now)
    if count < FREE_TRIES:
        return 0.0
    wait = min(tries.wait_seconds_max, WAIT_SECONDS * 2.0 ** min(count - FREE_TRIES, 20))
    until = last + wait
    if tries.name is not None:
        of_name, last_of_name = _counted(connection, tries.name, now)
        if of_name >= FREE_TRIES_OF_NAME:
            until = max(until, last_of_name + NAME_WAIT_SECONDS)
    return max(0.0, until - now)


def count_wrong(connection: Connection, tries: Tries, now: float) -> None:
    """One wrong password more."""
    for subject in (tries.own, tries.name):
        if subject is not None:
            store.count_try(connection, subject, now, fresh_after=now - TRIES_FORGOTTEN_SECONDS)


def forget_own(connection: Connection, tries: Tries) -> None:
    """After the right password: its wrong ones before it were a person's, not a guesser's."""
    store.forget_tries(connection, tries.own)


def forget_all_of(connection: Connection, name: str) -> None:
    """Everything counted for a user: from every address, and in live sessions."""
    by_name = f"name:{_subject(name)}"
    store.forget_tries(connection, by_name)
    store.forget_tries_below(connection, f"{by_name}|")
    for session_hash in store.sessions_of(connection, name):
        store.forget_tries(connection, f"session:{session_hash}")


def place_of(address: str) -> str:
    """Whom an address stands for: itself, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    # A socket for both kinds tells of IPv4 callers so.
    within = parsed.ipv4_mapped or parsed.sixtofour
    if within is None and parsed in _NAT64:
        within = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return str(within or ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))


def _counted(connection: Connection, subject: str, now: float) -> tuple[int, float]:
    count, last = store.tries_of(connection, subject)
    return (count, last) if last >= now - TRIES_FORGOTTEN_SECONDS else (0, 0.0)


def _subject(name: str) -> str:
    """A name in small letters; what no user could be called as a hash, so that it takes the same room."""
    plain = name.lower()
    if len(plain) <= 100 and plain.isascii() and plain.isprintable() and "|" not in plain:
        return plain
    return "|" + hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()
