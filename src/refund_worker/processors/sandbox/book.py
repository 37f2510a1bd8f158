"""The sandbox's book: payments, refunds, disputes, idempotency keys and scheduled work. No network, no faults.

The book is the sum of its records. `commit` writes records to the journal and only then applies them. Opening a book
applies the same records again, so a restart keeps everything that a client ever saw.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from refund_worker.processors.local_server.journal import Journal
from refund_worker.processors.sandbox.account_book import PLATFORM, AccountBook
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.records import Refund
from refund_worker.processors.sandbox.refund_objects import awaits_reference

# The records that belong to no account.
OF_ALL_ACCOUNTS = frozenset({"opened", "clock", "key", "later", "done"})


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An idempotency key with the request it belongs to and the answer it replays. `created` is in epoch seconds."""

    endpoint: str
    fingerprint: str
    status: int
    body: str
    created: float


class Book(AccountBook):
    """The sandbox's whole state: the platform's own account, and the connected ones.

    With `path=None` the book exists in memory only.

    Raises `BookError` if the file is damaged or another process has it open.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        seed: int | None = None,
        fsync: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(PLATFORM)
        self._clock = clock
        self.clock_offset = 0.0
        self.seed = ""
        self.keys: dict[tuple[str, str], StoredKey] = {}
        # Called with the id of an unregistered payment and its account; returns its record, or None.
        self.learn: Callable[[str, str], JsonObject | None] | None = None
        self._connected: dict[str, AccountBook] = {}
        self._references: list[tuple[int, str, str]] = []
        self._later: list[tuple[float, int, JsonObject]] = []
        self._later_done: set[int] = set()
        self._later_count = 0
        self._journal = Journal(path, fsync=fsync) if path is not None else None
        if self._journal is not None:
            for records in self._journal.replay():
                for record in records:
                    self._apply(record)
        if not self.seed:
            chosen = f"seed {seed}" if seed is not None else secrets.token_hex(8)
            self.commit({"kind": "opened", "seed": chosen})

    # -- time ---------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Return the sandbox's time in epoch seconds: the real clock plus what `/_clock` advanced it by."""
        return self._clock() + self.clock_offset

    def due_at(self) -> float | None:
        """Return when the next scheduled item is due (the sandbox's epoch seconds), or None if nothing is scheduled."""
        while self._later and self._later[0][1] in self._later_done:
            self._later_done.discard(heapq.heappop(self._later)[1])
        return self._later[0][0] if self._later else None

    def next_due(self) -> tuple[int, JsonObject] | None:
        """Return number and content of the earliest item that is due, or None if there is no such item.

        Commit `done(number)` together with the item's effect.
        """
        due = self.due_at()
        if due is None or due > self.now():
            return None
        return self._later[0][1], self._later[0][2]

    def await_reference(self, second: int, refund_id: str, account: str) -> None:
        """Note that a refund waits for its trace reference since this second."""
        heapq.heappush(self._references, (second, refund_id, account))

    def reference_awaited_since(self) -> int | None:
        """Return since when the refund that has waited longest waits for its trace reference, or None."""
        while self._references:
            second, refund_id, account = self._references[0]
            if awaits_reference(self.of(account).refunds[refund_id].object):
                return second
            heapq.heappop(self._references)
        return None

    def take_references(self, until: float, count_max: int) -> list[tuple[Refund, str]]:
        """Return up to `count_max` refunds that wait since `until` or longer, with their account.

        Commit the reference of each.
        """
        taken: list[tuple[Refund, str]] = []
        while len(taken) < count_max and (since := self.reference_awaited_since()) is not None and since <= until:
            _, refund_id, account = heapq.heappop(self._references)
            taken.append((self.of(account).refunds[refund_id], account))
        return taken

    def postponed(self) -> list[JsonObject]:
        """Return the content of every scheduled item that is not done."""
        return [what for _, number, what in self._later if number not in self._later_done]

    # -- accounts -----------------------------------------------------------------------------------------------------

    @property
    def whole(self) -> Book:
        """This book."""
        return self

    def of(self, account: str) -> AccountBook:
        """Return the part of an account; that of an account without any record is empty."""
        if account == PLATFORM:
            return self
        return self._connected.setdefault(account, AccountBook(account, self))

    def find_account(self, account: str) -> AccountBook | None:
        """Return the part of an account that our key has access to, or None.

        A sandbox that learns its payments has access to every account.
        """
        if account == PLATFORM:
            return self
        found = self.of(account)
        if found.connected is None and self.learn is not None:
            found.open()
        if found.connected is None:
            del self._connected[account]  # a stranger's name is not kept
        return found if found.connected else None

    def every(self) -> list[AccountBook]:
        """Return all accounts, the platform's own first."""
        return [self, *self._connected.values()]

    # -- keys ---------------------------------------------------------------------------------------------------------

    def find_key(self, account: str, key: str, life_seconds: float) -> StoredKey | None:
        """Return what is stored under the key, or None if the key is unknown or older than `life_seconds`."""
        stored = self.keys.get((account, key))
        return stored if stored is not None and self.now() - stored.created < life_seconds else None

    # -- records ------------------------------------------------------------------------------------------------------

    def commit(self, *records: JsonObject, account: str = PLATFORM) -> None:
        """Make the records true together: first on the disk, then in memory.

        They belong to `account`, unless they name another one. Raises `OSError` if the disk refuses them; then none of
        them is true.
        """
        written = [{"account": account, **record} for record in records] if account else list(records)
        if self._journal is not None:
            self._journal.append(written)
        for record in written:
            self._apply(record)

    def close(self) -> None:
        """Close the file."""
        if self._journal is not None:
            self._journal.close()

    def _apply(self, record: JsonObject) -> None:
        if record["kind"] in OF_ALL_ACCOUNTS:
            getattr(self, "_apply_" + record["kind"])(record)
        else:
            self.of(record.get("account", PLATFORM)).apply(record)

    def _apply_opened(self, record: JsonObject) -> None:
        self.seed = record["seed"]

    def _apply_clock(self, record: JsonObject) -> None:
        self.clock_offset = record["offset_seconds"]

    def _apply_key(self, record: JsonObject) -> None:
        self.keys[record["account"], record["key"]] = StoredKey(
            record["endpoint"], record["fingerprint"], record["status"], record["body"], record["created"]
        )

    def _apply_later(self, record: JsonObject) -> None:
        self._later_count += 1
        what = {**record["what"], "account": record.get("account", PLATFORM)}
        heapq.heappush(self._later, (record["due"], self._later_count, what))

    def _apply_done(self, record: JsonObject) -> None:
        self._later_done.add(record["number"])

    def summary(self) -> JsonObject:
        """Return the whole book as JSON: payments, refunds, disputes, transfers, payouts, totals for each currency.

        Each object of a connected account names it as `account`. A dispute's `received` is the money that the customer
        has through it: withdrawn and not reinstated. `received` of the book has the same for each currency, and the
        refunds that succeeded. `balances` has the money of each account by currency; that of the platform is "".
        `banks` has the money that reached the bank of each account by payouts and did not come back.
        """
        books = self.every()
        parts = [book.objects() for book in books]
        return {
            **{name: [each for part in parts for each in part[name]] for name in parts[0]},
            "received": _summed([book.received() for book in books]),
            "totals": _summed([book.totals() for book in books]),
            "balances": {book.account: book.balance() for book in books},
            "banks": {book.account: book.at_bank() for book in books},
        }


def _summed(parts: list[JsonObject]) -> JsonObject:
    """Return the sums of equal names in equal currencies."""
    total: JsonObject = {}
    for part in parts:
        for currency, amounts in part.items():
            sums = total.setdefault(currency, dict.fromkeys(amounts, 0))
            for name, amount in amounts.items():
                sums[name] += amount
    return total


def done(number: int) -> JsonObject:
    """Return the record that a scheduled item has happened."""
    return {"kind": "done", "number": number}


def later(due: float, what: JsonObject) -> JsonObject:
    """Return the record that schedules `what` for `due`, in the sandbox's epoch seconds."""
    return {"kind": "later", "due": due, "what": what}
