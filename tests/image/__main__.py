"""`python -m tests.image` (`make image`): build the image's root, and refund money with its processes.

It needs root, debootstrap and about three minutes; two of them are Debian's, and kept in .image/ for the next time. The
processes run as in docker-compose.yml and deploy/kubernetes: as user 10001 without any privilege, in a root that is
read-only, with secrets as files, on a real Postgres and a real Valkey of this machine.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from refund_worker.processors.sandbox import Sandbox
from refund_worker.settings import PREFIX
from refund_worker.worker.supervisor import STOP_SECONDS_MAX
from tests.image.build import Build, access_of_apt
from tests.image.dockerfile import FILE
from tests.image.roots import Root, make_debian
from tests.support.debian import find
from tests.support.deployment import wait_until
from tests.support.http_refund import Api, refund_one
from tests.support.pages import ROOT
from tests.support.processes import free_port
from tests.support.servers import PostgresServer, ValkeyServer

FOLDER = ROOT / ".image"
PACKAGES = ("python3", "python3-venv", "python-is-python3", "ca-certificates")
SECRETS = "/run/secrets"
READY_SECONDS_MAX = 90.0


def main() -> int:
    """Build and try the image's root. Return 0 if everything holds."""
    missing = [name for name in ("debootstrap", "unshare", "nsenter", "setpriv") if find(name) is None]
    if os.geteuid() != 0 or missing:
        print(f"NOT TESTED: make image needs root and the programs {', '.join(missing) or '(all there)'}")
        return 1
    began = time.monotonic()
    FOLDER.mkdir(exist_ok=True)
    suite = re.search(r"^ARG BASE=python:[\d.]+-slim-(\w+)$", FILE.read_text("utf-8"), re.MULTILINE)
    assert suite is not None
    base = FOLDER / f"debian-{suite[1]}"
    if not base.exists():
        print(f"a clean Debian {suite[1]}, made by debootstrap …", flush=True)
        make_debian(base, suite[1], PACKAGES)
    for old in FOLDER.glob("stage-*"):
        subprocess.run(["rm", "-rf", "--one-file-system", str(old)], check=True)
    print(f"the steps of {FILE.relative_to(ROOT)} …", flush=True)
    build = Build(FOLDER, base)
    build.run()
    read_by_compose(base)
    print(f"built after {time.monotonic() - began:.0f} s", flush=True)
    check_root(build)
    refund_in_production_form(build)
    refund_in_light_form(build)
    print(f"passed: the image's root refunds money, in both forms, in {time.monotonic() - began:.0f} s")
    return 0


def read_by_compose(base: Path) -> None:
    """Let Docker Compose itself, from Debian's package, read both compose files; that needs no daemon."""
    root = Root(FOLDER / "compose")
    if not root.folder.exists():
        print("Docker Compose from Debian …", flush=True)
        part = replace(root, folder=FOLDER / "compose.part", shown=access_of_apt())
        subprocess.run(["rm", "-rf", "--one-file-system", str(part.folder)], check=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(part.folder)], check=True)
        install = "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
        part.run(["sh", "-c", f"{install} docker-compose"])
        part.folder.rename(root.folder)
    files = {f"/work/{name}": ROOT / name for name in ("docker-compose.yml", ".env.example", "deploy")}
    compose = replace(root, shown=files, workdir="/work")
    for options in (
        "--profile monitoring --profile rabbitmq",
        "--env-file .env.example",
        "-f deploy/compose.light.yml",
    ):
        said = compose.run(["sh", "-c", f"docker-compose {options} config --quiet"])
        assert said.strip() == "", said
    print("  " + compose.run(["docker-compose", "version"]).strip() + " accepts both compose files", flush=True)


def check_root(build: Build) -> None:
    """Check the user, the installed packages, and that the program's files are not the user's to change."""
    image = build.result
    assert build.entrypoint == ["refund-worker"]
    assert image.user == "10001:10001"
    as_user = replace(image, read_only=True, memory=["/tmp"])
    python = "/opt/refund-worker/bin/python"
    print("  " + as_user.run(["sh", "-c", f"id; {python} --version; refund-worker --help | head -n 4"]).strip())
    own = as_user.run(["sh", "-c", "find / -xdev -user 10001 2>/dev/null | sort"]).split()
    # Beside what is in memory here.
    assert [path for path in own if path not in ("/tmp",)] == ["/run/refund-worker", "/var/lib/refund-worker"], own
    writable = as_user.run(["sh", "-c", "find /opt /etc /usr -xdev -writable ! -type l 2>/dev/null || true"]).split()
    assert writable == [], writable
    assert "No module named pip" in as_user.run(["sh", "-c", f"{python} -m pip --version 2>&1 || true"])
    size = sum(file.stat().st_size for file in (image.folder / "opt").rglob("*") if file.is_file())
    print(f"  /opt has {size // 1_000_000} MB")


