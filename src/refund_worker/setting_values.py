"""The forms of settings' values: numbers, URLs, networks, keys. Each check raises `ValueError` saying what is right.

`settings.py` names the settings; these functions know nothing of them.
"""

from __future__ import annotations

import base64
import re
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import BeforeValidator

from refund_worker.iso_codes import CURRENCIES

LOOPBACK = {"127.0.0.1", "localhost", "::1", ""}
BROKERS = ("redis", "rediss", "amqp", "amqps", "memory")
TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
CERT_REQS = {"required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"}
# `postgres://` is what Heroku, Render and Railway set.
POSTGRES_SHORT, POSTGRES = "postgres", "postgresql+psycopg"
DATABASES = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
# The text after `://` as SQLAlchemy reads it: user, password, host, port.
_PLACE = re.compile(
    r"(?:[^:/]*(?::(?P<password>[^@]*))?@)?(?P<host>\[[^\[\]/?]+\]|[^\[\]/:?]*)(?::(?P<port>[^/?]*))?(?:[/?].*)?",
    re.DOTALL,
)
# The length that Standard Webhooks requires of a signing secret.
NOTIFY_SECRET_BYTES_MIN, NOTIFY_SECRET_BYTES_MAX = 24, 64
# Keys, and the id of an endpoint: people paste them instead of an endpoint's signing secret.
_NO_SIGNING_SECRETS = ("sk_", "rk_", "pk_", "we_")
# Other keys of Stripe, and why they cannot work here. The error gives the reason, and never shows the key.
_OTHER_KEYS = {
    "sk_org_": "an organisation's key, which needs the name of an account with each call: take one account's own key",
    "rk_org_": "an organisation's key, which needs the name of an account with each call: take one account's own key",
    "pk_": "a publishable key, which cannot make refunds: take the secret or a restricted key (sk_… or rk_…)",
    "ek_": "an ephemeral key, which cannot make refunds: take the secret or a restricted key (sk_… or rk_…)",
    "whsec_": "the secret of a webhook: it belongs into REFUND_WORKER_STRIPE_WEBHOOK_SECRET",
}
_STRIPE_KEY = re.compile("(sk|rk)_[!-~]+")  # printable and without blanks, as a header can carry it
_AMOUNT = re.compile("[1-9][0-9]{0,11}")
_EXPECTED = re.compile(
    r"(?P<name>[a-z][a-z0-9_]{0,39}(/[a-z0-9_]{1,60})?) *= *(?P<earliest>[0-9]{1,3}) *- *(?P<latest>[0-9]{1,3})"
)
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
_SCHEMA = re.compile("[a-z_][a-z0-9_]{0,62}")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,49}")
# Kubernetes sets these in every pod of a namespace for a Service whose name begins with refund-worker.
_KUBERNETES = re.compile(r"REFUND_WORKER_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_\w+)")
_KUBERNETES_PORT = re.compile(r"REFUND_WORKER_(\w+_)?PORT")
_SEARCH_PATH = re.compile("search[-_]path", re.IGNORECASE)  # as Postgres reads the name of an option
FALLBACKS = frozenset({"payments", "balance", "payout", "manual"})
_CREDITS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
_METADATA_KEY = re.compile(r"[!-~]([ -~]{0,38}[!-~])?")
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Each month has these days.
_MONTH_DAY = re.compile("[1-9]|1[0-9]|2[0-8]")
_NUMBER = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")


def _digits(value: object) -> object:
    """Accept text as an integer only in digits: not 1.0, 1_000 or the digits of another script."""
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,20}", value):
        raise ValueError("must be an integer in digits only")
    return value


def _number(value: object) -> object:
    if isinstance(value, str) and not _NUMBER.fullmatch(value):
        raise ValueError("must be a number in digits, such as 30 or 0.5")
    return value


def _credits(value: object) -> object:
    if isinstance(value, str):
        if not _CREDITS.fullmatch(value) or not Decimal(value):
            raise ValueError("must be a number of credits for each major unit of money, such as 100 or 0.5")
        return Decimal(value)
    return value


Network = IPv4Network | IPv6Network
Integer = Annotated[int, BeforeValidator(_digits)]
Number = Annotated[float, BeforeValidator(_number)]
Credits = Annotated[Decimal, BeforeValidator(_credits)]


