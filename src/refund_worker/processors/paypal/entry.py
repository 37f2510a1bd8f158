"""PayPal's entry in the registry: its capability table, and how to make its adapter. Imports no HTTP client."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from typing import ClassVar, Final, Literal

from pydantic import SecretStr, field_validator

from refund_worker.extras import MissingExtra, require
from refund_worker.processors.base import (
    AccountSettings,
    Capabilities,
    EventFault,
    InvalidEvent,
    Processor,
    ProcessorEntry,
    Webhooks,
)
from refund_worker.processors.payout_routes import PayoutEntry, PayoutRoute
from refund_worker.processors.paypal import events, payout_events
from refund_worker.processors.paypal.errors import EMPTY
from refund_worker.processors.paypal.explained import EXPLAINED_BY
from refund_worker.processors.paypal.objects import CURRENCY_DECIMALS, check_payment_id
from refund_worker.processors.paypal.payout_facts import PAYOUT_CAPABILITIES
from refund_worker.setting_values import listed

NAME: Final = "paypal"
SERVERS: Final[Mapping[str, str]] = {
    "live": "https://api-m.paypal.com",
    "sandbox": "https://api-m.sandbox.paypal.com",
}
WEBHOOK_IDS_MAX: Final = 3
DAY: Final = 86_400.0
_MODULES: Final = ("refund_worker.processors.paypal.adapter", "refund_worker.processors.paypal.payouts")
_PAYMENTS: Final = "payments_payment_v2.json 2.5 (github paypal/paypal-rest-api-specifications), read 2026-11"
_ORDERS: Final = "checkout_orders_v2.json 2.13 (github paypal/paypal-rest-api-specifications), read 2026-11"

CAPABILITIES: Final = Capabilities(
    key_seconds=45 * DAY,
    key_use_seconds=40 * DAY,
    finds_refunds=True,
    lists_refunds=False,
    list_proves_absence=True,
    keeps_refusals=False,
    answers_are_final=False,
    answers_are_outcomes=True,
    keeps_server_errors=False,
    reads_refunds=True,
    partial_refunds=True,
    reads_payments=True,
    cancels=False,
    currency_decimals=CURRENCY_DECIMALS,
    refund_window_seconds=180 * DAY,
    rate_per_second=10.0,
    low_balance_codes=EMPTY,
    sources={
        "connects": "not built: PayPal-Auth-Assertion of platforms",
        "reads_payments": f"{_PAYMENTS}: GET /v2/payments/captures/ID",
        "creates_refunds": f"{_PAYMENTS}: POST /v2/payments/captures/ID/refund",
        "key_seconds": f"{_PAYMENTS}: PayPal-Request-Id, 45 days",
        "key_use_seconds": "our choice: five days less than PayPal keeps a key",
        "finds_refunds": f"{_ORDERS}: payments.refunds of a purchase unit; a capture without an order has no list",
        "lists_refunds": "developer.paypal.com (transaction search), read 2026-11: only reports list them, up to three "
        "hours late and with a permission of their own",
        "list_proves_absence": "no source: we assume that capture and order lag by less than QUIET_SECONDS. The list "
        "counts only if it reaches the capture's own status and each refund's total",
        "answers_are_outcomes": f"{_PAYMENTS}: a refusal is an error with an issue",
        "says_replayed": "not read, known: a repeat is answered with 200 instead of 201",
        "keeps_server_errors": "developer.paypal.com/reference/guidelines/idempotency, read 2026-11: a repeat returns "
        "the latest state of the first request",
        "keeps_refusals": "no source: the guideline speaks of the latest state of a request, not of a refused one",
        "answers_are_final": f"{_PAYMENTS}: a refund is PENDING, COMPLETED, FAILED or CANCELLED. Not read, known: a "
        "completed refund can be reversed",
        "reads_refunds": f"{_PAYMENTS}: GET /v2/payments/refunds/ID",
        "report_seconds": "not needed: a refund can be read",
        "partial_refunds": f"{_PAYMENTS}: amount",
        "cancels": f"{_PAYMENTS}: no such call",
        "reads_disputes": "not implemented: disputes show as refused refunds and as reversals",
        "reads_balance": "not implemented: the call needs a permission of its own",
        "takes_email": f"{_PAYMENTS}: no such field",
        "currency_steps": f"{_PAYMENTS}: none beside the decimals",
        "currency_decimals": "developer.paypal.com/api/rest/reference/currency-codes as other vendors repeat it, read "
        "2026-11: HUF, JPY and TWD",
        "refund_window_seconds": "developer.paypal.com, read 2026-11: 180 days by default; some methods have less",
        "rate_per_second": "our choice: developer.paypal.com/api/rate-limiting, read 2026-11, publishes no figure",
        "disputed_codes": f"{_PAYMENTS}: refund_status_details has the reason ECHECK only",
        "unfunded_codes": f"{_PAYMENTS}: refund_status_details has the reason ECHECK only",
        "low_balance_codes": f"{_PAYMENTS}: captures.refund-422",
    },
)


class PayPalSettings(AccountSettings):
    """An account at PayPal: the id and secret of a REST app give access to it.

    `webhook_id` is PayPal's id of the webhook, or several of them with commas. `webhook_verification` says how events
    are checked: by asking PayPal, or by PayPal's certificate.
    """

    CREDENTIALS: ClassVar = ("client_id", "client_secret")
    WEBHOOK_SETTING: ClassVar = "webhook_id"

    client_id: SecretStr | None = None
    client_secret: SecretStr | None = None
    environment: Literal["sandbox", "live"] = "sandbox"
    webhook_id: str | None = None
    webhook_verification: Literal["postback", "certificate"] = "postback"

    @field_validator("client_id", "client_secret")
    @classmethod
    def _of_a_header(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not re.fullmatch(r"[!-~]{1,500}", value.get_secret_value()):
            raise ValueError("must be 1 to 500 printable characters without blanks")
        return value

    @field_validator("client_id")
    @classmethod
    def _of_basic_authorization(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and ":" in value.get_secret_value():
            raise ValueError("must have no colon")
        return value

    @field_validator("webhook_id")
    @classmethod
    def _ids_of_webhooks(cls, value: str | None) -> str | None:
        ids = listed(value or "")
        if value is not None and not 1 <= len(ids) <= WEBHOOK_IDS_MAX:
            raise ValueError(f"must be one id of a webhook, or up to {WEBHOOK_IDS_MAX} with commas")
        if not all(re.fullmatch(r"[A-Za-z0-9]{1,50}", one) for one in ids):
            raise ValueError("must be PayPal's id of the webhook: letters and digits, not its address")
        return value

    @field_validator("webhook_verification")
    @classmethod
    def _with_its_package(cls, value: str) -> str:
        if value == "certificate":
            try:
                require("paypal")
            except MissingExtra as error:
                raise ValueError(error.message) from None
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _no_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            raise ValueError("PayPal shares no secret: set webhook_id")
        return value

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return PayPal's ids of the webhooks whose events are accepted; empty if no id is set. They are no secrets."""
        return tuple(listed(self.webhook_id or ""))

    @property
    def server(self) -> str:
        """Return the URL of the server, without a slash at its end."""
        return (self.api_base or SERVERS[self.environment]).rstrip("/")


