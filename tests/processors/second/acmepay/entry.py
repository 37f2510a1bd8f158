"""AcmePay as the program knows it. A made-up processor: its sources are the made-up manual and `server.py`."""

from __future__ import annotations

import importlib
import re
from typing import ClassVar, Final

from pydantic import SecretStr, field_validator

from refund_worker.processors.adapter_api import (
    AccountSettings,
    Capabilities,
    Processor,
    ProcessorEntry,
    Webhooks,
    listed,
)

from . import events
from .errors import EXPLAINED_BY
from .objects import DECIMALS, check_payment_id

SERVER: Final = "https://api.acmepay.example"
_MANUAL = "the made-up manual of AcmePay"

CAPABILITIES: Final = Capabilities(
    key_seconds=3_600.0,
    lists_refunds=True,
    list_proves_absence=True,
    keeps_server_errors=False,
    answers_are_final=False,
    partial_refunds=True,
    cancels=True,
    reads_payments=True,
    currency_decimals=DECIMALS,
    refund_window_seconds=180 * 86_400.0,
    rate_per_second=5.0,
    disputed_codes=frozenset({"CONTESTED"}),
    unfunded_codes=frozenset({"NO_FUNDS"}),
    low_balance_codes=frozenset({"NO_FUNDS"}),
    sources={
        "creates_refunds": _MANUAL,
        "key_seconds": f"{_MANUAL}: ids of requests are kept for an hour",
        "lists_refunds": _MANUAL,
        "list_proves_absence": f"{_MANUAL}: a list lags by at most two minutes, which is less than any quiet window",
        "key_use_seconds": "our choice: KEY_LIFE_SECONDS",
        "finds_refunds": _MANUAL,
        "answers_are_outcomes": _MANUAL,
        "says_replayed": f"{_MANUAL}: the header X-Replayed",
        "keeps_server_errors": f"{_MANUAL}: a repeat after a 5xx gets the refund, if there is one",
        "report_seconds": "not needed: a refund can be read",
        "reads_refunds": _MANUAL,
        "keeps_refusals": f"{_MANUAL}: every answer that was executed or refused is kept",
        "answers_are_final": f"{_MANUAL}: a refund that is DONE can become FAILED",
        "partial_refunds": _MANUAL,
        "cancels": f"{_MANUAL}: a void, while the customer is asked",
        "reads_payments": _MANUAL,
        "reads_disputes": f"{_MANUAL}: no such call",
        "reads_balance": f"{_MANUAL}: no such call",
        "connects": f"{_MANUAL}: no such thing",
        "currency_steps": f"{_MANUAL}: none",
        "currency_decimals": _MANUAL,
        "refund_window_seconds": f"{_MANUAL}: 180 days",
        "rate_per_second": f"{_MANUAL}: five requests a second",
        "disputed_codes": _MANUAL,
        "unfunded_codes": _MANUAL,
        "low_balance_codes": _MANUAL,
        "takes_email": _MANUAL,
    },
)


class AcmePaySettings(AccountSettings):
    """A shop at AcmePay. Its token shows whether it moves real money."""

    CREDENTIALS: ClassVar = ("token",)

    token: SecretStr | None = None

    @field_validator("token")
    @classmethod
    def _a_token(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch("(live|test)_[!-~]{5,200}", value.get_secret_value()):
            raise ValueError("must be a token of AcmePay, which begins with live_ or test_")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not all(
            re.fullmatch("acme_[a-z]{3,}", one) for one in listed(value.get_secret_value())
        ):
            raise ValueError("must be secrets of AcmePay's webhooks, which begin with acme_")
        return value


def address(settings: AcmePaySettings) -> str:
    """Return the URL of the server: AcmePay's own, or the one that a test names."""
    return settings.api_base or SERVER


def _make(name: str, settings: AcmePaySettings, timeout_seconds: float) -> Processor:
    from .adapter import AcmePayProcessor  # after the fork, and only where calls are made

    assert settings.token is not None
    token = settings.token.get_secret_value()
    return AcmePayProcessor(token, base=address(settings), name=name, timeout_seconds=timeout_seconds)


def _live(settings: AcmePaySettings) -> bool | None:
    return None if settings.token is None else settings.token.get_secret_value().startswith("live_")


ENTRY: Final = ProcessorEntry(
    name="acmepay",
    capabilities=CAPABILITIES,
    settings=AcmePaySettings,
    make=_make,
    preload=lambda: importlib.import_module(".adapter", __package__),
    address=address,
    live=_live,
    check_payment_id=check_payment_id,
    extra="worker",
    permissions="a token of the shop with the right to refund",
    events=events.CHANGED,
    explained_by=EXPLAINED_BY,
    webhooks=Webhooks(
        verify_event=lambda settings, headers, body, now: events.verify_event(
            headers, body, settings.webhook_secrets, now
        ),
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=events.event_subject,
        signature_header=events.SIGNATURE,
        signature_example=events.SIGNATURE_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
)
