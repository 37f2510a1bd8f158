"""The processes of a deployment: killed and frozen by id, and restarted as a supervisor would."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from refund_worker.settings import PREFIX
from tests.support.processes import KILL_ON_EXIT

# All processes that a run starts inherit this variable, so that leftovers are distinguishable from other processes.
MARK = "REFUND_TEST_RUN"
STOP_SECONDS_MAX = 20.0
# Processes that end because another one ended, such as the embedded broker's, may take this long.
LAST_SECONDS_MAX = 3.0


@dataclass(slots=True)
class Part:
    """One long-running command, running or not."""

    name: str
    words: tuple[str, ...]
    process: psutil.Popen | None = None
    dead_since: float = 0.0
    frozen: bool = False
    starts: int = field(default=0)

    def family(self) -> list[psutil.Process]:
        """Return the process and all its descendants, the process first; empty if it does not run."""
        if self.process is None:
            return []
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


class Parts:
    """All commands of a deployment.

    Use it from one thread: the kernel's signal at a parent's death depends on the thread.
    """

    def __init__(self, folder: Path, source: Path | None) -> None:
        """Use `folder` for logs. If given, `source` is the folder of the code to run instead of ours."""
        self._folder = folder
        self._mark = secrets.token_hex(8)
        self.environment: dict[str, str] = {MARK: self._mark}
        if source is not None:
            self.environment |= {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        self.all: dict[str, Part] = {}
        self._thaws: list[threading.Timer] = []

    def add(self, name: str, *words: str) -> Part:
        """Start `refund-worker` with these arguments, and return the command."""
        part = self.all[name] = Part(name, words)
        self._start(part)
        return part

    def _start(self, part: Part) -> None:
        command_prefix = [sys.executable, "-I", "-S", str(KILL_ON_EXIT), signal.SIGTERM.name, "-", str(os.getpid())]
        ours = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        with (self._folder / f"{part.name}.log").open("ab") as log:
            part.process = psutil.Popen(
                [*command_prefix, sys.executable, "-m", "refund_worker", *part.words],
                env=ours | self.environment,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that a test can signal its whole process group
            )
        part.dead_since, part.starts = 0.0, part.starts + 1

    def revive(self, after_seconds: float) -> None:
        """Restart the commands that ended at least this long ago."""
        now = time.monotonic()
        for part in self.all.values():
            if part.process is None or part.process.poll() is None:
                continue
            part.dead_since = part.dead_since or now
            if now - part.dead_since >= after_seconds:
                self._start(part)

    def freeze(self, part: Part, processes: list[psutil.Process], seconds: float) -> None:
        """Stop the processes (SIGSTOP), and resume them (SIGCONT) after `seconds`, whatever happens meanwhile."""
        part.frozen = True
        _signal(processes, signal.SIGSTOP)

        def thaw() -> None:
            _signal(processes, signal.SIGCONT)
            part.frozen = False

        timer = threading.Timer(seconds, thaw)
        timer.daemon = True
        timer.start()
        self._thaws.append(timer)

    def thaw_all(self) -> None:
        """Resume all frozen processes now."""
        for timer in self._thaws:
            timer.cancel()
            timer.function()
            timer.join()
        self._thaws.clear()

    def stop(self) -> None:
        """Stop all commands in order, and kill those that do not stop in time."""
        self.thaw_all()
        families = [process for part in self.all.values() for process in part.family()]
        for part in self.all.values():
            if part.process is not None:
                _signal([part.process], signal.SIGTERM)
        _, stubborn = psutil.wait_procs([p.process for p in self.all.values() if p.process], STOP_SECONDS_MAX)
        _signal(stubborn, signal.SIGKILL)
        psutil.wait_procs(families, 5)

    def kill_left_behind(self) -> list[str]:
        """Kill the processes that still run shortly after `stop`, and return the id and the command of each."""
        _, left = psutil.wait_procs(self._marked(), LAST_SECONDS_MAX)
        described = [_described(process) for process in left]
        _signal(left, signal.SIGKILL)
        return described

    def _marked(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self._mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


def _described(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} of {process.ppid()}: {' '.join(process.cmdline())}"
    return f"{process.pid}"


def _signal(processes: list[psutil.Process], what: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)
