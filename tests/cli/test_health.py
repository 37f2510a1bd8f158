"""`refund-worker health …`: checks are cheap and correct for each queue."""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.support.processes import free_port

from refund_worker.cli.healthcheck import DATABASE_URL, DATABASE_URL_DEFAULT
from refund_worker.settings import Settings, load_settings
from refund_worker.worker.heartbeat import AGE_SECONDS_MAX, Heartbeat

HEAVY = (
    "typer",
    "rich",
    "babel",
    "pydantic",
    "celery",
    "sqlalchemy",
    "pydantic_settings",
    "fastapi",
    "stripe",
    "redis",
    "refund_worker.settings",
)


@pytest.mark.parametrize("kind", ["worker", "scheduler"])
def test_only_a_fresh_heartbeat_counts_as_alive(cli: Cli, kind: str) -> None:
    assert cli("health", kind).code == 1
    heartbeat = Heartbeat(kind, load_settings())  # type: ignore[arg-type]
    heartbeat.beat()
    assert cli("health", kind).code == 0
    other = {"worker": "scheduler", "scheduler": "worker"}[kind]
    assert cli("health", other).code == 1
    past = heartbeat.path.stat().st_mtime - AGE_SECONDS_MAX[kind] - 5  # type: ignore[index]
    os.utime(heartbeat.path, (past, past))
    ran = cli("health", kind)
    assert ran.code == 1
    assert "last reported" in ran.err
    heartbeat.end()
    assert cli("health", kind).code == 1


def test_live_worker_of_another_queue_does_not_hide_a_hanging_one(cli: Cli) -> None:
    def codes() -> list[int]:
        choices = ([], ["--queues", "refunds"], ["--queues", "bulk"], ["--queues", "refunds, bulk"])
        return [cli("health", "worker", *options).code for options in choices]

    both = Heartbeat("worker", load_settings(), ["refunds", "bulk"])
    both.beat()
    assert codes() == [0, 0, 0, 0]
    both.end()
    refunds, bulk = (Heartbeat("worker", load_settings(), [queue]) for queue in ("refunds", "bulk"))
    refunds.beat()
    assert codes() == [0, 0, 1, 1]
    bulk.beat()
    assert codes() == [0, 0, 0, 0]
    past = bulk.path.stat().st_mtime - AGE_SECONDS_MAX["worker"] - 5
    os.utime(bulk.path, (past, past))
    assert codes() == [0, 0, 1, 1]
    ran = cli("health", "worker", "--queues", "refunds,bulk")
    assert "the worker of bulk last reported" in ran.err + ran.out
    assert cli("health", "worker", "--queues", "no-such-queue").code == 1
    assert cli("health", "worker", "--queues", ",").code == 2


