"""`refund-worker statement`: the figures of a month add up, and a later month opens with the closing ones."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from tests.cli.conftest import Cli
from tests.support.engine_world import World

from refund_worker.processors.sandbox import Sandbox

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


PAID = "FROM ledger_transactions WHERE kind = 'payout' ORDER BY seq LIMIT 1"
ENTRIES = "INSERT INTO ledger_entries (transaction_id, account, unit, amount)"
OTHER = "INSERT INTO ledger_transactions (transaction_id, customer_id, kind, credits, occurred_at, actor, description)"
WRONG = {
    "an entry without its other half": [f"{ENTRIES} SELECT transaction_id, 'processor:stripe', 'USD', -1 {PAID}"],
    "a payout of no refund": [
        OTHER + f" SELECT 'stray', customer_id, 'payout', 0, occurred_at, actor, '' {PAID}",
        f"{ENTRIES} VALUES ('stray', 'house:refunds', 'USD', 5)",
        f"{ENTRIES} VALUES ('stray', 'processor:x', 'USD', -5)",
    ],
    "a leg of another amount": ["UPDATE legs SET amount_minor = amount_minor + 1 WHERE status = 'succeeded'"],
    "a leg that has not succeeded": [
        "INSERT INTO events (refund_id, at, actor, kind, leg_id, to_status, detail)"
        " SELECT refund_id, at, actor, kind, leg_id, 'failed', '{}' FROM events WHERE leg_id IS NOT NULL LIMIT 1"
    ],
}


@pytest.mark.parametrize("what", list(WRONG))
def test_statement_notices(october: Cli, migrated_sqlite_url: str, what: str) -> None:
    world = World(migrated_sqlite_url)
    with world.database.write() as connection:
        for statement in WRONG[what]:
            assert connection.execute(text(statement)).rowcount > 0
    world.close()
    ran = october("statement", "--month", MONTH, "--ledger-only")
    assert (ran.code, "do not add up in USD" in ran.err) == (5, True)


def test_account_that_does_not_exist_is_refused(october: Cli) -> None:
    ran = october("statement", "--month", MONTH, "--processor-account", "strpe")
    assert (ran.code, "there is no processor account strpe" in ran.err) == (2, True)


def test_ledger_and_processor_that_disagree_are_an_error(
    october: Cli, migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Sandbox() as sandbox:
        monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_statement")
        monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", sandbox.url)
        created = int(BEGIN + 5 * DAY)
        sandbox.register_payment("ch_x", 1_000, "USD", created=created)
        sandbox.act("dashboard_refund", payment="ch_x", amount_minor=400, created=created)
        ran = october("statement", "--month", MONTH)
        told = october("statement", "--month", MONTH, "-o", "json")
        sandbox.add_fault({"server_error": {}}, times=None)
        unanswered = october("statement", "--month", MONTH)
    assert ran.code == told.code == 5
    assert "the ledger and the balance transactions of stripe disagree" in ran.err
    (stripe,) = told.json["processors"]
    assert (told.json["adds_up"], stripe["processor_account"], stripe["state"]) == (True, "stripe", "disagrees")
    total = {"currency": "USD", "objects": 3, "ledger_minor": 400, "processor_minor": 400}
    assert stripe["totals"] == [total]
    shown = [(each["kind"], each["ledger_minor"], each["processor_minor"]) for each in stripe["differences"]]
    assert sorted(shown) == [("not_recorded", 0, 400), ("only_here", 100, 0), ("only_here", 300, 0)]
    assert "only here" in ran.out
    assert (unanswered.code, "did not list its balance transactions" in unanswered.err) == (1, True)
    assert "accepted" in unanswered.out


def test_processor_without_balance_transactions_is_not_readable(october: Cli) -> None:
    ran = october("statement", "--month", MONTH)
    assert ran.code == 0
    assert "the balance transactions of stripe are not readable: its access is not set up here" in ran.err
    assert "stripe: not readable" in ran.out
    assert "not readable" not in october("statement", "--month", MONTH, "--ledger-only").out


def test_output_names_what_is_compared_and_what_is_not(october: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payout leaves the same account, and no sum of the comparison has it."""
    with Sandbox() as sandbox:
        monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_statement")
        monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", sandbox.url)
        sandbox.register_payment("ch_x", 1_000, "USD", created=int(BEGIN + 5 * DAY))
        ran = october("statement", "--month", MONTH)
    assert "refunds and disputes" in ran.out
    assert "payouts are not compared" in ran.out
    assert "everything" not in ran.out
    explained = " ".join(october("statement", "--help").out.split())
    assert "Payouts are not compared here" in explained
