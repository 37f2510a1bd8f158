"""Stripe's entry in the registry: its capability table, and how to make its adapter. Imports no SDK."""

from __future__ import annotations

import importlib
from typing import ClassVar, Final

from pydantic import SecretStr, field_validator

from refund_worker.domain.money import STRIPE_STEP, STRIPE_THREE_DECIMAL, STRIPE_ZERO_DECIMAL
from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry, Webhooks
from refund_worker.processors.payout_routes import PayoutEntry, PayoutRoute
from refund_worker.processors.stripe import events, payout_events
from refund_worker.processors.stripe.errors import EMPTY
from refund_worker.processors.stripe.event_subjects import event_subject
from refund_worker.processors.stripe.objects import check_payment_id
from refund_worker.processors.stripe.payout_facts import PAYOUT_CAPABILITIES
from refund_worker.processors.stripe.set_up import events_text, permissions_text
from refund_worker.setting_values import check_stripe_key, check_webhook_secrets

NAME: Final = "stripe"
SERVER: Final = "https://api.stripe.com"
_MODULES: Final = ("refund_worker.processors.stripe.adapter", "refund_worker.processors.stripe.payouts")

CAPABILITIES: Final = Capabilities(
    key_seconds=86_400.0,
    lists_refunds=True,
    list_proves_absence=True,
    answers_are_final=False,
    partial_refunds=True,
    cancels=True,
    reads_payments=True,
    reads_disputes=True,
    reads_balance=True,
    takes_email=True,
    connects=True,
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
        "key_use_seconds": "our choice: KEY_LIFE_SECONDS",
        "finds_refunds": "docs.stripe.com/api/refunds/list, read 2026-11: by charge and payment intent",
        "answers_are_outcomes": "docs.stripe.com/api/refunds, read 2026-11: a refusal is an error",
        "report_seconds": "not needed: a refund can be read",
        "reads_refunds": "docs.stripe.com/api/refunds/retrieve, read 2026-11",
        "says_replayed": "docs.stripe.com/api/idempotent_requests, read 2026-11: the header Idempotent-Replayed",
        "keeps_server_errors": "docs.stripe.com/api/idempotent_requests, read 2026-11: also a 500 is kept",
        "keeps_refusals": "docs.stripe.com/api/idempotent_requests, read 2026-11: errors are kept too",
        "answers_are_final": "docs.stripe.com/refunds (failed refunds), read 2026-11: about 30 days later",
        "partial_refunds": "docs.stripe.com/refunds, read 2026-11",
        "cancels": "docs.stripe.com/api/refunds/cancel, read 2026-11: only in requires_action",
        "reads_payments": "docs.stripe.com/api/charges/retrieve, /api/payment_intents/retrieve, read 2026-11",
        "reads_disputes": "docs.stripe.com/api/disputes, /api/radar/early_fraud_warnings, read 2026-11",
        "reads_balance": "docs.stripe.com/api/balance, read 2026-11: of the account that the key belongs to",
        "takes_email": "docs.stripe.com/api/refunds/create, read 2026-11: instructions_email",
        "connects": "docs.stripe.com/connect, read 2026-11",
        "currency_steps": "docs.stripe.com/currencies, read 2026-11",
        "currency_decimals": "docs.stripe.com/currencies, read 2026-11",
        "refund_window_seconds": "none published: it differs by payment method",
        "rate_per_second": "docs.stripe.com/rate-limits, read 2026-11: 25 for each endpoint and in test mode",
        "disputed_codes": "docs.stripe.com/refunds (failure reasons), read 2026-11",
        "unfunded_codes": "docs.stripe.com/refunds (failure reasons), read 2026-11",
        "low_balance_codes": "docs.stripe.com/error-codes, /refunds (failure reasons, pending reasons), read 2026-11",
    },
)


class StripeSettings(AccountSettings):
    """An account at Stripe: a secret or restricted key gives access to it."""

    CREDENTIALS: ClassVar = ("api_key",)

    api_key: SecretStr | None = None

    @field_validator("api_key")
    @classmethod
    def _a_secret_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_stripe_key(value.get_secret_value())
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _signing_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            check_webhook_secrets(value.get_secret_value())
        return value


def _make(name: str, settings: StripeSettings, timeout_seconds: float) -> Processor:
    # The SDK takes as long to import as everything else together: processes that call no processor do not load it.
    from refund_worker.processors.stripe.adapter import StripeProcessor

    assert settings.api_key is not None
    key = settings.api_key.get_secret_value()
    return StripeProcessor(key, base=settings.api_base, timeout_seconds=timeout_seconds, name=name)


def _make_payouts(name: str, settings: StripeSettings, timeout_seconds: float) -> PayoutRoute:
    from refund_worker.processors.stripe.payouts import StripePayouts  # late, as above

    assert settings.api_key is not None
    key = settings.api_key.get_secret_value()
    return StripePayouts(key, base=settings.api_base, timeout_seconds=timeout_seconds, name=name)


def _live(settings: StripeSettings) -> bool | None:
    key = settings.api_key.get_secret_value() if settings.api_key else ""
    return True if "_live_" in key else False if "_test_" in key else None


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    settings=StripeSettings,
    address=lambda settings: settings.api_base or SERVER,
    extra="stripe",
    permissions=permissions_text(),
    events=events_text(),
    make=_make,
    preload=lambda: [importlib.import_module(module) for module in _MODULES],
    live=_live,
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        verify_event=lambda settings, headers, body, now: events.verify_event(
            headers, body, settings.webhook_secrets, now
        ),
        event_name=events.event_name,
        connected_account=events.connected_account,
        event_hint=events.event_hint,
        event_subject=event_subject,
        signature_header=events.HEADER,
        signature_example=events.HEADER_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
    payouts=PayoutEntry(
        capabilities=PAYOUT_CAPABILITIES, make=_make_payouts, transfer_hint=payout_events.transfer_hint
    ),
)
