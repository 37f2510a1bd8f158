"""Poisoned messages, from somebody who can write to the broker: nothing changes, nothing is run, no process ends.

Each goes to a worker on Postgres and a Redis of a URL, and to one on SQLite and the embedded broker.
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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import func, select
from tests.support.deployment import CONCURRENCY, Deployment, wait_until
from tests.support.migrated import migrate

from refund_worker.store.database import Database
from refund_worker.store.tables import metadata
from refund_worker.worker.constants import QUEUES
from refund_worker.worker.embedded import url_if_running
from refund_worker.worker.order import order
from refund_worker.worker.run import CHILD

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.xdist_group("poison")]

BACK_SECONDS_MAX = 5.0
# The supervisor's own part of that: its look, its pause, and its turn to run.
NOTICED_SECONDS_MAX = 2.0
PATIENCE_SECONDS = 90.0
PRIVATE = "whatever somebody wrote into a message"
OURS = {"task": "refund_worker.advance", "id": "c", "lang": "py"}


class Writes:
    """Whoever unpickles this writes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self._path),)


def envelope(
    body: bytes | str,
    kind: str = "application/json",
    encoding: str = "utf-8",
    headers: Mapping[str, str] = OURS,
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
        "no delivery_info": envelope(b"[[], {}, {}]", delivery_info=None),
        "an impossible tag": envelope(b"[[], {}, {}]", delivery_tag={"a": 1}),
        "a tag of null": envelope(b"[[], {}, {}]", delivery_tag=None),
        "a list of the wrong length": envelope(f'[["{PRIVATE}"]]'.encode()),
        "no task is named": envelope(f'[["{PRIVATE}"], {{}}, {{}}]'.encode(), headers={}),
        "a task of somebody else": envelope(
            f'[["{PRIVATE}"], {{}}, {{}}]'.encode(), headers={"task": "os.system", "id": "c"}
        ),
        "a pickle that says so": envelope(pickled, "application/x-python-serialize", "binary"),
        "a pickle that lies": envelope(pickled),
        "a naked pickle": pickled,
    }


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


def begun_anew(supervisor: psutil.Process, before: psutil.Process) -> bool:
    """Whether the supervisor has another child of that kind, ready or not."""
    for child in supervisor.children():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if child != before and CHILD in child.cmdline():
                return True
    return False


def bare_start_seconds(running: Deployment) -> float:
    """How long the same worker takes to start, here and now, with no supervisor that has to notice anything."""
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
    """How many rows each table has; the scheduler goes on with seals and sums by itself."""
    with database.read() as connection:
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
            if table.name not in ("audit_seals", "tallies")
        }


def pool(running: Deployment) -> list[psutil.Process]:
    parent = running.celery(seconds_max=PATIENCE_SECONDS)
    return [parent, *parent.children()]


def test_the_pickle_would_write_if_anybody_unpickled_it(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Writes(tmp_path / "written")))
    assert (tmp_path / "written").is_dir()


@pytest.mark.parametrize("which", list(poisons(Path())))
def test_nothing_is_written_changed_or_ended_and_somebody_is_told(
    running: Deployment, tmp_path: Path, which: str
) -> None:
    usual_seconds = running.settle(running.ask(wake=True), PATIENCE_SECONDS)
    before, processes = rows(running.runtime.database), pool(running)
    refunds, alarms = running.sandbox.refunds(), running.log("worker").count("alarm: ")
    with running.broker() as broker:
        broker.lpush("refunds", poisons(tmp_path / "written")[which])
        wait_until(lambda: broker.llen("refunds") == 0, PATIENCE_SECONDS)
        wait_until(lambda: running.log("worker").count("alarm: ") > alarms, PATIENCE_SECONDS)
        wait_until(lambda: broker.hlen("unacked") == 0)  # else it would come again

    assert not (tmp_path / "written").exists()
    assert PRIVATE not in running.log("worker")
    assert rows(running.runtime.database) == before
    assert running.sandbox.refunds() == refunds
    # The scheduler is of no help here: a wake-up goes the way that the poison went.
    assert running.settle(running.ask(wake=True), PATIENCE_SECONDS) - usual_seconds < BACK_SECONDS_MAX
    assert pool(running) == processes


def test_a_worker_that_ends_all_the_same_is_back(running: Deployment) -> None:
    [parent, *_] = pool(running)
    supervisor = running.process("worker")
    bare = bare_start_seconds(running)
    killed = time.monotonic()
    parent.kill()
    wait_until(lambda: begun_anew(supervisor, parent), PATIENCE_SECONDS)
    noticed_seconds = time.monotonic() - killed
    ids = running.ask()
    told = running.parts.all["worker"].starts
    [again, *_] = pool(running)
    back_seconds = time.monotonic() - killed
    assert again != parent
    assert noticed_seconds < NOTICED_SECONDS_MAX
    # Where starting takes long by itself (a busy machine), so long in the place of what is usual.
    bare = max(bare, bare_start_seconds(running))
    assert back_seconds < max(BACK_SECONDS_MAX, NOTICED_SECONDS_MAX + bare)
    running.settle(ids, PATIENCE_SECONDS)
    assert supervisor.is_running()
    assert running.parts.all["worker"].starts == told == 1
