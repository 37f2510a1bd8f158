"""Run a month of a made-up site in virtual time, and compare the books of everyone at the end."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from books import Books, Customer, is_kept
from chargebacks import plan_chargebacks
from comparison import Check, Comparison
from payroll import Payroll
from program import Program, database_in
from servers import DAY, HOUR, PAYPAL, STRIPE, Servers
from site_days import Site

from refund_worker.engine.sums.statement import make_statement, month_bounds
from refund_worker.errors import RefundWorkerError
from refund_worker.processors.local_server.process import LocalServerError

EXAMPLES = """examples:
  python month.py                                       20 performers, 400 customers, a whole month
  python month.py --performers 5 --customers 40 --days 10
  python month.py --seed 7 --folder july                keep the database and all books in july/
  python month.py --compare july                        compare these again, without another run
  python month.py --database postgresql+psycopg://me@localhost/empty

exit codes: 0 all books agree, 1 they do not (the rows are printed), 2 a wrong option or a database that is not empty
"""
# Days before the month: performers name their destinations, and customers begin to chat.
EARLIER_DAYS = 4
STEP = 3 * HOUR
MONTH_DAYS = 31


def main() -> int:
    """Run the command line and return its exit code."""
    options = _options()
    with ExitStack() as stack:
        folder = options.compare or options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="month-of-a-site-")))
        try:
            if is_kept(folder) != bool(options.compare):
                raise _Unusable(f"{folder} has {'no' if options.compare else 'the'} books of an earlier run")
            folder.mkdir(parents=True, exist_ok=True)
            logging.basicConfig(filename=folder / "program.log", level=logging.WARNING, force=True)
            return _compare(folder, options) if options.compare else _run(folder, options)
        except (_Unusable, RefundWorkerError, LocalServerError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2


class _Unusable(Exception):
    """The folder or the database cannot be used."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--performers", type=int, default=20, help="number of performers, at least 5 (default: 20)")
    parser.add_argument("--customers", type=int, default=400, help="number of customers (default: 400)")
    parser.add_argument("--days", type=int, default=MONTH_DAYS, help="days of the month, 10 to 31 (default: 31)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same month (default: 1)")
    parser.add_argument("--database", metavar="URL", help="an empty database (default: a new SQLite file)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="keep the database and all books here")
    parser.add_argument("--compare", type=Path, metavar="DIR", help="compare the books of an earlier run again")
    options = parser.parse_args()
    if not 5 <= options.performers <= 99 or options.customers < 10 or not 10 <= options.days <= MONTH_DAYS:
        parser.error("there are 5 to 99 performers, at least 10 customers, and 10 to 31 days")
    return options


def next_july(now: datetime) -> str:
    """Return the next July: a month that has 31 days and has not begun, so that the servers' clocks only go forward."""
    return f"{now.year + (now.month >= 6)}-07"


def _run(folder: Path, options: argparse.Namespace) -> int:
    books = Books(next_july(datetime.now(UTC)))
    began, begin = time.monotonic(), month_bounds(books.month)[0]
    with (
        Servers(folder, begin - EARLIER_DAYS * DAY) as servers,
        Program(servers, options.database or database_in(folder)) as program,
    ):
        if not program.is_fresh:
            raise _Unusable("the database is not empty: the figures would be of more than this month")
        servers.advance_to(servers.now)
        site = _site(program, servers, books, options, begin)
        _live(site, begin, options.days)
        program.ask_about_all_payouts()
        books.now = servers.now
        books.save(folder)
        _print_story(site)
        code = _print_comparison(Comparison(program, servers, books).checks())
    print(f"{options.days} days in {time.monotonic() - began:.0f} seconds", file=sys.stderr)
    return code


def _compare(folder: Path, options: argparse.Namespace) -> int:
    books = Books.load(folder)
    with (
        Servers(folder, books.now) as servers,
        Program(servers, options.database or database_in(folder)) as program,
    ):
        return _print_comparison(Comparison(program, servers, books).checks())


def _site(program: Program, servers: Servers, books: Books, options: argparse.Namespace, begin: float) -> Site:
    """Return the site with its people, and with all that is planned for the month."""
    site = Site(program, servers, books, Random(options.seed), begin + options.days * DAY)
    for number in range(1, options.customers + 1):
        customer = Customer(f"customer-{number:04d}", PAYPAL if number % 3 == 0 else STRIPE)
        books.customers[customer.customer_id] = customer
    payroll = Payroll(site, begin, options.days)
    payroll.engage(options.performers)
    payroll.plan()
    plan_chargebacks(site, begin, options.days, max(2, options.customers // 80))
    return site


def _live(site: Site, begin: float, days: int) -> None:
    """Let the days pass, with a line for each."""
    for day in range(-EARLIER_DAYS, days):
        before = dict(site.books.counts)
        midnight = begin + day * DAY
        for step in range(int(DAY / STEP)):
            site.open_for(STEP)
            site.pass_time(midnight + (step + 1) * STEP)
        site.program.look_at_the_servers()
        more = {what: count - before.get(what, 0) for what, count in site.books.counts.items()}
        news = ", ".join(f"{what} {count}" for what, count in more.items() if count)
        print(f"{datetime.fromtimestamp(midnight, UTC):%d %B}  {news}", file=sys.stderr, flush=True)


def _print_story(site: Site) -> None:
    """Print what happened, and the statement of the site's account."""
    books = site.books
    last_day = datetime.fromtimestamp(books.now, UTC) - timedelta(seconds=1)
    print(f"\nA month of a site: {books.month}, until {last_day:%d %B}")
    ((lost,),) = site.program.rows("SELECT COUNT(*) FROM events WHERE to_status = 'unknown'")
    for what, count in sorted({**books.counts, "answers lost on their way": lost}.items()):
        print(f"  {count:>6,} {what}")
    statuses = site.program.rows("SELECT status, COUNT(*) FROM payouts GROUP BY status ORDER BY status")
    print("Payouts now: " + ", ".join(f"{count} {status}" for status, count in statuses))
    print("\nStatement of the site, in minor units")
    for line in make_statement(site.program.context, books.month).lines:
        figures = f"{line.opening_minor:>12,} {line.movement_minor:>12,} {line.closing_minor:>12,}"
        print(f"  {line.currency} {line.figure:<12} {figures}")


def _print_comparison(checks: list[Check]) -> int:
    """Print a table of what was compared, and the rows that differ. Return the exit code."""
    print(f"\n{'compared':<42} {'between':<32} {'rows':>5} {'sum of one':>12} {'of the other':>12}")
    for check in checks:
        sums = [sum(side.values()) for side in (check.left, check.right)]
        rows, verdict = len({**check.left, **check.right}), "agree"
        if check.differing:
            verdict = f"{len(check.differing)} DIFFER"
        print(f"{check.title:<42} {check.sources:<32} {rows:>5} {sums[0]:>12,} {sums[1]:>12,}  {verdict}")
    wrong = [check for check in checks if check.differing]
    for check in wrong:
        print(f"\n{check.title} ({check.sources}):")
        for name, left, right in check.differing:
            print(f"  {name or 'in all':<42} {left:>14,} {right:>14,}  differ by {left - right:,}")
    print("\nAll books agree to the minor unit." if not wrong else "\nThe books do not agree.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
