"""`python -m refund_worker.processors.sandbox`: run the sandbox as a separate process."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from refund_worker.processors.local_server.journal import BookError
from refund_worker.processors.sandbox.actions import FaultFileError
from refund_worker.processors.sandbox.answers import JsonObject
from refund_worker.processors.sandbox.control import PaymentError
from refund_worker.processors.sandbox.server import serve, webhook_secret_in


def main(learn: Callable[[str, str], JsonObject | None] | None = None) -> int:
    """Run the sandbox until a signal stops it. Return 0, or 2 if it cannot start. `learn` is as in `serve`."""
    parser = argparse.ArgumentParser(prog="python -m refund_worker.processors.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0 takes a free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--book", type=Path, required=True, help="the sandbox's own book; created if missing")
    parser.add_argument("--payments", type=Path, help="CSV file of captured payments")
    parser.add_argument("--faults", type=Path, help="JSON file of faults")
    parser.add_argument("--webhook-url")
    parser.add_argument("--webhook-secret-file", type=Path)
    parser.add_argument("--fsync", action="store_true", help="wait for the disk before each answer")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the process that started it")
    options = parser.parse_args()
    if (options.webhook_url is None) != (options.webhook_secret_file is None):
        parser.error("--webhook-url and --webhook-secret-file belong together")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve(
            options.port,
            options.book,
            options.payments,
            options.faults,
            host=options.host,
            webhook_url=options.webhook_url,
            webhook_secret=webhook_secret_in(options.webhook_secret_file) if options.webhook_secret_file else None,
            fsync=options.fsync,
            until_stdin_closes=options.until_stdin_closes,
            learn=learn,
        )
    except (BookError, FaultFileError, PaymentError, OSError) as wrong:
        sys.stderr.write(f"the sandbox stopped: {wrong}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
