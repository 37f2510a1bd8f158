"""Settings: environment variables with the prefix REFUND_WORKER_, read once, validated, secrets redacted.

The documentation promises the names and defaults. Durations are in seconds, so that a test can compress time.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from refund_worker.dangers import dangers_of
from refund_worker.errors import BadSettings
from refund_worker.processors_file import json_of_toml, tables_of_json
from refund_worker.redaction import url_without_password
from refund_worker.setting_values import (
    Credits,
    Integer,
    Network,
    Number,
    check_broker,
    check_client_names,
    check_signing_secret,
    check_stripe_key,
    check_webhook_secrets,
    checked_database,
    checked_http_url,
    checked_metadata_key,
    checked_prefix,
    checked_schema,
    checked_url_template,
    fault_of_payout_limits,
    fault_of_recording_keys,
    is_made_by_kubernetes,
    listed,
    read_amounts,
    read_destination_keys,
    read_expected_days,
    read_fallback,
    read_networks,
    read_payout_schedule,
)

PREFIX = "REFUND_WORKER_"
SECRETS = (
    "stripe_api_key",
    "stripe_webhook_secret",
    "notify_secret",
    "database_url",
    "broker_url",
    "processors",
    "destinations_key",
)
# As in domain/money.py, which this leaf does not import: no amount is larger.
AMOUNT_MAX = 10**12
COUNT_MAX = 10**9
YEAR_SECONDS = 366 * 86_400


class Settings(BaseSettings):
    """Everything that can be set from outside. Unknown names and bad values raise `BadSettings` naming the variable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    database_url: SecretStr = SecretStr("sqlite:///.refund-worker/refunds.db")
    # The Postgres schema that holds all tables of refund-worker, and the table of their version.
    database_schema: str = "public"
    broker_url: SecretStr = SecretStr("embedded")
    # Comes before the name of every queue and every key at the broker, so that others can use the same broker.
    broker_prefix: str | None = None
    # Heartbeats, locks and the embedded broker's files; the default depends on the database (worker/runtime_dir.py).
    runtime_dir: str | None = None
    environment: Literal["development", "production"] = "development"
    # In production, "on" refuses to start with dangerous settings. "off" only warns.
    strict: Literal["on", "off"] = "off"

    stripe_api_key: SecretStr | None = None
    stripe_api_base: str | None = None
    stripe_webhook_secret: SecretStr | None = None
    # The accounts at payment processors, each with its settings, as JSON. PROCESSORS_FILE holds them as TOML.
    processors: SecretStr | None = None

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
    # These ways are tried, in order, when a payment refuses for good. Without `balance` at the end, a person decides.
    fallback: str = "payments,balance"
    stripe_rate_per_second: Number = Field(25, ge=0, le=10_000)
    # "on" reads the processor's own record of a payment before the first money moves over it.
    verify_payments: Literal["on", "off"] = "on"
    # The rule for spent credits of money that was refunded elsewhere or lost in a dispute.
    shortfall: Literal["write_off", "debt", "person"] = "write_off"
    # Refunds that others made before this time are recorded only by a person; by default the time of the upgrade.
    outside_refunds_since: AwareDatetime | None = None
    # "on" records a captured payment when the processor's event tells of it. The keys are those of its metadata.
    payments_from_webhooks: Literal["on", "off"] = "off"
    payments_customer_key: str | None = None
    payments_credits_key: str | None = None
    payments_credits_per_major: Credits | None = None
    approval_threshold_minor: Integer | None = Field(None, ge=0, le=AMOUNT_MAX)
    velocity_window_seconds: Number = Field(86_400, gt=0, le=10 * YEAR_SECONDS)
    velocity_count: Integer | None = Field(None, ge=1, le=COUNT_MAX)
    velocity_amount_minor: Integer | None = Field(None, ge=1, le=AMOUNT_MAX)

    # Earnings can be paid out after this time: refunds are mostly asked for within a week, and what is clawed back
    # before it was paid out leaves no debt.
    earnings_hold_seconds: Number = Field(604_800, ge=0, le=YEAR_SECONDS)
    # A new or changed destination is paid nothing for this time: its owner can notice a change that they did not make.
    payee_cooldown_seconds: Number = Field(86_400, ge=0, le=YEAR_SECONDS)
    # The smallest and the largest payout by currency, in minor units, such as USD:1000,EUR:1000.
    payout_minimum: str = ""
    payout_maximum: str = ""
    # At most one payout to a payee in a currency is begun in this time.
    payout_interval_seconds: Number = Field(0, ge=0, le=YEAR_SECONDS)
    # When payout runs are made without a person: off, daily, weekly:mon or monthly:1, by the database's clock in UTC.
    payout_schedule: str = "off"
    # A run of the schedule of up to this sum in all pays at once. Others wait for approval, and so do all without it.
    payout_auto_approve_minor: Integer | None = Field(None, ge=0, le=AMOUNT_MAX)
    # Seals the bank accounts of payees. Of several, the first one seals and all of them open.
    destinations_key: SecretStr | None = None

    # Client names that the Celery task accepts, separated by commas. If it is not set, any name is accepted.
    celery_clients: str | None = None

    notify_url: str | None = None
    notify_secret: SecretStr | None = None

    trusted_proxies: str | None = None

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["json", "text"] = "json"

    # A TOML file with the messages about refunds for customers and staff, in one language; English if it is not set.
    messages_file: str | None = None
    # Business days until the customer sees the money, by processor or by processor and payment method.
    expected_days: str = "stripe=5-10"

    # Links of the console: {id} is replaced by the id at the processor, or by the customer's id.
    processor_url_template: str | None = None
    customer_url_template: str | None = None

    @field_validator("stripe_api_base", "notify_url")
    @classmethod
    def _an_http_url(cls, value: str | None) -> str | None:
        return None if value is None else checked_http_url(value)

    @field_validator("processor_url_template", "customer_url_template")
    @classmethod
    def _a_template(cls, value: str | None) -> str | None:
        return None if value is None else checked_url_template(value)

    @field_validator("payments_customer_key", "payments_credits_key")
    @classmethod
    def _a_metadata_key(cls, value: str | None) -> str | None:
        return None if value is None else checked_metadata_key(value)

    @field_validator("payout_minimum", "payout_maximum")
    @classmethod
    def _amounts_by_currency(cls, value: str) -> str:
        read_amounts(value)
        return value

    @field_validator("payout_schedule")
    @classmethod
    def _a_schedule(cls, value: str) -> str:
        read_payout_schedule(value)
        return value

    @field_validator("fallback")
    @classmethod
    def _ways(cls, value: str) -> str:
        return ",".join(read_fallback(value))

    @field_validator("expected_days")
    @classmethod
    def _days(cls, value: str) -> str:
        read_expected_days(value)
        return value

    @field_validator("database_url")
    @classmethod
    def _a_database(cls, value: SecretStr) -> SecretStr:
        return SecretStr(checked_database(value.get_secret_value()))

    @field_validator("database_schema")
    @classmethod
    def _a_schema(cls, value: str) -> str:
        return checked_schema(value)

    @field_validator("broker_url")
    @classmethod
    def _a_safe_broker(cls, value: SecretStr) -> SecretStr:
        check_broker(value.get_secret_value())
        return value

    @field_validator("broker_prefix")
    @classmethod
    def _a_prefix(cls, value: str | None) -> str | None:
        return None if value is None else checked_prefix(value)

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("stripe_api_key")
    @classmethod
    def _a_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_stripe_key(value.get_secret_value())
        return value

    @field_validator("stripe_webhook_secret")
    @classmethod
    def _a_secret_in_it(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_webhook_secrets(value.get_secret_value())
        return value

    @field_validator("processors")
    @classmethod
    def _accounts(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            tables_of_json(value.get_secret_value())
        return value

    @field_validator("destinations_key")
    @classmethod
    def _sealing_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            read_destination_keys(value.get_secret_value())
        return value

    @field_validator("notify_secret")
    @classmethod
    def _a_signing_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_signing_secret(value.get_secret_value())
        return value

    @field_validator("celery_clients")
    @classmethod
    def _client_names(cls, value: str | None) -> str | None:
        if value is not None:
            check_client_names(value)
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        return None if value is None else ",".join(str(network) for network in read_networks(value))

    @model_validator(mode="after")
    def _safe_together(self) -> Settings:
        if self.database_schema != "public" and self.database_url.get_secret_value().startswith("sqlite"):
            raise ValueError("DATABASE_SCHEMA is for Postgres: an SQLite file has no schemas, so remove it")
        key = self.stripe_api_key.get_secret_value() if self.stripe_api_key else ""
        if "_live_" in key and self.environment != "production":
            raise ValueError("STRIPE_API_KEY is a live key: it needs REFUND_WORKER_ENVIRONMENT=production")
        if "_live_" in key and self.stripe_api_base:
            raise ValueError("STRIPE_API_BASE is for tests: a live key is never sent there")
        fault = fault_of_recording_keys(
            self.payments_customer_key,
            self.payments_credits_key,
            self.payments_credits_per_major,
            needed=self.payments_from_webhooks == "on",
        ) or fault_of_payout_limits(self.payout_minimum, self.payout_maximum)
        if fault:
            raise ValueError(" ".join(fault))
        if self.notify_url is not None and self.notify_secret is None:
            raise ValueError("NOTIFY_URL needs REFUND_WORKER_NOTIFY_SECRET: notifications are signed")
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
    def outside_since_seconds(self) -> float | None:
        """Return `OUTSIDE_REFUNDS_SINCE` in epoch seconds, None if it is not set."""
        return None if self.outside_refunds_since is None else self.outside_refunds_since.timestamp()

    @property
    def destination_keys(self) -> tuple[str, ...]:
        """Return the keys that seal destinations, the one that seals first; empty if none is set."""
        key = self.destinations_key
        return () if key is None else read_destination_keys(key.get_secret_value())

    @property
    def declared_clients(self) -> frozenset[str] | None:
        """Return the clients that the Celery task accepts, or None for any."""
        return None if self.celery_clients is None else frozenset(listed(self.celery_clients))

    @property
    def account_tables(self) -> dict[str, dict[str, Any]]:
        """Return the accounts of `PROCESSORS_FILE` by name, each with its settings; empty without such a file."""
        return {} if self.processors is None else tables_of_json(self.processors.get_secret_value())

    @property
    def has_stripe(self) -> bool:
        """Return True if the account `stripe` is described by the variables `STRIPE_…`."""
        return bool(self.stripe_api_key or self.stripe_webhook_secret or self.stripe_api_base)

    @property
    def api_bases(self) -> dict[str, str]:
        """Return the address of each account's server, where it is not the processor's own, by the setting's name."""
        bases = {"STRIPE_API_BASE": self.stripe_api_base} | {
            f'PROCESSORS_FILE, ["{name}"], api_base': table.get("api_base")
            for name, table in self.account_tables.items()
        }
        return {name: str(base) for name, base in bases.items() if base}

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Return the networks whose X-Forwarded-For and X-Forwarded-Proto are believed; empty if none is set."""
        return () if self.trusted_proxies is None else read_networks(self.trusted_proxies)

    def redacted(self) -> dict[str, str]:
        """Return every setting as text for people, secrets hidden. URLs lose only the password."""
        return {name: "(not set)" if value is None else str(value) for name, value in self.redacted_values().items()}

    def redacted_values(self) -> dict[str, Any]:
        """Return every setting as a JSON value, null if it is not set, and secrets hidden."""
        return {PREFIX + name.upper(): _redact(name, getattr(self, name)) for name in type(self).model_fields}


def _redact(name: str, value: Any) -> str | int | float | bool | None:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    if name.endswith(("_url", "_base")):
        return url_without_password(text)
    return "(set, hidden)" if isinstance(value, SecretStr) else text


def given_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with our prefix, in any case, without those that Kubernetes makes for a Service."""
    return {
        name: value
        for name, value in environ.items()
        if name.upper().startswith(PREFIX) and not is_made_by_kubernetes(name.upper(), value)
    }


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings from the environment (`…_FILE` variants read a file). Raises `BadSettings` with the fault."""
    values: dict[str, str] = {}
    names: dict[str, str] = {}
    for name, value in given_settings(os.environ if environ is None else environ).items():
        field = name[len(PREFIX) :].lower()
        is_file = field.endswith("_file") and field.removesuffix("_file") in SECRETS
        if not is_file and field not in Settings.model_fields:
            raise BadSettings(
                f"{name} is not a setting of refund-worker: correct its name, or remove it (see docs/configuration.md)"
            )
        field = field.removesuffix("_file") if is_file else field
        if not value:  # an empty variable counts as not set: Compose cannot leave one out
            continue
        if field in values:
            raise BadSettings(f"{names[field]} and {name} are both set: keep one")
        names[field] = name
        values[field] = _read_file(name, field, value) if is_file else value
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


def _read_file(name: str, field: str, path: str) -> str:
    text = _read_secret(name, path)
    if field != "processors":
        return text
    try:
        return json_of_toml(text, lambda place, path: _read_secret(f"{name}, {place}", path))
    except ValueError as error:
        raise BadSettings(f"{name}: {error}") from None


def _read_secret(name: str, path: str) -> str:
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{name}: cannot read the file ({type(error).__name__})") from None
    if not text:
        raise BadSettings(f"{name}: the file is empty")
    return text
