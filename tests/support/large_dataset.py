"""A large database: a few hundred refunds that the engine processed, copied many times.

The engine itself creates the patterns with scripted processors: every status, with legs, attempts, events, ledger,
notifications and webhook events. A copy has other ids and another time, so its books balance as the pattern's do. One
customer, `BUSY`, has thousands of entries and hundreds of refunds.
"""

from __future__ import annotations

import json
import random
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Double, Table, event, func, insert, select, text, update

from refund_worker.batching import batched
from refund_worker.domain.limits import Limits
from refund_worker.domain.processor_replies import Blocked, Busy, Refused, Reply
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.engine.jobs.daily_stats import count_daily_stats
from refund_worker.engine.refunds.accept import Accepted, request_refunds
from refund_worker.store import snapshots
from refund_worker.store.database import Database
from refund_worker.store.tables import inbox, metadata, outbox, refund_objects, refunds
from tests.support.engine_world import ScriptedProcessor, World
from tests.support.migrated import migrate

BUSY = "busy-0000"
DAYS = 60
PATTERN_REFUNDS = 500
PROCESSORS = ("stripe", "manual", "acquirer")
CURRENCIES = ("GBP", "USD", "EUR", "JPY")
LARGE_MINOR = 50_000
GROUP = 10
# Rows of one installation or of its users are not copied: a second copy would be invalid. Snapshots are taken again.
NOT_COPIED = {
    "api_keys", "audit_seals", "console_sessions", "console_tries", "console_users", "installation", "snapshots",
}  # fmt: skip

# Request and result of each scenario, with its frequency in a thousand.
SCENARIOS: Mapping[tuple[str, str], int] = {
    ("withdrawal", "pays"): 400,
    ("money", "pays"): 170,
    ("credits", "pays"): 230,
    ("withdrawal", "pays_silently"): 30,
    ("withdrawal", "busy"): 20,
    ("withdrawal", "declined"): 40,
    ("money", "expired"): 15,
    ("money", "replaced"): 10,
    ("withdrawal", "in part"): 5,
    ("large", "approved"): 10,
    ("large", "rejected"): 5,
    ("large", "canceled"): 5,
    ("withdrawal", "balance"): 20,
    ("withdrawal", "disputed"): 5,
    ("withdrawal", "pending"): 20,
    ("large", "waits"): 5,
    ("withdrawal", "queued"): 10,
}
FAILS = frozenset({"declined", "expired"})
NON_FINAL = frozenset({"balance", "disputed", "pending", "waits", "queued"})
ENDS_WELL = frozenset(fate for _, fate in SCENARIOS) - FAILS - NON_FINAL
# (name, results, seconds over which the refunds are spread). Unfinished refunds are not old.
PATTERNS = (
    ("settled", ENDS_WELL, 60 * 86_400.0),
    ("failed", FAILS, 60 * 86_400.0),
    ("unfinished", NON_FINAL, 36 * 3600.0),
)
DECLINED = Refused("declined", "The card issuer has declined this refund.")
EXPIRED = Refused("expired_or_canceled_card", "The card is expired or was canceled.")
# The processor's script for the newer and for the older payment.
SCRIPTS: Mapping[str, tuple[Sequence[str | Reply], Sequence[str | Reply]]] = {
    "pays_silently": (["pays_silently"], []),
    "busy": ([Busy("rate_limit"), "pays"], []),
    "declined": ([DECLINED] * 3, [DECLINED] * 3),
    "expired": ([EXPIRED] * 3, [EXPIRED] * 3),
    "replaced": ([Refused("lost_or_stolen_card", "The card was reported lost.")], []),
    "in part": ([], [DECLINED] * 3),
    "balance": ([Blocked("balance_insufficient", "Insufficient funds in your account.")], []),
    "disputed": ([Blocked("charge_disputed", "The charge has been charged back.")], []),
    "pending": (["pending"], []),
}


