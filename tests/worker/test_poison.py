"""Poisoned messages from an attacker who can write to the broker: nothing changes, nothing runs, no process ends.

Each is sent to a worker on Postgres and a Redis of a URL, and to one on SQLite and the embedded broker.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery.canvas import Signature
from sqlalchemy import func, select
from tests.support.deployment import CONCURRENCY, Deployment, wait_until
from tests.support.migrated import migrate

from refund_worker.store.database import Database
from refund_worker.store.refunds import Filters, find_ids, load
from refund_worker.store.tables import metadata
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.celery_app.child_config import order
from refund_worker.worker.embedded_broker.broker import url_if_running
from refund_worker.worker.queues import QUEUES
from refund_worker.worker.supervisor import CHILD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("poison")]

BACK_SECONDS_MAX = 5.0
# The supervisor's own part of that: its check, its pause, and its CPU time.
NOTICED_SECONDS_MAX = 2.0
PATIENCE_SECONDS = 90.0
PRIVATE = "whatever somebody wrote into a message"
OURS = {"task": "refund_worker.advance", "id": "c", "lang": "py"}


class Writes:
    """A pickle that writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def envelope(
    body: bytes | str,
    kind: str = "application/json",
    encoding: str = "utf-8",
    headers: Mapping[str, Any] = OURS,
    **properties: Any,
) -> str:
    raw = base64.b64encode(body).decode() if isinstance(body, bytes) else body
    usual = {
        "body_encoding": "base64",
        "delivery_tag": "t",
        "delivery_mode": 2,
        "priority": 0,
        "correlation_id": "c",
        "delivery_info": {"exchange": "", "routing_key": "refunds"},
    }
    return json.dumps(
        {
            "body": raw,
            "content-encoding": encoding,
            "content-type": kind,
            "headers": dict(headers),
            "properties": usual | properties,
        }
    )


def poisons(path: Path) -> dict[str, str | bytes]:
    pickled = pickle.dumps(Writes(path))
    return {
        "not JSON": "not JSON {",
        "a list": "[1, 2]",
        "null": "null",
        "an empty object": "{}",
        "too deep": "[" * 100_000,
        "bad base64": envelope("!!! not base64 !!!"),
        "null body": envelope(b"null"),
        "a body that is a number": envelope(b"7"),
        "a list of the wrong length": envelope(f'[["{PRIVATE}"]]'.encode()),
        "no task is named": envelope(f'[["{PRIVATE}"], {{}}, {{}}]'.encode(), headers={}),
        "a task of somebody else": envelope(
            f'[["{PRIVATE}"], {{}}, {{}}]'.encode(), headers={"task": "os.system", "id": "c"}
        ),
        "a task of Celery's own": envelope(
            b'[[{"task": "refund_worker.advance"}, [[[]]]], {}, {}]', headers={"task": "celery.starmap", "id": "c"}
        ),
        "a body without an end": envelope(zlib.compress(b" " * (300 << 20)), headers=OURS | {"compression": "gzip"}),
        "a pickle that says so": envelope(pickled, "application/x-python-serialize", "binary"),
        "a pickle that lies": envelope(pickled),
        "a naked pickle": pickled,
    }


# Values that have stopped Celery or blocked its slots: of each type, empty and huge, in the past and far ahead.
ODD_VALUES: list[Any] = [
    None,
    True,
    0,
    -1,
    0.001,
    10**30,
    "",
    "y",
    "x" * 100_000,
    "2999-01-01T00:00:00",
    "1999-01-01T00:00:00",
    [],
    ["x", "y"],
    [None, "y"],
    [0.001, 0.001],
    [[[]]],
    {"a": 1},
    {"task": "refund_worker.advance", "args": [], "kwargs": {}, "options": {}},
]
IN_HEADERS = (
    *("timelimit", "eta", "expires", "retries", "group", "root_id", "parent_id", "shadow", "origin", "ignore_result"),
    *("id", "argsrepr", "kwargsrepr", "stamps", "stamped_headers", "replaced_task_nesting", "group_index", "lang"),
)
IN_PROPERTIES = ("delivery_info", "delivery_tag", "priority", "reply_to", "correlation_id", "delivery_mode", "x")
IN_EMBED = ("callbacks", "errbacks", "chain", "chord", "x")
IN_PROTOCOL_1 = ("id", "timelimit", "eta", "expires", "retries", "taskset", "callbacks", "errbacks", "chord", "utc")


def odd_messages() -> Iterator[str]:
    """Yield valid wake-ups that name no refund, each with one odd property."""
    valid = b"[[[]], {}, {}]"
    for value in ODD_VALUES:
        for name in IN_HEADERS:
            yield envelope(valid, headers=OURS | {name: value})
        for name in IN_PROPERTIES:
            yield envelope(valid, **{name: value})
        for name in IN_EMBED:
            yield envelope(json.dumps([[[]], {}, {name: value}]).encode())
        for name in IN_PROTOCOL_1:
            fields = {"task": "refund_worker.advance", "id": "c", "args": [[]], "kwargs": {}, name: value}
            yield envelope(json.dumps(fields).encode(), headers={})


