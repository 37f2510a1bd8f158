"""Heartbeats: a file that is touched while all goes well, and its age. Asking Celery itself takes seconds.

Nothing heavy is imported here: a check runs every few seconds, in a process of its own.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from refund_worker.worker.runtime_dir import folder_of, made

if TYPE_CHECKING:
    from refund_worker.settings import Settings

WorkerKind = Literal["worker", "scheduler"]

ALIVE = ".alive"
BEAT_SECONDS = 2.0
# The worker's parent only waits for messages. The scheduler may do work itself, one round of which can take a minute.
AGE_SECONDS_MAX: dict[WorkerKind, float] = {"worker": 20.0, "scheduler": 120.0}


class Heartbeat:
    """The file of one kind of process in this deployment; the liveliest of several on one machine counts.

    Workers of different queues have different files: one that hangs is not hidden by another that does other work.
    """

    def __init__(self, kind: WorkerKind, settings: Settings, queues: Sequence[str] = ()) -> None:
        folder = folder_of(settings.database_url.get_secret_value())
        self.path: Path = folder / f"{'-'.join((kind, *queues))}{ALIVE}"

    def beat(self) -> None:
        """Touch the file. A full disk must not end the process that says it lives."""
        with contextlib.suppress(OSError):
            made(self.path.parent)
            self.path.touch(mode=0o600)

    def end(self) -> None:
        """Take the file away: stopped in order."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def check_heartbeat(kind: WorkerKind, database_url: str, queue: str | None = None) -> tuple[bool, str]:
    """Whether a process of this kind lives here, and a line that says so; a worker of this `queue` if one is named."""
    folder = folder_of(database_url)
    who = f"{kind} of {queue}" if queue else kind
    heard_at = max((_heard_at(file) for file in folder.glob(f"{kind}*{ALIVE}") if _works_on(file, queue)), default=0.0)
    if not heard_at:
        return False, f"no {who} runs here"
    age = time.time() - heard_at
    if age > AGE_SECONDS_MAX[kind]:
        return False, f"the {who} was last heard of {age:.0f} seconds ago"
    return True, f"the {who} was heard of {max(age, 0):.0f} seconds ago"


def _works_on(file: Path, queue: str | None) -> bool:
    return queue is None or queue in file.name.removesuffix(ALIVE).split("-")[1:]


def _heard_at(file: Path) -> float:
    """0 where it is gone meanwhile."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