def fill(
    url: str,
    wanted: int,
    *,
    busy_entries: int = 5_000,
    sealed: bool = False,
    trouble_grows: bool = True,
    seed: int = 1,
) -> dict[str, int]:
    """Fill the migrated, empty database at `url` with at least `wanted` refunds over the last 60 days.

    `busy_entries` is the number of entries of the busy customer. If `sealed`, the audit chain and the daily sums cover
    everything. Without `trouble_grows`, failed and unfinished refunds are as many as in a small database. Returns the
    number of rows by table.
    """
    chance = random.Random(seed)
    ways = [way for way, weight in SCENARIOS.items() for _ in range(max(1, round(weight * PATTERN_REFUNDS / 1000)))]
    chance.shuffle(ways)
    ways.sort(key=lambda way: way[1] == "queued")  # after the others, because queued refunds are not processed
    copies = max(1, round(wanted / len(ways)))
    begin = time.time() - 4 * 3600
    with tempfile.TemporaryDirectory(prefix="refund-worker-plenty-") as folder:
        database = Database(url)
        for number, (name, fates, seconds) in enumerate(PATTERNS):
            with _Pattern(Path(folder) / name, begin, first=number * 2_000, chance=chance) as pattern:
                pattern.play([way for way in ways if way[1] in fates])
                rows = pattern.rows()
            times = copies if trouble_grows or not number else 1
            _write_copies(database, rows, name[0], [seconds * (n + 0.5) / times for n in reversed(range(times))])
        with _Pattern(Path(folder) / BUSY, begin, first=9_000, chance=chance) as pattern:
            pattern.play_busy(busy_entries)
            _write_copies(database, pattern.rows(), "b", [0.0])
    _finish(database, sealed)
    with database.read() as connection:
        counts = {table.name: _count(connection, table) for table in metadata.sorted_tables}
    database.close()
    return counts


def _finish(database: Database, sealed: bool) -> None:
    if not database.is_sqlite:
        # In a real database autovacuum runs long before there are this many rows.
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    if sealed:
        for name in ("payments", "refunds", "legs"):
            _take_snapshots(database, metadata.tables[name])
        world = World(str(database.url.render_as_string(hide_password=False)), clock=lambda _connection: time.time())
        sealer = Sealer()
        while not sealer.seal(world.context):
            pass
        count_daily_stats(world.context)
        world.close()


def _take_snapshots(database: Database, table: Table) -> None:
    key = next(iter(table.primary_key.columns))
    with database.read() as connection:
        ids = list(connection.execute(select(key)).scalars())
    for some in batched(ids, 500):
        with database.write() as connection:
            snapshots.append_current_rows(connection, table.name, some)


def _count(connection: Connection, table: Table) -> int:
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


# --- the patterns ----------------------------------------------------------------------------------------------------

Rows = dict[str, list[dict[str, Any]]]


