"""A background thread belongs to the process in which its block begins."""

from __future__ import annotations

import os
import threading
import warnings

from refund_worker.background import Background


class Turns(Background):
    """A thread that notes each time when it begins."""

    def __init__(self) -> None:
        super().__init__("turns", stop_seconds_max=10)
        self.begun = threading.Semaphore(0)

    def run(self) -> None:
        """Note the beginning, and wait for the end."""
        self.begun.release()
        self.stopped.wait()


def begins(turns: Turns) -> bool:
    with turns:
        return turns.begun.acquire(timeout=10) and not turns.stopped.is_set()


def test_block_can_begin_again() -> None:
    turns = Turns()
    assert begins(turns)
    assert begins(turns)
    assert not any(thread.name == "turns" for thread in threading.enumerate())


def test_process_that_was_forked_later_begins_its_own_thread() -> None:
    """Python 3.13 starts no thread that was made before a fork."""
    turns = Turns()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
        child = os.fork()
    if child == 0:
        os._exit(0 if begins(turns) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_end_without_a_beginning_does_nothing() -> None:
    Turns().__exit__(None, None, None)
