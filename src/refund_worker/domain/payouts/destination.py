"""Destinations of a payee's money. A destination is checked for syntax here; only its processor knows if it works.

Neither accounts nor numbers are shown whole: `masked` is for pages, logs and lists, and `mask_in` for texts of
processors, which may repeat a destination. `as_fields` is the whole destination, for the processor and for admins only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from refund_worker.domain.account_names import CONNECTED_ID


class DestinationKind(StrEnum):
    """The kinds of destinations. Each route can pay to some of them."""

    STRIPE_ACCOUNT = "stripe_account"
    PAYPAL = "paypal"
    BANK = "bank"
    MANUAL = "manual"

    @property
    def is_account(self) -> bool:
        """Return True if the destination is an account of the payee's at the processor, with a balance of its own."""
        return self is DestinationKind.STRIPE_ACCOUNT


TEXT_MAX: Final = 500
SHOWN_DIGITS: Final = 4
MASKED_MANUAL: Final = "paid by a person"  # in place of a masked destination: only its person knows the way
_ACCOUNT = re.compile(CONNECTED_ID)
_EMAIL = re.compile(r"[^@\s<>,;\"]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,188}[A-Za-z0-9])?\.[A-Za-z]{2,30}")
_PAYER = re.compile(r"[A-Z0-9]{13}")
_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}")
_BIC = re.compile(r"[A-Z]{6}[A-Z0-9]{2}(?:[A-Z0-9]{3})?")
_IBAN_IN_TEXT = re.compile(r"\b[A-Z]{2}[0-9]{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,3})?)\b")
_NUMBER = re.compile(r"[0-9A-Za-z]{4,34}")
_ROUTING = re.compile(r"[0-9A-Za-z-]{3,20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One destination. Only the fields of its kind are set.

    - `stripe_account`: `account`, the id of a connected account.
    - `paypal`: `email` or `payer_id`.
    - `bank`: `iban`, or `account_number` with `routing`; `holder` is the name on the account, `bic` is optional.
    - `manual`: `text`, for the person who pays.
    """

    kind: DestinationKind
    account: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    payer_id: str | None = field(default=None, repr=False)
    iban: str | None = field(default=None, repr=False)
    bic: str | None = None
    account_number: str | None = field(default=None, repr=False)
    routing: str | None = None
    holder: str | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)

    def as_fields(self) -> dict[str, str]:
        """Return the whole destination in the form of the API: the fields that are set, and `kind`."""
        found = {"kind": str(self.kind)}
        for ours, outside in _OUTSIDE.items():
            if (value := getattr(self, ours)) is not None:
                found[outside] = value
        return found

    @property
    def masked(self) -> str:
        """Return a text that people recognize the destination by, without a number that can be used.

        >>> Destination(kind=DestinationKind.BANK, iban="DE89370400440532013000", holder="M. Example").masked
        'bank DE•• •••• 3000'
        """
        match self.kind:
            case DestinationKind.STRIPE_ACCOUNT:
                return f"Stripe account {masked_account(self.account or '')}"
            case DestinationKind.PAYPAL:
                return f"PayPal {_masked_email(self.email) if self.email else _tail(self.payer_id or '')}"
            case DestinationKind.BANK if self.iban:
                return f"bank {_masked_iban(self.iban)}"
            case DestinationKind.BANK:
                return f"bank account {_tail(self.account_number or '')}"
            case _:
                return MASKED_MANUAL


# The destination of a payee who was erased. No route sends money to it.
ERASED_TEXT: Final = "erased"
ERASED_DESTINATION: Final = Destination(kind=DestinationKind.MANUAL, text=ERASED_TEXT)

# Field → its name in the API.
_OUTSIDE: Final[Mapping[str, str]] = {
    "account": "account",
    "email": "email",
    "payer_id": "payer_id",
    "iban": "iban",
    "bic": "bic",
    "account_number": "account",
    "routing": "routing",
    "holder": "holder",
    "text": "text",
}


class BadDestination(ValueError):
    """A destination that no processor would take. `field` names the part, and the text never has its value."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_destination(fields: Mapping[str, str]) -> Destination:
    """Return the destination of the API's form: `kind` and the fields of that kind.

    Blanks in an IBAN are left out, and its letters become capitals. Raises `BadDestination`.
    """
    try:
        kind = DestinationKind(fields.get("kind", ""))
    except ValueError:
        raise BadDestination("kind", f"must be one of {', '.join(DestinationKind)}") from None
    given = {name: value for name, value in fields.items() if name != "kind"}
    unknown = sorted(given.keys() - _FIELDS[kind])
    if unknown:
        raise BadDestination(unknown[0], f"is no field of a {kind} destination: it has {', '.join(_FIELDS[kind])}")
    return _READERS[kind](given)


_FIELDS: Final[Mapping[DestinationKind, tuple[str, ...]]] = {
    DestinationKind.STRIPE_ACCOUNT: ("account",),
    DestinationKind.PAYPAL: ("email", "payer_id"),
    DestinationKind.BANK: ("iban", "bic", "account", "routing", "holder"),
    DestinationKind.MANUAL: ("text",),
}


def _stripe_account(given: Mapping[str, str]) -> Destination:
    account = _matching(given, "account", _ACCOUNT, "must be the id of a connected account, such as acct_1Abc")
    return Destination(kind=DestinationKind.STRIPE_ACCOUNT, account=account)


def _paypal(given: Mapping[str, str]) -> Destination:
    if ("email" in given) == ("payer_id" in given):
        raise BadDestination("email", "give either email or payer_id")
    if "email" in given:
        email = _matching(given, "email", _EMAIL, "is no e-mail address")
        if len(email) > 127:  # PayPal's limit of a receiver
            raise BadDestination("email", "must have at most 127 characters")
        return Destination(kind=DestinationKind.PAYPAL, email=email)
    payer_id = _matching(given, "payer_id", _PAYER, "must be 13 capital letters and digits")
    return Destination(kind=DestinationKind.PAYPAL, payer_id=payer_id)


def _bank(given: Mapping[str, str]) -> Destination:
    holder = given.get("holder", "").strip()
    if not holder or len(holder) > 70 or not holder.isprintable():
        raise BadDestination("holder", "must be the name on the account, 1 to 70 characters")
    if ("iban" in given) == ("account" in given):
        raise BadDestination("iban", "give either iban, or account and routing")
    if "iban" not in given:
        number = _matching(given, "account", _NUMBER, "must be 4 to 34 letters and digits")
        routing = _matching(given, "routing", _ROUTING, "must be the bank's code, 3 to 20 letters and digits")
        return Destination(kind=DestinationKind.BANK, account_number=number, routing=routing, holder=holder)
    if "routing" in given:
        raise BadDestination("routing", "belongs to an account without an IBAN")
    iban = "".join(given["iban"].split()).upper()
    if not _IBAN.fullmatch(iban) or not is_valid_iban(iban):
        raise BadDestination("iban", "is no valid IBAN: compare it with the bank's letter")
    bic = _matching(given, "bic", _BIC, "must be 8 or 11 capital letters and digits") if "bic" in given else None
    return Destination(kind=DestinationKind.BANK, iban=iban, bic=bic, holder=holder)


def _manual(given: Mapping[str, str]) -> Destination:
    text = given.get("text", "").strip()
    if not text or len(text) > TEXT_MAX:
        raise BadDestination("text", f"must say how the payee is paid, 1 to {TEXT_MAX} characters")
    return Destination(kind=DestinationKind.MANUAL, text=text)


_READERS: Final = {
    DestinationKind.STRIPE_ACCOUNT: _stripe_account,
    DestinationKind.PAYPAL: _paypal,
    DestinationKind.BANK: _bank,
    DestinationKind.MANUAL: _manual,
}


def is_valid_iban(iban: str) -> bool:
    """Return True if the check digits of an IBAN without blanks are right (ISO 13616: the remainder by 97 is 1).

    >>> is_valid_iban("DE89370400440532013000"), is_valid_iban("DE88370400440532013000")
    (True, False)
    """
    turned = iban[4:] + iban[:4]
    return int("".join(str(int(letter, 36)) for letter in turned)) % 97 == 1


def _matching(given: Mapping[str, str], name: str, form: re.Pattern[str], message: str) -> str:
    value = given.get(name, "").strip()
    if not form.fullmatch(value):
        raise BadDestination(name, message)
    return value


def masked_account(account: str) -> str:
    """Return the id of a connected account without a number that can be used.

    >>> masked_account("acct_1AbCdEfGhIj")
    'acct_•••• GhIj'
    """
    prefix, _, number = account.partition("_")
    return f"{prefix}_{_tail(number)}"


def mask_in(text: str, destination: Destination | None = None) -> str:
    """Return a text with what names a destination masked, for texts that a processor wrote.

    `destination` is the one that the text may repeat. Ids of connected accounts and IBANs are masked in any case.

    >>> mask_in("No such destination: 'acct_1AbCdEfGhIj'")
    "No such destination: 'acct_•••• GhIj'"
    """
    for value, shown in _numbers_of(destination):
        if value.casefold() in text.casefold():
            whole = rf"(?<!\w){re.escape(value)}(?!\w)"
            text = re.sub(whole, lambda _, instead=shown: instead, text, flags=re.IGNORECASE)  # type: ignore[misc]
    text = _ACCOUNT.sub(lambda found: masked_account(found.group()), text)
    return _IBAN_IN_TEXT.sub(_without_iban, text)


def _numbers_of(destination: Destination | None) -> Iterator[tuple[str, str]]:
    """Yield (value, mask) of what a destination can be recognized by. Accounts and IBANs are recognized by their form.

    A number of a bank, an e-mail address and an id of PayPal have no form of their own.
    """
    if destination is not None:
        if destination.email is not None:
            yield destination.email, _masked_email(destination.email)
        for number in (destination.payer_id, destination.account_number, destination.iban):
            if number is not None:
                yield number, _tail(number)


def _without_iban(found: re.Match[str]) -> str:
    number = found.group().replace(" ", "")
    return _masked_iban(number) if is_valid_iban(number) else found.group()


def _masked_iban(iban: str) -> str:
    return f"{iban[:2]}•• {_tail(iban)}"


def _tail(number: str) -> str:
    """Return the last characters, at most half of them: of a single one nothing is shown."""
    shown = min(SHOWN_DIGITS, len(number) // 2)
    return f"•••• {number[len(number) - shown :]}".rstrip()


def _masked_email(email: str) -> str:
    name, _, domain = email.partition("@")
    return f"{name[:1]}•••@{domain}"
