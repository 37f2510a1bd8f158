"""`python -m refund_worker.processors.paypal.sandbox`: run the sandbox as a separate process."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from refund_worker.processors.local_server.journal import BookError
from refund_worker.processors.paypal.sandbox.book import LearnedCapture
from refund_worker.processors.paypal.sandbox.server import PayPalServer


def main(learn: Callable[[str], LearnedCapture | None] | None = None) -> int:
    """Serve on 127.0.0.1 until a signal comes, or until the standard input closes. Return 0, or 2 without the port.

    `learn` is asked about a capture that the book does not have; it returns None for an unknown one.
    """
    parser = argparse.ArgumentParser(prog="python -m refund_worker.processors.paypal.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--book", type=Path, help="the file of its book; without one the book is in memory")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with PayPalServer(options.port, book=options.book) as server:
            server.book.learn = learn
            sys.stdout.write(f"the PayPal sandbox is listening on {server.url}\n")
            sys.stdout.flush()
            if options.until_stdin_closes:
                threading.Thread(target=_wait_for_the_end_of_stdin, args=(ended,), daemon=True).start()
            ended.wait()
    except (BookError, OSError) as wrong:
        sys.stderr.write(f"the PayPal sandbox stopped: {wrong}\n")
        return 2
    return 0


def _wait_for_the_end_of_stdin(ended: threading.Event) -> None:
    # Not through `sys.stdin`: its lock would keep the interpreter from ending after a signal.
    with open(0, "rb", buffering=0, closefd=False) as standard_input:
        while standard_input.read(4_096):
            pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main())
