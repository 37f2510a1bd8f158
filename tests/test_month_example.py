"""examples/month-of-a-site: its books agree, and a planted difference in any of them is found and named."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "month-of-a-site" / "month.py"
SMALL = ("--performers", "5", "--customers", "40", "--days", "10")
STORIES = (
    *("answers lost on their way", "chargebacks", "chats refunded to the balance", "chats refunded to the source"),
    *("destinations changed", "payouts called off", "payouts not collected", "payouts returned after days"),
    *("performers in debt", "withdrawals", "refunds deleted"),
)
pytestmark = [pytest.mark.slow]


def month(*options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the example in a process of its own."""
    command = [sys.executable, str(PROGRAM), *map(str, options)]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=os.environ)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with the database and the books of a small month, and what its run printed."""
    folder = tmp_path_factory.mktemp("month") / "july"
    return folder, month(*SMALL, "--folder", folder)


def counted(printed: str) -> dict[str, int]:
    """Return the counts of what happened."""
    found = re.findall(r"^ +([0-9,]+) ([a-z' ]+)$", printed, re.MULTILINE)
    return {what: int(number.replace(",", "")) for number, what in found}


def test_books_of_a_month_agree(kept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    _, run = kept
    assert (run.returncode, "All books agree to the minor unit." in run.stdout) == (0, True), run.stdout + run.stderr
    assert "DIFFER" not in run.stdout
    counts = counted(run.stdout)
    assert {story: counts.get(story, 0) > 0 for story in STORIES} == dict.fromkeys(STORIES, True)


def test_same_seed_gives_the_same_month(kept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    assert month(*SMALL).stdout == kept[1].stdout


def test_another_run_needs_an_empty_folder(kept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run = month(*SMALL, "--folder", kept[0])
    assert (run.returncode, "has the books of an earlier run" in run.stderr) == (2, True)


def test_a_comparison_needs_a_kept_folder(tmp_path: Path) -> None:
    run = month("--compare", tmp_path / "none")
    assert (run.returncode, "has no books of an earlier run" in run.stderr) == (2, True)
    assert not (tmp_path / "none").exists()


def in_database(statement: str) -> Callable[[Path], None]:
    """Return a change of the kept database, past the triggers that protect it."""

    def change(folder: Path) -> None:
        with sqlite3.connect(folder / "refunds.db") as database:
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
                database.execute(f'DROP TRIGGER "{name}"')
            assert database.execute(statement).rowcount == 1
        database.close()

    return change


def in_book(name: str, change: Callable[[list[dict[str, Any]]], None]) -> Callable[[Path], None]:
    """Return a change of the records in a server's book."""

    def plant(folder: Path) -> None:
        path = folder / name
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        change([record for line in lines for record in (line if isinstance(line, list) else [line])])
        path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")

    return plant


def one_cent_more_at_a_bank(records: list[dict[str, Any]]) -> None:
    payouts = [each["payout"] for each in records if each.get("kind") == "payout" and each["account"] == BANK]
    payouts[0]["amount"] += 1


def one_dollar_more_at_paypal(records: list[dict[str, Any]]) -> None:
    items = [each["item"] for each in records if each.get("kind") == "payout item"]
    paid = next(item for item in reversed(items) if item["status"] == "SUCCESS")
    paid["amount"] = str(Decimal(paid["amount"]) + 1)


BANK = "acct_performer03x1"
AT_STRIPE = in_book("stripe-book.jsonl", one_cent_more_at_a_bank)
AT_PAYPAL = in_book("paypal-book.jsonl", one_dollar_more_at_paypal)
PAID = "UPDATE payee_balances SET paid_minor = paid_minor + 1 WHERE payee_id = 'performer-03'"
EARNED = (
    "UPDATE earnings SET clawed_back_minor = clawed_back_minor - 1 WHERE earning_id ="
    " (SELECT max(earning_id) FROM earnings WHERE clawed_back_minor > 0)"
)
CREDITS = "UPDATE customers SET balance = balance + 1 WHERE customer_id = 'customer-0001'"
ENTRY = (
    "UPDATE ledger_entries SET amount = amount - 1 WHERE rowid ="
    " (SELECT min(rowid) FROM ledger_entries WHERE account LIKE 'payee:%')"
)


@pytest.mark.parametrize(
    ("plant", "named"),
    [
        pytest.param(in_database(PAID), r"^paid \(.*\n +performer-03", id="a performer's sum"),
        pytest.param(in_database(EARNED), r"sums that do not hold +[1-9]", id="an earning"),
        pytest.param(in_database(CREDITS), r"^customers' credits \(.*\n +customer-0001", id="a customer's credits"),
        pytest.param(in_database(ENTRY), r"^owed to performers \(.*\n +performer-", id="an entry of the ledger"),
        pytest.param(AT_STRIPE, r"^Stripe, performers' accounts \(.*\n +acct_", id="Stripe's book"),
        pytest.param(AT_PAYPAL, r"^PayPal, by kind \(.*\n +payouts .* 100$", id="PayPal's book"),
    ],
)
def test_a_planted_difference_is_named(
    kept: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path, plant: Callable[[Path], None], named: str
) -> None:
    folder = tmp_path / "july"
    shutil.copytree(kept[0], folder)
    plant(folder)
    run = month("--compare", folder)
    assert run.returncode == 1, run.stdout + run.stderr
    assert re.search(named, run.stdout, re.MULTILINE), run.stdout


def test_unchanged_books_agree_again(kept: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run = month("--compare", kept[0])
    assert (run.returncode, "All books agree" in run.stdout) == (0, True), run.stdout + run.stderr


def test_a_month_runs_on_postgres(postgres_url: str) -> None:
    options = ("--performers", "5", "--customers", "20", "--days", "10", "--database", postgres_url)
    run = month(*options)
    assert (run.returncode, "All books agree" in run.stdout) == (0, True), run.stdout + run.stderr
    again = month(*options)
    assert (again.returncode, "the database is not empty" in again.stderr) == (2, True)
