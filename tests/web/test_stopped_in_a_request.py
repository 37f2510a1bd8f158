"""`refund-worker web` gets SIGTERM or SIGHUP during a request: it answers the request completely and then ends."""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse

import httpx
import psutil
import pytest
from sqlalchemy import text
from tests.support.deployment import wait_until
from tests.support.processes import hang_ups_ignored
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime
from refund_worker.store.database import Database
from refund_worker.web.server import _Processes

SECONDS_MAX = 20.0
HELD_SECONDS = 1.0
BODY = json.dumps({"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "reason": "asked"}).encode()


class Command(WebProcess):
    """The running command, with a customer who has paid."""

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "refund_worker", "web", "--port", str(self.port), "--workers", str(self._workers)]

    def sell(self, url: str) -> None:
        with build_runtime(settings_for(url), processors=False) as runtime:
            self.key = create_key(runtime.context, name="admin", client="backend", role="admin")
        answer = httpx.post(f"{self.url}/v1/payments", json=PAYMENT, headers=self.headers("paid"), timeout=SECONDS_MAX)
        assert answer.status_code == 201

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}", "Idempotency-Key": key, "Content-Type": "application/json"}

    def has_a_request(self) -> bool:
        """Return True if a client is connected; no test here keeps an idle connection."""
        connections = psutil.Process(self.pid).net_connections("tcp")
        return any(c.status == psutil.CONN_ESTABLISHED and c.laddr.port == self.port for c in connections)

    def told_to_stop(self, number: signal.Signals = signal.SIGTERM, *, each: bool = False) -> psutil.Process:
        """Stop the process and return it when it refuses new connections; an idle one would have ended by then.

        With `each`, all its processes get the signal, as from a service manager or in a process group.
        """
        process = psutil.Process(self.pid)
        children = running_children(process)
        for one in (*process.children(), process) if each else (process,):
            one.send_signal(number)

        def has_noticed() -> bool:
            if self._workers > 1:  # processes without a request end at once; the parent keeps the port until it ends
                return running_children(process) < children
            with socket.socket() as stranger:
                return stranger.connect_ex(("127.0.0.1", self.port)) != 0

        wait_until(has_noticed, SECONDS_MAX)
        time.sleep(HELD_SECONDS)
        return process


def running_children(process: psutil.Process) -> int:
    return sum(child.status() != psutil.STATUS_ZOMBIE for child in process.children())


def assert_taken(url: str, status: int, refund_id: str) -> None:
    assert status == 202
    database = Database(url)
    with database.read() as connection:
        assert connection.execute(text("SELECT refund_id FROM refunds")).scalars().all() == [refund_id]
    database.close()


@pytest.mark.parametrize(("workers", "each"), [(1, False), pytest.param(2, True, marks=pytest.mark.slow)])
def test_stop_waits_for_a_body_that_is_still_arriving(migrated_sqlite_url: str, workers: int, each: bool) -> None:
    with Command(migrated_sqlite_url, workers) as server:
        server.sell(migrated_sqlite_url)
        lines = ["POST /v1/refunds HTTP/1.1", "Host: 127.0.0.1", "Expect: 100-continue", f"Content-Length: {len(BODY)}"]
        lines += [f"{name}: {value}" for name, value in server.headers("k").items()]
        with socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS_MAX) as client:
            client.sendall("\r\n".join([*lines, "", ""]).encode())
            assert client.recv(100).startswith(b"HTTP/1.1 100 "), "the server waits for the body"
            client.sendall(BODY[:10])
            process = server.told_to_stop(signal.SIGHUP, each=each)
            client.sendall(BODY[10:])
            answer = HTTPResponse(client)
            answer.begin()
            assert_taken(migrated_sqlite_url, answer.status, json.loads(answer.read())["id"])
        assert process.wait(SECONDS_MAX) == 0


def test_stop_waits_for_a_request_blocked_by_a_lock(migrated_url: str) -> None:
    with Command(migrated_url) as server, ThreadPoolExecutor(1) as pool:
        server.sell(migrated_url)
        database = Database(migrated_url)
        with database.write() as connection:
            connection.execute(text("UPDATE customers SET balance = balance"))
            waiting = pool.submit(
                httpx.post, f"{server.url}/v1/refunds", content=BODY, headers=server.headers("k"), timeout=SECONDS_MAX
            )
            wait_until(lambda: server.has_a_request(), SECONDS_MAX)
            process = server.told_to_stop()
            assert not waiting.done()
        answer = waiting.result(SECONDS_MAX)
        assert_taken(migrated_url, answer.status_code, answer.json()["id"])
        assert process.wait(SECONDS_MAX) == 0
        database.close()


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_web_started_by_nohup_survives_a_hang_up(migrated_sqlite_url: str, workers: int) -> None:
    with hang_ups_ignored(), Command(migrated_sqlite_url, workers) as server:
        process = psutil.Process(server.pid)
        started = process.children()
        for one in (*started, process):
            one.send_signal(signal.SIGHUP)
        time.sleep(2 * HELD_SECONDS)
        assert server.answers()
        assert process.children() == started, "no process was replaced, with the requests that it was answering"
        process.terminate()
        assert process.wait(SECONDS_MAX) == 0


def test_several_processes_end_at_a_terminals_quit() -> None:
    processes = _Processes.__new__(_Processes)  # without its handlers of signals, which would stay in this process
    processes.signal_queue, processes.should_exit = [signal.SIGQUIT], threading.Event()
    processes.handle_signals()
    assert processes.should_exit.is_set()
