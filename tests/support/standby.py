"""A real streaming standby of a Postgres server, and the name under which clients reach whichever is the primary."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from types import TracebackType
from typing import Self

import psycopg

from tests.support.processes import free_port
from tests.support.servers import PostgresServer

PROMOTE_SECONDS_MAX = 30


class Standby(PostgresServer):
    """A streaming standby, made by pg_basebackup from a running primary. `promote` makes it the primary."""

    def __init__(self, primary: PostgresServer, *, synchronous: bool = False) -> None:
        """Prepare a standby of `primary`. If `synchronous`, commits there wait for it from the first connection on."""
        super().__init__()
        self._primary, self._name = primary, "sync" if synchronous else "async"
        self._synchronous = synchronous

    def start(self) -> Self:
        """Start the standby, and make the primary's commits wait for it if it is a synchronous one."""
        super().start()
        if self._synchronous:
            administer(self._primary, "ALTER SYSTEM SET synchronous_standby_names = 'sync'")
            administer(self._primary, "SELECT pg_reload_conf()")
            self._synchronous = False  # once: after its promotion this server starts again without that primary
        return self

    def _initialise(self) -> None:
        source = f"host=127.0.0.1 port={self._primary.port} user=postgres application_name={self._name}"
        self._run("pg_basebackup", "-D", str(self.data), "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")

    def is_in_step(self) -> bool:
        """Return True if the primary's commits wait for this synchronous standby."""
        return administer(self._primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"

    def promote(self) -> None:
        """Make this server a primary that waits for no standby."""
        administer(self, "ALTER SYSTEM SET synchronous_standby_names = ''")
        administer(self, "SELECT pg_reload_conf()")
        administer(self, f"SELECT pg_promote(true, {PROMOTE_SECONDS_MAX})")


def administer(server: PostgresServer, statement: str) -> str:
    """Run one statement as the superuser, outside a transaction, and return its first value as text."""
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user="postgres", dbname="postgres", autocommit=True, connect_timeout=10
    ) as connection:
        cursor = connection.execute(statement.encode())
        return str(cursor.fetchone()[0]) if cursor.description else ""  # type: ignore[index]


def follow(server: PostgresServer, primary: PostgresServer) -> None:
    """Start a stopped server as a standby of `primary`, as an operator or Patroni does with a demoted primary."""
    signal = server.data / "standby.signal"
    signal.touch()
    settings = server.data / "postgresql.auto.conf"
    source = f"host=127.0.0.1 port={primary.port} user=postgres"
    with settings.open("a") as file:
        file.write(f"primary_conninfo = '{source}'\nsynchronous_standby_names = ''\n")
    owner = server.data.stat()
    os.chown(signal, owner.st_uid, owner.st_gid)
    server.start()


class Name:
    """A port of 127.0.0.1 that leads to the server it was last pointed at, as a DNS name or a load balancer does.

    Connections that exist stay with their server when the name moves.
    """

    def __init__(self, server: PostgresServer) -> None:
        self.port = free_port()
        self._target = server.port
        self._open = True
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, daemon=True).start()

    def move_to(self, server: PostgresServer) -> None:
        """Lead new connections to this server."""
        self._target = server.port

    def url(self, database: str) -> str:
        """Return the URL of a database under this name."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the name and all connections through it."""
        self._open = False
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        while self._open:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=[client, self._target], daemon=True).start()

    def _carry(self, client: socket.socket, port: int) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._ends += (client, server)
        with contextlib.suppress(OSError, ValueError), selectors.DefaultSelector() as ready:
            ready.register(client, selectors.EVENT_READ, server)
            ready.register(server, selectors.EVENT_READ, client)
            while True:
                for key, _ in ready.select():
                    source: socket.socket = key.fileobj  # type: ignore[assignment]
                    data = source.recv(65_536)
                    if not data:
                        raise OSError
                    key.data.sendall(data)
        client.close()
        server.close()
