"""Signals that stop a process: TERM, INT and a hang-up, each sent to the process alone or to all of its group.

A hang-up (HUP) comes when a terminal closes, and from `systemctl reload`. Without a handler it kills the process in the
middle of its work.
"""

from __future__ import annotations

import _thread
import mmap
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


def is_hang_up_ignored() -> bool:
    """Return True if the process was started to survive its terminal, as by nohup."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@contextmanager
def on_signals(
    handler: Handler, numbers: Iterable[signal.Signals], *, afterwards: signal.Handlers | None = None
) -> Iterator[None]:
    """Send these signals to the handler, and a hang-up unless it is ignored; only a main thread can receive them.

    `afterwards` is as for `handled`.
    """
    with handled(handler, [*numbers, *(() if is_hang_up_ignored() else (signal.SIGHUP,))], afterwards=afterwards):
        yield


@contextmanager
def handled(
    handler: Handler, numbers: Iterable[signal.Signals], *, afterwards: signal.Handlers | None = None
) -> Iterator[None]:
    """Send exactly these signals to the handler; only a main thread can receive them.

    After the block they have the handlers of before, or `afterwards`. A process that ends then must ignore them, or a
    second signal of the same stop kills it on its last steps.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier if afterwards is None else afterwards)


class SharedFlag:
    """A flag that this process shares with those that are forked from it later.

    A signal's handler may set it: that takes no lock.
    """

    def __init__(self) -> None:
        self._byte = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Set the flag, here and in the forked processes."""
        self._byte[0] = 1

    def is_set(self) -> bool:
        """Return True once the flag is set."""
        return self._byte[0] == 1


def set_from_handler(event: threading.Event) -> None:
    """Set the event from a signal's handler.

    `event.set()` itself could wait there for ever: the thread that the handler interrupts may hold the event's lock,
    for example in the handler of the signal before.
    """
    _thread.start_new_thread(event.set, ())  # a Thread takes locks, too


def treat_hang_up_as_term() -> None:
    """Let a hang-up stop this process as TERM does, unless it is ignored."""
    if threading.current_thread() is threading.main_thread() and not is_hang_up_ignored():
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
