"""Braintree's entry in the registry: its capability table, and how to make its adapter. Imports no HTTP client."""

from __future__ import annotations

import importlib
import re
from typing import ClassVar, Final, Literal

from pydantic import SecretStr, field_validator

from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry, Webhooks
from refund_worker.processors.braintree import events
from refund_worker.processors.braintree.errors import DISPUTED
from refund_worker.processors.braintree.explained import EXPLAINED_BY
from refund_worker.processors.braintree.objects import check_payment_id
from refund_worker.processors.braintree.orders import DECIMALS
from refund_worker.setting_values import listed

NAME: Final = "braintree"
# environment.py of braintree_python 4.45.0, read 2026-11.
SERVERS: Final = {
    "production": "https://api.braintreegateway.com",
    "sandbox": "https://api.sandbox.braintreegateway.com",
}
DAY_SECONDS: Final = 86_400.0
_ADAPTER: Final = "refund_worker.processors.braintree.adapter"
_SDK: Final = "braintree_python 4.45.0, read 2026-11"
_DOCS: Final = "developer.paypal.com/braintree, read 2026-11"
_KEY = re.compile(r"[!-9;-~]{1,200}")  # printable without a colon, which separates the two keys

CAPABILITIES: Final = Capabilities(
    key_seconds=30 * DAY_SECONDS,
    key_use_seconds=25 * DAY_SECONDS,
    lists_refunds=True,
    list_proves_absence=True,
    says_replayed=False,
    keeps_server_errors=False,
    keeps_refusals=False,
    answers_are_final=False,
    partial_refunds=True,
    reads_payments=True,
    cancels=False,
    currency_decimals=DECIMALS,
    refund_window_seconds=None,
    rate_per_second=10.0,
    disputed_codes=DISPUTED,
    sources={
        "reads_payments": f"{_SDK}: transaction_gateway.py, find",
        "creates_refunds": f"{_SDK}: transaction_gateway.py, refund",
        "key_seconds": f"{_DOCS}: reference of RefundTransactionInput: 30 days since the first request has finished",
        "key_use_seconds": "our choice: five days less than Braintree keeps a key",
        "finds_refunds": f"{_SDK}: a transaction has refund_ids",
        "lists_refunds": f"{_SDK}: search by type, refund and created_at; transactions of type credit only, not voids",
        "list_proves_absence": (
            "no source: we assume that refund_ids of a payment lag by less than QUIET_SECONDS. The search's index lags "
            "a little (not read, known) and proves nothing: absence is read from the payment itself"
        ),
        "answers_are_outcomes": f"{_SDK}: a refusal is an api-error-response with validation errors",
        "says_replayed": f"{_SDK}: an answer to a repeat has no such mark",
        "keeps_server_errors": f"{_DOCS}: a repeat returns the refund in its current status",
        "keeps_refusals": (
            f"{_DOCS}: reference of RefundTransactionInput: some requests that failed do not use their key up"
        ),
        "answers_are_final": (
            f"{_DOCS}: refund_failed, and transaction_settlement_declined may come after transaction_settled"
        ),
        "reads_refunds": f"{_SDK}: transaction_gateway.py, find",
        "report_seconds": "not needed: a refund can be read",
        "partial_refunds": f"{_SDK}: integration tests, several partial refunds of a settled transaction",
        "cancels": f"{_DOCS}: no refund waits for the customer",
        "reads_disputes": "our choice: this adapter reads only the disputes that a transaction carries",
        "reads_balance": f"{_SDK}: no such call",
        "connects": "bt-docs, known: no connected accounts",
        "takes_email": f"{_SDK}: refund_signature has no address",
        "currency_steps": "none published",
        "currency_decimals": f"{_DOCS}: validation errors; not read, known: ISO 4217 says which currencies",
        "refund_window_seconds": f"{_DOCS}: no one figure; PayPal refuses after 180 days (settlement response 4024)",
        "rate_per_second": "no published figure: our choice",
        "disputed_codes": f"{_DOCS}: settlement responses, 4019",
        "unfunded_codes": f"{_DOCS}: none published",
        "low_balance_codes": f"{_DOCS}: none published",
    },
)


class BraintreeSettings(AccountSettings):
    """An account at Braintree: the keys of one user of the gateway account `merchant_id`.

    `environment` has no default: only this setting tells live keys from those of the sandbox. `merchant_account_id`
    is the merchant account for refunds, if not the payment's own. `webhook_secret` holds pairs PUBLIC:PRIVATE,
    separated by commas; without it the account's own keys check the events. `void_unsettled` is "off" if a payment that
    is not settled yet must never be voided.
    """

    CREDENTIALS: ClassVar = ("merchant_id", "public_key", "private_key", "environment")

    merchant_id: str | None = None
    public_key: str | None = None
    private_key: SecretStr | None = None
    environment: Literal["sandbox", "production"] | None = None
    merchant_account_id: str | None = None
    void_unsettled: Literal["on", "off"] = "on"

    @field_validator("merchant_id", "merchant_account_id")
    @classmethod
    def _an_id(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch("[A-Za-z0-9_-]{1,100}", value):
            raise ValueError("must be an id as the Control Panel shows it: letters, digits, _ and -")
        return value

    @field_validator("public_key")
    @classmethod
    def _a_public_key(cls, value: str | None) -> str | None:
        if value is not None and not _KEY.fullmatch(value):
            raise ValueError("must be a key as the Control Panel shows it")
        return value

    @field_validator("private_key")
    @classmethod
    def _a_private_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _KEY.fullmatch(value.get_secret_value()):
            raise ValueError("must be a key as the Control Panel shows it")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _pairs_of_keys(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            events.key_pairs(listed(value.get_secret_value()))
        return value

    @property
    def webhook_keys(self) -> tuple[events.KeyPair, ...]:
        """Return the pairs of keys that may have signed an event; empty if none is set."""
        if self.webhook_secret is not None:
            return events.key_pairs(self.webhook_secrets)
        if self.public_key is None or self.private_key is None:
            return ()
        return ((self.public_key, self.private_key.get_secret_value()),)


def _address(settings: BraintreeSettings) -> str:
    return settings.api_base or SERVERS[settings.environment or "sandbox"]


def _make(name: str, settings: BraintreeSettings, timeout_seconds: float) -> Processor:
    from refund_worker.processors.braintree.adapter import BraintreeProcessor

    assert settings.merchant_id is not None
    assert settings.public_key is not None
    assert settings.private_key is not None
    return BraintreeProcessor(
        settings.merchant_id,
        settings.public_key,
        settings.private_key.get_secret_value(),
        base=_address(settings),
        timeout_seconds=timeout_seconds,
        name=name,
        merchant_account_id=settings.merchant_account_id,
        void_unsettled=settings.void_unsettled == "on",
    )


def _live(settings: BraintreeSettings) -> bool | None:
    return None if settings.environment is None else settings.environment == "production"


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    settings=BraintreeSettings,
    address=_address,
    extra="worker",
    permissions="transactions: find, search, refund and void",
    events=events.EVENTS_TEXT,
    explained_by=EXPLAINED_BY,
    make=_make,
    preload=lambda: importlib.import_module(_ADAPTER),
    live=_live,
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        verify_event=lambda settings, headers, body, now: events.verify_event(
            headers, body, settings.webhook_keys, now
        ),
        split=events.split,
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=events.event_subject,
        challenge=lambda settings, query: events.answer_to_challenge(query, settings.webhook_keys),
        signature_header=events.HEADER,
        signature_example=events.FORM,
        event_schema=events.EVENT_SCHEMA,
    ),
)