def listed(text: str) -> list[str]:
    """Return the parts between the commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def read_credits_per_major(text: str) -> Decimal:
    """Return the credits for each major unit of money. Raises `ValueError`."""
    found = _credits(text)
    assert isinstance(found, Decimal)
    return found


def checked_metadata_key(key: str) -> str:
    """Return a key of a payment's metadata: 1 to 40 characters, as Stripe allows."""
    if not _METADATA_KEY.fullmatch(key):
        raise ValueError("must be a key of a payment's metadata: 1 to 40 printable characters of ASCII")
    return key


def fault_of_recording_keys(
    customer_key: str | None, credits_key: str | None, credits_per_major: Decimal | None, *, needed: bool
) -> tuple[str, str] | None:
    """Return why payments cannot record themselves with these keys of their metadata, or None if they can.

    Unless the keys are `needed`, they may be missing. The fault is (a setting without its prefix, the text behind it).
    """
    if credits_key is not None and credits_per_major is not None:
        return "PAYMENTS_CREDITS_KEY", "and REFUND_WORKER_PAYMENTS_CREDITS_PER_MAJOR are both set: keep one"
    if needed and customer_key is None:
        return "PAYMENTS_FROM_WEBHOOKS=on", "needs REFUND_WORKER_PAYMENTS_CUSTOMER_KEY"
    if needed and credits_key is None and credits_per_major is None:
        name = "REFUND_WORKER_PAYMENTS_CREDITS_KEY or REFUND_WORKER_PAYMENTS_CREDITS_PER_MAJOR"
        return "PAYMENTS_FROM_WEBHOOKS=on", f"needs {name}"
    return None


def read_fallback(text: str) -> tuple[str, ...]:
    """Return the ways that are tried when a payment refuses for good, in order. Raises `ValueError`."""
    ways = tuple(listed(text))
    if not ways or len(set(ways)) != len(ways) or not set(ways) <= FALLBACKS:
        raise ValueError(
            "must name each way once, such as payments,balance: there are payments, balance, payout and manual"
        )
    return ways


def read_amounts(text: str) -> dict[str, int]:
    """Return minor units by currency of a text such as `USD:1000,EUR:1000`. Raises `ValueError` for another form."""
    found: dict[str, int] = {}
    for number, part in enumerate(listed(text), 1):
        currency, _, amount = part.partition(":")
        if currency not in CURRENCIES or not _AMOUNT.fullmatch(amount) or currency in found:
            what = "name each currency of ISO 4217 once, with minor units, such as USD:1000,EUR:1000"
            raise ValueError(f"entry {number} is no amount of a currency: {what}")
        found[currency] = int(amount)
    return found


def fault_of_payout_limits(minimum: str, maximum: str) -> tuple[str, str] | None:
    """Return why no payout can be made in a currency with these amounts, or None if payouts can be made.

    The fault is (a setting without its prefix, the text behind it).
    """
    largest = read_amounts(maximum)
    for currency, smallest in read_amounts(minimum).items():
        if smallest > largest.get(currency, smallest):
            what = f"is more than REFUND_WORKER_PAYOUT_MAXIMUM in {currency}: no payout could be made"
            return "PAYOUT_MINIMUM", what
    return None


def read_payout_schedule(text: str) -> tuple[Literal["off", "daily", "weekly", "monthly"], int]:
    """Return (how often, the day) of `off`, `daily`, `weekly:mon` or `monthly:1`.

    The day is 0 (Monday) to 6 of a week, 1 to 28 of a month, and else 0. Raises `ValueError` for another form.
    """
    every, _, day = text.strip().lower().partition(":")
    if every in ("off", "daily") and not day:
        return "off" if every == "off" else "daily", 0
    if every == "weekly" and day in WEEKDAYS:
        return "weekly", WEEKDAYS.index(day)
    if every == "monthly" and _MONTH_DAY.fullmatch(day):
        return "monthly", int(day)
    raise ValueError("must be off, daily, weekly:mon (or another day of the week) or monthly:1 (a day from 1 to 28)")


