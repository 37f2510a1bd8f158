"""The accounts at payment processors: each has a name, an adapter and its own settings.

An account is named `PROCESSOR` or `PROCESSOR:LABEL`. Payments name their processor, and an account where the processor
has several. Rate limit, circuit, pause, listing, webhooks and reconciliation are each account's own.
"""

from __future__ import annotations

import functools
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from refund_worker.domain.account_names import PAYOUT, connected_of, platform_of, processor_of
from refund_worker.domain.decision import ProcessorRules
from refund_worker.domain.payouts.decision import RouteRules
from refund_worker.errors import BadSettings
from refund_worker.processors import registry
from refund_worker.processors.base import AccountSettings, Capabilities, HasConnectedAccounts, Processor, ProcessorEntry
from refund_worker.processors.payout_routes import PayoutRoute

if TYPE_CHECKING:
    from refund_worker.settings import Settings

# The account that the variables `STRIPE_…` describe.
SHORT_FORM: Final = "stripe"
MANUAL: Final = "manual"
# The kill switch's name for all accounts, which could not be paused alone, and the name of payouts as a processor.
RESERVED: Final = frozenset({"all", PAYOUT})
ACCOUNT_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}(:[a-z0-9][a-z0-9_-]{0,39})?")
CONNECTED_MAX: Final = 1_000
FILE_SETTING: Final = "REFUND_WORKER_PROCESSORS_FILE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One account at a payment processor: its name, its adapter's entry, and its settings.

    `is_short_form` is True for the one that the variables `STRIPE_…` describe.
    """

    name: str
    entry: ProcessorEntry
    settings: AccountSettings
    is_short_form: bool = False

    @property
    def processor(self) -> str:
        """Return what payments call the processor."""
        return processor_of(self.name)

    @property
    def capabilities(self) -> Capabilities:
        """Return the capability table of the account: the adapter's, unless the account's settings change it."""
        of = self.entry.capabilities_of
        return self.entry.capabilities if of is None else of(self.settings)

    @property
    def has_access(self) -> bool:
        """Return True if the account's credentials are set."""
        return self.settings.has_access

    @property
    def is_called(self) -> bool:
        """Return True if a processor is called for the account: it has credentials, and they are set."""
        return bool(self.entry.settings.CREDENTIALS) and self.has_access

    @property
    def rate_per_second(self) -> float:
        """Return the limit of calls per second; 0 for no limit."""
        rate = self.settings.rate_per_second
        return self.capabilities.rate_per_second if rate is None else rate

    @property
    def rules(self) -> ProcessorRules:
        """Return the rules that decisions need."""
        return self.capabilities.rules(
            live=self.entry.live(self.settings),
            key_use_seconds=self.settings.key_life_seconds,
            quiet_seconds=self.settings.quiet_seconds,
            refunds_on=self.settings.refunds == "on",
        )

    @property
    def payout_rules(self) -> ProcessorRules:
        """Return the rules about calls for the payouts of the account, which pays out."""
        assert self.entry.payouts is not None
        own = self.settings
        return self.entry.payouts.capabilities.rules(
            live=self.entry.live(own), key_use_seconds=own.key_life_seconds, quiet_seconds=own.quiet_seconds
        )

    def setting(self, field: str) -> str:
        """Return how people name one of the account's settings."""
        if self.is_short_form:
            return f"REFUND_WORKER_STRIPE_{field.upper()}"
        return f'{field} of ["{self.name}"] in {FILE_SETTING}'

    def make(self, timeout_seconds: float) -> Processor:
        """Return the adapter. `timeout_seconds` is the outer limit of one call."""
        return self.entry.make(self.name, self.settings, timeout_seconds)


class Adapters(Mapping[str, Processor]):
    """The adapters of all accounts that can be called, by account.

    That of a connected account is made when it is asked for, and shares its platform's connections. The oldest
    unused ones are dropped.
    """

    def __init__(self, adapters: Mapping[str, Processor]) -> None:
        self._adapters = dict(adapters)
        self._connected: OrderedDict[str, Processor] = OrderedDict()

    def __getitem__(self, name: str) -> Processor:
        adapter, connected = self._adapters[platform_of(name)], connected_of(name)
        if connected is None:
            return adapter
        if name not in self._connected:
            if not isinstance(adapter, HasConnectedAccounts):
                raise KeyError(name)
            self._connected[name] = adapter.connected(connected, name)
            if len(self._connected) > CONNECTED_MAX:
                self._connected.popitem(last=False)
        self._connected.move_to_end(name)
        return self._connected[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._adapters)

    def __len__(self) -> int:
        return len(self._adapters)


