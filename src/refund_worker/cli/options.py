"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from refund_worker.cli.output import Output
from refund_worker.domain.ids import spelled
from refund_worker.errors import InvalidRequest

# As over HTTP (web/api/queries.py, whose import is too heavy for --help).
LIMIT_DEFAULT = 20

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """What `main` must know of the command it runs, to say how it went wrong."""

    output: Output = Output.TABLE
    debug: bool = False


def acting_user() -> str:
    """Who acts: the user of the operating system whose process this is, not what a variable such as $USER says."""
    import os

    try:
        import pwd
    except ImportError:  # Windows
        return f"cli:{os.getlogin()}"
    uid = os.getuid()
    try:
        return f"cli:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a container whose user has no name: two of them are still two
        return f"cli:uid-{uid}"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table for people, json for programs")]
ClientOption = Annotated[str, typer.Option("--client", help="whose idempotency keys these are")]
ReasonOption = Annotated[str, typer.Option("--reason", help="why, in your own words; it is kept in the timeline")]
RefundArgument = Annotated[str, typer.Argument(metavar="ID", help="the refund's id, rf_…")]


def spelled_if_given(value: str | None) -> str | None:
    """An id to look for as it is stored, however the terminal writes its accents."""
    return None if value is None else spelled(value)


def trimmed_if_given(value: str | None) -> str | None:
    """An idempotency key to look for: blanks at its ends are no part of it."""
    return None if value is None else value.strip()


def group(name: str, help: str, app: typer.Typer) -> typer.Typer:
    """A group of commands below `app`."""
    inner = typer.Typer(name=name, help=help, rich_markup_mode=None, no_args_is_help=True)
    app.add_typer(inner)
    return inner


class Command(TyperCommand):
    """A command that says why it takes no `--actor`, which there was once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except typer.TyperException as error:
            if getattr(error, "option_name", None) == "--actor":
                raise InvalidRequest(
                    f"--actor: the actor is who runs the command ({acting_user()}) and can't be chosen: leave it out",
                    field="actor",
                ) from None
            raise


def command(app: typer.Typer, name: str, example: str) -> Callable[[F], F]:
    """Register a command with an example at the end of its help."""
    return app.command(name, cls=Command, epilog=f"Example: refund-worker {example}")