def read_expected_days(text: str) -> dict[str, tuple[int, int]]:
    """Return (earliest, latest) by processor, or by processor and method, of a text such as `stripe=5-10`.

    Raises `ValueError` naming the wrong part.
    """
    found: dict[str, tuple[int, int]] = {}
    for number, part in enumerate(listed(text), 1):
        match = _EXPECTED.fullmatch(part)
        days = (int(match["earliest"]), int(match["latest"])) if match else (1, 0)
        if match is None or days[0] > days[1] or match["name"] in found:
            what = "write each processor or method once, such as stripe=5-10 or stripe/card=5-10, separated by commas"
            raise ValueError(f"entry {number} is no number of business days: {what}")
        found[match["name"]] = days
    return found


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if its port or address is wrong or it holds a blank."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and re.search(r"[\s\x00-\x1f]", url) is None
    except ValueError:
        return None
    return parts if usable else None


def read_networks(text: str) -> tuple[Network, ...]:
    """Return comma-separated networks and single addresses. Raises `ValueError` naming the wrong part."""
    found: list[Network] = []
    for number, part in enumerate((part.strip() for part in text.split(",")), 1):
        try:
            network = ip_network(part, strict=False)
        except ValueError:
            what = "such as 10.0.0.0/8, 192.0.2.7 or fd00::/8, separated by commas"
            raise ValueError(f"entry {number} is not a network: write one {what}") from None
        if "/" in part and ip_network(part.partition("/")[0]).network_address != network.network_address:
            raise ValueError(f"entry {number} is not the first address of its network: write {network}")
        found.append(network)
    return tuple(found)


def _is_port(text: str | None) -> bool:
    return not text or (re.fullmatch("[0-9]{1,5}", text) is not None and 0 < int(text) <= 65_535)


def checked_http_url(url: str) -> str | None:
    """Return the URL without its last slashes, or None if it is empty."""
    parts = _split(url)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ValueError("must be an http:// or https:// URL without a user name")
    return url.rstrip("/") or None


def checked_url_template(url: str) -> str:
    """Return the template of a link: an http URL with `{id}` in its path or query."""
    parts = _split(url)
    placed = "{id}" in url and parts is not None and "{id}" not in parts.netloc
    if not placed or re.search("[{}]", url.replace("{id}", "")):
        raise ValueError("must have {id} once or more after the host, and no other braces: https://host/customers/{id}")
    checked_http_url(url.replace("{id}", "id"))
    return url


