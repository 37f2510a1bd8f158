"""Heartbeats: a file that is touched while all goes well, and its age. Asking Celery itself takes seconds.

Nothing heavy is imported here: a check runs every few seconds, in a process of its own.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refund_worker.worker.folder import folder_of, made

if TYPE_CHECKING:
    from refund_worker.settings import Settings

WorkerKind = Literal["worker", "scheduler"]

BEAT_SECONDS = 2.0
# The worker's parent only waits for messages. The scheduler may do work itself, one round of which can take a minute.
AGE_SECONDS_MAX: dict[WorkerKind, float] = {"worker": 20.0, "scheduler": 120.0}


class Heartbeat:
    """The file of one kind of process in this deployment; the liveliest of several on one machine counts."""

    def __init__(self, kind: WorkerKind, settings: Settings) -> None:
        self.path: Path = _path(kind, settings.database_url.get_secret_value())

    def beat(self) -> None:
        """Touch the file. A full disk must not end the process that says it lives."""
        with contextlib.suppress(OSError):
            made(self.path.parent)
            self.path.touch(mode=0o600)

    def end(self) -> None:
        """Take the file away: stopped in order."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def _path(kind: WorkerKind, database_url: str) -> Path:
    return folder_of(database_url) / f"{kind}.alive"


def check_health(kind: WorkerKind, settings: Settings) -> tuple[bool, str]:
    """Whether a process of this kind lives here, and a line that says so."""
    return check_heartbeat(kind, settings.database_url.get_secret_value())


def check_heartbeat(kind: WorkerKind, database_url: str) -> tuple[bool, str]:
    """The same by the database's URL alone."""
    try:
        age = time.time() - _path(kind, database_url).stat().st_mtime
    except OSError:
        return False, f"no {kind} runs here"
    if age > AGE_SECONDS_MAX[kind]:
        return False, f"the {kind} was last heard of {age:.0f} seconds ago"
    return True, f"the {kind} was heard of {max(age, 0):.0f} seconds ago"
