"""The option `--watch`: a command shows its result again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from refund_worker.cli.output import Output, print_error, print_line
from refund_worker.errors import InvalidRequest, Unavailable

T = TypeVar("T")

# The exit codes of a wait that ends in another way than hoped for, and of one that does not end in time.
_EXIT_OTHER_END, _EXIT_TIMEOUT = 3, 1
EVERY_DEFAULT = 2.0
POLL_SECONDS = 0.2
WatchOption = Annotated[bool, typer.Option("--watch", help="show it again and again, until Ctrl-C")]
EveryOption = Annotated[float, typer.Option("--every", min=0.1, max=3600, help="with --watch: seconds in between")]
# Cursor to the first line, and the screen empty.
CLEAR = "\x1b[H\x1b[2J"


def show_watched(once: Callable[[], bool], watch: bool, every: float, output: Output) -> None:
    """Call `once`, which shows the result and returns True if it will not change any more.

    With `watch` it is called until then, or until Ctrl-C, also while the database cannot be used. Raises
    `InvalidRequest` for --watch with JSON, which would be many documents.
    """
    if watch and output is Output.JSON:
        raise InvalidRequest("--watch is for people: leave out -o json", field="watch")
    if not watch:
        once()
        return
    try:
        while not _shown(once, every):
            time.sleep(every)
    except KeyboardInterrupt:
        return


def wait_until(read: Callable[[], T], is_over: Callable[[T], bool], timeout: float) -> T:
    """Read again and again until it is over, for at most `timeout` seconds, and return what was read last."""
    end = time.monotonic() + timeout
    found = read()
    while not is_over(found) and time.monotonic() < end:
        time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
        found = read()
    return found


def exit_after_wait(status: str, *, is_over: bool, ended_well: bool, timeout: float) -> None:
    """End the command with the exit code of a wait that is not over, or ended in another way than hoped for."""
    if not is_over:
        print_line(f"still {status} after {timeout:g} s")
        raise typer.Exit(_EXIT_TIMEOUT)
    if not ended_well:
        raise typer.Exit(_EXIT_OTHER_END)


def _shown(once: Callable[[], bool], every: float) -> bool:
    if sys.stdout.isatty():
        print(CLEAR, end="", flush=True)
    print_line(f"{datetime.now(UTC):%H:%M:%S} UTC, every {every:g} s until Ctrl-C")
    try:
        return once()
    except Unavailable as error:
        print_error(error, Output.TABLE)
        return False
