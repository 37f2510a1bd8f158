"""Commands for the keys of the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, acting_user, command, group
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_line, print_table

COLUMNS = (
    Column("name"),
    Column("client"),
    Column("role"),
    Column("signed", only_wide=True),
    Column("status"),
    Column("created (UTC)"),
    Column("expires (UTC)", only_wide=True),
    Column("id", only_wide=True),
)
ROLES = "viewer|requester|approver|operator|admin"


def add_to(app: typer.Typer) -> None:
    """Register the group `keys`."""
    inner = group("keys", "Keys of the HTTP API.", app)
    _add_create(inner)

    @command(inner, "list", "keys list")
    def list_(output: OutputOption = Output.TABLE) -> None:
        """List all keys. The secret parts are never shown."""
        from refund_worker.engine.access.api_keys import list_keys

        with runtime.context() as context:
            found = list_keys(context)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            fields = ("name", "client", "role", "signed", "status", "created_at", "expires_at", "key_id")
            rows = ([moment(k[f]) if f.endswith("_at") else k[f] for f in fields] for k in found)
            print_table(COLUMNS, rows, empty="no keys: create one with refund-worker keys create")

    @command(inner, "revoke", "keys revoke admin-backend")
    def revoke(
        name: Annotated[str, typer.Argument(metavar="NAME", help="the key's name or id")],
        client: Annotated[
            str | None, typer.Option("--client", help="the key's client, if several keys have this name")
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Revoke a key. Requests with it are refused from now on."""
        from refund_worker.engine.access.api_keys import revoke_key

        with runtime.context() as context:
            revoked = revoke_key(context, name, client=client, actor=acting_user())
        if output is Output.JSON:
            print_json(revoked)
        else:
            print_facts((field.replace("_", " "), revoked[field]) for field in ("name", "client", "role", "status"))


def _add_create(app: typer.Typer) -> None:
    @command(app, "create", "keys create admin-backend --client backend --role requester")
    def create(
        name: Annotated[str, typer.Argument(metavar="NAME", help="what the key is for")],
        client: Annotated[
            str, typer.Option("--client", help="who uses the key; each client has its own idempotency keys")
        ],
        role: Annotated[str, typer.Option("--role", metavar=ROLES, help="what the key may do")],
        expires_at: Annotated[
            str | None,
            typer.Option("--expires-at", metavar="TIME", help="when the key ends, ISO 8601; never if missing"),
        ] = None,
        signed: Annotated[
            bool, typer.Option("--signed", help="each request must be signed with a second secret, which is never sent")
        ] = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Create a key. It is shown once and stored only as a hash.

        With --signed, a signing secret is shown with it. A key that leaks through a log or a proxy is useless without
        this secret. The Python client signs requests if it has the secret; docs/api.md explains how other programs
        sign.
        """
        from refund_worker.engine.access.api_keys import create_key, create_signed_key
        from refund_worker.engine.intake.schemas import Schema, Timestamp, parse_schema

        class Expiry(Schema):
            expires_at: Timestamp

        end = None if expires_at is None else parse_schema(Expiry, {"expires_at": expires_at}).expires_at
        with runtime.context() as context:
            facts, by = {"client": client, "role": role}, acting_user()
            if signed:
                key, secret = create_signed_key(context, name=name, **facts, expires_at=end, actor=by)
                facts = {"key": key, "signing_secret": secret, **facts}
            else:
                facts = {"key": create_key(context, name=name, **facts, expires_at=end, actor=by), **facts}
        if output is Output.JSON:
            print_json(facts)
        else:
            print_facts((field.replace("_", " "), value) for field, value in facts.items())
            print_line("save it now: it is not shown again")
