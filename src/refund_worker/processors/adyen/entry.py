"""Adyen's entry in the registry: its capability table, and how to make its adapter. Imports no HTTP client."""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from refund_worker.processors.adyen import events
from refund_worker.processors.adyen.errors import PERSON_DECIDES, UNFUNDED
from refund_worker.processors.adyen.explained import EXPLAINED_BY
from refund_worker.processors.adyen.objects import THREE_DECIMAL, ZERO_DECIMAL, check_payment_id
from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry, Webhooks
from refund_worker.setting_values import Number, listed

NAME: Final = "adyen"
DAY_SECONDS: Final = 86_400.0
TEST_SERVER: Final = "https://checkout-test.adyen.com"
LIVE_SERVER: Final = "https://{prefix}-checkout-live.adyenpayments.com/checkout"
REPORT_SECONDS: Final = 5 * DAY_SECONDS
_ADAPTER: Final = "refund_worker.processors.adyen.adapter"
_SPEC: Final = "Adyen's published description CheckoutService v72, read 2026-11"
_HOOKS: Final = "Adyen's published description Webhooks v1, read 2026-11"
_DOCS: Final = "docs.adyen.com"

CAPABILITIES: Final = Capabilities(
    key_seconds=7 * DAY_SECONDS,
    key_use_seconds=6 * DAY_SECONDS,
    finds_refunds=False,
    lists_refunds=False,
    list_proves_absence=False,
    answers_are_final=False,
    answers_are_outcomes=False,
    says_replayed=False,
    keeps_server_errors=False,
    reads_refunds=False,
    report_seconds=REPORT_SECONDS,
    partial_refunds=True,
    cancels=False,
    currency_decimals=dict.fromkeys(ZERO_DECIMAL, 0) | dict.fromkeys(THREE_DECIMAL, 3),
    refund_window_seconds=None,
    rate_per_second=10.0,
    disputed_codes=PERSON_DECIDES,
    unfunded_codes=UNFUNDED,
    low_balance_codes=UNFUNDED,
    sources={
        "reads_payments": f"{_SPEC}: no such call",
        "creates_refunds": f"{_SPEC}: POST /payments/{{paymentPspReference}}/refunds",
        "key_seconds": (
            f"{_DOCS}/development-resources/api-idempotency, read 2026-11: copies of the page say 7 to 14 days, and at "
            "least 31 days. The least of them counts"
        ),
        "key_use_seconds": "our choice: one day less than Adyen keeps a key",
        "finds_refunds": f"{_SPEC}: no such call",
        "lists_refunds": f"{_SPEC}: no such call",
        "list_proves_absence": f"{_SPEC}: there is no list",
        "answers_are_outcomes": f"{_SPEC}: the status of an answer is always received; a webhook brings the outcome",
        "says_replayed": f"{_SPEC}: every answer repeats the key, the first one too",
        "keeps_server_errors": f"{_SPEC}: only 201 and 422 answers have the header of the key",
        "keeps_refusals": f"{_SPEC}: 201 and 422 answers have the header of the key, so a refusal is kept as well",
        "answers_are_final": f"{_HOOKS}: REFUND_FAILED and REFUNDED_REVERSED may follow a REFUND",
        "reads_refunds": f"{_SPEC}: no such call",
        "report_seconds": (
            "our choice, no published figure: REFUND comes once Adyen has checked a refund, in most cases within a day "
            "(not read, known). Five days also cover a weekend and a day on which our address did not answer. An "
            "account may set its own"
        ),
        "partial_refunds": f"{_SPEC}: several, up to the captured amount; some payment methods take none",
        "cancels": f"{_SPEC}: no such call for a refund",
        "reads_disputes": "our choice: the Disputes API is another service, and this adapter does not call it",
        "reads_balance": f"{_SPEC}: no such call",
        "connects": "our choice: platforms with balance accounts (splits, stores) are not served",
        "takes_email": f"{_SPEC}: no such parameter",
        "currency_steps": f"{_DOCS}/development-resources/currency-codes, read 2026-11: decimals only",
        "currency_decimals": (
            f"{_DOCS}/development-resources/currency-codes and Currency.php of adyen-php-api-library, read 2026-11"
        ),
        "refund_window_seconds": "none published for all: it differs by payment method",
        "rate_per_second": "our choice: no limit was read",
        "disputed_codes": (
            "our choice: the codes after which a person decides, because a reason that Adyen gives may mean that the "
            "payment was refunded elsewhere"
        ),
        "unfunded_codes": "not read, known: the reason of a REFUND without success for our own funds",
        "low_balance_codes": "not read, known: as for unfunded_codes",
    },
)

