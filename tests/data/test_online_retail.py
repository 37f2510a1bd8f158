"""A month of a real shop through the real commands and processes, with a kill -9 in the middle, held against the book.

Runs where the project's shared data is; nothing else needs it.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.support.refund_counts import count_by_status

from refund_worker.cli.stack import Stack
from refund_worker.engine.processor_sync.reconciliation import reconcile
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

DATA = Path(__file__).parents[3] / "shared" / "data" / "online-retail"
REFUNDED, REFUNDED_MINOR = 299, 817_848
REFUSED = {"exceeds_refundable": 6, "unknown_transaction": 227, "unknown_customer": 158}
SETTLED_SECONDS_MAX = 60

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"NOT TESTED: the real data is not there ({DATA.name})")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    # Short leases, so that what a killed worker held is taken over within the test.
    clocks = {"LEASE_SECONDS": "3", "SWEEP_SECONDS": "0.3", "STRIPE_RATE_PER_SECOND": "0", "RETRY_BASE_SECONDS": "0.2"}
    # Slow enough answers that the workers are killed in the middle, with calls under way.
    slow = {"rules": [{"match": {"path_kind": "create"}, "times": None, "do": {"delay_seconds": 0.3}}]}
    settings = {PREFIX + name: value for name, value in clocks.items()}
    made = Stack(tmp_path / "stack", settings=settings, faults=slow)
    with (DATA / "payments.csv").open(encoding="utf-8") as file:
        paid = [
            {
                "processor_payment_id": row["processor_payment_id"],
                "amount_minor": int(row["amount_minor"]),
                "currency": row["currency"],
            }
            for row in csv.DictReader(file)
        ]
    made.start()
    try:
        made.sandbox.register_payments(paid)
        yield made
    finally:
        made.stop()


def begin(environment: Mapping[str, str], *words: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    words = (sys.executable, "-m", "refund_worker", *words, "-o", "json")
    return subprocess.Popen(words, env=clean | environment, stdout=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str]) -> tuple[int, Any]:
    """Exit code and JSON of a command."""
    told, _ = process.communicate(timeout=120)
    return process.returncode, json.loads(told)


def command(environment: Mapping[str, str], *words: str) -> tuple[int, Any]:
    return end(begin(environment, *words))


def is_the_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[-1:] == ["worker"]
    except psutil.ZombieProcess:  # another test's, not yet waited for
        return False


def kill_the_workers_children() -> None:
    """kill -9 of the processes that do the work, not of the one that supervises them."""
    (worker,) = (part for part in psutil.Process().children() if is_the_worker(part))
    workers = [process for process in worker.children(recursive=True) if not process.children()]
    assert workers, "no worker process was found"
    for child in workers:
        child.send_signal(signal.SIGKILL)


def kill_in_the_middle(environment: Mapping[str, str]) -> int:
    """Wait until some refunds have succeeded, kill, and tell how many had."""
    with build_runtime(load_settings(environment), processors=False) as runtime:
        while not (done := statuses_of(runtime.context).get("succeeded", 0)):
            time.sleep(0.02)
    kill_the_workers_children()
    return done


def test_the_month_comes_out_to_the_penny_although_workers_are_killed(stack: Stack) -> None:
    environment = stack.environment
    assert command(environment, "import", "payments", str(DATA / "payments.csv"))[0] == 0
    assert command(environment, "import", "transactions", str(DATA / "transactions.csv"))[0] == 0

    submitting = begin(environment, "refunds", "submit", str(DATA / "refund_requests.csv"))
    done_when_killed = kill_in_the_middle(environment)
    code, told = end(submitting)

    assert done_when_killed < REFUNDED
    assert code == 3
    assert told["accepted"] == REFUNDED
    assert Counter(row["code"] for row in told["rejected"]) == REFUSED
    with build_runtime(load_settings(environment)) as runtime:
        statuses = settle(runtime.context)
        report = reconcile(runtime.context, "stripe")
    assert statuses == {"succeeded": REFUNDED}
    assert report.agrees, report.differences
    assert report.ledger_minor == REFUNDED_MINOR

    before = stack.sandbox.refunds()
    code, again = command(environment, "refunds", "submit", str(DATA / "refund_requests.csv"))
    assert (again["accepted"], again["replayed"]) == (0, REFUNDED)
    assert stack.sandbox.refunds() == before
    assert_each_payment_agrees(environment, before)


def statuses_of(context: Any) -> dict[str, int]:
    with context.database.read() as connection:
        return count_by_status(connection)


def settle(context: Any) -> dict[str, int]:
    end = time.monotonic() + SETTLED_SECONDS_MAX
    while True:
        statuses = statuses_of(context)
        if set(statuses) == {"succeeded"} or time.monotonic() > end:
            return statuses
        time.sleep(0.1)


def assert_each_payment_agrees(environment: Mapping[str, str], book: list[dict[str, Any]]) -> None:
    theirs: Counter[str] = Counter()
    for refund in book:
        theirs[refund["charge"]] += refund["amount"]
    with build_runtime(load_settings(environment)) as runtime, runtime.database.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT processor_payment_id, money_taken FROM payments WHERE money_taken > 0"
        ).all()
    assert theirs == Counter({row[0]: row[1] for row in rows})
    assert sum(theirs.values()) == REFUNDED_MINOR
