"""What starts in production although it is dangerous: warned of, or refused with STRICT=on."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    import logging

    from refund_worker.settings import Settings

# With these libpq never falls back to plain text. `require` does not check whose certificate it is.
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


@dataclass(frozen=True, slots=True)
class Danger:
    """`setting` is the variable without the prefix; `what` is wrong with it, and `do` mends it."""

    setting: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.setting} {self.what}: {self.do}"


def dangers_of(settings: Settings) -> tuple[Danger, ...]:
    """All of them, in production; in development there are none."""
    return tuple(_found(settings)) if settings.environment == "production" else ()


def warn_of_dangers(settings: Settings, log: logging.Logger) -> None:
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


def _found(settings: Settings) -> Iterator[Danger]:
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
    if not url.startswith("postgresql"):
        return None
    parts = urlsplit(url)
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if (options.get("sslmode") or os.environ.get("PGSSLMODE", "prefer")) in ENCRYPTED:
        return None
    place = parts.netloc.rpartition("@")[2]
    hosts = place if place.startswith("[") else place.partition(":")[0]
    named = options.get("hostaddr") or options.get("host") or hosts or os.environ.get("PGHOST", "")
    for one in named.split(","):
        host = (
            one[1:].partition("]")[0] if one.startswith("[") else one if one.count(":") > 1 else one.partition(":")[0]
        )
        if not host.startswith("/") and not is_this_machine(host):
            return host
    return None
