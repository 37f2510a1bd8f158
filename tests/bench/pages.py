"""`python -m tests.bench.pages`: the time of each page of the console and each list of the API, on a large database.

The server is as in a deployment and gets one request at a time: each address a few times to warm up, and then REPEATS
times. Prints milliseconds by route, on SQLite and on Postgres: the median, the maximum, and the CPU time of the
server's process for one request, which is more reliable on a busy machine. Exits with 1 if a median reaches LIMIT_MS.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from sqlalchemy import Connection, func, select

from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.access.console_users import create_user
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings
from refund_worker.store.tables import refunds
from tests.support.dataset_patterns import BUSY
from tests.support.large_dataset import fill
from tests.support.migrated import migrate
from tests.support.processes import free_port
from tests.support.servers import PostgresServer
from tests.web.console.addresses import addresses
from tests.web.console.visitor import PASSWORD, form_on

LIMIT_MS = 100.0
WARM_UP, REPEATS = 3, 15
START_SECONDS_MAX = 60


@dataclass(frozen=True, slots=True)
class Took:
    """Milliseconds of one address: one value for each request, and the CPU time of one request."""

    each: list[float]
    busy: float

    @property
    def median(self) -> float:
        """The median in milliseconds."""
        return statistics.median(self.each)


Times = dict[str, Took]


def main() -> int:
    """Fill, serve and measure. Show the slowest address of each route."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refunds", type=int, default=int(os.environ.get("BENCH_PAGE_REFUNDS", "100000")))
    parser.add_argument("--on", choices=("sqlite", "postgres"), action="append", help="default: both")
    parser.add_argument("--url", help="a filled database, instead of new ones")
    parser.add_argument("--every", action="store_true", help="show every address, not the slowest of each route")
    chosen = parser.parse_args()
    slow = 0
    with tempfile.TemporaryDirectory(prefix="refund-worker-pages-") as folder:
        for name, url in _databases(chosen.url, chosen.on or ["sqlite", "postgres"], Path(folder)):
            if not chosen.url:
                migrate(url)
                began = time.perf_counter()
                rows = fill(url, chosen.refunds, sealed=True)
                print(", ".join(f"{rows[table]:,} {table}" for table in ("refunds", "events", "ledger_entries")))
                print(f"{name}: filled in {time.perf_counter() - began:.0f} s")
            slow += _report(name, measure(url), every=chosen.every)
    print("ok" if not slow else f"{slow} AT OR ABOVE {LIMIT_MS:.0f} ms")
    return 1 if slow else 0


def _databases(given: str | None, names: Sequence[str], folder: Path) -> Iterator[tuple[str, str]]:
    if given:
        yield given.partition(":")[0], given
        return
    if "sqlite" in names:
        yield "sqlite", f"sqlite:///{folder / 'refunds.db'}"
    if "postgres" in names:
        with PostgresServer() as server:
            yield "postgres", server.databases.create()


def measure(url: str) -> Mapping[str, Times]:
    """Return milliseconds by route and address, measured on a separate web process."""
    settings = {"REFUND_WORKER_DATABASE_URL": url}
    with build_runtime(load_settings(settings), processors=False) as runtime:
        name = f"bench-{time.time_ns()}"
        create_user(runtime.context, name=name, role="admin", password=PASSWORD)
        key = create_key(runtime.context, name=name, client="backend", role="admin", expires_at=None)
        small = create_key(runtime.context, name=name, client="nobody", role="viewer", expires_at=None)
        with runtime.context.database.read() as connection:
            pages = {route: [f"/console{a}" for a in found] for route, found in addresses(connection).items()}
            lists = _lists(connection)
    with _served(settings) as server:
        _sign_in(server.http, name)
        times = {f"/console{route}": {a: _time(server, a) for a in found} for route, found in pages.items()}
        server.http.cookies.clear()
        for route, found in lists.items():
            times[route] = {a: _time(server, a, Authorization=f"Bearer {key}") for a in found}
        of_few = {"/v1/refunds", "/v1/refunds?status=succeeded"}
        times["/v1/refunds of a client with none"] = {
            a: _time(server, a, Authorization=f"Bearer {small}") for a in sorted(of_few)
        }
    return times