class Containers:
    """Processes of the image, each in a root of its own view, with logs in one folder."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, tuple[Root, subprocess.Popen[bytes]]] = {}

    def start(self, name: str, image: Root, arguments: Sequence[str]) -> None:
        """Start `refund-worker` with arguments."""
        with (self._logs / f"{name}.log").open("ab") as log:
            self._running[name] = image, image.start(["refund-worker", *arguments], log)

    def wait_until_healthy(self, name: str, *arguments: str) -> None:
        """Run `refund-worker health …` in the container, as its probe does, until it is well.

        Raises `RuntimeError` if the container has ended.
        """
        image, process = self._running[name]

        def is_healthy() -> bool:
            if process.poll() is not None:
                raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)}")
            return image.run_beside(process, ["refund-worker", "health", *arguments]) == 0

        wait_until(is_healthy, READY_SECONDS_MAX)

    def log(self, name: str) -> str:
        """Return what the container has written."""
        return (self._logs / f"{name}.log").read_text("utf-8", "replace")

    def wait_for_text(self, name: str, text: str) -> None:
        """Wait until the container has written the text. Raises `RuntimeError` if it has ended."""

        def written() -> bool:
            if self._running[name][1].poll() is not None:
                raise RuntimeError(f"{name} ended:\n{self.log(name)}")
            return text in self.log(name)

        wait_until(written, READY_SECONDS_MAX)

    def stop(self) -> dict[str, int]:
        """Stop all by TERM and return their exit codes; -9 for one that had to be killed."""
        for _, process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for _, process in self._running.values():
            try:
                process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        codes = {name: process.returncode for name, (_, process) in self._running.items()}
        self._running.clear()
        return codes


@contextmanager
def containers(name: str) -> Iterator[Containers]:
    """Yield containers that are stopped at the end. An error shows their logs."""
    logs = FOLDER / f"logs-{name}"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir()
    running = Containers(logs)
    try:
        yield running
        codes = running.stop()
        assert set(codes.values()) == {0}, codes
    except BaseException:
        running.stop()
        for log in sorted(logs.iterdir()):
            print(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}")
        raise


def write_secrets(folder: Path, **secrets: str) -> Path:
    """Write each secret into a file that user 10001 can read, in a folder that nobody else can enter."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o755)
    for name, value in secrets.items():
        (folder / name).write_text(value)
        (folder / name).chmod(0o444)
    return folder


def refund_in_production_form(build: Build) -> None:
    """Migrate as the owner, run web, worker, bulk and scheduler as another role, and refund one payment."""
    print("the production form: migrate, web, worker, bulk, scheduler on Postgres and Valkey …", flush=True)
    book = FOLDER / "book.jsonl"
    book.unlink(missing_ok=True)
    with PostgresServer() as server, ValkeyServer() as valkey, Sandbox(book=book) as sandbox, containers("prod") as run:
        owner = server.databases.create()
        application = owner.replace("//postgres@", "//refund_worker_app@")
        files = write_secrets(
            FOLDER / "secrets", database_url=application, broker_url=valkey.url, stripe_api_key="sk_test_ofTheImage"
        )
        names = {file.name: f"{PREFIX}{file.name.upper()}_FILE" for file in files.iterdir()}
        settings = {
            **{variable: f"{SECRETS}/{name}" for name, variable in names.items()},
            PREFIX + "STRIPE_API_BASE": sandbox.url,
            PREFIX + "RUNTIME_DIR": "/run/refund-worker",
            # As Kubernetes makes them in every pod.
            PREFIX + "WEB_SERVICE_HOST": "10.0.0.1",
            PREFIX + "WEB_PORT": "tcp://10.0.0.1:8000",
        }
        image = replace(
            build.result,
            environment={**build.result.environment, **settings},
            shown={SECRETS: files},
            memory=["/run/refund-worker", "/tmp"],
            read_only=True,
        )
        owned = write_secrets(FOLDER / "owner-secrets", owner_database_url=owner)
        url = {PREFIX + "DATABASE_URL_FILE": f"{SECRETS}/owner_database_url"}
        migrate = replace(image, environment={**build.result.environment, **url}, shown={SECRETS: owned})
        create_role(owner)
        migrate.run(["sh", "-c", "refund-worker db upgrade && refund-worker db grant refund_worker_app"])
        key = image.run(["refund-worker", "keys", "create", "image", "--client", "shop", "--role", "admin"])
        found = re.search(r"rw_[A-Za-z0-9_-]{43}", key)
        assert found is not None, key
        port = free_port()
        run.start("web", image, ["web", "--host", "127.0.0.1", "--port", str(port)])
        run.start("worker", image, ["worker", "--queues", "refunds"])
        run.start("bulk", image, ["worker", "--queues", "bulk"])
        run.start("scheduler", image, ["scheduler"])
        run.wait_until_healthy("web", "web", "--port", str(port))
        for name, kind in {"worker": "worker", "bulk": "worker", "scheduler": "scheduler"}.items():
            run.wait_until_healthy(name, kind)
        refund = refund_one(Api(port, found[0]), sandbox)
        print(f"  {refund} succeeded, and the sandbox's book has it once; every probe is well", flush=True)


def create_role(owner: str) -> None:
    """Create the role of the application, as the compose file's script does."""
    import psycopg

    with psycopg.connect(owner.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("CREATE ROLE refund_worker_app LOGIN")


def refund_in_light_form(build: Build) -> None:
    """Run the command of the light form on an empty volume twice, and refund one payment."""
    print("the light form: dev on an empty volume …", flush=True)
    volume = FOLDER / "volume"
    shutil.rmtree(volume, ignore_errors=True)
    volume.mkdir(mode=0o700)
    os.chown(volume, 10001, 10001)
    image = replace(
        build.result,
        workdir="/var/lib/refund-worker",
        writable={"/var/lib/refund-worker": volume},
        memory=["/tmp"],
        read_only=True,
    )
    keys = []
    for number in (1, 2):
        with containers(f"light-{number}") as run:
            port = free_port()
            run.start("dev", image, ["dev", "--host", "127.0.0.1", "--port", str(port)])
            run.wait_for_text("dev", "try: curl")
            key = re.search(r"rw_[A-Za-z0-9_-]{43}", run.log("dev"))
            assert key is not None
            keys.append(key[0])
            if number == 1:
                print(f"  {refund_one(Api(port, key[0]), None)} succeeded", flush=True)
    assert keys[0] == keys[1], "the second start has the login of the first"


if __name__ == "__main__":
    sys.exit(main())
