"""Heartbeats: a file that a healthy process touches, and its age. Asking Celery itself takes seconds.

This module imports nothing heavy: a health check runs every few seconds, in its own process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refund_worker.metrics import COUNTS
from refund_worker.worker.runtime_dir import made, runtime_folder

if TYPE_CHECKING:
    from refund_worker.settings import Settings

log = logging.getLogger(__name__)

WorkerKind = Literal["worker", "scheduler"]

ALIVE = ".alive"
BEAT_SECONDS = 2.0
BEAT = b"\n"  # in the pipe; a line that is not empty is a count
# Seconds. The worker's main process only waits for messages; the scheduler may do work itself, and one round can take a
# minute.
AGE_SECONDS_MAX: dict[WorkerKind, float] = {"worker": 20.0, "scheduler": 120.0}


class Heartbeat:
    """The heartbeat file of one kind of process in this deployment; of several on one machine the latest beat counts.

    Workers of different queues have different files, so that one that hangs is not hidden by one that does other work.
    """

    def __init__(
        self, kind: WorkerKind, settings: Settings, queues: Sequence[str] = (), *, pipe: int | None = None
    ) -> None:
        """Each beat is also written to `pipe`, a file descriptor, if there is one; so is what this process has counted.

        `BeatPipe` (process_reports.py) reads both.
        """
        self.path: Path = runtime_folder(settings) / f"{'-'.join((kind, *queues))}{ALIVE}"
        self._is_written = True
        self._pipe = pipe
        self._beaten = False

    def beat(self) -> None:
        """Touch the file. A full disk must not stop the process that reports itself as alive."""
        self._beaten = True
        if self._pipe is not None:
            with contextlib.suppress(OSError):  # full, or its reader is gone
                os.write(self._pipe, BEAT)
            self._pass_counts_on(self._pipe)
        try:
            made(self.path.parent)
            self.path.touch(mode=0o600)
            self._is_written = True
        except OSError as error:
            if self._is_written:
                log.warning(
                    "the heartbeat cannot be written to %s (%s), so health checks find no process here: set "
                    "REFUND_WORKER_RUNTIME_DIR to a folder where this user may write",
                    self.path.parent,
                    error.strerror,
                )
            self._is_written = False

    def beaten(self) -> bool:
        """Return True if there was a beat since the last call."""
        beaten, self._beaten = self._beaten, False
        return beaten

    def end(self) -> None:
        """Delete the file when the process stops in an orderly way, and write its last counts to the pipe."""
        if self._pipe is not None:
            self._pass_counts_on(self._pipe)
        with contextlib.suppress(OSError):
            self.path.unlink()

    @staticmethod
    def _pass_counts_on(pipe: int) -> None:
        """Write a line for each count. It is shorter than PIPE_BUF, so it is written as a whole or not at all."""
        for slot, value in COUNTS.take().items():
            try:
                os.write(pipe, json.dumps([*slot, value]).encode() + b"\n")
            except OSError:
                COUNTS.put_back({slot: value})


def check_heartbeat(kind: WorkerKind, folder: Path, queue: str | None = None) -> tuple[bool, str]:
    """Return (True if a process of this kind is alive here, a line that says so).

    `folder` is the deployment's runtime folder. With `queue`, only a worker of this queue counts.
    """
    who = f"{kind} of {queue}" if queue else kind
    try:  # not by `glob`, which hides all errors since Python 3.13
        pattern = f"{kind}*{ALIVE}"
        files = [file for file in folder.iterdir() if fnmatch(file.name, pattern) and _works_on(file, queue)]
    except FileNotFoundError:
        files = []
    except OSError as error:  # such as a name that is too long
        return False, f"no {who} runs here: {folder} cannot be read ({error.strerror})"
    last_beat = max((_beat_at(file) for file in files), default=0.0)
    if not last_beat:
        return False, f"no {who} runs here: there is no heartbeat in {folder}"
    age = time.time() - last_beat
    if age > AGE_SECONDS_MAX[kind]:
        return False, f"the {who} last reported {age:.0f} seconds ago: it hangs or has ended"
    return True, f"the {who} reported {max(age, 0):.0f} seconds ago"


def _works_on(file: Path, queue: str | None) -> bool:
    return queue is None or queue in file.name.removesuffix(ALIVE).split("-")[1:]


def _beat_at(file: Path) -> float:
    """Return the time of the last beat in epoch seconds; 0 if the file has been deleted."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
