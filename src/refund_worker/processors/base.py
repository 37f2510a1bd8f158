"""Interfaces of a payment processor: its adapter, its webhook events and its capability table.

An adapter translates one processor's wire format into the reply types of `domain.processor_replies`. It makes no
decisions about refunds. It raises no error for a failure of a server or a network: every outcome, a missing answer
included, is a `Reply`. docs/adding-a-processor.md explains each part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Final, Literal, Protocol, TypeGuard, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from refund_worker.domain.decision import ProcessorRules
from refund_worker.domain.money import decimal_places, smallest_step
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    BalanceReply,
    ChargedReply,
    DisputeReply,
    DisputesReply,
    NotReadable,
    PageReply,
    PaymentReply,
    PaymentsReply,
    RefundObject,
    Reply,
    SearchReply,
    TransactionsReply,
    WarningReply,
    WarningsReply,
)
from refund_worker.processors.payout_routes import PayoutEntry
from refund_worker.setting_values import Number, checked_http_url, listed

ID_LENGTH_MAX: Final = 255


class Processor(Protocol):
    """One account at a payment processor.

    An instance is made after the fork, is used by one event loop, and is closed at the end.
    """

    name: str
    reads_payments: bool  # True if `find_payment` can ever return more than `PaymentUnreadable`
    reads_disputes: bool  # True if the disputes and early fraud warnings can ever be read
    reads_balance: bool  # True if `balance` can ever return more than `NotReadable`

    def freeze(self, order: RefundInstruction) -> str:
        """Return the request body as canonical JSON.

        The function is pure: the body is stored before the first call and sent again unchanged. Raises ValueError for
        an instruction that the processor cannot take.
        """

    async def send(self, key: str, body: str) -> Reply:
        """Request the refund that is frozen in `body`, under the idempotency key `key`, within the timeout."""

    async def fetch(self, processor_refund_id: str) -> Reply:
        """Return the current state of one refund object."""

    async def find(self, processor_payment_id: str, leg_id: str) -> SearchReply:
        """Return every refund object of this payment, ours and others', with all pages read.

        `leg_id` is for a processor that cannot list a payment's refunds, but can find the one that carries our ids.
        """

    async def find_payment(self, processor_payment_id: str) -> PaymentReply:
        """Return what was captured and refunded, the currency, the mode, and whether a dispute is open.

        Return `PaymentUnreadable` if the processor has no way to ask, or if only this reading is refused.
        """

    async def recent(self, created_gte: datetime) -> SearchReply:
        """Return every refund object made since then (an aware time), ours and others', with all pages read."""

    async def cancel(self, processor_refund_id: str) -> Reply:
        """Cancel a refund object that still waits for the customer, and return its new state."""

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """Return the current state of one dispute. This call and the five below return `NotReadable` if the adapter,
        the server or our key's permissions have no way to ask.
        """

    async def disputes_of(self, processor_payment_id: str) -> DisputesReply:
        """Return every dispute and inquiry of this payment, ended ones included, with all pages read."""

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """Return every dispute opened since then (an aware time), with all pages read."""

    async def fetch_warning(self, warning_id: str) -> WarningReply:
        """Return the current state of one early fraud warning."""

    async def recent_warnings(self, created_gte: datetime) -> WarningsReply:
        """Return every early fraud warning made since then (an aware time), with all pages read."""

    async def balance(self) -> BalanceReply:
        """Return the account's available and pending money."""

    async def recent_payments(self, created_gte: datetime, created_lt: datetime, after: str | None) -> PaymentsReply:
        """Return one page of the payments made in this time (aware), newest first; `after` continues an earlier page.

        This call and the next return `NotReadable` as those above do.
        """

    async def fetch_payment(self, processor_payment_id: str) -> ChargedReply:
        """Return one payment with its metadata, by any of the processor's ids for it."""

    async def close(self) -> None:
        """Release connections. A second call does nothing."""


