"""What starts in production although it is dangerous: warned of, or refused with STRICT=on."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

# With these libpq never falls back to plain text. `require` does not check whose certificate it is.
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


class Secret(Protocol):
    def get_secret_value(self) -> str: ...


class Given(Protocol):
    """What is looked at of the settings, which themselves ask this module."""

    @property
    def environment(self) -> str: ...
    @property
    def database_url(self) -> Secret: ...
    @property
    def broker_url(self) -> Secret: ...
    @property
    def notify_url(self) -> str | None: ...
    @property
    def stripe_api_base(self) -> str | None: ...


# As SQLAlchemy reads it: a password may hold anything but an @.
_POSTGRES = re.compile(
    r"postgresql(?:\+psycopg)?://(?:[^:/]*(?::[^@]*)?@)?(?P<place>[^/?]*)(?:/[^?]*)?(?:\?(?P<query>.*))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Danger:
    """`setting` is the variable without the prefix; `what` is wrong with it, and `do` mends it."""

    setting: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.setting} {self.what}: {self.do}"


def dangers_of(settings: Given) -> tuple[Danger, ...]:
    """All of them, in production; in development there are none."""
    return tuple(_found(settings)) if settings.environment == "production" else ()


def warn_of_dangers(settings: Given, log: logging.Logger) -> None:
    """One line of the log for each."""
    for danger in dangers_of(settings):
        log.warning("REFUND_WORKER_%s", danger)


def is_this_machine(host: str) -> bool:
    """Whether a host of an address can only be this machine: a loopback address, localhost, or none at all."""
    name = host.strip("[]").rstrip(".").lower()
    if name in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def without_port(place: str) -> str:
    """The host of `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place if place.count(":") > 1 else place.partition(":")[0]


def _found(settings: Given) -> Iterator[Danger]:
    if (settings.notify_url or "").startswith("http://"):
        yield Danger("NOTIFY_URL", "is http://: what we tell of refunds can be read on its way", "set an https:// URL")
    elsewhere = _postgres_in_plain_text(settings.database_url.get_secret_value())
    if elsewhere:
        todo = "add ?sslmode=verify-full&sslrootcert=FILE (or at least ?sslmode=require) to it"
        yield Danger("DATABASE_URL", f"leads to {elsewhere} without TLS", todo)
    broker = urlsplit(settings.broker_url.get_secret_value())
    if broker.scheme in ("redis", "amqp") and not is_this_machine(broker.hostname or ""):
        todo = f"use {broker.scheme}s:// there"
        yield Danger("BROKER_URL", f"leads to {broker.hostname} without TLS, its password too", todo)
    base = urlsplit(settings.stripe_api_base or "")
    if base.scheme == "http" and not is_this_machine(base.hostname or ""):
        yield Danger("STRIPE_API_BASE", f"sends the key to {base.hostname} without TLS", "set an https:// URL, or none")


def _postgres_in_plain_text(url: str) -> str | None:
    """The first host elsewhere that is spoken to without TLS, or None. What is not in the URL, libpq takes from PG….

    A path is a socket of this machine.
    """
    found = _POSTGRES.fullmatch(url)
    if found is None:
        return None
    options = {name: values[-1] for name, values in parse_qs(found["query"] or "").items()}
    if (options.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")) in ENCRYPTED:
        return None
    named = options.get("hostaddr") or options.get("host") or found["place"] or os.environ.get("PGHOST", "")
    for one in named.split(","):
        host = without_port(one)
        if not host.startswith("/") and not is_this_machine(host):
            return host
    return None
