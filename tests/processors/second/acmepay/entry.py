"""AcmePay as the registry knows it. A made-up processor: its sources are the made-up manual and `server.py`.

A processor of the program reads its credentials from settings.py; this one, which lives in the tests, from variables.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tests.processors.second.acmepay import events
from tests.processors.second.acmepay.objects import check_payment_id

from refund_worker.processors.base import Capabilities, Processor, ProcessorEntry, Webhooks

if TYPE_CHECKING:
    from refund_worker.settings import Settings

TOKEN, BASE, SECRETS = "ACMEPAY_TOKEN", "ACMEPAY_BASE", "ACMEPAY_WEBHOOK_SECRETS"
_MANUAL = "the made-up manual of AcmePay"

CAPABILITIES: Final = Capabilities(
    key_seconds=3_600.0,
    lists_refunds=True,
    list_proves_absence=True,
    answers_are_final=False,
    partial_refunds=True,
    cancels=True,
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
        "answers_are_final": f"{_MANUAL}: a refund that is DONE can become FAILED",
        "partial_refunds": _MANUAL,
        "cancels": f"{_MANUAL}: a void, while the customer is asked",
        "reads_disputes": f"{_MANUAL}: no such call",
        "reads_balance": f"{_MANUAL}: no such call",
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


def _make(settings: Settings) -> Processor:
    from tests.processors.second.acmepay.adapter import AcmePayProcessor

    base, seconds = os.environ[BASE], settings.call_timeout_seconds
    return AcmePayProcessor(os.environ[TOKEN], base=base, timeout_seconds=seconds)


ENTRY: Final = ProcessorEntry(
    name="acmepay",
    capabilities=CAPABILITIES,
    access_setting=TOKEN,
    is_configured=lambda settings: TOKEN in os.environ,
    make=_make,
    rate=lambda settings: CAPABILITIES.rate_per_second,
    live=lambda settings: os.environ.get(TOKEN, "").startswith("live_") if TOKEN in os.environ else None,
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        secrets=lambda settings: tuple(filter(None, os.environ.get(SECRETS, "").split(","))),
        verify_event=events.verify_event,
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=events.event_subject,
        signature_header=events.SIGNATURE,
        signature_example=events.SIGNATURE_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
)