class RefundsOnly:
    """The part of `Processor` for an adapter that reads neither disputes nor balances: subclass it beside the rest."""

    reads_disputes = False
    reads_balance = False

    async def fetch_dispute(self, dispute_id: str) -> DisputeReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def disputes_of(self, processor_payment_id: str) -> DisputesReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def recent_disputes(self, created_gte: datetime) -> DisputesReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def fetch_warning(self, warning_id: str) -> WarningReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def recent_warnings(self, created_gte: datetime) -> WarningsReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def balance(self) -> BalanceReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def recent_payments(self, created_gte: datetime, created_lt: datetime, after: str | None) -> PaymentsReply:
        """Return `NotReadable`."""
        return _NOT_READABLE

    async def fetch_payment(self, processor_payment_id: str) -> ChargedReply:
        """Return `NotReadable`."""
        return _NOT_READABLE


_NOT_READABLE: Final = NotReadable("this adapter has no such call")


@runtime_checkable
class Paged(Protocol):
    """A processor that can read its list page by page. Any number of objects then needs little memory.

    A processor without it is asked for `recent`.
    """

    async def page(self, created_gte: datetime, created_lt: datetime | None, after: str) -> PageReply:
        """Return a page of the refund objects made in this time, newest first; `after` is "" or that of a page."""


@runtime_checkable
class HasConnectedAccounts(Protocol):
    """A platform's adapter, whose credentials also give access to the accounts that are connected with it."""

    def connected(self, account_id: str, name: str) -> Processor:
        """Return the adapter of a connected account, as the account `name`. It shares the connections of this one."""


