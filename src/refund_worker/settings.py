"""Settings: environment variables with the prefix REFUND_WORKER_, read once, validated, secrets redacted.

The documentation promises the names and defaults. Durations are in seconds, so that a test can compress time.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, parse_qs, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from refund_worker.dangers import dangers_of
from refund_worker.errors import BadSettings
from refund_worker.redaction import url_without_password

PREFIX = "REFUND_WORKER_"
SECRETS = ("stripe_api_key", "stripe_webhook_secret", "notify_secret", "database_url", "broker_url")
# The length that Standard Webhooks requires of a signing secret.
NOTIFY_SECRET_BYTES_MIN, NOTIFY_SECRET_BYTES_MAX = 24, 64
LOOPBACK = {"127.0.0.1", "localhost", "::1", ""}
BROKERS = ("redis", "rediss", "amqp", "amqps", "memory")
TLS_OPTIONS = ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
CERT_REQS = {"required", "optional", "none", "CERT_REQUIRED", "CERT_OPTIONAL", "CERT_NONE"}
DATABASES = ("sqlite", "sqlite+pysqlite", "postgresql", "postgresql+psycopg")
# As in domain/money.py, which this leaf does not import: no amount is larger.
AMOUNT_MAX = 10**12
COUNT_MAX = 10**9
YEAR_SECONDS = 366 * 86_400

# The text after `://` as SQLAlchemy reads it: user, password, host, port.
_PLACE = re.compile(
    r"(?:[^:/]*(?::(?P<password>[^@]*))?@)?(?P<host>\[[^\[\]/?]+\]|[^\[\]/:?]*)(?::(?P<port>[^/?]*))?(?:[/?].*)?",
    re.DOTALL,
)
# Keys, and the id of an endpoint: people paste them instead of an endpoint's signing secret.
_NO_SIGNING_SECRETS = ("sk_", "rk_", "pk_", "we_")
# Other keys of Stripe, and why they cannot work here. The error gives the reason, and never shows the key.
_OTHER_KEYS = {
    "sk_org_": "an organisation's key, which needs the name of an account with each call: take one account's own key",
    "rk_org_": "an organisation's key, which needs the name of an account with each call: take one account's own key",
    "pk_": "a publishable key, which cannot make refunds: take the secret or a restricted key (sk_… or rk_…)",
    "ek_": "an ephemeral key, which cannot make refunds: take the secret or a restricted key (sk_… or rk_…)",
    "whsec_": "the secret of a webhook: it belongs into STRIPE_WEBHOOK_SECRET",
}
_STRIPE_KEY = re.compile("(sk|rk)_[!-~]+")  # printable and without blanks, as a header can carry it
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
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


Network = IPv4Network | IPv6Network
Integer = Annotated[int, BeforeValidator(_digits)]
Number = Annotated[float, BeforeValidator(_number)]


class Settings(BaseSettings):
    """Everything that can be set from outside. Unknown names and bad values raise `BadSettings` naming the variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    database_url: SecretStr = SecretStr("sqlite:///.refund-worker/refunds.db")
    broker_url: SecretStr = SecretStr("embedded")
    environment: Literal["development", "production"] = "development"
    # In production, "on" refuses to start with dangerous settings. "off" only warns.
    strict: Literal["on", "off"] = "off"

    stripe_api_key: SecretStr | None = None
    stripe_api_base: str | None = None
    stripe_webhook_secret: SecretStr | None = None

    lease_seconds: Number = Field(60, gt=0, le=86_400)
    sweep_seconds: Number = Field(1, gt=0, le=3_600)
    retry_base_seconds: Number = Field(2, gt=0, le=3_600)
    retry_max_seconds: Number = Field(3_600, gt=0, le=86_400)
    poll_seconds: Number = Field(300, gt=0, le=604_800)
    # Stripe keeps a key for at least 24 h and prunes it some time after; 20 h leaves a margin for clocks and queues.
    key_life_seconds: Number = Field(72_000, gt=0, le=86_400)
    # This long after the LAST send, a look-up that finds nothing proves that no refund will come.
    quiet_seconds: Number = Field(21_600, gt=0, le=604_800)
    processor_timeout_seconds: Number = Field(30, gt=0, le=80)

    allocation: Literal["newest_first", "oldest_first", "pro_rata"] = "newest_first"
    stripe_rate_per_second: Number = Field(25, ge=0, le=10_000)
    # "on" reads the processor's own record of a payment before the first money moves over it.
    verify_payments: Literal["on", "off"] = "on"
    approval_threshold_minor: Integer | None = Field(None, ge=0, le=AMOUNT_MAX)
    velocity_window_seconds: Number = Field(86_400, gt=0, le=10 * YEAR_SECONDS)
    velocity_count: Integer | None = Field(None, ge=1, le=COUNT_MAX)
    velocity_amount_minor: Integer | None = Field(None, ge=1, le=AMOUNT_MAX)

    # Client names that the Celery task accepts, separated by commas. If it is not set, any name is accepted.
    celery_clients: str | None = None

    notify_url: str | None = None
    notify_secret: SecretStr | None = None

    trusted_proxies: str | None = None

    @field_validator("stripe_api_base", "notify_url")
    @classmethod
    def _an_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = _split(value)
            if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("must be an http:// or https:// URL without a user name")
        return value.rstrip("/") if value else None

    @field_validator("database_url")
    @classmethod
    def _a_database(cls, value: SecretStr) -> SecretStr:
        scheme, apart, rest = value.get_secret_value().partition("://")
        if not apart or scheme not in DATABASES:
            raise ValueError("must be sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME")
        if scheme.startswith("sqlite"):
            return value
        place = _PLACE.fullmatch(rest)
        if place is None or not _is_port(place["port"]):
            raise ValueError("must have a host, and a port of 1 to 65535 in digits or none")
        if "@" in place["host"]:
            raise ValueError("must have each @ of its password written as %40")
        return value

    @field_validator("stripe_api_key")
    @classmethod
    def _a_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        key = value.get_secret_value() if value is not None else ""
        for prefix, why in _OTHER_KEYS.items():
            if key.startswith(prefix):
                raise ValueError(f"is {why}")
        if value is not None and not _STRIPE_KEY.fullmatch(key):
            raise ValueError("must be a secret or a restricted key of Stripe: sk_… or rk_…, without blanks")
        return value

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _a_secret_in_it(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _listed(value.get_secret_value()):
            raise ValueError("must have a secret between its commas")
        if value is not None and any(s.startswith(_NO_SIGNING_SECRETS) for s in _listed(value.get_secret_value())):
            raise ValueError("must be the endpoint's signing secret, whsec_…, and no key and no endpoint's id")
        return value

    @field_validator("notify_secret")
    @classmethod
    def _a_signing_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        text = value.get_secret_value().removeprefix("whsec_")
        try:
            secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            secret = b""
        if not NOTIFY_SECRET_BYTES_MIN <= len(secret) <= NOTIFY_SECRET_BYTES_MAX:
            raise ValueError("must be 24 to 64 random bytes in base64, with or without whsec_ before it")
        return value

    @field_validator("celery_clients")
    @classmethod
    def _client_names(cls, value: str | None) -> str | None:
        for name in _listed(value or ""):
            if not _CLIENT.fullmatch(name) or name.casefold() == "console":
                raise ValueError(
                    "must be client names of 1 to 100 letters, digits or . _ @ + - with commas between them,"
                    " and not console, which is the console's own"
                )
        if value is not None and not _listed(value):
            raise ValueError("must have a client's name between its commas")
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        return None if value is None else ",".join(str(network) for network in _read_networks(value))

    @field_validator("broker_url")
    @classmethod
    def _a_safe_broker(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url != "embedded":
            _check_broker(url)
        return value

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        key = self.stripe_api_key.get_secret_value() if self.stripe_api_key else ""
        if "_live_" in key and self.environment != "production":
            raise ValueError("STRIPE_API_KEY is a live key: it needs REFUND_WORKER_ENVIRONMENT=production")
        if "_live_" in key and self.stripe_api_base:
            raise ValueError("STRIPE_API_BASE is for tests: a live key is never sent there")
        if self.notify_url is not None and self.notify_secret is None:
            raise ValueError("NOTIFY_URL needs NOTIFY_SECRET: notifications are signed")
        dangers = dangers_of(self) if self.strict == "on" else ()
        if dangers:
            raise ValueError(f"{dangers[0]} (REFUND_WORKER_STRICT=on refuses it)")
        return self

    @property
    def call_timeout_seconds(self) -> float:
        """Return the outer deadline of one call, in seconds.

        A lease that ended during the call would let a second worker begin the same one.
        """
        return min(self.processor_timeout_seconds, self.lease_seconds * 0.4)

    @property
    def declared_clients(self) -> frozenset[str] | None:
        """Return the clients that the Celery task accepts, or None for any."""
        return None if self.celery_clients is None else frozenset(_listed(self.celery_clients))

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the accepted webhook secrets, several during a rotation; empty if none is set."""
        if self.stripe_webhook_secret is None:
            return ()
        return tuple(_listed(self.stripe_webhook_secret.get_secret_value()))

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Return the networks whose X-Forwarded-For and X-Forwarded-Proto are believed; empty if none is set."""
        return () if self.trusted_proxies is None else _read_networks(self.trusted_proxies)

    def redacted(self) -> dict[str, str]:
        """Return every setting as text for people, secrets hidden. URLs lose only the password."""
        return {PREFIX + name.upper(): _redact(name, getattr(self, name)) for name in type(self).model_fields}


def _listed(text: str) -> list[str]:
    """Return the parts between the commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if its port or address is wrong or it holds a blank."""
    try:
        parts = urlsplit(url)
        usable = parts.port != 0 and re.search(r"[\s\x00-\x1f]", url) is None
    except ValueError:
        return None
    return parts if usable else None


def _read_networks(text: str) -> tuple[Network, ...]:
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


def _check_broker(url: str) -> None:
    """Raise `ValueError` for a missing broker, for several brokers, or for a remote one that is open to anyone."""
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
    loopback = (parts.hostname or "") in LOOPBACK
    if parts.scheme in ("redis", "amqp") and not loopback and not parts.password:
        raise ValueError("must be on this machine or protected: give it a password or TLS (rediss://)")


def _redact(name: str, value: Any) -> str:
    if value is None:
        return "(not set)"
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if name.endswith(("_url", "_base")):
        return url_without_password(text)
    return "(set, hidden)" if isinstance(value, SecretStr) else text


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from the environment (`…_FILE` variants read a file). Raises `BadSettings` with the fault."""
    env = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for name, value in env.items():
        if not name.upper().startswith(PREFIX):
            continue
        field = name[len(PREFIX) :].lower()
        if field in Settings.model_fields:
            if value:  # an empty variable counts as not set: Compose cannot leave one out
                values[field] = value
        elif field.endswith("_file") and field[:-5] in SECRETS:
            values[field[:-5]] = _read_secret(name, value)
        else:
            raise BadSettings(
                f"{name} is not a setting of refund-worker: correct its name, or remove it (see docs/configuration.md)"
            )
    both = [f for f in values if env.get(PREFIX + f.upper()) and PREFIX + f.upper() + "_FILE" in env]
    if both:
        raise BadSettings(f"{PREFIX}{both[0].upper()} and its _FILE variant are both set: keep one")
    try:
        return _FromMapping(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        place = PREFIX + str(first["loc"][0]).upper() + ": " if first["loc"] else PREFIX
        raise BadSettings(place + first["msg"].removeprefix("Value error, ")) from None


class _FromMapping(Settings):
    """Settings that read only the given values, so that a test's mapping is the whole environment."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, *_others: Any, **_named: Any) -> Any:
        return (init_settings,)


def _read_secret(name: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{name}: cannot read the file ({type(error).__name__})") from None
    if not text:
        raise BadSettings(f"{name}: the file is empty")
    return text
