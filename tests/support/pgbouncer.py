"""The real PgBouncer between the program and a Postgres server."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence

import psycopg

from tests.support.debian import program
from tests.support.processes import ServerProcess

POOL_SIZE = 3


class PgBouncer(ServerProcess):
    """A PgBouncer in front of a server on 127.0.0.1. With `pool_mode` transaction, sessions are shared."""

    def __init__(
        self, server_port: int, pool_mode: str = "transaction", *, ignores_options: bool = False, size: int = POOL_SIZE
    ) -> None:
        """Prepare it for every database of the server. If not `ignores_options`, start-up options are refused."""
        self._program = program("pgbouncer")
        super().__init__("pgbouncer")
        ignored = "ignore_startup_parameters = options\n" if ignores_options else ""
        (self.folder / "users.txt").write_text('"postgres" ""\n', encoding="utf-8")
        self._configuration = self.folder / "pgbouncer.ini"
        self._configuration.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server_port} user=postgres\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = any\n"
            f"auth_file = {self.folder / 'users.txt'}\nadmin_users = postgres\npool_mode = {pool_mode}\n"
            f"default_pool_size = {size}\n"
            f"query_wait_timeout = 10\nmax_client_conn = 200\nserver_login_retry = 1\n{ignored}",
            encoding="utf-8",
        )
        if os.geteuid() == 0:  # PgBouncer refuses to run as root
            nobody = pwd.getpwnam("nobody")
            self.identity = f"{nobody.pw_uid}:{nobody.pw_gid}"

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        return [str(self._program), str(self._configuration)]

    def answers(self) -> bool:
        """Return True if its own console accepts connections."""
        try:
            self._connect("pgbouncer").close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database_url: str) -> str:
        """Return the URL of this database through the pooler."""
        name = database_url.rpartition("/")[2]
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"

    def _connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True, connect_timeout=2
        )
