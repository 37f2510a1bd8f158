"""Commands that link names to one person, so that no person approves their own request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, acting_user, command
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table

COLUMNS = (Column("user"), Column("identity"), Column("linked (UTC)"), Column("by"))

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the console user, active or disabled")]
IdentityArgument = Annotated[
    str,
    typer.Argument(metavar="IDENTITY", help="key:CLIENT/NAME, console/NAME, cli:NAME or actor:NAME of the same person"),
]


def add_to(users: typer.Typer) -> None:
    """Register the commands `link`, `unlink` and `links` in the group `users`."""

    @command(users, "link", "users link anna key:backend/anna")
    def link(name: NameArgument, identity: IdentityArgument, output: OutputOption = Output.TABLE) -> None:
        """Link another name to a console user as one person.

        The other name is an API key, a command line user or another console user. A refund that was requested under
        one of these names cannot be approved under any of them; this includes earlier requests. Link a key that several
        people use to each of them.
        """
        from refund_worker.engine.access.persons import link_person

        _change_link(link_person, name, identity, output)

    @command(users, "unlink", "users unlink anna key:backend/anna")
    def unlink(name: NameArgument, identity: IdentityArgument, output: OutputOption = Output.TABLE) -> None:
        """Remove a link between two names. The audit trail keeps the link and its removal."""
        from refund_worker.engine.access.persons import unlink_person

        _change_link(unlink_person, name, identity, output)

    @command(users, "links", "users links")
    def links(output: OutputOption = Output.TABLE) -> None:
        """List all links with their time and author."""
        from refund_worker.engine.access.persons import list_links

        with runtime.context() as context:
            found = list_links(context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            rows = ([row["user"], row["identity"], moment(row["linked_at"]), row["linked_by"]] for row in found)
            print_table(COLUMNS, rows, empty="no links: each name counts as a person of its own")


def _change_link(change: Callable[..., dict[str, Any]], name: str, identity: str, output: Output) -> None:
    with runtime.context() as context:
        result = change(context, name, identity, by=acting_user())
    if output is Output.JSON:
        print_json(result)
    else:
        print_facts((field, str(value)) for field, value in result.items())
