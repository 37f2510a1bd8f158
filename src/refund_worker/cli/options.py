"""Options and arguments that several commands share."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from refund_worker.cli.output import Output, print_line
from refund_worker.domain.ids import spelled
from refund_worker.errors import InvalidRequest

# The same as over HTTP: web/api/queries.py has it too, but takes too long to import for --help.
LIMIT_DEFAULT, LIMIT_MAX = 20, 500
EXIT_USAGE = 2

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """The options of the running command that decide how its errors are shown."""

    output: Output = Output.TABLE
    debug: bool = False


def acting_user() -> str:
    """Return the actor of this process, such as `cli:anna`: its user of the operating system.

    Variables such as $USER are ignored, because a caller can set them to any name.
    """
    import os

    try:
        import pwd
    except ImportError:  # Windows
        return f"cli:{os.getlogin()}"
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a container user without a name: the number still distinguishes two of them
        return f"cli:uid-{uid}"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table for people or json for programs")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="print only the ids, one on each line")]
ClientOption = Annotated[str, typer.Option("--client", help="the client that owns the idempotency keys")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why, in your own words; kept in the audit trail")]
CustomerArgument = Annotated[str, typer.Argument(metavar="ID", help="the customer's id", callback=spelled)]
RefundArgument = Annotated[str, typer.Argument(metavar="ID", help="the refund's id, rf_…")]


def at_most(limit_max: int, of: str) -> Any:
    """Return the option `--limit`, at most `limit_max`. `of` says in the help what is counted."""
    return typer.Option("--limit", min=1, max=limit_max, help=f"maximum number of {of}")


def check_quiet(quiet: bool, output: Output) -> None:
    """Check that the output is asked for in one form. Raises `InvalidRequest` otherwise."""
    if quiet and output is Output.JSON:
        raise InvalidRequest("--quiet prints only the ids: leave out -o json", field="quiet")


def normalized_id(value: str | None) -> str | None:
    """Return an optional id in the Unicode form in which ids are stored."""
    return None if value is None else spelled(value)


AfterOption = Annotated[
    str | None,
    typer.Option("--starting-after", help="the last id of the previous page", callback=normalized_id),
]


def chosen_statuses(given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """Return the statuses of one or several lists. Raises `InvalidRequest` for an unknown one."""
    names = [name.strip() for each in given for name in each.split(",")]
    for name in names:
        if name not in set(known):
            choice = ", ".join(known)
            raise InvalidRequest(f"--status: there is no status {name!r}, choose from {choice}", field="status")
    return tuple(dict.fromkeys(names))


def trimmed_key(value: str | None) -> str | None:
    """Return an optional idempotency key without blanks at its ends, as keys are stored."""
    return None if value is None else value.strip()


def key_or_new(idempotency_key: str | None) -> str:
    """Return the idempotency key. If it is missing, generate one and print it on stderr."""
    if idempotency_key is None:
        idempotency_key = f"cli-{uuid.uuid4()}"
        print_line(f"idempotency key: {idempotency_key}")
    return idempotency_key


def checked_reason(reason: str) -> str:
    """Return the reason of an action as it is stored.

    Raises `InvalidRequest` if it is empty, too long, or contains data that must not be stored.
    """
    from refund_worker.domain.ids import is_readable
    from refund_worker.engine.intake import schemas

    class Why(schemas.Schema):
        reason: schemas.Reason

    if not is_readable(reason):
        raise InvalidRequest("--reason is missing: say why", field="reason")
    return schemas.parse_schema(Why, {"reason": reason}).reason


def group(name: str, help: str, app: typer.Typer) -> typer.Typer:
    """Add a group of commands to `app` and return it. The group alone prints its help."""
    inner = typer.Typer(name=name, help=help, rich_markup_mode=None, invoke_without_command=True)
    inner.callback()(print_help_alone)
    app.add_typer(inner)
    return inner


def print_help_alone(context: typer.Context) -> None:
    """Print the help and end as wrong usage if the command line names no command."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(EXIT_USAGE)


class Command(TyperCommand):
    """A command that explains why the former option `--actor` no longer exists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments. Raises `InvalidRequest` if they contain `--actor`."""
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if getattr(error, "option_name", None) == "--actor":
                raise InvalidRequest(
                    f"--actor: the actor is who runs the command ({acting_user()}) and cannot be chosen: leave it out",
                    field="actor",
                ) from None
            raise


def command(app: typer.Typer, name: str, *examples: str) -> Callable[[F], F]:
    """Return a decorator that registers a command, with the examples at the end of its help."""
    shown = "\n\n".join(f"Example: refund-worker {example}" for example in examples)
    return app.command(name, cls=Command, epilog=shown)
