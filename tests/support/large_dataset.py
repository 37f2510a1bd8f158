"""A large database: a few hundred refunds that the engine processed, copied many times.

The engine itself creates the patterns with scripted processors: every status, with legs, attempts, events, ledger,
notifications and webhook events. A copy has other ids and another time, so its books balance as the pattern's do. One
customer, `BUSY`, has thousands of entries and hundreds of refunds.
"""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path

from sqlalchemy import Connection, Table, func, select, text

from refund_worker.batching import batched
from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.engine.jobs.daily_stats import count_daily_stats
from refund_worker.store import snapshots
from refund_worker.store.database import Database
from refund_worker.store.tables import metadata
from tests.support.dataset_copies import write_copies
from tests.support.dataset_patterns import BUSY, ENDS_WELL, FAILS, NON_FINAL, SCENARIOS, Pattern
from tests.support.engine_world import World

PATTERN_REFUNDS = 500
# (name, results, seconds over which the refunds are spread). Unfinished refunds are not old.
PATTERNS = (
    ("settled", ENDS_WELL, 60 * 86_400.0),
    ("failed", FAILS, 60 * 86_400.0),
    ("unfinished", NON_FINAL, 36 * 3600.0),
)


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
            with Pattern(Path(folder) / name, begin, first=number * 2_000, chance=chance) as pattern:
                pattern.play([way for way in ways if way[1] in fates])
                rows = pattern.rows()
            times = copies if trouble_grows or not number else 1
            write_copies(database, rows, name[0], [seconds * (n + 0.5) / times for n in reversed(range(times))])
        with Pattern(Path(folder) / BUSY, begin, first=9_000, chance=chance) as pattern:
            pattern.play_busy(busy_entries)
            write_copies(database, pattern.rows(), "b", [0.0])
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
