"""The work of a page does not grow with the database: measured in steps of SQLite's virtual machine, not in seconds.

The same pages are requested with a few hundred refunds and with three times as many. The number of failed or unfinished
refunds is the same in both, because some pages count these. `python -m tests.bench.pages` measures times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from tests.support.dataset_patterns import BUSY
from tests.support.large_dataset import fill
from tests.support.migrated import migrate
from tests.web.client import Web, settings_for
from tests.web.console.addresses import addresses
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.engine.views.failure_groups import failures
from refund_worker.store.reporting import console_queries, entry_search
from refund_worker.store.tables import refunds

FEW, MANY = 1_500, 4_500
ENTRIES_FEW, ENTRIES_MANY = 1_200, 4_800
# SQLite calls back after this many steps.
STEPS = 50
# A page of fifty refunds needs a handful of statements. The Overview has the most parts, each with one or two.
STATEMENTS_MAX = 36
# An index over three times as many rows is one level deeper, and pages show different refunds.
GROWTH_MAX, SLACK_STEPS = 1.3, 3_000

API = (
    "/v1/refunds",
    "/v1/refunds?status=failed",
    "/v1/refunds?failure_code=none",
    "/v1/refunds?created_gte=2099-01-01T00:00:00Z",
    "/v1/refunds?idempotency_key=nothing",
    f"/v1/refunds?customer_id={BUSY}",
    f"/v1/customers/{BUSY}",
    f"/v1/customers/{BUSY}/transactions",
)


@dataclass
class Work:
    """The work of the database since the last reset."""

    statements: int = 0
    steps: int = 0


class Filled:
    """The application on a filled database, with the work of each request."""

    def __init__(self, url: str, wanted: int, entries: int) -> None:
        migrate(url)
        self.rows = fill(url, wanted, busy_entries=entries, sealed=True, trouble_grows=False)
        self.web = Web(settings_for(url))
        self._work = Work()

    def __enter__(self) -> Filled:
        self.web.__enter__()
        event.listen(self.web.context.database.engine, "before_cursor_execute", self._begin)
        self.person = visitor(self.web, "admin")
        with self.web.context.database.read() as connection:
            self.pages = addresses(connection)
        return self

    def __exit__(self, *_: Any) -> None:
        self.web.__exit__(None, None, None)

    def _begin(self, connection: Any, *_: Any) -> None:
        self._work.statements += 1
        connection.connection.driver_connection.set_progress_handler(self._step, STEPS)

    def _step(self) -> int:
        self._work.steps += STEPS
        return 0

    def work_of(self, person: Visitor, address: str) -> Work:
        """Return the work of a repeated request: its statements are prepared, and its plans are the same."""
        for _ in range(2):
            self._work = Work()
            page = person.get(address)
            assert page.status_code == 200, (address, text_of(page))
        return self._work

    def work_of_call(self, key: str, address: str) -> Work:
        self._work = Work()
        answer = self.web.call("GET", address, key=key)
        assert answer.status_code == 200, answer.text
        return self._work


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Filled, Filled]]:
    folder: Path = tmp_path_factory.mktemp("filled")
    with (
        pytest.MonkeyPatch.context() as patch,
        Filled(f"sqlite:///{folder / 'few.db'}", FEW, ENTRIES_FEW) as few,
        Filled(f"sqlite:///{folder / 'many.db'}", MANY, ENTRIES_MANY) as many,
    ):
        assert many.rows["refunds"] > 2.5 * few.rows["refunds"]
        # Searches in texts and in webhooks read rows up to a bound, which only a database of other sizes would reach.
        patch.setattr(entry_search, "ENTRIES_READ_MAX", ENTRIES_FEW // 2)
        patch.setattr(entry_search, "CUSTOMERS_READ_MAX", FEW // 10)
        patch.setattr(console_queries, "EVENTS_SEARCHED", FEW // 20)
        yield few, many


def test_no_page_works_harder_with_more_refunds(filled: tuple[Filled, Filled]) -> None:
    few, many = filled
    harder = {}
    for route, found in few.pages.items():
        for small, large in zip(found, many.pages[route], strict=True):
            harder |= _harder(large, few.work_of(few.person, small), many.work_of(many.person, large))
    assert not harder, "\n".join(f"{address}: {told}" for address, told in harder.items())


def test_no_list_of_the_api_works_harder_with_more_refunds(filled: tuple[Filled, Filled]) -> None:
    harder = {}
    for role, client in (("operator", "backend"), ("viewer", "backend"), ("viewer", "nobody")):
        keys = [each.web.key(role, client=client) for each in filled]
        for address in API:
            works = [each.work_of_call(key, address) for each, key in zip(filled, keys, strict=True)]
            harder |= _harder(f"{address} ({role} of {client})", *works)
    assert not harder, "\n".join(f"{address}: {told}" for address, told in harder.items())


def test_a_client_with_few_refunds_finds_them_among_many_of_others(filled: tuple[Filled, Filled]) -> None:
    works = []
    for each in filled:
        with each.web.context.database.write() as connection:
            row = dict(connection.execute(refunds.select().limit(1)).mappings().one())
            mine = {"refund_id": "rf_0000000000000000mine", "client": "small", "idempotency_key": "mine"}
            connection.execute(refunds.insert().values(**(row | mine)))
        key = each.web.key("viewer", client="small")
        works.append(each.work_of_call(key, "/v1/refunds"))
    assert not _harder("its list", *works)


def test_the_groups_of_failures_do_not_read_the_refunds_themselves(filled: tuple[Filled, Filled]) -> None:
    asked: list[tuple[str, Any]] = []
    with filled[0].web.context.database.read() as connection:
        event.listen(
            connection, "before_cursor_execute", lambda _c, _d, query, values, *_: asked.append((query, values))
        )
        assert len(failures(connection)) > 2
        for query, values in [(query, values) for query, values in asked if "GROUP BY" in query]:
            plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", values)]
            read = [step for step in plan if step.startswith(("SEARCH refunds", "SEARCH legs"))]
            assert read, plan
            assert all("USING COVERING INDEX" in step for step in read), plan


def _harder(address: str, few: Work, many: Work) -> Mapping[str, str]:
    told = f"{few.steps} steps with few, {many.steps} with many; {many.statements} statements"
    within = many.steps <= few.steps * GROWTH_MAX + SLACK_STEPS and many.statements <= STATEMENTS_MAX
    return {} if within else {address: told}