class Accounts(Mapping[str, Account]):
    """All accounts of an installation by name, in the order of the settings; `manual` is always among them.

    A connected account is found by its name too, with the settings of its platform. It is not counted or listed.
    """

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self._by_name = dict(accounts)

    def __getitem__(self, name: str) -> Account:
        account = self._by_name[platform_of(name)]
        if connected_of(name) is None:
            return account
        if not account.capabilities.connects:
            raise KeyError(name)
        return replace(account, name=name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def entry_of(self, name: str) -> ProcessorEntry | None:
        """Return the adapter's entry of an account, or None for an account that this installation does not have."""
        account = self.get(name)
        return None if account is None else account.entry

    def capabilities_of(self, name: str) -> Capabilities | None:
        """Return the capability table of an account, or None for an account that this installation does not have."""
        account = self.get(name)
        return None if account is None else account.capabilities

    def of_processor(self, processor: str) -> tuple[str, ...]:
        """Return the names of the accounts at this processor."""
        return tuple(name for name, account in self.items() if account.processor == processor)

    def switched_by(self, name: str) -> tuple[str, ...]:
        """Return what a pause of `name` stops: itself, and all accounts at this processor or with this adapter.

        An account with a label is paused alone.
        """
        found = (each for each, its in self.items() if name in (its.processor, its.entry.name))
        return tuple(dict.fromkeys((name, *found)))

    def with_lists(self) -> tuple[str, ...]:
        """Return the names of the accounts whose refunds are listed, and so are synchronised and reconciled."""
        return tuple(name for name, account in self.items() if account.capabilities.lists_refunds)

    def called(self) -> tuple[str, ...]:
        """Return the names of the accounts at whose processor calls are made."""
        return tuple(name for name, account in self.items() if account.is_called)

    def without_lists(self) -> tuple[str, ...]:
        """Return the names of the accounts that are called and whose refunds are not listed."""
        return tuple(name for name in self.called() if not self.lists(name))

    def to_reread(self) -> tuple[str, ...]:
        """Return the names of the accounts whose paid refunds are read one by one, because there is no list of them."""
        return tuple(name for name in self.called() if self[name].capabilities.rereads_refunds)

    def lists(self, name: str) -> bool:
        """Return True if the refunds of this account are listed; a connected account is one too."""
        capabilities = self.capabilities_of(name)
        return capabilities is not None and capabilities.lists_refunds

    def with_webhooks(self) -> tuple[str, ...]:
        """Return the names of the accounts that send events."""
        return tuple(name for name, account in self.items() if account.entry.webhooks is not None)

    def with_balances(self) -> tuple[str, ...]:
        """Return the names of the accounts that can be called and whose balance can be read."""
        return tuple(name for name, its in self.items() if its.capabilities.reads_balance and its.has_access)

    def can_be_sent(self, name: str, processor_payment_id: str) -> bool:
        """Return True if the account can have a payment of this id. An account that is not here takes any id."""
        entry = self.entry_of(name)
        try:
            if entry is not None:
                entry.check_payment_id(processor_payment_id)
        except ValueError:
            return False
        return True

    @property
    def rates(self) -> dict[str, float]:
        """Return the limit of calls per second of each account; 0 is no limit."""
        return {name: account.rate_per_second for name, account in self.items()}

    @property
    def lowest_rate(self) -> float:
        """Return the lowest limit of calls per second that any account has; 0 if none has a limit."""
        return min((rate for rate in self.rates.values() if rate > 0), default=0.0)

    @property
    def rules(self) -> dict[str, ProcessorRules]:
        """Return the rules that decisions need for each account."""
        return {name: account.rules for name, account in self.items()}

    def make_processors(self, timeout_seconds: float, more: Mapping[str, Processor] | None = None) -> Adapters:
        """Return the adapters of all accounts that can be called, and `more`. Close them on the loop that used them."""
        made = {name: account.make(timeout_seconds) for name, account in self.items() if account.has_access}
        return Adapters({**made, **(more or {})})

    @property
    def payout_rules(self) -> dict[str, ProcessorRules]:
        """Return the rules about calls for payouts, for each account that pays out."""
        return {name: account.payout_rules for name, account in self.items() if account.entry.payouts is not None}

    @property
    def routes(self) -> dict[str, RouteRules]:
        """Return the rules of payouts for each account that pays out."""
        return {
            name: account.entry.payouts.capabilities.route()
            for name, account in self.items()
            if account.entry.payouts is not None
        }

    def make_routes(self, timeout_seconds: float) -> dict[str, PayoutRoute]:
        """Return the routes for payouts of all accounts that have one and can be called. Close them as the adapters."""
        return {
            name: account.entry.payouts.make(name, account.settings, timeout_seconds)
            for name, account in self.items()
            if account.entry.payouts is not None and account.has_access
        }

    def preload_adapters(self) -> None:
        """Import the adapters of all accounts that can be called, for processes that are forked afterwards."""
        for account in self.values():
            if account.has_access:
                account.entry.preload()


@functools.lru_cache(maxsize=16)
def accounts_of(settings: Settings) -> Accounts:
    """Return the accounts that the settings describe: those of `PROCESSORS_FILE`, `stripe` by its short form, `manual`.

    Raises `BadSettings` naming the account and the field, never the value.
    """
    tables: dict[str, Any] = settings.account_tables
    short = SHORT_FORM not in tables and (not tables or settings.has_stripe)
    if short:
        tables = {SHORT_FORM: _short_form(settings)} | tables
    elif SHORT_FORM in tables and settings.has_stripe:
        raise BadSettings(f'REFUND_WORKER_STRIPE_… and ["stripe"] in {FILE_SETTING} describe one account: keep one')
    described = tables if MANUAL in tables else tables | {MANUAL: {}}
    found = {
        name: _account(name, table, is_short_form=short and name == SHORT_FORM) for name, table in described.items()
    }
    for account in found.values():
        _check_safe(account, settings)
    return Accounts(found)


def default_accounts() -> Accounts:
    """Return the accounts of an installation without settings: `stripe` without access, and `manual`."""
    return Accounts({name: _account(name, {}, is_short_form=name == SHORT_FORM) for name in (SHORT_FORM, MANUAL)})


def _short_form(settings: Settings) -> dict[str, Any]:
    given = {
        "api_key": settings.stripe_api_key,
        "api_base": settings.stripe_api_base,
        "webhook_secret": settings.stripe_webhook_secret,
        "rate_per_second": settings.stripe_rate_per_second,
    }
    return {name: value for name, value in given.items() if value is not None}


def _account(name: str, table: Mapping[str, Any], *, is_short_form: bool = False) -> Account:
    place = f'{FILE_SETTING}, ["{name}"]'
    if not ACCOUNT_NAME.fullmatch(name) or processor_of(name) in RESERVED:
        what = "an account is named PROCESSOR or PROCESSOR:LABEL, such as stripe or stripe:old, and not all"
        raise BadSettings(f"{place}: {what}")
    fields = dict(table)
    entry = _adapter(place, fields.pop("adapter", processor_of(name)))
    try:
        settings = entry.settings(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        field, told = str(first["loc"][0]) if first["loc"] else "", first["msg"].removeprefix("Value error, ")
        raise BadSettings(f"{place}{field and ', '}{field}: {_in_words(first['type'], told, entry)}") from None
    missing = [field for field in entry.settings.CREDENTIALS if getattr(settings, field) is None]
    if missing and len(missing) < len(entry.settings.CREDENTIALS):
        raise BadSettings(f"{place}: {' and '.join(missing)} must be set too")
    return Account(name=name, entry=entry, settings=settings, is_short_form=is_short_form)


def _in_words(kind: str, told: str, entry: ProcessorEntry) -> str:
    if kind == "extra_forbidden":
        known = ", ".join(("adapter", *entry.settings.model_fields))
        return f"is no setting of an account with the adapter {entry.name}; it may have {known}"
    return told


def _adapter(place: str, name: object) -> ProcessorEntry:
    known = ", ".join(registry.names())
    if not isinstance(name, str):
        raise BadSettings(f"{place}, adapter: must be one of {known}, or the module of another adapter")
    try:
        entry = registry.find_entry(name)
    except (ImportError, ValueError) as error:
        raise BadSettings(f"{place}, adapter: {error}") from None
    if entry is None:
        raise BadSettings(f"{place}: there is no adapter {name}. Set adapter to one of {known}, or to a module")
    return entry


def _check_safe(account: Account, settings: Settings) -> None:
    """Raise `BadSettings` if real money would move outside production, or live credentials go to a test's server.

    The settings check the short form themselves, so that its errors name the variables.
    """
    place = f'{FILE_SETTING}, ["{account.name}"]'
    live, base = account.entry.live(account.settings), account.settings.api_base
    if live and settings.environment != "production":
        raise BadSettings(f"{place}: its credentials are live ones: they need REFUND_WORKER_ENVIRONMENT=production")
    if live and base and "api_base" not in account.entry.settings.CREDENTIALS:
        raise BadSettings(f"{place}, api_base: is for tests: live credentials are never sent there")