@pytest.fixture(scope="module", params=["postgres and redis", "sqlite and embedded"])
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("poison")
    if request.param == "sqlite and embedded":
        made = Deployment(folder)
    else:
        url = request.getfixturevalue("postgres_server").create(migrate)
        made = Deployment(folder, database_url=url, broker_url=request.getfixturevalue("valkey_server"))
    with made:
        made.start("worker", "scheduler")
        made.settle(made.ask(), PATIENCE_SECONDS)
        yield made
    if request.param != "sqlite and embedded":
        request.getfixturevalue("postgres_server").drop(url)


def is_restarted(supervisor: psutil.Process, before: psutil.Process) -> bool:
    """Return True if the supervisor has another child of that kind, ready or not."""
    for child in supervisor.children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if child != before and CHILD in child.cmdline():
                return True
    return False


def bare_start_seconds(running: Deployment) -> float:
    """Return how long the same worker takes to start on this machine now, without a supervisor."""
    settings = running.settings
    url = url_if_running(settings) or settings.broker_url.get_secret_value()
    began = time.monotonic()
    child = psutil.Popen(
        [sys.executable, "-m", CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | running.parts.environment,
    )
    with child.stdin as stdin:
        stdin.write(order(settings, url, list(QUEUES), CONCURRENCY))
    wait_until(lambda: len(child.children()) == CONCURRENCY, PATIENCE_SECONDS)
    seconds = time.monotonic() - began
    child.terminate()
    child.wait(PATIENCE_SECONDS)
    return seconds


def rows(database: Database) -> dict[str, int]:
    """Return the number of rows of each table, without seals, sums, metrics and reports of processes."""
    with database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name not in ("audit_seals", "tallies", "worker_processes", "metric_values")
        }


def pool(running: Deployment) -> list[psutil.Process]:
    parent = running.celery(seconds_max=PATIENCE_SECONDS)
    return [parent, *parent.children()]


def test_pickle_would_write_a_file_if_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Writes(tmp_path / "written")))
    assert (tmp_path / "written").is_dir()


@pytest.mark.parametrize("which", list(poisons(Path())))
def test_poisoned_messages_change_nothing_and_raise_alarms(running: Deployment, tmp_path: Path, which: str) -> None:
    usual_seconds = running.settle(running.ask(publish=True), PATIENCE_SECONDS)
    before, processes = rows(running.runtime.database), pool(running)
    refunds, alarms = running.sandbox.refunds(), running.log("worker").count("alarm: ")
    with running.broker() as broker:
        broker.lpush("refunds", poisons(tmp_path / "written")[which])
        wait_until(lambda: broker.llen("refunds") == 0, PATIENCE_SECONDS)
        wait_until(lambda: running.log("worker").count("alarm: ") > alarms, PATIENCE_SECONDS)
        wait_until(lambda: broker.hlen("unacked") == 0)  # otherwise it would come again

    assert not (tmp_path / "written").exists()
    assert PRIVATE not in running.log("worker")
    assert rows(running.runtime.database) == before
    assert running.sandbox.refunds() == refunds
    # The scheduler does not help here: a wake-up takes the same way as the poison.
    assert running.settle(running.ask(publish=True), PATIENCE_SECONDS) - usual_seconds < BACK_SECONDS_MAX
    assert pool(running) == processes


def test_odd_headers_neither_stop_a_worker_nor_hold_a_slot(running: Deployment) -> None:
    usual_seconds = running.settle(running.ask(publish=True), PATIENCE_SECONDS)
    processes, refunds = pool(running), running.sandbox.refunds()
    with running.broker() as broker:
        for message in odd_messages():
            broker.lpush("refunds", message)
        wait_until(lambda: broker.llen("refunds") == 0, PATIENCE_SECONDS)
        wait_until(lambda: broker.hlen("unacked") == 0, PATIENCE_SECONDS)  # none is kept for later
    assert running.sandbox.refunds() == refunds
    assert running.settle(running.ask(publish=True), PATIENCE_SECONDS) - usual_seconds < BACK_SECONDS_MAX
    assert pool(running) == processes


def deep_messages(depths: Sequence[int]) -> Iterator[str]:
    """Yield wake-ups and requests with arguments nested this deep: a kilobyte each."""
    request = OURS | {"task": "refund_worker.request_refund"}
    for depth in depths:
        nested = "[" * depth + "]" * depth
        yield envelope(f'[[], {{"ids": {nested}}}, {{}}]'.encode())
        yield envelope(f"[{nested}, {{}}, {{}}]".encode())
        yield envelope(
            f'[[], {{"metadata": {{"a": {nested}}}, "idempotency_key": "n"}}, {{}}]'.encode(), headers=request
        )


