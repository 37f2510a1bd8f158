"""Stripe's entry in the registry: its capability table, and how to make its adapter. Imports no SDK."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from refund_worker.domain.money import STRIPE_STEP, STRIPE_THREE_DECIMAL, STRIPE_ZERO_DECIMAL
from refund_worker.processors.base import Capabilities, Processor, ProcessorEntry, Webhooks
from refund_worker.processors.stripe import events
from refund_worker.processors.stripe.errors import EMPTY
from refund_worker.processors.stripe.event_subjects import event_subject
from refund_worker.processors.stripe.objects import check_payment_id

if TYPE_CHECKING:
    from refund_worker.settings import Settings

NAME: Final = "stripe"
_ADAPTER: Final = "refund_worker.processors.stripe.adapter"

CAPABILITIES: Final = Capabilities(
    key_seconds=86_400.0,
    lists_refunds=True,
    list_proves_absence=True,
    answers_are_final=False,
    partial_refunds=True,
    cancels=True,
    reads_disputes=True,
    reads_balance=True,
    takes_email=True,
    currency_steps=STRIPE_STEP,
    currency_decimals=dict.fromkeys(STRIPE_ZERO_DECIMAL, 0) | dict.fromkeys(STRIPE_THREE_DECIMAL, 3),
    refund_window_seconds=None,
    rate_per_second=25.0,
    disputed_codes=frozenset({"charge_for_pending_refund_disputed"}),
    unfunded_codes=frozenset({"insufficient_funds"}),
    low_balance_codes=EMPTY,
    sources={
        "creates_refunds": "docs.stripe.com/api/refunds, read 2026-11",
        "key_seconds": "docs.stripe.com/api/idempotent_requests, read 2026-11: at least 24 hours",
        "lists_refunds": "docs.stripe.com/api/refunds/list, read 2026-11: by charge, payment intent and creation",
        "list_proves_absence": "no source: we assume that lists lag by less than QUIET_SECONDS",
        "answers_are_final": "docs.stripe.com/refunds (failed refunds), read 2026-11: about 30 days later",
        "partial_refunds": "docs.stripe.com/refunds, read 2026-11",
        "cancels": "docs.stripe.com/api/refunds/cancel, read 2026-11: only in requires_action",
        "reads_disputes": "docs.stripe.com/api/disputes, /api/radar/early_fraud_warnings, read 2026-11",
        "reads_balance": "docs.stripe.com/api/balance, read 2026-11: of the account that the key belongs to",
        "takes_email": "docs.stripe.com/api/refunds/create, read 2026-11: instructions_email",
        "currency_steps": "docs.stripe.com/currencies, read 2026-11",
        "currency_decimals": "docs.stripe.com/currencies, read 2026-11",
        "refund_window_seconds": "none published: it differs by payment method",
        "rate_per_second": "docs.stripe.com/rate-limits, read 2026-11: 25 for each endpoint and in test mode",
        "disputed_codes": "docs.stripe.com/refunds (failure reasons), read 2026-11",
        "unfunded_codes": "docs.stripe.com/refunds (failure reasons), read 2026-11",
        "low_balance_codes": "docs.stripe.com/error-codes, /refunds (failure reasons, pending reasons), read 2026-11",
    },
)


def _is_configured(settings: Settings) -> bool:
    return settings.stripe_api_key is not None


def _make(settings: Settings) -> Processor:
    # The SDK takes as long to import as everything else together: processes that call no processor do not load it.
    from refund_worker.processors.stripe.adapter import StripeProcessor

    assert settings.stripe_api_key is not None
    return StripeProcessor(
        settings.stripe_api_key.get_secret_value(),
        base=settings.stripe_api_base,
        timeout_seconds=settings.call_timeout_seconds,
    )


def _rate(settings: Settings) -> float:
    return settings.stripe_rate_per_second


def _live(settings: Settings) -> bool | None:
    key = settings.stripe_api_key.get_secret_value() if settings.stripe_api_key else ""
    return True if "_live_" in key else False if "_test_" in key else None


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    access_setting="STRIPE_API_KEY",
    is_configured=_is_configured,
    make=_make,
    preload=lambda: importlib.import_module(_ADAPTER),
    rate=_rate,
    live=_live,
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        secrets=lambda settings: settings.webhook_secrets,
        verify_event=events.verify_event,
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=event_subject,
        signature_header=events.HEADER,
        signature_example=events.HEADER_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
)