def _lists(connection: Connection) -> Mapping[str, Sequence[str]]:
    middle = connection.execute(select(func.max(refunds.c.refund_id)).where(refunds.c.status == "failed")).scalar()
    return {
        "/v1/refunds": [
            "/v1/refunds",
            "/v1/refunds?status=failed",
            "/v1/refunds?failure_code=declined",
            "/v1/refunds?created_gte=2099-01-01T00:00:00Z",
            f"/v1/refunds?customer_id={BUSY}",
            f"/v1/refunds?starting_after={middle}",
            "/v1/refunds?idempotency_key=nothing",
        ],
        "/v1/refunds/{refund_id}": [
            f"/v1/refunds/{middle}",
            f"/v1/refunds/{middle}/events",
            f"/v1/refunds/{middle}/waits",
        ],
        "/v1/customers/{customer_id}": [f"/v1/customers/{BUSY}", f"/v1/customers/{BUSY}/transactions"],
        "/metrics": ["/metrics"],
    }


@dataclass(frozen=True, slots=True)
class Server:
    """A web process and its HTTP client."""

    http: httpx.Client
    process: psutil.Process

    def busy_seconds(self) -> float:
        """Return the CPU time that the process has used, in seconds."""
        used = self.process.cpu_times()
        return float(used.user + used.system)


@contextmanager
def _served(settings: Mapping[str, str]) -> Iterator[Server]:
    port = free_port()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("REFUND_WORKER_")}
    command = [sys.executable, "-m", "refund_worker", "web", "--port", str(port)]
    web = subprocess.Popen(command, env=clean | settings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            _wait(http, web)
            yield Server(http, psutil.Process(web.pid))
    finally:
        web.terminate()
        web.wait(20)


def _wait(http: httpx.Client, web: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_SECONDS_MAX
    while True:
        try:
            http.get("/healthz").raise_for_status()
        except httpx.HTTPError:
            assert web.poll() is None, "the web ended unexpectedly"
            assert time.monotonic() < end, "the web did not start in time"
            time.sleep(0.1)
        else:
            return


def _sign_in(http: httpx.Client, name: str) -> None:
    fields = form_on(http.get("/console/sign-in"), "/console/sign-in")
    http.post("/console/sign-in", data=fields | {"name": name, "password": PASSWORD})
    assert http.get("/console/").status_code == 200


def _time(server: Server, address: str, **headers: str) -> Took:
    times = []
    for number in range(WARM_UP + REPEATS):
        if number == WARM_UP:
            busy = server.busy_seconds()
        began = time.perf_counter()
        answer = server.http.get(address, headers=headers)
        times.append((time.perf_counter() - began) * 1000)
        if answer.status_code != 200:
            print(f"{address} answered {answer.status_code}")
            return Took([math.inf], math.inf)
    return Took(times[WARM_UP:], (server.busy_seconds() - busy) * 1000 / REPEATS)


def _report(name: str, times: Mapping[str, Times], *, every: bool) -> int:
    """Print the times and return how many routes are too slow."""
    print(f"\n{name}: ms at the median, ms at most, ms of the processor")
    slow = 0
    for by_address in times.values():
        ranked = sorted(by_address.items(), key=lambda item: -item[1].median)
        slow += ranked[0][1].median >= LIMIT_MS
        for address, took in ranked if every else ranked[:1]:
            mark = "  <-- slow" if took.median >= LIMIT_MS else ""
            print(f"{took.median:8.1f} {max(took.each):8.1f} {took.busy:8.1f}  {address}{mark}")
    return slow


if __name__ == "__main__":
    sys.exit(main())
