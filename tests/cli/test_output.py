"""How commands end: internal errors, interruption, closed or full output, and the form of texts and amounts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from refund_worker.cli import reconcile
from refund_worker.cli.output import plain
from refund_worker.engine.processor_sync.reconciliation import Report, Total
from refund_worker.engine.views.money_format import money
from refund_worker.store.database import Database


def test_a_report_of_two_currencies_adds_up_neither(capsys: pytest.CaptureFixture[str]) -> None:
    totals = (Total("GBP", 313_079, 313_079), Total("JPY", 500, 400))
    counts = {"compared": 1_200, "in_flight": 0, "foreign": 2, "other_installations": 0, "resolved": 0}
    report = Report(differences=(), ledger_minor=313_579, processor_minor=313_479, totals=totals, **counts)  # type: ignore[arg-type]
    reconcile.show_report("stripe", report)
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    shown = {name: text.strip() for name, text in printed.items()}
    assert (shown["account"], shown["agrees"]) == ("stripe", "yes")
    assert shown["in our ledger"] == "3,130.79 GBP, 500 JPY"
    assert shown["at the processor"] == "3,130.79 GBP, 400 JPY"
    assert shown["compared"] == "1,200 legs"


def test_truth_values_are_words_in_tables() -> None:
    assert [plain(value) for value in (True, False, None, 0, 1)] == ["yes", "no", "", "0", "1"]


def test_internal_error_is_one_line_and_debug_prints_the_traceback(cli: Cli) -> None:
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE processors RENAME TO elsewhere")
    database.close()
    ran = cli("processors", "status")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert "Traceback" not in ran.err
    assert "Traceback" in cli("--debug", "processors", "status").err


def test_interrupted_command_says_that_stored_changes_are_kept(cli: Cli) -> None:
    code = (
        # A shell makes its background processes ignore SIGINT.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from refund_worker.cli import app, runtime\n"
        "runtime.settings = lambda: signal.raise_signal(signal.SIGINT)\napp.main(['config', 'show'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "interrupted: changes that were already stored are kept\n"
    assert "interrupted" not in cli("config", "show").err


def test_closed_pipe_is_no_error(shop: Cli) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "refund_worker", "refunds", "export", "-"]
    ran = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (ran.returncode, "Traceback" in ran.stderr, "Exception" in ran.stderr) == (0, False, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", [("keys", "list"), ("config", "show", "-o", "json"), ("refunds", "export", "-")])
def test_full_disk_is_reported_as_unwritable_output(shop: Cli, command: tuple[str, ...]) -> None:
    create = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--customer", "ann", "--credits", "1")
    for _ in range(30):  # more than a buffer holds
        assert shop(*create, "--reason", "r" * 900).code == 0
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "refund_worker", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: the output cannot be written (No space left on device)")
    assert len(ran.stderr.splitlines()) == (2 if "json" in command else 1)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (123456, "GBP", "1,234.56 GBP"),
        (5, "JPY", "5 JPY"),
        (1230, "KWD", "1.230 KWD"),
        (500, "ISK", "5.00 ISK"),
        (-7, "USD", "-0.07 USD"),
        (10**12, "EUR", "10,000,000,000.00 EUR"),
    ],
)
def test_money_is_shown_in_the_processors_minor_unit(amount: int, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown


def test_text_for_a_terminal_has_no_control_characters() -> None:
    assert plain("a\x1b[2Jb\nc\u202ed") == "a\N{REPLACEMENT CHARACTER}[2Jb c\N{REPLACEMENT CHARACTER}d"


def test_data_is_printed_on_stdout_only_in_a_real_process(shop: Cli) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "refund_worker", "refunds", "list", "-o", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, '{\n  "data": [],\n  "has_more": false\n}\n', "")
    assert time.monotonic() - started < 30
