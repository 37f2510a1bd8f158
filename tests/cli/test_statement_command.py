"""`refund-worker statement`: the figures of a month add up, and a later month opens with the closing ones."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from tests.cli.conftest import Cli
from tests.support.engine_world import World

MONTH = "2026-10"
BEGIN = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
DAY = 86_400.0


@pytest.fixture
def october(cli: Cli, migrated_sqlite_url: str) -> Cli:
    """Return the command line of a database with refunds of September and October 2026."""
    world = World(migrated_sqlite_url)
    for number in (1, 2):
        world.pay(number)
    world.now = BEGIN - DAY
    world.withdraw(10, "september")  # accepted in September, paid in October
    world.now = BEGIN + DAY
    world.work()
    world.withdraw(30, "october")
    world.work()
    world.withdraw(5, "waits")  # accepted in October and not paid
    world.close()
    return cli


def figures(cli: Cli, month: str) -> dict[str, tuple[int, int, int]]:
    """Return (opening, movement, closing) of each figure in dollars."""
    ran = cli("statement", "--month", month, "-o", "json")
    assert ran.code == 0, ran.err
    assert ran.json["adds_up"]
    names = ("opening_minor", "movement_minor", "closing_minor")
    return {line["figure"]: tuple(line[name] for name in names) for line in ran.json["lines"]}


def test_statement_adds_up_and_the_next_opens_with_it(october: Cli) -> None:
    found = figures(october, MONTH)
    assert found["accepted"] == (100, 350, 450)
    assert found["paid"] == (0, 400, 400)
    assert found["in_flight"] == (100, -50, 50)
    assert found["not_paid"] == (0, 0, 0)
    later = figures(october, "2026-11")
    assert {name: its[2] for name, its in found.items()} == {name: its[0] for name, its in later.items()}
    september = figures(october, "2026-09")
    assert {name: its[2] for name, its in september.items()} == {name: its[0] for name, its in found.items()}


def test_statement_of_one_account_and_as_a_file(october: Cli) -> None:
    ran = october("statement", "--month", MONTH, "--processor-account", "stripe", "-o", "csv")
    rows = list(csv.reader(io.StringIO(ran.out)))
    assert rows[0] == ["currency", "figure", "opening_minor", "movement_minor", "closing_minor"]
    assert ["USD", "paid", "0", "400", "400"] in rows
    other = october("statement", "--month", MONTH, "--processor-account", "manual", "-o", "json")
    assert (other.code, other.json["lines"]) == (0, [])
    assert "USD" in october("statement", "--month", MONTH).out


@pytest.mark.parametrize("month", ["2026-13", "october", "2026-1", "2199-01"])
def test_wrong_month_is_refused(cli: Cli, month: str) -> None:
    ran = cli("statement", "--month", month)
    assert ran.code == 2
    assert "month" in ran.err


def test_figures_that_do_not_add_up_are_an_error(october: Cli, migrated_sqlite_url: str) -> None:
    world = World(migrated_sqlite_url)
    with world.database.write() as connection:
        more = "SELECT min(transaction_id), 'house:refunds', 'USD', 900 FROM ledger_transactions WHERE kind = 'payout'"
        connection.execute(text(f"INSERT INTO ledger_entries (transaction_id, account, unit, amount) {more}"))
    world.close()
    ran = october("statement", "--month", MONTH)
    assert ran.code == 5
    assert "do not add up in USD" in ran.err
