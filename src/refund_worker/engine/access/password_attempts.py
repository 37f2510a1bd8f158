"""Counters of wrong passwords: guessing stays slow, and a stranger cannot lock out a user.

Only wrong passwords count, and only for the person who entered them:

- At sign-in, one name from one address: five attempts are free. Each further one delays this name at this address by
  one second, then two, four, up to half a minute. The same name from another address is not affected.
- One name from many addresses: after a hundred wrong passwords, at most one password a second is checked among the
  addresses that have used their five. The right password within five attempts is checked immediately.
- A confirmation in a live session counts for that session only. The current password on the form for a new one counts
  for the session and for the name.

A right password clears the counter of its address or session. A rejected attempt during the delay is not counted.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from refund_worker.store.access import console_users as store

FREE_TRIES = 5
WAIT_SECONDS, WAIT_SECONDS_MAX = 1.0, 30.0
# The limit affects only a signed-in user, who can sign in again to avoid it.
SESSION_WAIT_SECONDS_MAX = 900.0
FREE_TRIES_OF_NAME, NAME_WAIT_SECONDS = 100, 1.0
TRIES_FORGOTTEN_SECONDS = 86_400.0
# A holder of an IPv6 address usually controls the whole /64 network.
IPV6_PREFIX = 64
# NAT64 maps all of IPv4 into one such network: the embedded IPv4 address distinguishes callers.
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Tries:
    """Counters that one password attempt belongs to. `name` has no value for a confirmation in a live session."""

    own: str
    name: str | None
    wait_seconds_max: float


@dataclass(frozen=True, slots=True)
class WrongPasswords:
    """The wrong passwords of one user in the last day: how many, and the time of the last.

    `wait_seconds` is the time until passwords are checked again in every place; it is 0 if that is now.
    """

    count: int
    last_at: float
    wait_seconds: float


def of_sign_in(name: str, address: str) -> Tries:
    """Return the counters for a sign-in as `name` from `address`."""
    by_name = f"name:{_subject(name)}"
    return Tries(f"{by_name}|{place_of(address)}", by_name, WAIT_SECONDS_MAX)


def of_session(session_hash: str) -> Tries:
    """Return the counters for a password confirmation in a live session."""
    return Tries(f"session:{session_hash}", None, SESSION_WAIT_SECONDS_MAX)


def of_new_password(session_hash: str, name: str) -> Tries:
    """Return the counters for the current password on the form for a new one: those of the session and of the name.

    A thief of the session has no more attempts at another form, and those at this form are among the name's.
    """
    return Tries(f"session:{session_hash}", f"name:{_subject(name)}", SESSION_WAIT_SECONDS_MAX)


def seconds_to_wait(connection: Connection, tries: Tries, now: float) -> float:
    """Return the seconds until the next password is checked; 0 if it is checked now."""
    count, last = _counted(connection, tries.own, now)
    if count < FREE_TRIES:
        return 0.0
    until = _own_end(count, last, tries.wait_seconds_max)
    if tries.name is not None:
        of_name, last_of_name = _counted(connection, tries.name, now)
        if of_name >= FREE_TRIES_OF_NAME:
            until = max(until, last_of_name + NAME_WAIT_SECONDS)
    return max(0.0, until - now)


def _own_end(count: int, last: float, wait_seconds_max: float) -> float:
    """Return the end of the wait after the last of `count` wrong passwords."""
    if count < FREE_TRIES:
        return last
    return last + min(wait_seconds_max, WAIT_SECONDS * 2.0 ** min(count - FREE_TRIES, 20))


def wrong_passwords(
    connection: Connection, sessions: Mapping[str, Collection[str]], now: float
) -> dict[str, WrongPasswords]:
    """Return the wrong passwords of each user who had some in the last day.

    `sessions` is a mapping from user to the hashes of that user's sessions.
    """
    since = now - TRIES_FORGOTTEN_SECONDS
    by_subject = {f"name:{_subject(name)}": name for name in sessions}
    of_sessions = {f"session:{one}": name for name, hashes in sessions.items() for one in hashes}
    found = store.tries_of_all(connection, [*by_subject, *of_sessions], since)
    held, counted = dict[str, float](), dict[str, list[tuple[int, float]]]()
    for subject, (count, last) in found.items():
        name = by_subject.get(subject) or of_sessions[subject]
        counted.setdefault(name, []).append((count, last))
        ends = [_own_end(count, last, SESSION_WAIT_SECONDS_MAX)]
        if subject in by_subject:
            at_addresses = store.tries_below(connection, f"{subject}|", now - WAIT_SECONDS_MAX)
            ends = [_own_end(*one, WAIT_SECONDS_MAX) for one in at_addresses]
        held[name] = max(held.get(name, now), *ends, now)
    return {
        name: WrongPasswords(max(count for count, _ in all), max(last for _, last in all), held[name] - now)
        for name, all in counted.items()
    }


def count_wrong(connection: Connection, tries: Tries, now: float) -> None:
    """Count one more wrong password."""
    for subject in (tries.own, tries.name):
        if subject is not None:
            store.count_try(connection, subject, now, fresh_after=now - TRIES_FORGOTTEN_SECONDS)


def forget_own(connection: Connection, tries: Tries) -> None:
    """Clear the counter after the right password: the wrong ones before it came from the user, not from a guesser."""
    store.forget_tries(connection, tries.own)


def forget_all_of(connection: Connection, name: str) -> None:
    """Clear all counters of a user, for every address and for live sessions."""
    by_name = f"name:{_subject(name)}"
    store.forget_tries(connection, by_name)
    store.forget_tries_below(connection, f"{by_name}|")
    for session_hash in store.sessions_of(connection, name):
        store.forget_tries(connection, f"session:{session_hash}")


def place_of(address: str) -> str:
    """Return the unit that an address is counted as: the address itself, or the network of an IPv6 address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    # A dual-stack socket reports IPv4 callers in this form.
    within = parsed.ipv4_mapped or parsed.sixtofour
    if within is None and parsed in _NAT64:
        within = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return str(within or ipaddress.ip_network((int(parsed), IPV6_PREFIX), strict=False))


def _counted(connection: Connection, subject: str, now: float) -> tuple[int, float]:
    count, last = store.tries_of(connection, subject)
    return (count, last) if last >= now - TRIES_FORGOTTEN_SECONDS else (0, 0.0)


def _subject(name: str) -> str:
    """Return the name in lower case. A text that cannot be a user name is hashed, so that its length is bounded."""
    plain = name.lower()
    if len(plain) <= 100 and plain.isascii() and plain.isprintable() and "|" not in plain:
        return plain
    return "|" + hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()
