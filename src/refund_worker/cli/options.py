"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import typer

from refund_worker.cli.shown import Output
from refund_worker.domain.ids import spelled

# As over HTTP (web/api/queries.py, whose import is too heavy for --help).
LIMIT_DEFAULT = 20

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """What `main` must know of the command it runs, to say how it went wrong."""

    output: Output = Output.TABLE
    debug: bool = False


def default_actor() -> str:
    """Who acts, unless said: this machine's user."""
    import getpass

    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):  # a container whose user has no name
        return "cli:unknown"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="table for people, json for programs")]
ActorOption = Annotated[
    str, typer.Option("--actor", help="who does this; cli: and this machine's user, if not said", show_default=False)
]
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


def command(app: typer.Typer, name: str, example: str) -> Callable[[F], F]:
    """Register a command with an example at the end of its help."""
    return app.command(name, epilog=f"Example: refund-worker {example}")