def test_database_url_can_come_from_a_file(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Heartbeat("worker", load_settings()).beat()
    (tmp_path / "secret").write_text(os.environ[DATABASE_URL] + "\n")
    monkeypatch.delenv(DATABASE_URL)
    assert cli("health", "worker").code == 1
    monkeypatch.setenv(DATABASE_URL + "_FILE", str(tmp_path / "secret"))
    assert cli("health", "worker").code == 0


def test_check_uses_the_default_database_url_of_the_settings() -> None:
    assert Settings.model_fields["database_url"].default.get_secret_value() == DATABASE_URL_DEFAULT


@contextmanager
def answering(host: str, status: int) -> Iterator[int]:
    """Serve `/healthz` on this address alone, and yield the port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            return None

    class Server(http.server.HTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

    server = Server((host, 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:  # also after a failed test: its thread would run for ever
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_web_process_is_alive_if_healthz_answers_200(cli: Cli, status: int, code: int) -> None:
    with answering("127.0.0.1", status) as port:
        assert cli("health", "web", "--port", str(port)).code == code


@pytest.mark.parametrize(
    ("listens", "options"),
    [
        ("127.0.0.1", ()),
        ("127.0.0.1", ("--host", "0.0.0.0")),
        ("::1", ()),
        ("::1", ("--host", "::")),
        ("::1", ("--host", "::1")),
        ("::1", ("--host", "[::1]")),
        ("127.0.0.2", ("--host", "127.0.0.2")),
    ],
)
def test_web_process_is_found_at_its_address(cli: Cli, listens: str, options: tuple[str, ...]) -> None:
    with answering(listens, 200) as port:
        assert cli("health", "web", "--port", str(port), *options).code == 0
        assert alone("health", "web", *options, "--port", str(port)).returncode == 0


def test_web_process_of_another_address_is_not_taken_for_this_one(cli: Cli) -> None:
    with answering("127.0.0.2", 200) as port:
        assert cli("health", "web", "--port", str(port)).code == 1
        ran = cli("health", "web", "--port", str(port), "--host", "127.0.0.3")
        assert (ran.code, "127.0.0.3" in ran.err) == (1, True)


@pytest.mark.parametrize("host", ["a b", "a..b", "é..x", "http://127.0.0.1"])
def test_host_that_is_no_name_is_not_alive(cli: Cli, host: str) -> None:
    for ran in (alone("health", "web", "--host", host), cli("health", "web", "--host", host)):
        told = ran.stderr if isinstance(ran, subprocess.CompletedProcess) else ran.err
        assert (len(told.splitlines()), host in told) == (1, True)


def test_runtime_folder_that_is_not_there_has_no_heartbeat(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFUND_WORKER_RUNTIME_DIR", str(tmp_path / "none"))
    ran = cli("health", "worker")
    assert (ran.code, "there is no heartbeat in" in ran.err) == (1, True)


def test_runtime_folder_with_an_impossible_name_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_RUNTIME_DIR", "/tmp/" + "x" * 300)
    ran = cli("health", "worker")
    assert (ran.code, "File name too long" in ran.err) == (1, True)
    ran = cli("doctor", "-o", "json")
    assert '"runtime folder", "verdict": "warn"' in " ".join(ran.out.split())


def test_web_process_that_is_down_is_not_alive(cli: Cli) -> None:
    assert cli("health", "web", "--port", str(free_port())).code == 1


def alone(*arguments: str, end: str = "") -> subprocess.CompletedProcess[str]:
    """Run `refund-worker` with arguments in a process of its own, with the Python code `end` before it."""
    code = f"import atexit, sys\nfrom refund_worker.__main__ import main\n{end}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    "arguments", [("worker",), ("worker", "--queues", "bulk"), ("scheduler",), ("web",), ("web", "--port", "1")]
)
def test_check_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    loaded = f"atexit.register(lambda: print([name for name in {HEAVY} if name in sys.modules]))"
    ran = alone("health", *arguments, end=loaded)
    assert (ran.returncode, ran.stdout.strip()) == (1, "[]"), ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_check_imports_few_modules() -> None:
    ran = alone("health", "worker", end="atexit.register(lambda: print(len(sys.modules)))")
    # About 90 with 3.11; the whole command line has more than 600.
    assert int(ran.stdout) < 200


def test_quick_check_answers_as_the_command_line_does(cli: Cli) -> None:
    for _ in range(2):
        for arguments in (
            ("worker",),
            ("worker", "--queues", "bulk"),
            ("scheduler",),
            ("web", "--port", str(free_port())),
        ):
            quick, whole = alone("health", *arguments), cli("health", *arguments)
            assert quick.returncode == whole.code
            assert re.sub(r"\d+ seconds", "", quick.stderr) == re.sub(r"\d+ seconds", "", whole.err)
        Heartbeat("worker", load_settings()).beat()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--help",), 0, "worker's heartbeat"),
        (("worker", "--help"), 0, "Usage"),
        (("printer",), 2, "printer"),
        (("web", "--port", "0"), 2, "--port"),
        (("web", "--port", "x"), 2, "--port"),
        (("worker", "--queues", ","), 2, "--queues"),
    ],
)
def test_other_forms_of_a_check_are_explained_by_the_command_line(
    arguments: tuple[str, ...], code: int, text: str
) -> None:
    ran = alone("health", *arguments)
    assert ran.returncode == code
    assert text in ran.stdout + ran.stderr


def test_unreadable_secret_file_is_a_usage_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DATABASE_URL + "_FILE", str(tmp_path / "nothing"))
    ran = alone("health", "worker")
    assert ran.returncode == 2
    assert DATABASE_URL + "_FILE" in ran.stderr


def test_variables_of_kubernetes_change_no_check(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Heartbeat("worker", load_settings()).beat()
    for name, value in {
        "REFUND_WORKER_SERVICE_HOST": "10.0.0.1",
        "REFUND_WORKER_PORT": "tcp://10.0.0.1:8000",
        "REFUND_WORKER_DATABASE_URL_SERVICE_PORT": "5432",
        "REFUND_WORKER_WEB_PORT_8000_TCP_ADDR": "10.0.0.1",
    }.items():
        monkeypatch.setenv(name, value)
    for arguments in (("worker",), ("worker", "--queues", "refunds,bulk")):
        assert alone("health", *arguments).returncode == cli("health", *arguments).code != 2
    assert alone("health", "worker").returncode == 0
