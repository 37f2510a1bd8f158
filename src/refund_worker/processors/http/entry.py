"""Our own HTTP protocol's entry in the registry: the settings of an account make its capability table.

A server of this protocol stands before a paying system that has no adapter here. The table must be known without
asking the server, so the account's settings say what `GET /capabilities` says; `refund-worker adapters check` compares
the two. The protocol's page is docs/paying-systems/http.md.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Final, Literal

from pydantic import Field, SecretStr, StrictBool, field_validator, model_validator

from refund_worker.iso_codes import CURRENCIES
from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry, Webhooks
from refund_worker.processors.http import events
from refund_worker.processors.http.explained import EXPLAINED_BY
from refund_worker.processors.http.objects import check_payment_id
from refund_worker.setting_values import Number, check_signing_secret, listed

NAME: Final = "http"
_ADAPTER: Final = "refund_worker.processors.http.adapter"
_PAGE: Final = "docs/paying-systems/http.md, our own protocol"
_SETTING: Final = f"{_PAGE}: the account's setting, which must be what the server's GET /capabilities says"
# Of a key's life we use this part. The rest is for clocks that differ and for calls that wait, as 20 of 24 hours.
KEY_USE_SHARE: Final = 5 / 6
DISPUTED, LOW_BALANCE = "disputed", "low_balance"

# The table of an account that says nothing: the most careful one. After a lost answer a person decides.
CAPABILITIES: Final = Capabilities(
    key_seconds=0.0,
    finds_refunds=False,
    lists_refunds=False,
    list_proves_absence=False,
    answers_are_outcomes=False,
    answers_are_final=False,
    partial_refunds=False,
    cancels=False,
    rate_per_second=5.0,
    disputed_codes=frozenset({DISPUTED}),
    unfunded_codes=frozenset({LOW_BALANCE}),
    low_balance_codes=frozenset({LOW_BALANCE}),
    sources={
        "connects": f"{_PAGE}: no connected accounts",
        "creates_refunds": f"{_PAGE}: POST /refunds",
        "key_seconds": _SETTING,
        "key_use_seconds": "our choice: five sixths of key_seconds, as 20 of 24 hours",
        "finds_refunds": f"{_SETTING} (finds_by)",
        "lists_refunds": _SETTING,
        "list_proves_absence": _SETTING,
        "answers_are_outcomes": _SETTING,
        "says_replayed": f"{_PAGE}: the header Idempotent-Replayed",
        "keeps_server_errors": f"{_PAGE}: a server may store any answer",
        "keeps_refusals": f"{_PAGE}: a server keeps 404 and 422 answers under their keys",
        "answers_are_final": _SETTING,
        "reads_refunds": f"{_PAGE}: GET /refunds/ID is required",
        "report_seconds": "not needed: a refund can be read",
        "partial_refunds": _SETTING,
        "cancels": _SETTING,
        "reads_payments": _SETTING,
        "reads_disputes": f"{_PAGE}: the protocol has no such call",
        "reads_balance": f"{_PAGE}: the protocol has no such call",
        "takes_email": f"{_PAGE}: the protocol sends no address of a customer",
        "currency_steps": _SETTING,
        "currency_decimals": f"{_PAGE}: amounts are in our own minor units",
        "refund_window_seconds": _SETTING,
        "rate_per_second": "our choice: a server of one team; the account's setting replaces it",
        "disputed_codes": f"{_PAGE}: the failure_code of a refund",
        "unfunded_codes": f"{_PAGE}: the failure_code of a refund",
        "low_balance_codes": f"{_PAGE}: the failure_code of a refund, and the code of an error answer",
    },
)

_STEP = re.compile(r"([A-Z]{3}):([1-9][0-9]{0,5})")


class HttpSettings(AccountSettings):
    """An account whose paying system is behind a server of our protocol.

    `secret` signs our requests; several secrets, comma separated, during a rotation. Events are verified with
    `webhook_secret`, or with `secret` if it is not set. `mode` says whether the money is real. The other fields are the
    account's capability table; each default is the most careful value.
    """

    CREDENTIALS: ClassVar = ("api_base", "secret")

    secret: SecretStr | None = None
    mode: Literal["live", "test"] | None = None
    key_seconds: Number = Field(0.0, ge=0, le=366 * 86_400)
    finds_by: Literal["payment", "leg", "nothing"] = "nothing"
    lists_refunds: StrictBool = False
    list_proves_absence: StrictBool = False
    answers_are_outcomes: StrictBool = False
    answers_are_final: StrictBool = False
    reads_payments: StrictBool = False
    partial_refunds: StrictBool = False
    cancels: StrictBool = False
    refund_window_seconds: Number | None = Field(None, gt=0, le=100 * 366 * 86_400)
    currency_steps: str = ""

    @field_validator("secret", "webhook_secret")
    @classmethod
    def _signing_secrets(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            secrets = listed(value.get_secret_value())
            if not secrets:
                raise ValueError("must have a secret between its commas")
            for each in secrets:
                check_signing_secret(each)
        return value

    @field_validator("currency_steps")
    @classmethod
    def _steps(cls, value: str) -> str:
        steps_of(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> HttpSettings:
        if self.list_proves_absence and self.finds_by == "nothing":
            raise ValueError('list_proves_absence needs finds_by = "payment" or "leg": there is no list of a payment')
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return the secrets that sign our requests; empty if none is set."""
        return () if self.secret is None else tuple(listed(self.secret.get_secret_value()))

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the accepted secrets of events: those of `webhook_secret`, or else those of `secret`."""
        own = super().webhook_secrets
        return own or self.secrets


def steps_of(text: str) -> Mapping[str, int]:
    """Return the steps of currencies in minor units: `ISK:100,HUF:100`. Raises `ValueError` for another form."""
    found = [_STEP.fullmatch(part) for part in listed(text)]
    steps = {match[1]: int(match[2]) for match in found if match}
    if len(steps) != len(found) or not steps.keys() <= CURRENCIES:
        what = "must be steps in minor units such as ISK:100,HUF:100, each currency once"
        raise ValueError(f"{what}, by its code in ISO 4217")
    return steps


@functools.lru_cache(maxsize=256)
def capabilities_of(settings: HttpSettings) -> Capabilities:
    """Return the capability table that the settings of an account describe."""
    return replace(
        CAPABILITIES,
        key_seconds=settings.key_seconds,
        key_use_seconds=settings.key_seconds * KEY_USE_SHARE or None,
        finds_refunds=settings.finds_by != "nothing",
        lists_refunds=settings.lists_refunds,
        list_proves_absence=settings.list_proves_absence,
        answers_are_outcomes=settings.answers_are_outcomes,
        answers_are_final=settings.answers_are_final,
        reads_payments=settings.reads_payments,
        partial_refunds=settings.partial_refunds,
        cancels=settings.cancels,
        refund_window_seconds=settings.refund_window_seconds,
        currency_steps=steps_of(settings.currency_steps),
    )


def _make(name: str, settings: HttpSettings, timeout_seconds: float) -> Processor:
    # The HTTP client takes long to import: processes that call no processor do not load it.
    from refund_worker.processors.http.adapter import HttpProcessor

    return HttpProcessor(settings, name=name, timeout_seconds=timeout_seconds)


ENTRY: Final = ProcessorEntry(
    name=NAME,
    capabilities=CAPABILITIES,
    capabilities_of=capabilities_of,
    settings=HttpSettings,
    explained_by=EXPLAINED_BY,
    make=_make,
    preload=lambda: importlib.import_module(_ADAPTER),
    extra="worker",
    permissions="a secret that your server shares with this account",
    events="refund.created and refund.updated, which your server posts there, signed",
    live=lambda settings: None if settings.mode is None else settings.mode == "live",
    check_payment_id=check_payment_id,
    webhooks=Webhooks(
        verify_event=lambda settings, headers, body, now: events.verify_event(
            headers, body, settings.webhook_secrets, now
        ),
        event_name=events.event_name,
        event_hint=events.event_hint,
        event_subject=events.event_subject,
        signature_header=events.HEADER,
        signature_example=events.HEADER_EXAMPLE,
        event_schema=events.EVENT_SCHEMA,
    ),
)
