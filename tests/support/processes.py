"""A server as a child process of the tests: bounded start, every kind of end, and nothing left behind."""

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

KILL_ON_EXIT = Path(__file__).with_name("kill_on_exit.py")
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 10


class ServerFailed(RuntimeError):
    """A server could not be started, or did not answer in time; the message holds the end of its log."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_reachable_by_others(folder: Path) -> bool:
    """Whether any user of this machine may enter `folder` (every folder above it has the x bit for others)."""
    path = folder.resolve()
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def temporary_folder(prefix: str) -> Path:
    """A new folder that every user can enter, wherever TMPDIR points: a server may run as another user."""
    for parent in (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")):
        if parent.is_dir() and is_reachable_by_others(parent) and os.access(parent, os.W_OK):
            folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
            folder.chmod(0o755)
            return folder
    raise ServerFailed("no folder for temporary files can be entered by every user: set TMPDIR to one")


class ServerProcess:
    """One server on 127.0.0.1, its folder and its port; a subclass gives `command` and `answers`.

    The port and the folder stay the same over `stop` or `crash` and a later `start`, so clients find it again.
    """

    #: What an orderly stop sends, and what the kernel sends when the tests themselves die.
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
        """The absolute path of the program, and its arguments."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether the server serves requests now."""
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        return os.environ

    @property
    def pid(self) -> int:
        """The id of the running process. Raises `ServerFailed` if there is none."""
        if self._process is None:
            raise ServerFailed(f"{self.name} is not running")
        return self._process.pid

    @property
    def log(self) -> str:
        """The end of what the server printed."""
        path = self.folder / "log"
        return path.read_text(encoding="utf-8", errors="replace")[-4000:] if path.exists() else ""

    def start(self) -> Self:
        """Start, and return once it answers. Raises `ServerFailed` when that takes over `start_seconds_max`."""
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
        """End in order; what was acknowledged is kept."""
        self._end(self.stop_signal)

    def crash(self) -> None:
        """End at once, with no goodbye to clients and no chance to save anything."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop if it runs, then start on the same port with the same folder."""
        if self._process is not None:
            self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop the clock of the server and of all its children (SIGSTOP): connections stay open, no answer comes."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen server go on (SIGCONT)."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """End for good and remove the folder; a second call does nothing."""
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
                each.send_signal(signal.SIGCONT)  # a frozen process would never see the end
        process.send_signal(how)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS_MAX)
        # Children see their parent's death by themselves; those that do not are ended by id.
        _, stubborn = psutil.wait_procs(family[1:], timeout=3)
        for each in stubborn:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()

    def _signal_all(self, what: signal.Signals) -> None:
        for each in _family(self.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(what)


def _family(pid: int) -> list[psutil.Process]:
    """The process and all its children, the process itself first."""
    try:
        head = psutil.Process(pid)
        return [head, *head.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
