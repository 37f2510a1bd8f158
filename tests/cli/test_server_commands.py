"""Commands that run until they are stopped: web, worker, scheduler, sandbox and dev."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from refund_worker.cli import dev
from refund_worker.cli.stack import Stack
from refund_worker.settings import load_settings


def test_sandbox_that_cannot_start_exits_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text("{")
    ran = cli("sandbox", "--port", "0", "--book", "book.jsonl", "--faults", "faults.json")
    assert (ran.code, ran.err.startswith("error: the sandbox stopped")) == (2, True)


def test_every_server_command_reports_a_port_in_use(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (("web",), ("web", "--workers", "2"), ("dev",), ("sandbox", "--book", "book.jsonl")):
            ran = cli(*command, "--port", port)
            error = f"error: port {port} is in use: choose another with --port (bad_settings)\n"
            assert (ran.code, ran.out, ran.err) == (2, "", error), command
    for host in ("192.0.2.1", "no such host", "\u00fc" * 70):
        ran = cli("web", "--port", "0", "--host", host)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
        assert "choose another with --host" in ran.err


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start `refund-worker` with arguments in a process of its own."""
    command = [sys.executable, "-m", "refund_worker", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_web_prints_its_address_even_on_a_free_port(cli: Cli, workers: str) -> None:
    with started("web", "--port", "0", "--workers", workers) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            message = json.loads(line)["message"]
            place = re.fullmatch(r"refund-worker web listens on (http://127\.0\.0\.1:[1-9]\d*)", message)
            assert place is not None, line
            with urllib.request.urlopen(f"{place[1]}/healthz", timeout=60) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize("kind", ["worker", "scheduler"])
def test_worker_and_scheduler_report_that_they_are_ready(cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "embedded")
    with started(kind) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert f"the {kind} is ready: " in line
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_empty_list_of_queues_is_refused(cli: Cli) -> None:
    for queues in (",", " ", " , ,"):
        ran = cli("worker", "--queues", queues)
        assert (ran.code, "--queues" in ran.err, len(ran.err.splitlines())) == (2, True, 1)


def test_sandbox_serves_until_it_is_stopped(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refund_worker", "sandbox", "--port", "0", "--book", str(tmp_path / "book.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "listening on http://127.0.0.1:" in process.stdout.readline()
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_dev_uses_a_secret_from_a_file_and_adds_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk_test_in_a_file\n")
    environ = {
        "REFUND_WORKER_STRIPE_API_KEY_FILE": str(tmp_path / "key"),
        "REFUND_WORKER_POLL_SECONDS": "5",
        "HOME": "/",
    }
    chosen = dev._settings_in({**environ, "HOME": "/"}, load_settings(environ))
    assert chosen == {"REFUND_WORKER_STRIPE_API_KEY": "sk_test_in_a_file", "REFUND_WORKER_POLL_SECONDS": "5"}
    stack = Stack(tmp_path, settings=chosen)
    assert load_settings(stack.environment).stripe_api_key is not None
    stack.environment["REFUND_WORKER_STRIPE_API_BASE"] = "http://127.0.0.1:9"
    exports = dev._exports(stack, chosen)
    assert exports == ["export REFUND_WORKER_STRIPE_API_BASE=http://127.0.0.1:9"]
    assert len(dev._exports(stack, {})) == 2
    stack.stop()


def test_dev_ignores_empty_settings_and_those_of_kubernetes() -> None:
    environ = {
        "REFUND_WORKER_STRIPE_API_KEY_FILE": "",
        "REFUND_WORKER_NOTIFY_URL": "",
        "REFUND_WORKER_PORT": "tcp://10.0.0.1:80",
        "refund_worker_poll_seconds": "5",
    }
    assert dev._settings_in(environ, load_settings(environ)) == {"REFUND_WORKER_POLL_SECONDS": "5"}
