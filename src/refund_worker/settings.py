"""Settings: environment variables with the prefix REFUND_WORKER_, read once, validated, secrets redacted.

Shapes and defaults are promised by the README's table; clocks are in seconds so that a test can compress time.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from refund_worker.errors import BadSettings

PREFIX = "REFUND_WORKER_"
SECRETS = ("stripe_api_key", "stripe_webhook_secret", "notify_secret", "database_url", "broker_url")
# What Standard Webhooks asks of a signing secret.
NOTIFY_SECRET_BYTES_MIN, NOTIFY_SECRET_BYTES_MAX = 24, 64
LOOPBACK = {"127.0.0.1", "localhost", "::1", ""}


class Settings(BaseSettings):
    """Everything that can be set from outside. Unknown names and bad values raise `BadSettings` naming the variable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True)

    database_url: SecretStr = SecretStr("sqlite:///.refund-worker/refunds.db")
    broker_url: SecretStr = SecretStr("embedded")
    environment: Literal["development", "production"] = "development"

    stripe_api_key: SecretStr | None = None
    stripe_api_base: str | None = None
    stripe_webhook_secret: SecretStr | None = None

    lease_seconds: float = Field(60, gt=0, le=86_400)
    sweep_seconds: float = Field(1, gt=0, le=3_600)
    retry_base_seconds: float = Field(2, gt=0, le=3_600)
    retry_max_seconds: float = Field(3_600, gt=0, le=86_400)
    poll_seconds: float = Field(300, gt=0, le=604_800)
    # Stripe keeps a key for at least 24 h and prunes it some time after; 20 h leaves a margin for clocks and queues.
    key_life_seconds: float = Field(72_000, gt=0, le=86_400)
    # How long after the LAST send a look-up that finds nothing counts as proof that nothing will come.
    quiet_seconds: float = Field(21_600, gt=0, le=604_800)
    processor_timeout_seconds: float = Field(30, gt=0, le=80)

    allocation: Literal["newest_first", "oldest_first", "pro_rata"] = "newest_first"
    stripe_rate_per_second: float = Field(25, ge=0, le=10_000)
    approval_threshold_minor: int | None = Field(None, ge=0)
    velocity_window_seconds: float = Field(86_400, gt=0)
    velocity_count: int | None = Field(None, ge=1)
    velocity_amount_minor: int | None = Field(None, ge=1)

    notify_url: str | None = None
    notify_secret: SecretStr | None = None

    @field_validator("stripe_api_base", "notify_url")
    @classmethod
    def _an_http_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError("must be an http:// or https:// URL without a user name")
        return value.rstrip("/") if value else None

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        key = self.stripe_api_key.get_secret_value() if self.stripe_api_key else ""
        if "_live_" in key and self.environment != "production":
            raise ValueError("STRIPE_API_KEY is a live key: it starts only with REFUND_WORKER_ENVIRONMENT=production")
        if key.startswith(("sk_live_", "rk_live_")) and self.stripe_api_base:
            raise ValueError("STRIPE_API_BASE is for tests: a live key is never sent there")
        self._check_broker()
        self._check_receiver()
        return self

    def _check_receiver(self) -> None:
        if self.notify_url is None:
            return
        if self.notify_secret is None:
            raise ValueError("NOTIFY_URL needs NOTIFY_SECRET: what is sent there is signed")
        text = self.notify_secret.get_secret_value().removeprefix("whsec_")
        try:
            secret = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
        except ValueError:
            secret = b""
        if not NOTIFY_SECRET_BYTES_MIN <= len(secret) <= NOTIFY_SECRET_BYTES_MAX:
            raise ValueError("NOTIFY_SECRET must be 24 to 64 random bytes in base64, with or without whsec_ before it")

    def _check_broker(self) -> None:
        url = self.broker_url.get_secret_value()
        if url == "embedded":
            return
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss", "amqp", "amqps", "memory"):
            raise ValueError("BROKER_URL must be embedded, redis://, rediss://, amqp:// or amqps://")
        loopback = (parts.hostname or "") in LOOPBACK
        if parts.scheme in ("redis", "amqp") and not loopback and not parts.password:
            raise ValueError(
                "BROKER_URL is neither on this machine nor protected: give it a password or TLS (rediss://)"
            )

    @property
    def call_timeout_seconds(self) -> float:
        """The outer deadline of one call: a lease that ended inside it would let a second worker begin the same one."""
        return min(self.processor_timeout_seconds, self.lease_seconds * 0.4)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The accepted webhook secrets, several during a rotation; empty if none is set."""
        if self.stripe_webhook_secret is None:
            return ()
        return tuple(s.strip() for s in self.stripe_webhook_secret.get_secret_value().split(",") if s.strip())

    def redacted(self) -> dict[str, str]:
        """Every setting as text for people, secrets hidden (URLs keep everything but the password)."""
        return {PREFIX + name.upper(): _redact(name, getattr(self, name)) for name in type(self).model_fields}


def _redact(name: str, value: Any) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, SecretStr):
        if not name.endswith("_url"):
            return "(set, hidden)"
        text = value.get_secret_value()
        password = urlsplit(text).password if "://" in text else None
        return text.replace(f":{password}@", ":***@") if password else text
    return str(value)


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from the environment (`…_FILE` variants read a file). Raises `BadSettings` naming what is wrong."""
    env = os.environ if environ is None else environ
    values: dict[str, str] = {}
    for name, value in env.items():
        if not name.upper().startswith(PREFIX):
            continue
        field = name[len(PREFIX) :].lower()
        if field in Settings.model_fields:
            values[field] = value
        elif field.endswith("_file") and field[:-5] in SECRETS:
            values[field[:-5]] = _read_secret(name, value)
        else:
            raise BadSettings(
                f"{name} is not a setting of refund-worker: check its spelling, see `refund-worker config show`"
            )
    both = [f for f in values if PREFIX + f.upper() in env and PREFIX + f.upper() + "_FILE" in env]
    if both:
        raise BadSettings(f"{PREFIX}{both[0].upper()} and its _FILE variant are both set: keep one")
    try:
        return _FromMapping(**{k: v for k, v in values.items() if v != ""})  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        place = PREFIX + str(first["loc"][0]).upper() + ": " if first["loc"] else PREFIX
        raise BadSettings(place + first["msg"].removeprefix("Value error, ")) from None


class _FromMapping(Settings):
    """Settings that read only what they are given, so that a test's mapping is the whole environment."""

    @classmethod
    def settings_customise_sources(cls, settings_cls: Any, init_settings: Any, *_others: Any, **_named: Any) -> Any:
        return (init_settings,)


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{name}: cannot read the file ({type(error).__name__})") from None
