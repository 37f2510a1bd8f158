"""A server as a child process of the tests: bounded start, every kind of end, and no process left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

KILL_ON_EXIT = Path(__file__).with_name("kill_on_exit.py")
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10


class ServerFailed(RuntimeError):
    """A server could not be started, or did not answer in time. The message contains the end of its log."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def hang_ups_ignored() -> Iterator[None]:
    """Ignore hang-ups, as nohup does; processes that are started meanwhile inherit it."""
    earlier = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, earlier)


def is_reachable_by_others(folder: Path) -> bool:
    """Return True if any user of this machine may enter `folder` (each folder above it has the x bit for others)."""
    path = folder.resolve()
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def temporary_folder(prefix: str) -> Path:
    """Return a new folder that every user can enter, even if TMPDIR is private: a server may run as another user."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        if parent.is_dir() and is_reachable_by_others(parent) and os.access(parent, os.W_OK):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            folder.chmod(0o755)
            return folder
    raise ServerFailed("no folder for temporary files can be entered by every user: set TMPDIR to one")


class ServerProcess:
    """One server on 127.0.0.1, its folder and its port. A subclass defines `command` and `answers`.

    Port and folder stay the same over `stop` or `crash` and a later `start`, so clients can reconnect.
    """

    #: The signal of an orderly stop, and the signal that the kernel sends when the tests themselves die.
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGTERM
    #: "UID:GID" for the server's process, or "-" for the user of the tests.
    identity = "-"
    start_seconds_max = START_SECONDS_MAX

    def __init__(self, name: str) -> None:
        self.name = name
        self.port = free_port()
        self.folder = temporary_folder(f"refund-worker-{name}-")
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    def command(self) -> Sequence[str]:
        """Return the absolute path of the program, and its arguments."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Return True if the server serves requests now."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Return the server's environment variables."""
        return os.environ

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `ServerFailed` if it is not running."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of the server's output."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:] if path.exists() else ""

    def start(self) -> Self:
        """Start the server and return once it answers.

        Raise `ServerFailed` if that takes more than `start_seconds_max`.
        """
        if self._process is not None:
            raise ServerFailed(f"{self.name} is running already")
        command_prefix = [
            sys.executable,
            "-I",
            "-S",
            str(KILL_ON_EXIT),
            self.orphan_signal.name,
            self.identity,
            str(os.getpid()),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command_prefix, *self.command()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=dict(self.environment()),
            )
        deadline = time.monotonic() + self.start_seconds_max
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.crash()
                raise ServerFailed(f"{self.name} did not start:\n{self.log}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Stop the server in order; acknowledged writes are kept."""
        self._end(self.stop_signal)

    def crash(self) -> None:
        """Kill the server at once, so that it cannot close connections or save anything."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server if it runs, then start it on the same port with the same folder."""
        if self._process is not None:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Suspend the server and all its children (SIGSTOP): connections stay open, no answer is sent."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Resume a frozen server (SIGCONT)."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """End the server and remove its folder. A second call does nothing."""
        atexit.unregister(self.close)
        if self._process is not None:
            self.crash()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        family = _family(process.pid)
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(signal.SIGCONT)  # a frozen process cannot handle the signal
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS_MAX)
        # Children notice their parent's death. Kill by id those that do not.
        _, stubborn = psutil.wait_procs(family[1:], timeout=3)
        for each in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def _signal_all(self, what: signal.Signals) -> None:
        for each in _family(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(what)


def _family(pid: int) -> list[psutil.Process]:
    """Return the process and all its children, the process itself first."""
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
