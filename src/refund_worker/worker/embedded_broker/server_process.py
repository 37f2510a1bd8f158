"""Runs the embedded broker while any process uses it: `python -I -S server_process.py FOLDER PROGRAM GRACE_SECONDS`.

The script uses only the standard library, so that it is small and starts fast. Locks show which processes exist: this
process holds LOCK and the DETAILS that it wrote, and each user of the broker shares USERS. The kernel releases a lock
when its holder dies, however it dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

LOCK, USERS, DETAILS, LOG = "broker.lock", "broker.users", "broker.json", "broker.log"
START_SECONDS_MAX = 5.0
CHECK_SECONDS = 0.5
STARTS_AT_ONCE_MAX = 3


def opened(path: Path) -> IO[bytes]:
    """Open a lock file, created if needed and readable by this user alone."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+b")


def try_lock(file: IO[bytes], how: int) -> bool:
    """Return True if the lock was taken without waiting."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_details(folder: Path) -> dict[str, Any] | None:
    """Return `port`, `password` and `pid` of the server that runs here, or None.

    A file without a lock was left by a dead process: another program may use its port by now.
    """
    try:
        with (folder / DETAILS).open("r+b") as file:
            return None if try_lock(file, fcntl.LOCK_SH) else _parsed(file.read())
    except OSError:
        return None


def read_earlier_details(folder: Path) -> dict[str, Any] | None:
    """Return the details of the last server here, dead or alive, or None."""
    try:
        return _parsed((folder / DETAILS).read_bytes())
    except OSError:
        return None


def _parsed(text: bytes) -> dict[str, Any] | None:
    try:
        details = json.loads(text)
        return {"port": int(details["port"]), "password": str(details["password"]), "pid": int(details["pid"])}
    except (ValueError, KeyError, TypeError):
        return None


class Server:
    """The Valkey server. It restarts on the same port with the same password, so that its clients find it."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder, self.program = folder, program
        self.process: subprocess.Popen[bytes] | None = None
        self.details: IO[bytes] | None = None
        earlier = read_earlier_details(folder)
        if earlier:
            shut_down(earlier)
        self.place = earlier

    def start(self) -> bool:
        """Start on the earlier port, or on a new one if that fails; return True if the server answers."""
        for _ in range(STARTS_AT_ONCE_MAX):
            port, password = (
                (self.place["port"], self.place["password"]) if self.place else (free_port(), secrets.token_urlsafe(24))
            )
            if self._start_at(port, password):
                return True
            self.place = None
        return False

    def _start_at(self, port: int, password: str) -> bool:
        with (self.folder / LOG).open("wb") as log:
            self.process = subprocess.Popen(
                [self.program, "-"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509  (this process has one thread)
            )
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self.process.stdin as config:
            # On standard input, because every user of the machine can read arguments.
            config.write(configuration(self.folder, port, password))
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            if ask(port, password, "PING") == b"+PONG":
                self.place = {"port": port, "password": password, "pid": self.process.pid}
                self._write(self.place)
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _write(self, details: dict[str, Any]) -> None:
        new = self.folder / f"{DETAILS}.{os.getpid()}"
        file = opened(new)
        fcntl.flock(file, fcntl.LOCK_EX)  # before other processes can find it
        file.write(json.dumps(details).encode())
        file.flush()
        new.replace(self.folder / DETAILS)
        earlier, self.details = self.details, file
        if earlier is not None:
            earlier.close()

    def is_alive(self) -> bool:
        """Return True if the server's process runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """Kill the server and wait for its end."""
        if self.process is not None:
            self.process.kill()  # it stores nothing that an orderly shutdown would save
            self.process.wait()


def configuration(folder: Path, port: int, password: str) -> bytes:
    """Return the text of the server's configuration file."""
    lines = {
        "port": port,
        "bind": "127.0.0.1",
        "requirepass": password,  # every user of the machine can connect to loopback
        "dir": f'"{folder}"',
        "save": '""',
        "appendonly": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return "".join(f"{name} {value}\n" for name, value in lines.items()).encode()


def free_port() -> int:
    """Return a free TCP port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def ask(port: int, password: str, command: str) -> bytes:
    """Return the first line of the server's answer to `command`; empty if server or password is not ours."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(f"AUTH {password}\r\n{command}\r\n".encode())
            answers = connection.makefile("rb")
            return answers.readline().strip() and answers.readline().strip()
    except OSError:
        return b""


def shut_down(details: dict[str, Any]) -> None:
    """Stop a server that outlived its parent, which happens only where the kernel has no death signal."""
    ask(details["port"], details["password"], "SHUTDOWN NOSAVE")


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def keep(folder: Path, server: Server, users: IO[bytes], grace_seconds: float) -> None:
    """Keep the server running until it has had no user for `grace_seconds`.

    Returns with the lock on USERS held, so that new users wait until this process has ended.
    """
    used_at = time.monotonic()
    while folder.exists():
        time.sleep(CHECK_SECONDS)
        if not server.is_alive() and not server.start():
            return
        if not try_lock(users, fcntl.LOCK_EX):
            used_at = time.monotonic()
        elif time.monotonic() - used_at >= grace_seconds:
            return
        else:
            fcntl.flock(users, fcntl.LOCK_UN)


def main(folder_name: str, program: str, grace: str) -> None:
    """Run the broker in the background; return at once if another process runs it already."""
    if os.fork():
        os._exit(0)  # so that the caller has no child to wait for
    os.setsid()
    folder = Path(folder_name)
    lock, users = opened(folder / LOCK), opened(folder / USERS)
    for _ in range(10):  # another process may be testing the lock at this moment
        if try_lock(lock, fcntl.LOCK_EX):
            break
        time.sleep(0.02)
    else:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = Server(folder, program)
    try:
        if server.start():
            keep(folder, server, users, float(grace))
    finally:
        with contextlib.suppress(OSError):
            (folder / DETAILS).unlink()
        server.stop()
        lock.close()
        users.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
