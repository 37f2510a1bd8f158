"""Commands for people who sign in to the console."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from refund_worker.cli import links, runtime
from refund_worker.cli.options import OutputOption, acting_user, command, group
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_line, print_table

COLUMNS = (Column("name"), Column("role"), Column("status"), Column("created (UTC)"), Column("disabled (UTC)"))
ROLES = "viewer|support|operator|approver|admin"

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="the user's name; upper and lower case are the same")]
PasswordOption = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]


def add_to(app: typer.Typer) -> None:
    """Register the group `users`."""
    inner = group("users", "People who sign in to the console.", app)
    _add_create(inner)
    links.add_to(inner)
    _add_list(inner)
    _add_set_password(inner)
    _add_set_role(inner)
    _add_enable_and_disable(inner)
    _add_unlock(inner)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "users list")
    def list_(output: OutputOption = Output.TABLE) -> None:
        """List all users, disabled ones too."""
        from refund_worker.engine.access.console_users import list_users

        with runtime.context() as context:
            found = list_users(context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            rows = (
                [u["name"], u["role"], u["status"], moment(u["created_at"]), moment(u["disabled_at"])] for u in found
            )
            print_table(COLUMNS, rows, empty="no users: create one with refund-worker users create")


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "users create anna --role support")
    def create(
        name: Annotated[str, typer.Argument(metavar="NAME", help="the user's name; every action is recorded under it")],
        role: Annotated[str, typer.Option("--role", metavar=ROLES, help="what the user may do, see above")],
        password_stdin: PasswordOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Create a user of the console. A generated password is shown once and stored only as a hash.

        viewer sees all pages but Webhooks, Notifications, Settings and "Users and keys". support also refunds credits,
        corrects balances, returns money and deletes wrong entries. operator does what support does, retries and
        resolves refunds, pauses and resumes processors, verifies the audit chain, and sees Webhooks, Notifications and
        Settings. approver sees what a viewer sees, and approves or rejects large refunds. admin does everything, and
        manages users and keys.
        """
        from refund_worker.engine.access.console_users import create_user

        with runtime.context() as context:
            password = create_user(
                context, name=name, role=role, password=_read_password(password_stdin), actor=acting_user()
            )
        _show_password({"name": name, "role": role}, None if password_stdin else password, output)


def _add_set_password(app: typer.Typer) -> None:
    @command(app, "set-password", "users set-password anna")
    def set_password(
        name: NameArgument, password_stdin: PasswordOption = False, output: OutputOption = Output.TABLE
    ) -> None:
        """Set a new password for a user.

        The user's sessions end, and failed sign-ins are forgotten. A generated password is shown once and stored only
        as a hash.
        """
        from refund_worker.engine.access import console_users

        with runtime.context() as context:
            user, password = console_users.set_password(
                context, name, password=_read_password(password_stdin), actor=acting_user()
            )
        _show_password({"name": user["name"], "role": user["role"]}, None if password_stdin else password, output)


def _add_set_role(app: typer.Typer) -> None:
    @command(app, "set-role", "users set-role anna operator")
    def set_role(
        name: NameArgument,
        role: Annotated[str, typer.Argument(metavar=f"[{ROLES}]", help="the new role", show_default=False)] = "",
        role_option: Annotated[
            str, typer.Option("--role", metavar=ROLES, help="the role, as for users create", show_default=False)
        ] = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Give a user another role. It applies immediately, also in open sessions."""
        from refund_worker.engine.access import console_users
        from refund_worker.errors import InvalidRequest

        if bool(role) == bool(role_option):
            raise InvalidRequest(f"give one role: {ROLES.replace('|', ', ')}", field="role")
        with runtime.context() as context:
            changed = console_users.set_role(context, name, role or role_option, actor=acting_user())
        _show(changed, output)


def _add_enable_and_disable(app: typer.Typer) -> None:
    @command(app, "enable", "users enable anna")
    def enable(name: NameArgument, output: OutputOption = Output.TABLE) -> None:
        """Let a disabled user sign in again.

        Password and role are the same as before.
        """
        from refund_worker.engine.access.console_users import enable_user

        with runtime.context() as context:
            enabled = enable_user(context, name, actor=acting_user())
        _show(enabled, output)

    @command(app, "disable", "users disable anna")
    def disable(name: NameArgument, output: OutputOption = Output.TABLE) -> None:
        """Disable a user and end their sessions. The name is never given to another user."""
        from refund_worker.engine.access.console_users import disable_user

        with runtime.context() as context:
            disabled = disable_user(context, name, actor=acting_user())
        _show(disabled, output)


def _add_unlock(app: typer.Typer) -> None:
    @command(app, "unlock", "users unlock anna")
    def unlock(name: NameArgument, output: OutputOption = Output.TABLE) -> None:
        """Forget failed sign-ins of a user.

        The next password is then checked without delay.
        """
        from refund_worker.engine.access.console_users import unlock_user

        with runtime.context() as context:
            unlocked = unlock_user(context, name, actor=acting_user())
        _show(unlocked, output)


def _read_password(password_stdin: bool) -> str | None:
    """Return the password from standard input, or None if one is to be generated."""
    return sys.stdin.readline().rstrip("\r\n") if password_stdin else None


def _show(user: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        print_json(user)
    else:
        print_facts((field, user[field]) for field in ("name", "role", "status"))


def _show_password(user: dict[str, Any], password: str | None, output: Output) -> None:
    """Print a user, and the password if it was generated."""
    facts = user | ({} if password is None else {"password": password})
    if output is Output.JSON:
        print_json(facts)
        return
    print_facts(facts.items())
    if password is not None:
        print_line("save it now: it is not shown again")
