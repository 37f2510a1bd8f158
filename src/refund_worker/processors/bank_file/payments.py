"""One payment of a file for the bank, the account it is paid from, and the ids that travel with them.

Bank numbers are in no repr and in no error: an error names the payment by its id.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from refund_worker.domain.ids import OWN_ID_DIGITS
from refund_worker.domain.money import decimal_places
from refund_worker.domain.payouts.destination import Destination, read_destination

SEPA_CURRENCY: Final = "EUR"
SEPA_AMOUNT_MAX: Final = 99_999_999_999  # 999,999,999.99 euros (EPC132-08, not read, known)
_HASH_LETTERS: Final = 32
# The longest readable id has exactly the 35 characters that a bank carries.
_KEY = re.compile(rf"([a-z]{{2}})_({OWN_ID_DIGITS})-([0-9]{{1,2}}):([0-9]{{1,3}})")
_FILE = re.compile(rf"([a-z]{{2,4}})_({OWN_ID_DIGITS})")
_END_TO_END_ID = re.compile(rf"[a-z]{{2}}{OWN_ID_DIGITS}-[0-9]{{1,2}}-[0-9]{{1,3}}|h-[a-z2-7]{{{_HASH_LETTERS}}}")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,33}[A-Za-z0-9])?")


class BadPayment(ValueError):
    """A payment that cannot be in a file. `end_to_end_id` names it; the text never has a bank number or a name."""

    def __init__(self, end_to_end_id: str, message: str) -> None:
        super().__init__(f"payment {end_to_end_id}: {message}")
        self.end_to_end_id = end_to_end_id


class BadFile(ValueError):
    """A file that cannot be made, whatever its payments are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BankPayment:
    """One transfer: `amount_minor` (minor units) of `currency` to a `destination` of the kind `bank`."""

    end_to_end_id: str
    destination: Destination
    amount_minor: int
    currency: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Debtor:
    """The account that the bank pays from: its owner's name as the bank has it, its IBAN, and the bank's BIC."""

    name: str
    iban: str = field(repr=False)
    bic: str | None = None


def end_to_end_id(key: str) -> str:
    """Return the id of an attempt's key that a bank carries to the payee and back.

    It has at most 35 letters, digits and hyphens (Max35Text of ISO 20022; all banks keep these characters). A key of
    ours keeps its parts, so no two of them have the same id. Any other key is hashed (160 bits).

    >>> end_to_end_id("po_019aafc2d1a05c1e7f00aa11b2-1:1")
    'po019aafc2d1a05c1e7f00aa11b2-1-1'
    """
    match = _KEY.fullmatch(key)
    return _hashed(key) if match is None else f"{match[1]}{match[2]}-{match[3]}-{match[4]}"


def is_end_to_end_id(text: str) -> bool:
    """Return True if `end_to_end_id` can have made this id."""
    return _END_TO_END_ID.fullmatch(text) is not None


def message_id(file_id: str) -> str:
    """Return the id of a file that a bank names in its answers: at most 35 letters, digits and hyphens.

    >>> message_id("bf_019aafc2d1a05c1e7f00aa11b2")
    'bf019aafc2d1a05c1e7f00aa11b2'
    """
    match = _FILE.fullmatch(file_id)
    return _hashed(file_id) if match is None else f"{match[1]}{match[2]}"


def is_message_id_of(text: str, file_id: str) -> bool:
    """Return True if a bank's answer names this file by `text`. Earlier versions hashed the id of each file."""
    return text in (message_id(file_id), _hashed(file_id))


def is_message_id(text: str) -> bool:
    """Return True if a bank takes the text as the id of a file."""
    return _MESSAGE_ID.fullmatch(text) is not None


def payment_of(body: str) -> BankPayment:
    """Return the payment that the route froze in `body`."""
    read = json.loads(body)
    return BankPayment(
        end_to_end_id=read["end_to_end_id"],
        destination=read_destination(read["destination"]),
        amount_minor=read["amount"],
        currency=read["currency"],
        description=read["description"],
    )


def decimal_text(amount_minor: int, currency: str) -> str:
    """Return an amount as banks write it, such as `1250.00`: a point and no separators of thousands."""
    places = decimal_places(currency)
    return f"{Decimal(amount_minor).scaleb(-places):.{places}f}"


def _hashed(text: str) -> str:
    digest = base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()
    return f"h-{digest[:_HASH_LETTERS]}"
