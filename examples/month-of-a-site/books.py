"""The site's own books: what it sold, what performers earned, and what it gave back. They know nothing of the program.

Amounts are in minor units of USD, times in epoch seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Performer:
    """A performer, paid over `account`. `destinations` are all that were ever named: accounts, or addresses."""

    payee_id: str
    account: str
    credits_a_minute: int
    destinations: list[str] = field(default_factory=list)
    works: bool = True

    @property
    def destination(self) -> str:
        """The destination of now."""
        return self.destinations[-1]


@dataclass
class Payment:
    """Money that a customer paid, and the credits it bought. `reference` is its id at the processor."""

    payment_id: str
    customer_id: str
    account: str
    reference: str
    amount_minor: int
    credits: int
    at: float


@dataclass
class Chat:
    """A private chat: a spend of the customer's, and the performer's share of it. `returned` are credits given back."""

    transaction_id: str
    customer_id: str
    payee_id: str
    credits: int
    share_minor: int
    at: float
    available_at: float
    returned: int = 0
    asked_back: bool = False

    @property
    def clawed_back_minor(self) -> int:
        """What the performer gives back of the share: in proportion to the credits, rounded half up."""
        return (2 * self.share_minor * self.returned + self.credits) // (2 * self.credits)


@dataclass
class Customer:
    """A customer, who pays over `account`. `credits` are what the site thinks that the customer can spend."""

    customer_id: str
    account: str
    credits: int = 0
    blocked: bool = False


@dataclass
class Books:
    """All books together. `counts` counts what happened."""

    month: str
    performers: dict[str, Performer] = field(default_factory=dict)
    customers: dict[str, Customer] = field(default_factory=dict)
    payments: dict[str, Payment] = field(default_factory=dict)
    chats: dict[str, Chat] = field(default_factory=dict)
    topped_up_minor: int = 0
    now: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)

    def count(self, what: str, number: int = 1) -> None:
        """Count something that happened."""
        self.counts[what] = self.counts.get(what, 0) + number

    def by_performer(self, amount: Callable[[Chat], int]) -> dict[str, int]:
        """Return a sum over the chats of each performer."""
        sums = dict.fromkeys(self.performers, 0)
        for chat in self.chats.values():
            sums[chat.payee_id] += amount(chat)
        return sums

    def save(self, folder: Path) -> None:
        """Write the books to a file."""
        _file(folder).write_text(json.dumps(asdict(self)), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Books:
        """Read the books from the file. Raises `OSError` if it is not there."""
        stored = json.loads(_file(folder).read_text("utf-8"))
        made = cls(stored["month"], topped_up_minor=stored["topped_up_minor"], now=stored["now"])
        made.counts.update(stored["counts"])
        for name, kind in (("performers", Performer), ("customers", Customer), ("payments", Payment), ("chats", Chat)):
            getattr(made, name).update({key: kind(**fields) for key, fields in stored[name].items()})
        return made


def is_kept(folder: Path) -> bool:
    """Return True if an earlier run kept its books in the folder, or began to."""
    return any(folder.glob("*.json*"))


def _file(folder: Path) -> Path:
    return folder / "site-books.json"
