"""Settings that are dangerous in production: a warning is logged, or the start is refused with STRICT=on."""

from __future__ import annotations

import ipaddress
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

# With these libpq never falls back to plain text. `require` does not check whose certificate it is.
ENCRYPTED = frozenset({"require", "verify-ca", "verify-full"})


# The values that keep the certificate check on, as Celery and redis-py spell them. Every other value counts as off.
CHECKED = {
    "ssl_cert_reqs": {"required", "optional", "cert_required", "cert_optional"},
    "ssl_check_hostname": {"true", "t", "yes", "y", "1"},
}
# No allocation to one owner is wider, and no other private network: a wider network would include strangers.
IPV4_PREFIX_MIN, IPV6_PREFIX_MIN = 8, 16
PRIVATE_IPV6 = ipaddress.IPv6Network("fc00::/7")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Secret(Protocol):
    """A setting whose value is hidden."""

    def get_secret_value(self) -> str:
        """Return the value itself."""
        ...


class Given(Protocol):
    """The settings that are checked here. The class of all settings imports this module."""

    @property
    def environment(self) -> str:
        """Return "development" or "production"."""
        ...

    @property
    def database_url(self) -> Secret:
        """Return the URL of the database."""
        ...

    @property
    def broker_url(self) -> Secret:
        """Return the URL of the broker."""
        ...

    @property
    def notify_url(self) -> str | None:
        """Return the URL that receives notifications, if one is set."""
        ...

    @property
    def api_bases(self) -> Mapping[str, str]:
        """Return the addresses that replace a processor's own server, by the setting's name."""
        ...

    @property
    def trusted_networks(self) -> Sequence[Network]:
        """Return the networks of the trusted proxies."""
        ...


# As SQLAlchemy reads it: a password may hold anything except an @.
_POSTGRES = re.compile(
    r"postgresql(?:\+psycopg)?://(?:[^:/]*(?::[^@]*)?@)?(?P<place>[^/?]*)(?:/[^?]*)?(?:\?(?P<query>.*))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Danger:
    """A dangerous `setting` (its variable without the prefix): `what` is wrong with it, and `do` corrects it."""

    setting: str
    what: str
    do: str

    def __str__(self) -> str:
        return f"{self.setting} {self.what}: {self.do}"


def dangers_of(settings: Given) -> tuple[Danger, ...]:
    """Return all dangerous settings in production. In development there are none."""
    return tuple(_found(settings)) if settings.environment == "production" else ()


def warn_of_dangers(settings: Given, log: logging.Logger) -> None:
    """Log one warning for each dangerous setting."""
    for danger in dangers_of(settings):
        log.warning("REFUND_WORKER_%s", danger)


def is_this_machine(host: str) -> bool:
    """Return True if a host can only be this machine: a loopback address, localhost, or an empty host."""
    name = host.strip("[]").rstrip(".").lower()
    if name in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def without_port(place: str) -> str:
    """Return the host of `host`, `host:port`, `[IPv6]:port` or a bare IPv6 address."""
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place if place.count(":") > 1 else place.partition(":")[0]


def _found(settings: Given) -> Iterator[Danger]:
    if urlsplit(settings.notify_url or "").scheme == "http":
        yield Danger("NOTIFY_URL", "is http://: notifications can be read on their way", "set an https:// URL")
    elsewhere = _postgres_in_plain_text(settings.database_url.get_secret_value())
    if elsewhere:
        todo = "add ?sslmode=verify-full&sslrootcert=FILE (or at least ?sslmode=require) to it"
        yield Danger("DATABASE_URL", f"leads to {elsewhere} without TLS", todo)
    yield from _of_broker(settings.broker_url.get_secret_value())
    for name, url in settings.api_bases.items():
        base = urlsplit(url)
        if base.scheme == "http" and not is_this_machine(base.hostname or ""):
            yield Danger(name, f"sends the key to {base.hostname} without TLS", "set an https:// URL, or none")
    wide = _too_wide(settings.trusted_networks)
    if wide:
        what = f"has all of {wide} in it: clients from there choose the address that is counted and logged"
        yield Danger("TRUSTED_PROXIES", what, "name only the proxies in front of this server")


def _of_broker(url: str) -> Iterator[Danger]:
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    # redis-py takes the host from the query if the address has none.
    elsewhere = [host for host in (parts.hostname or "", *options.get("host", [])) if not is_this_machine(host)]
    if not elsewhere:
        return
    if parts.scheme in ("redis", "amqp"):
        todo = f"use {parts.scheme}s:// there"
        yield Danger("BROKER_URL", f"leads to {elsewhere[0]} without TLS, its password too", todo)
    unchecked = sorted(
        name for name, good in CHECKED.items() if not {each.lower() for each in options.get(name, [])} <= good
    )
    if parts.scheme in ("rediss", "amqps") and unchecked:
        what = f"sends {elsewhere[0]} its password without checking whose certificate it has ({unchecked[0]})"
        yield Danger("BROKER_URL", what, "leave that out; with an authority of your own add ssl_ca_certs=FILE")


def _too_wide(networks: Sequence[Network]) -> Network | None:
    """Return the first network that is too wide for any operator of proxies, after joining neighbours, or None."""
    fours = [network for network in networks if isinstance(network, ipaddress.IPv4Network)]
    sixes = [network for network in networks if isinstance(network, ipaddress.IPv6Network)]
    wide: list[Network] = [four for four in ipaddress.collapse_addresses(fours) if four.prefixlen < IPV4_PREFIX_MIN]
    for six in ipaddress.collapse_addresses(sixes):
        if six.prefixlen < IPV6_PREFIX_MIN and not six.subnet_of(PRIVATE_IPV6):
            wide.append(six)
    return wide[0] if wide else None


def _postgres_in_plain_text(url: str) -> str | None:
    """Return the first remote host that is reached without TLS, or None.

    libpq takes the options that are not in the URL from its variables PG…. A path is a socket of this machine. If an
    option has several values, each counts: any of them may be used.
    """
    found = _POSTGRES.fullmatch(url)
    if found is None:
        return None
    options = parse_qs(found["query"] or "")
    # A service's options, in a file that is not read here, take precedence over the variables.
    by_others = bool({"service", "conninfo"} & options.keys() or os.environ.get("PGSERVICE"))
    modes = options.get("sslmode") or ["" if by_others else os.environ.get("PGSSLMODE", "")]
    if ENCRYPTED.issuperset(modes):
        return None
    hosts = _hosts_of(options, found["place"])
    elsewhere = [host for host in hosts if not host.startswith("/") and not is_this_machine(host)]
    if not elsewhere and by_others and "hostaddr" not in options:
        return "what a service names"
    return elsewhere[0] if elsewhere else None


def _hosts_of(options: Mapping[str, Sequence[str]], place: str) -> list[str]:
    """Return every host that libpq may connect to. An address takes precedence over the host at the same position."""
    addresses = ",".join(options.get("hostaddr") or [os.environ.get("PGHOSTADDR", "")]).split(",")
    named = ",".join(options.get("host") or [place or os.environ.get("PGHOST", "")]).split(",")
    return addresses if all(addresses) else [*addresses, *map(without_port, named)]
