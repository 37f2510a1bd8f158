"""AcmePay as the program knows it. A made-up processor: its sources are the made-up manual and `server.py`."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import SecretStr
from tests.processors.second.acmepay import events
from tests.processors.second.acmepay.objects import check_payment_id

from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry, Webhooks

_MANUAL = "the made-up manual of AcmePay"

CAPABILITIES: Final = Capabilities(
    key_seconds=3_600.0,
    lists_refunds=True,
    list_proves_absence=True,
    answers_are_final=False,
    partial_refunds=True,
    cancels=True,
    reads_payments=True,
    currency_decimals={"JPY": 0},
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
        "report_seconds": "not needed: a refund can be read",
        "reads_refunds": _MANUAL,
        "says_replayed": f"{_MANUAL}: the header X-Replayed",
        "keeps_server_errors": f"{_MANUAL}: the first answer is kept, whatever it is",
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
    """An account at AcmePay."""

    CREDENTIALS: ClassVar = ("token", "api_base")

    token: SecretStr | None = None


def _make(name: str, settings: AcmePaySettings, timeout_seconds: float) -> Processor:
    from tests.processors.second.acmepay.adapter import AcmePayProcessor

    assert settings.token is not None
    assert settings.api_base is not None
    token = settings.token.get_secret_value()
    return AcmePayProcessor(token, base=settings.api_base, timeout_seconds=timeout_seconds)


def _live(settings: AcmePaySettings) -> bool | None:
    return None if settings.token is None else settings.token.get_secret_value().startswith("live_")


ENTRY: Final = ProcessorEntry(
    name="acmepay",
    capabilities=CAPABILITIES,
    settings=AcmePaySettings,
    make=_make,
    live=_live,
    check_payment_id=check_payment_id,
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
