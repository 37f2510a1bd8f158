"""A payout run is killed many times and pays each payee once: real processes, kill -9, a database, a book in a file.

    python -m tests.payout_run_kills --payees 10000 --kills 10

The child process does what a scheduler does: one thread drives runs, another sends their payouts. The route keeps its
book in a file that only grows, as a processor would: a repeated key gets its first answer. The parent kills the child
when the next share of the work is done, starts it again, and at last compares the book with what was earned. Every
tenth payee is paused, and gets nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from refund_worker.domain.ledger import SHARES, EntryKind, PayeeEffect, Posting, payee_account, transfer
from refund_worker.domain.payouts.decision import PayoutPolicy, RouteRules
from refund_worker.domain.payouts.payout import PAYOUT_OPEN
from refund_worker.domain.payouts.runs import PayoutRun, RunRequest
from refund_worker.domain.payouts.transfers import TransferReply
from refund_worker.engine.context import Batches, Context
from refund_worker.engine.payouts.drive_runs import drive_due_runs
from refund_worker.engine.payouts.process import process_due_payouts
from refund_worker.engine.payouts.runs import create_run
from refund_worker.sealing import Box
from refund_worker.store import ledger
from refund_worker.store.database import Database
from refund_worker.store.database import now as database_now
from refund_worker.store.payouts import payees, runs
from refund_worker.store.tables import earnings as earnings_table
from refund_worker.store.tables import payee_balances, payout_attempts
from refund_worker.store.tables import payees as payees_table
from refund_worker.store.tables import payouts as payouts_table
from tests.support.engine_world import POLICY
from tests.support.migrated import migrate
from tests.support.payees import payout_accounts
from tests.support.payout_world import replace_rules
from tests.support.processes import KILL_ON_EXIT
from tests.support.scripted_processor import ScriptedProcessor
from tests.support.scripted_route import ScriptedRoute

ROOT = Path(__file__).parent.parent
# A dead process's payouts wait as long.
LEASE_SECONDS = 5.0
PAUSED_EVERY = 10
POLL_SECONDS = 0.005
# A kill comes up to this much later than its mark, so that it falls anywhere in a transaction.
JITTER_SECONDS = 0.05
# Payees in each commit of a run.
PIECE = 250
CHILD_SECONDS_MAX = 1_200.0
STALLED_SECONDS = 60.0


class BookRoute(ScriptedRoute):
    """A route whose book is a file: one line for each transfer that was made, written before the answer is given."""

    def __init__(self, path: Path) -> None:
        super().__init__(time.time)
        self._path = path
        self._file: int | None = None
        for key, body in read_book(path):
            super().execute(key, body, "succeeded")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def execute(self, key: str, body: str, word: str = "pending") -> TransferReply:
        """Write the transfer into the file, and return its success."""
        if self._file is not None:
            os.write(self._file, (json.dumps([key, body]) + "\n").encode())
        return super().execute(key, body, "succeeded")


def read_book(path: Path) -> list[tuple[str, str]]:
    """Return (key, body) of each transfer in the file."""
    if not path.exists():
        return []
    return [(key, body) for key, body in map(json.loads, path.read_text("utf-8").splitlines())]


def make_context(database: Database, book: Path | None) -> Context:
    """Return the context of a process, with the route if there is a book."""
    calls = replace_rules(POLICY.processors["stripe"], True)
    calls = replace(calls, lease_seconds=LEASE_SECONDS)

    async def answers_of(calls: Awaitable[list[Any]]) -> list[Any]:
        return await calls

    return Context(
        database=database,
        accounts=payout_accounts(),
        processors={"stripe": ScriptedProcessor()},
        routes={} if book is None else {"stripe": BookRoute(book)},
        box=Box(),
        policy=calls,
        payout_policy=PayoutPolicy(calls=calls, routes={"stripe": RouteRules()}, cooldown_seconds=0.0),
        run=lambda calls: asyncio.run(answers_of(calls)),
        batches=Batches(intake=int(os.environ.get("PIECE", PIECE))),
    )


def payee_name(number: int) -> str:
    """Return the id of a payee."""
    return f"payee-{number:06}"


def earned_by(number: int) -> int:
    """Return the minor units that a payee has earned: each another amount."""
    return 1_000 + number


def store_payees(database: Database, count: int) -> None:
    """Store payees with one earning each."""
    box = Box()

    def work(connection: Connection, numbers: range) -> None:
        at = database_now(connection) - 60
        people, earned, postings, sums = [], [], [], []
        for number in numbers:
            name, amount = payee_name(number), earned_by(number)
            account = f"acct_{number:08}"
            people.append(
                {
                    "payee_id": name,
                    "processor": "stripe",
                    "currency": "USD",
                    "method": "standard",
                    "destination_id": f"{name}-1",
                    "destination_kind": "stripe_account",
                    "destination_box": box.seal(json.dumps({"kind": "stripe_account", "account": account})),
                    "destination_masked": account,
                    "destination_hash": "",
                    "destination_ref": account,
                    "destination_changed_at": at,
                    "paused_by": "ann" if number % PAUSED_EVERY == 0 else None,
                    "version": 1,
                    "created_at": at,
                    "updated_at": at,
                }
            )
            earned.append(
                {"earning_id": f"e-{name}", "payee_id": name, "amount_minor": amount, "currency": "USD"}
                | {"description": "a chat", "available_at": at, "created_at": at}
            )
            sums.append({"payee_id": name, "currency": "USD", "earned_minor": amount})
            postings.append(
                Posting(
                    transaction_id=f"earning-e-{name}",
                    customer_id=None,
                    payee=PayeeEffect(name, "USD", amount),
                    kind=EntryKind.EARNING,
                    credits=0,
                    entries=transfer(SHARES, payee_account(name), "USD", amount),
                    occurred_at=at,
                )
            )
        connection.execute(payees_table.insert(), people)
        connection.execute(earnings_table.insert(), earned)
        ledger.insert_postings(connection, postings)
        connection.execute(payee_balances.insert(), sums)

    for first in range(0, count, 1_000):
        chunk = range(first, min(count, first + 1_000))
        database.run(lambda connection, its=chunk: work(connection, its))  # type: ignore[misc]


def child(url: str, book: Path, run_id: str) -> None:
    """Drive the run and send payouts until nothing is left to be done."""
    database = Database(url)
    context = make_context(database, book)
    ended = threading.Event()

    def drive() -> None:
        while not ended.is_set():
            drive_due_runs(context)
            with database.read() as connection:
                found = runs.find_run(connection, run_id)
            if found is not None and found.ended_at is not None:
                ended.set()
            time.sleep(0.05)

    driver = threading.Thread(target=drive, daemon=True)
    driver.start()
    while True:
        last = ended.is_set()
        if process_due_payouts(context):
            continue
        if last and not open_payouts(database):
            break
        time.sleep(0.05)
    driver.join()
    database.close()


def open_payouts(database: Database) -> int:
    """Return the number of payouts that are neither paid nor ended."""
    query = select(func.count()).where(payouts_table.c.status.in_(PAYOUT_OPEN))
    with database.read() as connection:
        return connection.execute(query).scalar_one()


@dataclass(frozen=True, slots=True)
class Result:
    """The figures of one test: counts, and seconds."""

    payees: int
    kills: int
    killed_while_planning: int
    killed_while_paying: int
    killed_while_sending: int
    payouts: int
    transfers: int
    paid_twice: int
    not_paid: int
    wrong_amounts: int
    paid_although_paused: int
    transfers_of_the_same_run_again: int
    transfers_of_a_second_run: int
    repeated_sends: int
    balances_wrong: int
    seconds: float

    @property
    def is_right(self) -> bool:
        """Return True if each payee was paid once, and the run again paid no payee."""
        wrong = (self.paid_twice, self.not_paid, self.wrong_amounts, self.paid_although_paused, self.balances_wrong)
        again = (self.transfers_of_the_same_run_again, self.transfers_of_a_second_run)
        return not any(wrong) and not any(again)


def ask_for_run(database: Database, key: str) -> PayoutRun:
    """Ask for the run under this key."""
    request = RunRequest(idempotency_key=key, processor="stripe", currency="USD", actor="ann")
    return create_run(make_context(database, None), request)[0]


def begin_child(url: str, book: Path, run_id: str) -> subprocess.Popen[bytes]:
    """Start the child process, which dies with its parent."""
    command = [sys.executable, "-m", "tests.payout_run_kills", "--child", url, str(book), run_id]
    guard = [sys.executable, str(KILL_ON_EXIT), "SIGKILL", "-", str(os.getpid())]
    return subprocess.Popen([*guard, *command], cwd=ROOT)


def work_done(database: Database, book: Path, run_id: str) -> tuple[int, int, int]:
    """Return the number of payees planned, of payouts made, and of transfers sent."""
    run = read_run(database, run_id)
    sent = book.read_bytes().count(b"\n") if book.exists() else 0
    return run.planned_payees, run.paid_payees, sent


def read_run(database: Database, run_id: str) -> PayoutRun:
    """Return the run as it is now."""
    with database.read() as connection:
        run = runs.find_run(connection, run_id)
    assert run is not None
    return run


def finish(url: str, book: Path, run_id: str) -> None:
    """Let a child work to its end."""
    process = begin_child(url, book, run_id)
    assert process.wait(CHILD_SECONDS_MAX) == 0, "the child ended with an error"


def marks(work: int, kills: int) -> list[tuple[int, int]]:
    """Return when to kill: (0 planned, 1 paid or 2 sent, so many of them). A third of the kills falls into each."""
    found = []
    for phase in range(3):
        its = (kills + 2 - phase) // 3
        found += [(phase, work * number // (its + 1)) for number in range(1, its + 1)]
    return found


def kill_often(database: Database, url: str, book: Path, run_id: str, work: int, kills: int) -> list[str]:
    """Kill a child at each of the marks; return the status of the run at each kill."""
    chance, states = random.Random(kills), []
    for phase, enough in marks(work, kills):
        process = begin_child(url, book, run_id)
        done, changed_at = (-1, -1, -1), time.monotonic()
        while (found := work_done(database, book, run_id))[phase] < enough:
            if found != done:
                done, changed_at = found, time.monotonic()
            assert process.poll() is None, "the child ended too early"
            assert time.monotonic() - changed_at < STALLED_SECONDS, "the child makes no progress"
            time.sleep(POLL_SECONDS)
        time.sleep(chance.random() * JITTER_SECONDS)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        states.append(read_run(database, run_id).status)
    return states


def run_with_kills(url: str, book: Path, *, count: int, kills: int) -> Result:
    """Run over `count` payees on a migrated database and kill it so often; return the figures."""
    began, database = time.monotonic(), Database(url)
    store_payees(database, count)
    run = ask_for_run(database, "k")
    to_pay = [number for number in range(count) if number % PAUSED_EVERY]
    states = Counter(kill_often(database, url, book, run.run_id, len(to_pay), kills))
    finish(url, book, run.run_id)
    sent = [json.loads(body) for _, body in read_book(book)]
    assert ask_for_run(database, "k").run_id == run.run_id
    finish(url, book, run.run_id)
    after_same = len(read_book(book))
    finish(url, book, ask_for_run(database, "k2").run_id)
    after_second = len(read_book(book))
    by_account = Counter(order["to"]["account"] for order in sent)
    got = {order["to"]["account"]: order["amount"] for order in sent}
    expected = {f"acct_{number:08}": earned_by(number) for number in to_pay}
    result = Result(
        payees=count,
        kills=sum(states.values()),
        killed_while_planning=states["planning"],
        killed_while_paying=states["paying"],
        killed_while_sending=states["done"],
        payouts=_count(database, select(func.count()).select_from(payouts_table)),
        transfers=len(sent),
        paid_twice=sum(times > 1 for times in by_account.values()),
        not_paid=len(expected.keys() - by_account.keys()),
        wrong_amounts=sum(got.get(name, amount) != amount for name, amount in expected.items()),
        paid_although_paused=len(by_account.keys() - expected.keys()),
        transfers_of_the_same_run_again=after_same - len(sent),
        transfers_of_a_second_run=after_second - after_same,
        repeated_sends=_count(database, select(func.sum(payout_attempts.c.sends - 1))),
        balances_wrong=wrong_balances(database, count),
        seconds=round(time.monotonic() - began, 1),
    )
    database.close()
    return result


def _count(database: Database, query: Any) -> int:
    with database.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def wrong_balances(database: Database, count: int) -> int:
    """Return the number of payees whose sums are not those of one payout of everything, or none for a paused one."""
    wrong = 0
    for first in range(0, count, 1_000):
        numbers = range(first, min(count, first + 1_000))
        with database.read() as connection:
            pairs = [(payee_name(number), "USD") for number in numbers]
            sums = payees.balances(connection, pairs, database_now(connection))
        for number in numbers:
            paid = 0 if number % PAUSED_EVERY == 0 else earned_by(number)
            balance = sums[payee_name(number), "USD"]
            wrong += (balance.paid_minor, balance.in_flight_minor) != (paid, 0)
    return wrong


def main() -> int:
    """Run the test with the arguments of the command line, and print its figures."""
    parser = argparse.ArgumentParser(description="Kill a payout run often, and check that it pays each payee once.")
    parser.add_argument("--payees", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--database", help="a migrated, empty database; by default a new SQLite file")
    parser.add_argument("--child", nargs=3, metavar=("URL", "BOOK", "RUN"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        url, book, run_id = given.child
        child(url, Path(book), run_id)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        url = given.database or f"sqlite:///{folder}/runs.db"
        if not given.database:
            migrate(url)
        result = run_with_kills(url, Path(folder, "book.jsonl"), count=given.payees, kills=given.kills)
    for name, value in asdict(result).items():
        print(f"{name}: {value}")
    print("right: each payee was paid once" if result.is_right else "WRONG")
    return 0 if result.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