class _Pattern(World):
    """A separate database in which each customer has a number and requests one refund."""

    def __init__(self, path: Path, begin: float, *, first: int, chance: random.Random) -> None:
        url = f"sqlite:///{path}.db"
        migrate(url)
        others = {name: ScriptedProcessor(name) for name in PROCESSORS[1:]}
        super().__init__(
            url,
            limits=Limits(approval_threshold_minor=LARGE_MINOR, window_seconds=1.0),
            new_id=self._new_id,
            notify=True,
        )
        self.processors = {"stripe": self.processor, **others}
        self.context.processors.update(self.processors)  # type: ignore[attr-defined]
        self.now, self._next, self._ids, self._chance = begin, first, first << 20, chance
        # The pattern is deleted after copying, so nothing of it must reach the disk.
        event.listen(self.database.engine, "connect", lambda driver, _: driver.execute("PRAGMA synchronous=OFF"))

    def __enter__(self) -> _Pattern:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_id(self, prefix: str) -> str:
        """Return an id like ours, with a place for the number of the copy."""
        self._ids += 1
        return f"{prefix}_{int(self.now * 1000):012x}0000{self._ids:010x}"

    def play(self, ways: Sequence[tuple[str, str]]) -> None:
        """Request one refund for each scenario, and process them to their intended status."""
        for start in range(0, len(ways), GROUP):
            group = ways[start : start + GROUP]
            requests = [self._customer(*way) for way in group]
            if start % (4 * GROUP):
                answers = []
                for request in requests:
                    self.now += self._chance.uniform(0.2, 8.0)
                    answers += request_refunds(self.context, [request])
                assert all(isinstance(answer, Accepted) for answer in answers), answers
            else:
                taken = accept_batch(self.context, requests, client="backend", actor="nightly job")
                assert taken["rejected"] == [], taken
            if not any(fate == "queued" for _, fate in group):
                self.now += self._chance.uniform(0.1, 3.0)
                self.work()
            for status, action, who in (
                ("approved", Action.APPROVE, "anna"),
                ("rejected", Action.REJECT, "anna"),
                ("canceled", Action.CANCEL, "ben"),
            ):
                for request, (_, fate) in zip(requests, group, strict=True):
                    if fate == status:
                        self._act(request.idempotency_key, action, who)
        if not any(fate in NON_FINAL for _, fate in ways):
            self.work_for(3600)
        self._tell()

    def play_busy(self, entries: int) -> None:
        """Create one customer who spends all the time and gets a twentieth of it back."""
        step = DAYS * 86_400 / entries
        paid = [self._paid(BUSY, f"busy-{n:04}-0000", "GBP", 20_000, entries) for n in range(40)]
        spent = [
            SpendRecord(
                transaction_id=f"chat-{9000 + n // 1000:04}-0000-{n % 1000}",
                customer_id=BUSY,
                credits=10,
                description="Private chat",
                occurred_at=self.now - step * (entries - n),
            )
            for n in range(entries)
        ]
        record_payments(self.context, paid)
        for some in batched(spent, 250):
            record_spends(self.context, some)
        asked = [
            self._request(
                9_500, "credits" if n % 2 else "money", BUSY, spend=spent[n].transaction_id, key=f"busy-{n:04}-0000"
            )
            for n in range(0, entries, 20)
        ]
        for n, credits in enumerate([-50, 20, -50, 10]):
            self._correct(BUSY, f"busy-{n:04}-0000", credits)
        for requests in batched(asked, 50):
            request_refunds(self.context, requests)
            self.now += 20
            self.work()
        self._tell()

    def _customer(self, what: str, fate: str) -> RefundRequest:
        """Create a customer with two payments and some spends, script the processors, and return the refund request."""
        number, self._next = self._next, self._next + 1
        name = f"{number:04}-0000"
        currency = CURRENCIES[number % len(CURRENCIES)]
        processor = PROCESSORS[number % 3]
        amount = LARGE_MINOR * 2 if what == "large" else self._chance.randrange(1_000, 9_000)
        ways = SCRIPTS.get(fate, ((), ()))
        paid = []
        for place in (1, 2):  # the older, then the newer
            record = self._paid(f"customer-{name}", f"{name}-{place}", currency, amount, amount // 10, processor)
            self.processors[processor].script(record.processor_payment_id, *ways[2 - place])
            paid.append(record)
        record_payments(self.context, paid)
        spends = [
            SpendRecord(
                transaction_id=f"chat-{name}-{n}",
                customer_id=f"customer-{name}",
                credits=amount // 50,
                description=self._chance.choice(("Private chat", "Group show", "Tip")),
                occurred_at=self.now - 3600 + n,
            )
            for n in range(4)
        ]
        record_spends(self.context, spends)
        if number % 6 == 0:
            self._correct(f"customer-{name}", name, 5)
        credits = (amount // 10) + 10 if fate == "in part" else amount // 20
        return self._request(number, what, f"customer-{name}", credits=credits, key=f"order-{name}")

    def _request(
        self, number: int, what: str, customer: str, *, key: str, credits: int | None = None, spend: str | None = None
    ) -> RefundRequest:
        withdrawal = what in ("withdrawal", "large")
        name = f"{number:04}-0000"
        return RefundRequest(
            idempotency_key=key,
            kind=Kind.WITHDRAWAL if withdrawal else Kind.CREDIT_REFUND,
            to=To.BALANCE if what == "credits" else To.SOURCE,
            customer_id=customer,
            transaction_id=None if withdrawal else spend or f"chat-{name}-0",
            credits=credits if what != "large" and withdrawal else (LARGE_MINOR // 8 if withdrawal else None),
            reason=self._chance.choice(("requested by customer", "the stream broke off", "duplicate charge")),
            note=self._chance.choice((None, "called twice, please be quick")),
            metadata={"ticket": f"T-{number}"},
            client=self._chance.choice(("backend", "backend", "shop")),
            actor=f"agent-{number % 9}",
        )

    def _paid(
        self, customer: str, name: str, currency: str, amount: int, credits: int, processor: str = "stripe"
    ) -> PaymentRecord:
        return PaymentRecord(
            payment_id=f"pay-{name}",
            customer_id=customer,
            processor=processor,
            processor_payment_id=f"ch_{name}",
            amount_minor=amount,
            currency=currency,
            credits=credits,
            captured_at=self.now - 86_400 + int(name[-1]),
        )

    def _correct(self, customer: str, name: str, credits: int) -> None:
        correct(
            self.context,
            customer_id=customer,
            credits=credits,
            reason="goodwill" if credits > 0 else "to be paid out",
            client="console",
            idempotency_key=f"form-{name}",
            actor="console/anna",
        )

    def _act(self, key: str, action: Action, who: str) -> None:
        with self.database.read() as connection:
            refund_id = connection.execute(select(refunds.c.refund_id).where(refunds.c.idempotency_key == key)).scalar()
        self.command(str(refund_id), action)
        self.now += 30
        self.work()

    def _tell(self) -> None:
        """Write the processors' webhook events, and mark our notifications to the admin backend as delivered."""
        with self.database.write() as connection:
            for row in list(connection.execute(select(refund_objects)).mappings()):
                if row["processor"] == "stripe":
                    connection.execute(insert(inbox).values(**_event(row)))
            told = {"delivered_at": outbox.c.created_at + 0.4, "next_at": None, "tries": 1}
            connection.execute(update(outbox).values(**told))
            lost = {"delivered_at": None, "given_up_at": outbox.c.created_at + 86_400, "tries": 20}
            a_few = select(outbox.c.message_id).order_by(outbox.c.message_id).limit(2)
            connection.execute(
                update(outbox).where(outbox.c.message_id.in_(a_few)).values(**lost, last_error="HTTP 503")
            )

    def rows(self) -> Rows:
        """Return the rows of every table that is copied."""
        with self.database.read() as connection:
            return {
                table.name: [_as_stored(row) for row in connection.execute(select(table)).mappings()]
                for table in metadata.sorted_tables
                if table.name not in NOT_COPIED
            }


def _event(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Stripe event about a refund object, of about the usual size."""
    refund_object = {name: row[name] for name in ("processor_refund_id", "status", "amount_minor", "currency")}
    return {
        "processor": row["processor"],
        "event_id": f"evt_{row['processor_refund_id']}",
        "kind": "refund.updated",
        "body": json.dumps({"object": "event", "data": {"object": refund_object}, "filler": "x" * 900}),
        "received_at": row["seen_at"] + 1,
        "taken_at": row["seen_at"] + 2,
        "outcome": "taken",
        "tries": 1,
    }


# --- copying ---------------------------------------------------------------------------------------------------------

# The tokens that differ between copies: our ids, the pattern's names, and the processors' ids.
TOKEN = re.compile(r"([0-9a-f]{12}0000[0-9a-f]{10}|[0-9]{4}-0000|re_[0-9]+)")
Cell = Any


def _write_copies(database: Database, rows: Rows, name: str, ages: Sequence[float]) -> None:
    """Write one copy of the pattern for each age, that many seconds older."""
    moulds = [_Mould(table, rows[table.name]) for table in metadata.sorted_tables if rows.get(table.name)]
    for copy, age in enumerate(ages):
        renamed = _Renamed(name, copy, age)
        with database.write() as connection:
            for mould in moulds:
                _insert(connection, mould, list(mould.cast(renamed, age)))


class _Renamed(dict[str, str]):
    """The name in one copy of each token of the pattern."""

    def __init__(self, name: str, copy: int, age: float) -> None:
        super().__init__()
        self._name, self._copy, self._age = name, copy, age

    def __missing__(self, token: str) -> str:
        if token.startswith("re_"):
            new = f"re_{self._name}{self._copy:04x}{token[3:]:0>8}"
        elif "-" in token:
            new = f"{token[:4]}-{self._copy:04}"
        else:
            new = f"{int(token[:12], 16) - int(self._age * 1000):012x}{self._copy:04x}{token[16:]}"
        self[token] = new
        return new


class _Mould:
    """The rows of one table, with each cell split where copies differ."""

    def __init__(self, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        self.table = table
        columns = [column for column in table.c if column.name != "seq"]
        self.columns = [column.name for column in columns]
        self._is_time = [isinstance(column.type, Double) for column in columns]
        self._rows = [[_cut(row[name]) for name in self.columns] for row in rows]

    def cast(self, renamed: _Renamed, age: float) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one copy."""
        for row in self._rows:
            yield tuple(
                "".join([renamed[part] if place % 2 else part for place, part in enumerate(cell)])
                if type(cell) is list
                else cell - age
                if is_time and cell is not None
                else cell
                for cell, is_time in zip(row, self._is_time, strict=True)
            )


def _cut(value: Any) -> Any:
    """Return a text with tokens as the list of its parts, every second one a token.

    Return any other value unchanged.
    """
    parts = TOKEN.split(value) if isinstance(value, str) else []
    return parts if len(parts) > 1 else value


def _as_stored(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row with its lists of ids as text."""
    return {name: json.dumps(value) if isinstance(value, tuple) else value for name, value in row.items()}


def _insert(connection: Connection, mould: _Mould, rows: Sequence[tuple[Any, ...]]) -> None:
    names = ", ".join(f'"{name}"' for name in mould.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" for _ in mould.columns)
        connection.exec_driver_sql(f"INSERT INTO {mould.table.name} ({names}) VALUES ({marks})", list(rows))
        return
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {mould.table.name} ({names}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
