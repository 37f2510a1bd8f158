"""The command line `refund-worker`: its commands, exit codes and error output.

Data goes to stdout, everything else to stderr. Commands import what they need when they run, so that `--help` and
completion start fast.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import typer

from refund_worker.cli import (
    adapters,
    admin,
    audit,
    claims,
    customers,
    earnings,
    explain,
    failures,
    files,
    funds,
    health,
    keys,
    lists,
    notifications,
    payees,
    payout_runs,
    payouts,
    reconcile,
    refunds,
    run,
    statement,
    sums,
    users,
)
from refund_worker.cli.options import EXIT_USAGE, Invocation, print_help_alone
from refund_worker.cli.output import Output, plain, print_error, print_line
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.redaction import to_redacted

EXIT_INTERNAL, EXIT_INTERRUPTED = 1, 130
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = "interrupted: changes that were already stored are kept"

app = typer.Typer(
    name="refund-worker",
    rich_markup_mode=None,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 internal error or failed check, 2 wrong usage or unreadable file (nothing stored), "
    "3 request refused or some rows rejected (the rest is stored), 4 not found, 5 conflict or differences found. "
    "Settings: refund-worker config show. Example: refund-worker demo",
)
PARTS = (
    run,
    health,
    files,
    refunds,
    customers,
    lists,
    claims,
    payees,
    payout_runs,
    earnings,
    payouts,
    failures,
    explain,
    admin,
    adapters,
    reconcile,
    funds,
    notifications,
    audit,
    statement,
    sums,
    keys,
    users,
)
for part in PARTS:
    part.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"refund-worker {version('refund-worker')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="print the version and exit", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="print the traceback of an internal error")] = False,
) -> None:
    """Process refunds as queued tasks: first the customer's credits, then the money, exactly once."""
    if isinstance(context.obj, Invocation):
        context.obj.debug = debug
    print_help_alone(context)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character must not fail a command that has already done its work.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = run_command(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_stdout()
    except OSError as error:
        code = _report_unwritten(error, Output.JSON if asks_for_json(sys.argv[1:]) else Output.TABLE)
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Every error is printed on stderr; none is raised.
    """
    invocation = Invocation(Output.JSON if asks_for_json(arguments) else Output.TABLE)
    try:
        code = app(args=list(arguments), prog_name="refund-worker", obj=invocation, standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer returns this on Ctrl-C and does not raise
            print_line(INTERRUPTED)
        return code if isinstance(code, int) else 0
    except RefundWorkerError as error:
        print_error(error, invocation.output)
        return error.exit_code
    except typer.TyperException as error:
        return _report_usage(error, invocation)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        _discard_stdout()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        print_line(INTERRUPTED)
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_FULL:
            return _report_internal(error, invocation)
        return _report_unwritten(error, invocation.output)
    except Exception as error:  # noqa: BLE001 - nothing above catches it: every error ends as one line
        return _report_internal(error, invocation)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Return True if the arguments ask for JSON output.

    They are not parsed, so that a command with other, wrong arguments still gets its error as JSON.
    """
    followed = pairwise(arguments)
    return not {"-ojson", "--output=json"}.isdisjoint(arguments) or any(
        name in ("-o", "--output") and value == "json" for name, value in followed
    )


def _report_usage(error: typer.TyperException, invocation: Invocation) -> int:
    where = getattr(getattr(error, "ctx", None), "command_path", "refund-worker")
    message = plain(error.format_message()).replace(": Value error, ", ": ").rstrip(".")
    if hasattr(error, "possibilities"):  # the option is unknown
        message += " (put -- before an id that begins with a dash)"
    print_error(InvalidRequest(f"{message}: see {where} --help"), invocation.output)
    return EXIT_USAGE


def _report_internal(error: Exception, invocation: Invocation) -> int:
    message = f"unexpected {type(error).__name__}: run refund-worker --debug COMMAND for the traceback"
    print_error(RefundWorkerError(message), invocation.output)
    if invocation.debug:
        print_line(to_redacted("".join(traceback.format_exception(error))))
    return EXIT_INTERNAL


def _report_unwritten(error: OSError, output: Output) -> int:
    """Report that the output has no room, and discard the rest of it."""
    message = f"the output cannot be written ({error.strerror}): changes that were already stored are kept"
    print_error(RefundWorkerError(message), output)
    _discard_stdout()
    return EXIT_INTERNAL


def _discard_stdout() -> None:
    """Send the rest of the output to the null device, the interpreter's last flush included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["Output", "app", "main", "run_command"]
