"""The Procfile, run by honcho on a real Postgres and a real Valkey: what docker-compose.yml starts, without Docker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.deployment import wait_until
from tests.support.http_refund import READY_SECONDS_MAX, Api, refund_one
from tests.support.processes import free_port
from tests.support.servers import PostgresDatabases

from refund_worker.engine.access.api_keys import create_key
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

PROCFILE = Path(__file__).parents[2] / "Procfile"
LONG_RUNNING = ("web", "worker", "bulk", "scheduler")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def lines() -> dict[str, str]:
    pairs = (line.partition(":") for line in PROCFILE.read_text("utf-8").splitlines() if line)
    return {name: command.strip() for name, _, command in pairs}


def test_procfile_names_the_promised_processes() -> None:
    assert set(lines()) == {"release", *LONG_RUNNING}
    assert lines()["release"] == "refund-worker db upgrade"
    # A platform's router reaches a process from another machine.
    assert "--host ${WEB_HOST:-0.0.0.0} --port ${PORT:-8000}" in lines()["web"]


@pytest.fixture
def environment(
    tmp_path: Path, postgres_server: PostgresDatabases, redis_url: str
) -> Iterator[tuple[dict[str, str], Sandbox]]:
    url = postgres_server.create()
    with Sandbox(book=tmp_path / "book.jsonl") as sandbox:
        settings = {
            "DATABASE_URL": url,
            "BROKER_URL": redis_url,
            "STRIPE_API_KEY": "sk_test_ofTheProcfile",
            "STRIPE_API_BASE": sandbox.url,
        }
        yield {PREFIX + name: value for name, value in settings.items()}, sandbox
    postgres_server.drop(url)


def honcho(folder: Path, environment: dict[str, str], *names: str) -> subprocess.Popen[bytes]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    programs = f"{Path(sys.executable).parent}{os.pathsep}{clean.get('PATH', '')}"
    with (folder / "honcho.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "honcho", "-f", "Procfile", "start", *names],
            cwd=folder,
            env=clean | environment | {"PATH": programs},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def test_release_web_worker_bulk_and_scheduler_settle_a_refund(
    tmp_path: Path, environment: tuple[dict[str, str], Sandbox]
) -> None:
    settings, sandbox = environment
    shutil.copyfile(PROCFILE, tmp_path / "Procfile")
    release = honcho(tmp_path, settings, "release")
    assert release.wait(60) == 0, (tmp_path / "honcho.log").read_text()
    with build_runtime(load_settings(settings), processors=False) as runtime:
        key = create_key(runtime.context, name="procfile", client="shop", role="admin")

    port = free_port()
    running = honcho(tmp_path, settings | {"PORT": str(port), "WEB_HOST": "127.0.0.1"}, *LONG_RUNNING)
    family: list[psutil.Process] = []
    try:
        web = Api(port, key)
        wait_until(lambda: web.ask("GET", "/readyz") or running.poll() is not None, READY_SECONDS_MAX)
        assert running.poll() is None, (tmp_path / "honcho.log").read_text()[-3000:]
        refund_one(web, sandbox)
        for kind in ("worker", "scheduler"):
            assert health(tmp_path, settings, kind) == 0
        assert health(tmp_path, settings, "web", "--port", str(port)) == 0
        family = psutil.Process(running.pid).children(recursive=True)
    finally:
        running.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(30)
        running.kill()
        running.wait()
    _, alive = psutil.wait_procs(family, 20)
    for process in alive:
        process.kill()
    assert alive == []


def health(folder: Path, environment: dict[str, str], *arguments: str) -> int:
    command = [sys.executable, "-m", "refund_worker", "health", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, timeout=30, check=False).returncode