_PRINTABLE = re.compile("[!-~]{1,500}")
_ACCOUNT = re.compile("[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
_LIVE_PREFIX = re.compile("[A-Za-z0-9]([A-Za-z0-9-]{0,60}[A-Za-z0-9])?")
_VERSION = re.compile("v[0-9]{1,3}")
_HEX_KEY = re.compile("([0-9A-Fa-f]{2}){16,128}")


class AdyenSettings(AccountSettings):
    """One merchant account at Adyen.

    `merchant_account` is needed for refunds and for webhooks. `live_prefix` is the company's own part of the live
    server's name. `webhook_secret` holds HMAC keys in hexadecimal, several with commas between them during a rotation.
    `webhook_user` and `webhook_password` are checked if they are set. `report_seconds` is how long an event about a
    refund may take before a person looks.
    """

    # The merchant account is no secret: a process that only takes webhooks has it without an API key.
    CREDENTIALS: ClassVar = ("api_key",)

    api_key: SecretStr | None = None
    merchant_account: str | None = None
    environment: Literal["test", "live"] = "test"
    live_prefix: str | None = None
    checkout_version: str = "v72"
    webhook_user: str | None = None
    webhook_password: SecretStr | None = None
    report_seconds: Number = Field(REPORT_SECONDS, ge=3_600, le=60 * DAY_SECONDS)

    @field_validator("api_key")
    @classmethod
    def _an_api_key(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not _PRINTABLE.fullmatch(value.get_secret_value()):
            raise ValueError("must be an API key of Adyen: printable characters without blanks")
        return value

    @field_validator("merchant_account")
    @classmethod
    def _an_account(cls, value: str | None) -> str | None:
        if value is not None and not _ACCOUNT.fullmatch(value):
            raise ValueError("must be the name of a merchant account: letters, digits, _ . and - only")
        return value

    @field_validator("live_prefix")
    @classmethod
    def _a_prefix(cls, value: str | None) -> str | None:
        if value is not None and not _LIVE_PREFIX.fullmatch(value):
            raise ValueError("must be the prefix alone, without https:// and -checkout-live: letters, digits and -")
        return value

    @field_validator("checkout_version")
    @classmethod
    def _a_version(cls, value: str) -> str:
        if not _VERSION.fullmatch(value):
            raise ValueError("must be a version of the Checkout API, such as v72")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _hmac_keys(cls, value: SecretStr | None) -> SecretStr | None:
        keys = [] if value is None else listed(value.get_secret_value())
        if value is not None and (not keys or not all(_HEX_KEY.fullmatch(key) for key in keys)):
            raise ValueError("must be HMAC keys in hexadecimal digits, with commas between them")
        return value

    @model_validator(mode="after")
    def _that_fit_together(self) -> Self:
        if self.merchant_account is None and (self.api_key is not None or self.webhook_secret is not None):
            raise ValueError("merchant_account must be set too")
        if self.environment == "live" and self.live_prefix is None and self.api_base is None:
            raise ValueError('environment = "live" needs live_prefix')
        if self.environment == "test" and self.live_prefix is not None:
            raise ValueError('live_prefix is only for environment = "live"')
        if (self.webhook_user is None) != (self.webhook_password is None):
            raise ValueError("webhook_user and webhook_password must be set together")
        if self.webhook_user is not None and ":" in self.webhook_user:
            raise ValueError("webhook_user must have no colon")
        return self

    @property
    def webhook_credentials(self) -> tuple[str, str] | None:
        """Return user and password of the webhook, or None if none are set."""
        if self.webhook_user is None or self.webhook_password is None:
            return None
        return self.webhook_user, self.webhook_password.get_secret_value()


def address(settings: AdyenSettings) -> str:
    """Return the URL below which the calls of this account are."""
    if settings.api_base is not None:
        server = settings.api_base
    elif settings.environment == "live":
        server = LIVE_SERVER.format(prefix=settings.live_prefix)
    else:
        server = TEST_SERVER
    return f"{server}/{settings.checkout_version}"


@functools.lru_cache(maxsize=256)
def capabilities_of(settings: AdyenSettings) -> Capabilities:
    """Return the capability table of an account."""
    return replace(CAPABILITIES, report_seconds=settings.report_seconds)


def _make(name: str, settings: AdyenSettings, timeout_seconds: float) -> Processor:
    from refund_worker.processors.adyen.adapter import AdyenProcessor

    assert settings.api_key is not None
    assert settings.merchant_account is not None
    return AdyenProcessor(
        settings.api_key.get_secret_value(),
        settings.merchant_account,
        base=address(settings),
        live=settings.environment == "live",
        timeout_seconds=timeout_seconds,
        name=name,
    )


def _verify_event(settings: AdyenSettings, headers: Mapping[str, str], body: bytes, now: float) -> None:
    events.verify_event(
        body,
        settings.webhook_secrets,
        merchant_account=settings.merchant_account,
        live=settings.environment == "live",
        authorization=headers.get("authorization", ""),
        credentials=settings.webhook_credentials,
    )


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    capabilities_of=capabilities_of,
    settings=AdyenSettings,
    explained_by=EXPLAINED_BY,
    make=_make,
    preload=lambda: importlib.import_module(_ADAPTER),
    address=address,
    extra="worker",
    # Not read, known: the names of the roles.
    permissions="an API credential with the roles Checkout webservice role and Merchant PAL Webservice role",
    events=f"{events.REFUND}, {events.REFUND_FAILED}, {events.REFUNDED_REVERSED}, {events.POSTPONED_REFUND}, "
    f"{events.CANCEL_OR_REFUND}",
    live=lambda settings: settings.environment == "live",
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        verify_event=_verify_event,
        split=events.split,
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_report=events.event_report,
        event_subject=events.event_subject,
        answer=events.ACCEPTED,
        signature_header=events.SIGNATURE_PLACE,
        signature_example=events.SIGNATURE_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
)