def _make(name: str, settings: PayPalSettings, timeout_seconds: float) -> Processor:
    from refund_worker.processors.paypal.adapter import PayPalProcessor

    assert settings.client_id is not None
    assert settings.client_secret is not None
    return PayPalProcessor(
        settings.client_id.get_secret_value(),
        settings.client_secret.get_secret_value(),
        base=settings.server,
        live=settings.environment == "live",
        timeout_seconds=timeout_seconds,
        name=name,
    )


def _make_payouts(name: str, settings: PayPalSettings, timeout_seconds: float) -> PayoutRoute:
    from refund_worker.processors.paypal.payouts import PayPalPayouts

    assert settings.client_id is not None
    assert settings.client_secret is not None
    return PayPalPayouts(
        settings.client_id.get_secret_value(),
        settings.client_secret.get_secret_value(),
        base=settings.server,
        live=settings.environment == "live",
        timeout_seconds=timeout_seconds,
        name=name,
    )


def _verify_event(settings: PayPalSettings, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raise `InvalidEvent` unless PayPal signed the event for one of the account's webhooks."""
    from refund_worker.processors.paypal import verification

    ids = settings.webhook_secrets
    if not ids:
        raise InvalidEvent("the account has no webhook_id", EventFault.BAD_SIGNATURE)
    if settings.webhook_verification == "certificate":
        live = settings.environment == "live"
        verification.verify_by_certificate(ids, settings.api_base, live, headers, body, now)
        return
    if settings.client_id is None or settings.client_secret is None:
        why = "events are checked by asking PayPal, and this process has no client_id and client_secret"
        raise InvalidEvent(why, EventFault.BAD_SIGNATURE)
    credentials = settings.client_id.get_secret_value(), settings.client_secret.get_secret_value()
    verification.verify_by_postback(ids, settings.server, credentials, headers, body, now)


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    settings=PayPalSettings,
    explained_by=EXPLAINED_BY,
    address=lambda settings: settings.server,
    extra="worker",
    permissions="a REST app of the account that captured the payments; it needs no permission beside the default ones, "
    "and for payouts the feature Payouts, which PayPal must allow for the account",
    events=", ".join(sorted(events.REFUND_KINDS | {events.CAPTURED}))
    + "; for payouts also "
    + ", ".join(sorted(payout_events.KINDS)),
    make=_make,
    preload=lambda: [importlib.import_module(module) for module in _MODULES],
    live=lambda settings: settings.environment == "live",
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        verify_event=_verify_event,
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=events.event_subject,
        signature_header=events.HEADER,
        signature_example=events.HEADER_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
    payouts=PayoutEntry(
        capabilities=PAYOUT_CAPABILITIES,
        make=_make_payouts,
        transfer_hint=payout_events.transfer_hint,
    ),
)