@runtime_checkable
class ReadsTransactions(Protocol):
    """A processor whose balance transactions can be read: the money that refunds and disputes moved on our account.

    The monthly statement compares the ledger with them. Without this part they are shown as not readable.
    """

    async def balance_transactions(
        self, created_gte: datetime, created_lt: datetime, after: str | None
    ) -> TransactionsReply:
        """Return one page of those made in this time (aware), in any order; `after` continues an earlier page."""

    async def balance_transactions_of(self, object_id: str) -> TransactionsReply:
        """Return all of one refund or dispute, in one page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The facts about one processor on which the program relies, each with its source.

    - `creates_refunds`: the adapter can create refunds. False if a person pays.
    - `key_seconds`: how long the processor keeps an idempotency key, at least. 0 if it has no such keys.
    - `key_use_seconds`: for how long after its first use we send a key again: less than `key_seconds`, with a margin
      for clocks and queues. If it is None, the setting `KEY_LIFE_SECONDS` counts.
    - `finds_refunds`: `find` returns all refunds of one payment, read to their end.
    - `lists_refunds`: `recent` returns all refunds of the account since a time, read to their end.
    - `list_proves_absence`: a refund that is missing in a list, once the quiet window has passed, does not exist.
    - `answers_are_outcomes`: an answer to a send tells whether the processor accepts the refund. False if it only says
      that the request was received: refusals then come later, as refund objects that failed.
    - `says_replayed`: an answer that repeats the stored one says so (`replayed`).
    - `keeps_server_errors`: a 5xx answer may stay stored under its key, so that a repeat gets it for ever.
    - `keeps_refusals`: a refusal stays the answer to its key, whatever changes later. A copy of the request that is
      still on its way then moves no money.
    - `answers_are_final`: a refund that has succeeded never fails later.
    - `reads_refunds`: `fetch` returns the state of one refund object. Otherwise only a signed event tells the outcome
      (`Webhooks.event_report`).
    - `report_seconds`: where only events tell outcomes, how long an event may take at most. Afterwards a person looks.
    - `partial_refunds`: less than the captured amount can be refunded, and more than once.
    - `cancels`: a refund object that waits for the customer can be canceled.
    - `reads_payments`: the captured and refunded amounts of a payment can be read (`find_payment`).
    - `reads_disputes`: the disputes and early fraud warnings of the account can be fetched and listed.
    - `reads_balance`: the available and pending money of the account can be read.
    - `takes_email`: an address can be named to which the processor writes when the customer must act.
    - `connects`: the account is a platform that has connected accounts, with payments of their own.
    - `currency_steps`: the step in the processor's minor units of every amount, for currencies where it is not 1.
    - `currency_decimals`: the decimals of the minor unit, for currencies where they are not 2.
    - `refund_window_seconds`: how long after its capture a payment can be refunded, or None without one figure.
    - `rate_per_second`: the default limit of calls per second; 0 for no limit.
    - `disputed_codes`: failure codes of refund objects that mean: a dispute returns the money itself.
    - `unfunded_codes`: failure codes of refund objects that mean: our balance at the processor was too low.
    - `low_balance_codes`: codes of refusals and of refund objects that mean: our balance is too low. Such refunds go on
      after a top-up.
    - `sources`: the name of each fact above → where it is written, with the date of reading.
    """

    creates_refunds: bool = True
    key_seconds: float
    key_use_seconds: float | None = None
    finds_refunds: bool = True
    lists_refunds: bool
    list_proves_absence: bool
    answers_are_final: bool
    answers_are_outcomes: bool = True
    says_replayed: bool = True
    keeps_server_errors: bool = True
    keeps_refusals: bool = True
    reads_refunds: bool = True
    report_seconds: float | None = None
    partial_refunds: bool
    cancels: bool
    reads_payments: bool = False
    reads_disputes: bool = False
    reads_balance: bool = False
    takes_email: bool = False
    connects: bool = False
    currency_steps: Mapping[str, int] = field(default_factory=dict)
    currency_decimals: Mapping[str, int] = field(default_factory=dict)
    refund_window_seconds: float | None = None
    rate_per_second: float
    disputed_codes: frozenset[str] = frozenset()
    unfunded_codes: frozenset[str] = frozenset()
    low_balance_codes: frozenset[str] = frozenset()
    sources: Mapping[str, str]

    @property
    def rereads_refunds(self) -> bool:
        """Return True if a late failure whose event was lost is found only by reading each paid refund again."""
        may_change = self.creates_refunds and not self.answers_are_final
        return may_change and self.reads_refunds and not self.lists_refunds

    def rules(
        self,
        *,
        live: bool | None = None,
        key_use_seconds: float | None = None,
        quiet_seconds: float | None = None,
        refunds_on: bool = True,
    ) -> ProcessorRules:
        """Return the rules that decisions need from these facts and an account's settings.

        `live` is True if the credentials in use are live ones.
        """
        return ProcessorRules(
            key_seconds=self.key_seconds,
            key_use_seconds=key_use_seconds or self.key_use_seconds,
            quiet_seconds=quiet_seconds,
            finds_refunds=self.finds_refunds,
            lists_each_payment=self.creates_refunds and self.finds_refunds and not self.lists_refunds,
            reads_refunds=self.reads_refunds,
            report_seconds=self.report_seconds,
            list_proves_absence=self.list_proves_absence,
            refunds_on=refunds_on,
            partial_refunds=self.partial_refunds,
            window_seconds=self.refund_window_seconds,
            steps=self._coarser_steps(),
            live=live,
            disputed_codes=self.disputed_codes,
            unfunded_codes=self.unfunded_codes,
        )

    def _coarser_steps(self) -> dict[str, int]:
        """Return the steps in our minor units, by currency, that are coarser than those of all our amounts."""
        steps = {
            currency: self.currency_steps.get(currency, 1)
            * 10 ** max(0, decimal_places(currency) - self.currency_decimals.get(currency, 2))
            for currency in {*self.currency_steps, *self.currency_decimals}
        }
        return {currency: step for currency, step in steps.items() if step > smallest_step(currency)}


@dataclass(frozen=True, slots=True)
class EventHint:
    """The subject of a webhook event. It is a hint: the refund object is fetched before anything is decided.

    `leg_id` is our id in the object, None if the event does not give it: then the fetched object shows whose it is.
    """

    processor_refund_id: str
    leg_id: str | None


