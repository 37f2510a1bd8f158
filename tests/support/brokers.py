"""Real brokers beside the Valkey of the wheel: redis-server and RabbitMQ from Debian; and a relay that can be moved."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import amqp

from tests.support import debian
from tests.support.processes import ServerProcess, free_port
from tests.support.servers import ValkeyServer

# Debian's own command starts only as its own user; the program behind it starts as any user.
RABBITMQ_PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
# rabbitmqctl takes a second, and hung once on a machine of CI.
CONTROL_SECONDS_MAX = 30
CONTROL_TRIES = 3


class RedisServer(ValkeyServer):
    """A real redis-server instead of the Valkey; `options` are added to its command."""

    def __init__(self, *options: str) -> None:
        super().__init__()
        self.name = "redis-server"
        self._program = debian.program("redis-server")
        self._options = options

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        return [*super().command(), *self._options]


class _Epmd(ServerProcess):
    """Erlang's port mapper on a port of its own. RabbitMQ would otherwise leave one behind for the whole machine."""

    def command(self) -> Sequence[str]:
        return [str(debian.find("epmd") or "epmd"), "-port", str(self.port), "-address", "127.0.0.1"]

    def answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


class RabbitServer(ServerProcess):
    """A RabbitMQ with a name, ports and folders of its own, as an unprivileged user. It starts in about ten seconds."""

    start_seconds_max = 90

    def __init__(self) -> None:
        program = debian.program("rabbitmq-server")
        super().__init__("rabbitmq")
        self._program = RABBITMQ_PROGRAM if RABBITMQ_PROGRAM.exists() else program
        self._epmd = _Epmd("epmd")
        self._node = f"refund{secrets.token_hex(4)}@localhost"
        self._distribution_port = free_port()
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self.identity = f"{nobody.pw_uid}:{nobody.pw_gid}"
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)

    @property
    def url(self) -> str:
        """The server's URL."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def environment(self) -> Mapping[str, str]:
        """Return variables that keep every file and every port apart from those of other servers."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        return ours | {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "logs"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "no-file"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "no-file"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
            "ERL_EPMD_PORT": str(self._epmd.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def command(self) -> Sequence[str]:
        """Return the command that serves on our port."""
        return [str(self._program)]

    def start(self) -> Self:
        """Start the port mapper and the server."""
        self._epmd.start()
        return super().start()

    def answers(self) -> bool:
        """Return True if the server accepts a user."""
        try:
            self.connection().close()
        except (OSError, amqp.AMQPError):
            time.sleep(0.1)
            return False
        return True

    def connection(self) -> amqp.Connection:
        """Return an open connection."""
        made = amqp.Connection(host=f"127.0.0.1:{self.port}", userid="guest", password="guest", connect_timeout=5)
        made.connect()
        return made

    def names(self, kind: str) -> set[str]:
        """Return the names of all "queues" or "exchanges"."""
        return {line for line in self.control(f"list_{kind}", "name").splitlines() if line and line != "name"}

    def control(self, *arguments: str) -> str:
        """Run rabbitmqctl and return what it prints. A run that hangs is ended and repeated: our commands allow it."""
        for _ in range(CONTROL_TRIES - 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._control_once(arguments)
        return self._control_once(arguments)

    def _control_once(self, arguments: Sequence[str]) -> str:
        command = [str(self._program.with_name("rabbitmqctl")), "--quiet", *arguments]
        # Its shell starts Erlang as a child, which holds the pipe: both are of one group, and end together.
        with subprocess.Popen(
            command, env=dict(self.environment()), cwd=self.folder, text=True, stdout=subprocess.PIPE, process_group=0
        ) as running:
            try:
                printed, _ = running.communicate(timeout=CONTROL_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                raise
        if running.returncode:
            raise subprocess.CalledProcessError(running.returncode, command, printed)
        return printed

    def close(self) -> None:
        """End the server, then the port mapper."""
        super().close()
        self._epmd.close()


class Relay:
    """A TCP relay on one port to a server that can be exchanged, as a name that moves.

    Open connections stay with the server that they were made to.
    """

    def __init__(self, port: int) -> None:
        self.target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._ended.set()
        for thread in list(self._threads):
            thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._relay, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _relay(self, client: socket.socket) -> None:
        with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
            opened.enter_context(client)
            server = opened.enter_context(socket.create_connection(("127.0.0.1", self.target)))
            waiting = opened.enter_context(selectors.DefaultSelector())
            waiting.register(client, selectors.EVENT_READ, server)
            waiting.register(server, selectors.EVENT_READ, client)
            while not self._ended.is_set():
                for key, _ in waiting.select(0.05):
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)
