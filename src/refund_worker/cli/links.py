"""Which names are one person's: what approvals are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, acting_user, command
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table

COLUMNS = (Column("user"), Column("identity"), Column("linked (UTC)"), Column("by"))

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the console user, disabled or not")]
IdentityArgument = Annotated[
    str, typer.Argument(metavar="IDENTITY", help="key:CLIENT/NAME, console/NAME or cli:NAME of the same person")
]


def add_to(users: typer.Typer) -> None:
    @command(users, "link", "users link anna key:backend/anna")
    def link(name: NameArgument, identity: IdentityArgument, output: OutputOption = Output.TABLE) -> None:
        """Say that a console user and an API key, a command line user or another console user are one person.

        What one of them asked for, none of them can approve; what was asked for earlier too. A key that several people
        use is linked to each of them.
        """
        from refund_worker.engine.access.persons import link_person

        _do(link_person, name, identity, output)

    @command(users, "unlink", "users unlink anna key:backend/anna")
    def unlink(name: NameArgument, identity: IdentityArgument, output: OutputOption = Output.TABLE) -> None:
        """Take such a link back; the audit trail keeps both."""
        from refund_worker.engine.access.persons import unlink_person

        _do(unlink_person, name, identity, output)

    @command(users, "links", "users links")
    def links(output: OutputOption = Output.TABLE) -> None:
        """List which names were linked to which user, when and by whom."""
        from refund_worker.engine.access.persons import list_links

        with runtime.context() as context:
            found = list_links(context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            rows = ([row["user"], row["identity"], moment(row["linked_at"]), row["linked_by"]] for row in found)
            print_table(COLUMNS, rows, empty="no links: each name is taken for a person of its own")


def _do(act: Callable[..., dict[str, Any]], name: str, identity: str, output: Output) -> None:
    with runtime.context() as context:
        done = act(context, name, identity, by=acting_user())
    if output is Output.JSON:
        print_json(done)
    else:
        print_facts((field, str(value)) for field, value in done.items())