@dataclass(frozen=True, slots=True)
class EventSubject:
    """The object that a webhook event is about: a hint too, as the object itself is fetched before anything is decided.

    `payment_refs` are the processor's names for the payment, as far as the event gives them. For a payment, they
    include `object_id`. `is_new_payment`: the event tells that a payment was captured.
    """

    kind: Literal["refund", "dispute", "warning", "payment"]
    object_id: str
    payment_refs: tuple[str, ...] = ()
    is_new_payment: bool = False


class EventFault(StrEnum):
    """Why a webhook request is refused, as metrics and `doctor` name it."""

    BAD_SIGNATURE = "bad_signature"  # none of our secrets made it
    NO_SIGNATURE = "no_signature"  # the headers of the signature are missing or broken
    NOT_RECENT = "not_recent"  # it was signed at another time: a clock is wrong, or it is sent again
    NO_EVENT = "no_event"  # the body is not an event


class InvalidEvent(ValueError):
    """A webhook request that is no event, or that none of our secrets signed recently. `fault` says which."""

    def __init__(self, message: str, fault: EventFault = EventFault.BAD_SIGNATURE) -> None:
        super().__init__(message)
        self.fault = fault


def is_plain_id(value: object) -> TypeGuard[str]:
    """Return True for 1 to 255 printable ASCII characters: any other value is neither stored nor sent to the
    processor.
    """
    return isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= ID_LENGTH_MAX


def checked_event_name(event_id: object, kind: object) -> tuple[str, str]:
    """Return an event's id and kind. Raises `InvalidEvent` unless both are plain ids."""
    if not is_plain_id(event_id) or not is_plain_id(kind):
        raise InvalidEvent("the body is not an event", EventFault.NO_EVENT)
    return event_id, kind


def one_event(body: bytes) -> Sequence[bytes]:
    """Return the body: the request is one event."""
    return (body,)


def no_report(kind: str, body: str) -> RefundObject | None:
    """Return None: the processor can be asked for the object."""
    return None


def no_connected_account(body: bytes) -> str | None:
    """Return None: events are about the account itself."""
    return None


def no_challenge(settings: Any, query: Mapping[str, str]) -> str | None:
    """Return None: the processor does not check the address by a GET."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """How a processor's webhook requests are checked and read. All functions but `verify_event` are pure.

    - `verify_event(settings, headers, body, now)`: raise `InvalidEvent` unless the processor signed the raw `body`
      recently, for the account with these settings. Without a secret no request is valid. `headers` has lower-case
      names and no header that was sent twice; `now` is in epoch seconds. It may ask the processor, in a thread.
    - `split(body)`: the events in one verified request, each as a body of its own. The default: the body is one event.
    - `event_name(body)`: the event's own id and its kind, as `checked_event_name` returns them. Raise `InvalidEvent`
      for what is no event, or not UTF-8. The same id again is the same event.
    - `event_hint(kind, body)`: the refund object that a stored event is about, None for any other event. Never raises.
    - `event_report(kind, body)`: the refund object as a verified event tells it, for a processor that cannot be asked
      for one (`reads_refunds` is False), None for any other event. Never raises.
    - `connected_account(body)`: the connected account that an event is about, None for the account itself.
    - `answer`: the text that the processor expects as the answer. The default is JSON.
    - `challenge(settings, query)`: the answer to a GET by which the processor checks the address, or None.
    - `event_subject(kind, body)`: the refund, dispute, early fraud warning or payment that a stored event is about,
      None for any other event. Never raises.
    - `signature_header`, `signature_example`, `event_schema`: for the description of the HTTP API.
    """

    verify_event: Callable[[Any, Mapping[str, str], bytes, float], None]
    split: Callable[[bytes], Sequence[bytes]] = one_event
    event_name: Callable[[bytes], tuple[str, str]]
    event_hint: Callable[[str, str], EventHint | None]
    event_subject: Callable[[str, str], EventSubject | None]
    event_report: Callable[[str, str], RefundObject | None] = no_report
    connected_account: Callable[[bytes], str | None] = no_connected_account
    answer: str | None = None
    challenge: Callable[[Any, Mapping[str, str]], str | None] = no_challenge
    signature_header: str
    signature_example: str
    event_schema: Mapping[str, Any]


def accept_any_id(processor_payment_id: str) -> None:
    """Accept every payment id: the processor has no form of its own."""


def do_nothing() -> None:
    """Import nothing ahead."""


class AccountSettings(BaseModel):
    """The settings of one account at a processor. An adapter adds its own fields to them.

    `CREDENTIALS` are the fields without which the processor cannot be called. `api_base` is the address of another
    server than the processor's own. `WEBHOOK_SETTING` is the field without which no webhook is accepted, as `doctor`
    names it. `key_life_seconds` and `quiet_seconds` replace the settings of these names for the
    account. `refunds` is "off" if nothing is sent over this account: its earlier refunds are
    still followed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    CREDENTIALS: ClassVar[tuple[str, ...]] = ()
    WEBHOOK_SETTING: ClassVar[str] = "webhook_secret"

    api_base: str | None = None
    webhook_secret: SecretStr | None = None
    rate_per_second: Number | None = Field(None, ge=0, le=10_000)
    key_life_seconds: Number | None = Field(None, gt=0, le=366 * 86_400)
    quiet_seconds: Number | None = Field(None, gt=0, le=366 * 86_400)
    refunds: Literal["on", "off"] = "on"

    @field_validator("api_base")
    @classmethod
    def _an_http_url(cls, value: str | None) -> str | None:
        return None if value is None else checked_http_url(value)

    @property
    def has_access(self) -> bool:
        """Return True if the processor can be called. A process that only takes webhooks needs no credentials."""
        return all(getattr(self, name) is not None for name in self.CREDENTIALS)

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """Return the accepted webhook secrets, several during a rotation; empty if none is set."""
        return () if self.webhook_secret is None else tuple(listed(self.webhook_secret.get_secret_value()))