def checked_database(url: str) -> str:
    """Return the database's URL, with `postgres://` written as SQLAlchemy knows it."""
    scheme, apart, rest = url.partition("://")
    if scheme == POSTGRES_SHORT:
        scheme, url = POSTGRES, f"{POSTGRES}{apart}{rest}"
    if not apart or scheme not in DATABASES:
        raise ValueError("must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
    if scheme.startswith("sqlite"):
        return url
    _check_places(rest)
    if any(_SEARCH_PATH.search(options) for options in parse_qs(rest.partition("?")[2]).get("options", [])):
        raise ValueError("must have no search_path in its options: set REFUND_WORKER_DATABASE_SCHEMA to the schema")
    return url


def _check_places(rest: str) -> None:
    """Check the text after `://`: a user, and one host or several, separated by commas, each with a port or none."""
    start = re.match(r"[^:/?]*(?::[^@]*)?@", rest)
    first = rest[start.end() :] if start else rest
    hosts = re.split("[/?]", first, maxsplit=1)[0].split(",")
    for host in hosts:
        place = _PLACE.fullmatch(f"{start.group() if start else ''}{host}")
        if place is None or not _is_port(place["port"]) or (len(hosts) > 1 and not place["host"]):
            raise ValueError("must have a host, and a port of 1 to 65535 in digits or none")
        if "@" in place["host"]:
            raise ValueError("must have each @ of its password written as %40")


def checked_schema(name: str) -> str:
    """Return the name of a Postgres schema that needs no quotation marks."""
    if not _SCHEMA.fullmatch(name) or name.startswith("pg_") or name == "information_schema":
        raise ValueError(
            "must be 1 to 63 small letters, digits or _, not begin with a digit or pg_, and be no system schema"
        )
    return name


def checked_prefix(text: str) -> str:
    """Return the prefix of queues and keys at the broker."""
    if not _PREFIX.fullmatch(text):
        raise ValueError("must be 1 to 50 letters, digits or . _ : - and begin with a letter or a digit")
    return text


def is_made_by_kubernetes(name: str, value: str) -> bool:
    """Return True for the variables that Kubernetes makes for a Service, such as REFUND_WORKER_SERVICE_HOST."""
    if _KUBERNETES.fullmatch(name):
        return True
    return _KUBERNETES_PORT.fullmatch(name) is not None and value.startswith(("tcp://", "udp://", "sctp://"))


def check_stripe_key(key: str) -> None:
    """Check a key of Stripe. Raises `ValueError` with the reason, which never shows the key."""
    for prefix, why in _OTHER_KEYS.items():
        if key.startswith(prefix):
            raise ValueError(f"is {why}")
    if not _STRIPE_KEY.fullmatch(key):
        raise ValueError("must be a secret or a restricted key of Stripe: sk_… or rk_…, without blanks")


def check_webhook_secrets(text: str) -> None:
    """Check signing secrets of webhooks. Raises `ValueError` for none, and for a key or an id."""
    if not listed(text):
        raise ValueError("must have a secret between its commas")
    if any(secret.startswith(_NO_SIGNING_SECRETS) for secret in listed(text)):
        raise ValueError("must be the endpoint's signing secret, whsec_…, and no key and no endpoint's id")


def check_signing_secret(text: str) -> None:
    """Check a signing secret of Standard Webhooks. Raises `ValueError` if its length or form is wrong."""
    text = text.removeprefix("whsec_")
    try:
        secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        secret = b""
    if not NOTIFY_SECRET_BYTES_MIN <= len(secret) <= NOTIFY_SECRET_BYTES_MAX:
        raise ValueError("must be 24 to 64 random bytes in base64, with or without whsec_ before it")


def read_destination_keys(text: str) -> tuple[str, ...]:
    """Return the keys that seal destinations, in URL-safe base64. Raises `ValueError` unless each has 32 bytes."""
    keys = tuple(key.translate(str.maketrans("+/", "-_")) for key in listed(text))
    try:
        lengths = {len(base64.b64decode(key, altchars=b"-_", validate=True)) for key in keys}
    except ValueError:
        lengths = set()
    if lengths != {32}:
        raise ValueError("must be 32 random bytes in base64; several keys have commas between them")
    return keys


def check_client_names(text: str) -> None:
    """Check the names of clients. Raises `ValueError` for a name that cannot be one, and for none."""
    for name in listed(text):
        if not _CLIENT.fullmatch(name) or name.casefold() == "console":
            raise ValueError(
                "must be client names of 1 to 100 letters, digits or . _ @ + - with commas between them,"
                " and not console, which is the console's own"
            )
    if not listed(text):
        raise ValueError("must have a client's name between its commas")


def check_broker(url: str) -> None:
    """Raise `ValueError` for a missing broker, for several brokers, or for a remote one that is open to anyone."""
    if url == "embedded":
        return
    # Celery treats each part of such a list as a separate broker, wherever the semicolon is. Two brokers would be two
    # rate limits, and Celery reads the second one without the guards that we put around the first.
    if ";" in url:
        raise ValueError(
            "must be one address, not several: for failover name a proxy that leads to the broker in charge"
            " (a ; in a password is written %3B)"
        )
    parts = _split(url)
    if "@" in url and (parts is None or "@" not in parts.netloc):
        raise ValueError("must have each / ? and # of its password written as %2F %3F %23")
    if parts is None:
        raise ValueError("must have a host, and a port of 1 to 65535 in digits or none")
    if parts.scheme not in BROKERS or not url.startswith(f"{parts.scheme}://"):
        raise ValueError("must be embedded, redis://, rediss://, amqp:// or amqps://")
    options = parse_qs(parts.query, keep_blank_values=True)
    if "ssl" in options:
        raise ValueError("must ask for TLS by rediss:// or amqps://, and not by ssl=")
    unknown = sorted(name for name in options if name.startswith("ssl_") and name not in TLS_OPTIONS)
    if parts.scheme == "amqps" and (unknown or not set(options.get("ssl_cert_reqs", [])) <= CERT_REQS):
        raise ValueError(
            f"must have no TLS options except {', '.join(TLS_OPTIONS)}, with ssl_cert_reqs required or none"
        )
    if parts.scheme.startswith("redis") and not re.fullmatch(r"/*[0-9]*/*", parts.path):
        raise ValueError("must end with a database's number, such as /0, and not with a name")
    loopback = (parts.hostname or "") in LOOPBACK
    if parts.scheme in ("redis", "amqp") and not loopback and not parts.password:
        raise ValueError("must be on this machine or protected: give it a password or TLS (rediss://)")
