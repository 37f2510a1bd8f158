"""People who sign in to the console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from refund_worker.cli import links, session
from refund_worker.cli.options import OutputOption, command, group
from refund_worker.cli.shown import Column, Output, moment, print_facts, print_json, print_table, say

COLUMNS = (Column("name"), Column("role"), Column("status"), Column("created (UTC)"), Column("disabled (UTC)"))


def add_to(app: typer.Typer) -> None:
    inner = group("users", "People who sign in to the console.", app)
    _add_create(inner)
    links.add_to(inner)

    @command(inner, "list", "users list")
    def list_(output: OutputOption = Output.TABLE) -> None:
        """List all users, disabled ones too."""
        from refund_worker.engine.console_users import list_users

        with session.context() as context:
            found = list_users(context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            rows = (
                [u["name"], u["role"], u["status"], moment(u["created_at"]), moment(u["disabled_at"])] for u in found
            )
            print_table(COLUMNS, rows, empty="no users: make one with refund-worker users create")

    @command(inner, "disable", "users disable anna")
    def disable(
        name: Annotated[str, typer.Argument(metavar="NAME", help="who is to sign in no more")],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Let a user in no more and end their sessions; the name stays theirs."""
        from refund_worker.engine.console_users import disable_user

        with session.context() as context:
            disabled = disable_user(context, name)
        if output is Output.JSON:
            print_json(disabled)
        else:
            print_facts((field, disabled[field]) for field in ("name", "role", "status"))


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "users create anna --role operator")
    def create(
        name: Annotated[str, typer.Argument(metavar="NAME", help="who it is; every act is recorded under this name")],
        role: Annotated[str, typer.Option("--role", metavar="viewer|requester|approver|operator|admin")],
        password_stdin: Annotated[
            bool, typer.Option("--password-stdin", help="read the password from standard input")
        ] = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Make a user of the console. A generated password is shown this once and stored as a hash only."""
        from refund_worker.engine.console_users import create_user

        given = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
        with session.context() as context:
            password = create_user(context, name=name, role=role, password=given)
        made = {"name": name, "role": role} | ({} if password_stdin else {"password": password})
        if output is Output.JSON:
            print_json(made)
            return
        print_facts(made.items())
        if not password_stdin:
            say("keep it now: it is not shown again")