def unknown_mode(settings: Any) -> bool | None:
    """Return None: the credentials do not show whether they are live or for tests."""
    return None


def no_address(settings: AccountSettings) -> str:
    """Return the address of the settings, or an empty text: no server is called."""
    return settings.api_base or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessorEntry:
    """An adapter as the registry knows it. The module that defines it imports no SDK and no HTTP client.

    - `settings`: the fields of an account, a subclass of `AccountSettings`.
    - `make(name, settings, timeout_seconds)`: the adapter of the account `name`, which has its credentials.
      `timeout_seconds` is the outer limit of one call. Called after the fork; imports the adapter's module only now.
    - `preload()`: import the adapter's module before the fork, so that all worker processes share it.
    - `address(settings)`: the URL of the server that `make`'s adapter calls.
    - `extra`: the extra that installs what the adapter imports; "" if it needs none.
    - `capabilities_of(settings)`: the table of an account, where its settings change it, or None for `capabilities`.
      `capabilities` is then the table of an account without such settings: the most careful one.
    - `permissions`, `events`: what the credentials must be allowed, and the events to subscribe to, for people.
    - `explained_by`: codes of this processor → the code of ours (docs/runbook.md) whose text explains them to people.
      Any other code is shown with the processor's own message.
    - `live(settings)`: whether its objects must be live ones, or None if the credentials do not show it.
    - `check_payment_id(id)`: raise ValueError, without the id in it, for an id that the processor cannot have.
    - `webhooks`: how its events are read, or None if it sends no events.
    - `payouts`: its payouts to payees, or None if it pays none out.
    """

    name: str
    capabilities: Capabilities
    capabilities_of: Callable[[Any], Capabilities] | None = None
    settings: type[AccountSettings] = AccountSettings
    make: Callable[[str, Any, float], Processor]
    preload: Callable[[], object] = do_nothing
    address: Callable[[Any], str] = no_address
    extra: str = ""
    permissions: str = ""
    events: str = ""
    explained_by: Mapping[str, str] = field(default_factory=dict)
    live: Callable[[Any], bool | None] = unknown_mode
    check_payment_id: Callable[[str], None] = accept_any_id
    webhooks: Webhooks | None = None
    payouts: PayoutEntry | None = None