@pytest.mark.parametrize(
    "depths", [[480] * 2 * CONCURRENCY, [*range(1, 30), *range(100, 1000, 20)]], ids=["as deep as stops it", "mixed"]
)
def test_nested_arguments_stop_no_worker_and_no_process(running: Deployment, depths: list[int]) -> None:
    """Celery's pool fails at some hundred levels: it lost a slot of the worker for good, or ended the worker."""
    usual_seconds = running.settle(running.ask(publish=True), PATIENCE_SECONDS)
    processes, alarms = pool(running), running.log("worker").count("alarm: ")
    with running.broker() as broker:
        broker.lpush("refunds", *deep_messages(depths))
        wait_until(lambda: broker.llen("refunds") == 0, PATIENCE_SECONDS)
        wait_until(lambda: broker.hlen("unacked") == 0, PATIENCE_SECONDS)
    for _ in range(2 * CONCURRENCY):  # one after the other, so that each slot is used
        assert running.settle(running.ask(publish=True), PATIENCE_SECONDS) - usual_seconds < BACK_SECONDS_MAX
    assert pool(running) == processes
    assert running.log("worker").count("alarm: ") > alarms


def test_celery_options_of_a_backend_do_not_delay_its_requests(running: Deployment) -> None:
    [earlier] = running.ask()
    running.settle([earlier], PATIENCE_SECONDS)
    processes = pool(running)
    with running.runtime.database.read() as connection:
        [customer] = [refund.customer_id for refund in load(connection, [earlier])]
    again = Signature("refund_worker.advance")
    slips: list[dict[str, Any]] = [
        {"time_limit": "y"},
        {"soft_time_limit": "x", "time_limit": "y"},
        {"countdown": 30 * 86_400},
        {"expires": -1},
        {"priority": 9},
        {"compression": "gzip"},
        {"link": again, "link_error": Signature("nobody.knows")},
        {"shadow": "x" * 1000, "headers": {"timelimit": "z"}, "reply_to": "nowhere"},
    ]
    fields = {"kind": "withdrawal", "to": "source", "customer_id": customer, "credits": 5, "reason": "asked"}
    with make_app(running.settings) as app:
        for number, slip in enumerate(slips):
            named = fields | {"idempotency_key": f"slip-{number}", "client": f"slips-{customer}"}
            app.send_task("refund_worker.request_refund", queue="refunds", kwargs=named, **slip)

    def stored() -> list[str]:
        with running.runtime.database.read() as connection:
            return find_ids(connection, Filters(client=f"slips-{customer}"))

    wait_until(lambda: len(stored()) == len(slips), PATIENCE_SECONDS)
    running.settle(stored(), PATIENCE_SECONDS)
    assert pool(running) == processes


def test_foreign_data_in_the_unacked_list_stops_no_worker(running: Deployment) -> None:
    """From this list the broker puts back messages that were not acknowledged in time."""
    processes, alarms = pool(running), running.log("worker").count("alarm: ")
    with running.broker() as broker:
        for number, text in enumerate(("not JSON {", "[1]", "null", '[[], "", "refunds"]')):
            broker.hset("unacked", f"odd-{number}", text)
            broker.zadd("unacked_index", {f"odd-{number}": 1.0})
        wait_until(lambda: broker.hlen("unacked") == broker.zcard("unacked_index") == 0, PATIENCE_SECONDS)
    wait_until(lambda: running.log("worker").count("alarm: ") > alarms, PATIENCE_SECONDS)
    running.settle(running.ask(publish=True), PATIENCE_SECONDS)
    assert pool(running) == processes


def test_killed_worker_is_restarted(running: Deployment) -> None:
    [parent, *_] = pool(running)
    supervisor = running.process("worker")
    bare = bare_start_seconds(running)
    killed = time.monotonic()
    parent.kill()
    wait_until(lambda: is_restarted(supervisor, parent), PATIENCE_SECONDS)
    noticed_seconds = time.monotonic() - killed
    ids = running.ask()
    starts = running.parts.all["worker"].starts
    [again, *_] = pool(running)
    back_seconds = time.monotonic() - killed
    assert again != parent
    assert noticed_seconds < NOTICED_SECONDS_MAX
    # Where a start takes long (a busy machine), that time replaces the usual limit.
    bare = max(bare, bare_start_seconds(running))
    assert back_seconds < max(BACK_SECONDS_MAX, NOTICED_SECONDS_MAX + bare)
    running.settle(ids, PATIENCE_SECONDS)
    assert supervisor.is_running()
    assert running.parts.all["worker"].starts == starts == 1
