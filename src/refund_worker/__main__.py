"""The command line: `refund-worker …`, and `python -m refund_worker …`.

Health checks run every few seconds, so their plain forms are answered before anything heavy is imported.
"""

from __future__ import annotations

import sys

from refund_worker.extras import MissingExtra


def main() -> None:
    """Run one command and exit with its code."""
    if sys.argv[1:2] == ["health"]:
        from refund_worker.cli.healthcheck import plain_check

        health = plain_check(sys.argv[2:])
        if health is not None:
            print(health.message, file=sys.stderr)  # noqa: T201 - as the rest of the command line
            sys.exit(0 if health.alive else 1)
    try:
        from refund_worker.cli.app import main as whole_command_line
    except MissingExtra as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201 - as the rest of the command line
        sys.exit(error.exit_code)
    whole_command_line()


if __name__ == "__main__":
    main()
