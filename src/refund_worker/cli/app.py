"""The command line `refund-worker`: what there is, and how each ending is told.

Data goes to stdout, everything else to stderr. Commands import what they need when they run, so that `--help` and
completion are immediate.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from refund_worker.cli import admin, audit, customers, failures, files, health, keys, notifications, refunds, run, users
from refund_worker.cli.options import Invocation
from refund_worker.cli.output import Output, plain, print_error, say
from refund_worker.errors import InvalidRequest, RefundWorkerError
from refund_worker.redaction import to_redacted

EXIT_INTERNAL, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
INTERRUPTED = "interrupted: whatever was stored stays stored"

app = typer.Typer(
    name="refund-worker",
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 internal, 2 usage or an unreadable file (nothing stored), 3 refused or some rows "
    "rejected (the rest stored), 4 not found, 5 conflict. Settings: refund-worker config show.",
)
for part in (run, health, files, refunds, customers, failures, admin, notifications, audit, keys, users):
    part.add_to(app)


@app.callback()
def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="show where an internal error happened")] = False,
) -> None:
    """Refunds as queued tasks: first the customer's credits, then the real money, exactly once."""
    if isinstance(context.obj, Invocation):
        context.obj.debug = debug


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that can't show a character must not stop a command that has already done its work.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = run_command(sys.argv[1:] if arguments is None else arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        code = _unwritten(error, Output.JSON if asks_for_json(sys.argv[1:]) else Output.TABLE)
    sys.exit(code)


def run_command(arguments: Sequence[str]) -> int:
    """The exit code of one command; every error is told on stderr, none raised."""
    invocation = Invocation(Output.JSON if asks_for_json(arguments) else Output.TABLE)
    try:
        code = app(args=list(arguments), prog_name="refund-worker", obj=invocation, standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # Typer's answer to Ctrl-C, which it does not let through
            say(INTERRUPTED)
        return code if isinstance(code, int) else 0
    except RefundWorkerError as error:
        print_error(error, invocation.output)
        return error.exit_code
    except typer.TyperException as error:
        return _usage(error, invocation)
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        _forget_stdout()
        return 0
    except (KeyboardInterrupt, typer.Abort):
        say(INTERRUPTED)
        return EXIT_INTERRUPTED
    except OSError as error:
        if error.errno not in NO_ROOM:
            return _internal(error, invocation)
        return _unwritten(error, invocation.output)
    except Exception as error:  # noqa: BLE001 - the last place: whatever it is, it is told in one line
        return _internal(error, invocation)


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Seen without parsing: also who gets the other arguments wrong is answered in JSON."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return any(
        (name in ("-o", "--output") and value == "json") or name in ("-ojson", "--output=json") for name, value in pairs
    )


def _usage(error: typer.TyperException, invocation: Invocation) -> int:
    where = getattr(getattr(error, "ctx", None), "command_path", "refund-worker")
    said = plain(error.format_message()).rstrip(".")
    if hasattr(error, "possibilities"):  # an option that there is not
        said += " (an id that begins with a dash goes behind --)"
    print_error(InvalidRequest(f"{said}: see {where} --help"), invocation.output)
    return EXIT_USAGE


def _internal(error: Exception, invocation: Invocation) -> int:
    told: Any = RefundWorkerError(f"{type(error).__name__}, which should not happen: --debug shows where")
    print_error(told, invocation.output)
    if invocation.debug:
        say(to_redacted("".join(traceback.format_exception(error))))
    return EXIT_INTERNAL


def _unwritten(error: OSError, output: Output) -> int:
    """No room for what we say: it is lost from here on."""
    told = f"the output can't be written ({error.strerror}): whatever was stored stays stored"
    print_error(RefundWorkerError(told), output)
    _forget_stdout()
    return EXIT_INTERNAL


def _forget_stdout() -> None:
    """Whoever read our output has seen enough: nothing more is written, not even by the interpreter at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["Output", "app", "main", "run_command"]
