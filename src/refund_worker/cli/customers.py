"""Commands about customers and their transactions."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.api_schema import Payable, Transaction
from refund_worker.cli import customer_acts, lists, runtime
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    AfterOption,
    ClientOption,
    CustomerArgument,
    OutputOption,
    acting_user,
    at_most,
    command,
    group,
    key_or_new,
)
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_line, print_table
from refund_worker.domain.ids import spelled
from refund_worker.domain.ledger import Purpose

COLUMNS = (
    Column("id", whole=True),
    Column("kind"),
    Column("purpose", only_wide=True),
    Column("credits", right=True),
    Column("refers to"),
    Column("description", only_wide=True),
    Column("occurred (UTC)", only_wide=True),
)


def add_to(app: typer.Typer) -> None:
    """Register the groups `customers` and `transactions`."""
    customers = group("customers", "Customers' balances and corrections.", app)
    lists.add_customers_list(customers)
    _add_show(customers)
    _add_correct(customers)
    customer_acts.add_to(customers)
    transactions = group("transactions", "Entries of a customer's credit account.", app)
    _add_list(transactions)
    _add_reverse(transactions)


def _add_show(app: typer.Typer) -> None:
    @command(app, "show", "customers show 42")
    def show(customer_id: CustomerArgument, output: OutputOption = Output.TABLE) -> None:
        """Show a customer's balance and recent corrections."""
        from refund_worker.engine.views.api_objects import customer

        with runtime.context() as context, context.database.read() as connection:
            found = customer(connection, customer_id, context.policy)
        if output is Output.JSON:
            print_json(found)
            return
        print_facts(
            [
                ("customer", found["customer_id"]),
                ("balance", f"{found['balance']:,}"),
                ("available", f"{found['available']:,}"),
                ("payable", f"{found['payable']:,}"),
                *((f"payable in {part['currency']}", _payable(part)) for part in found["payable_by_currency"]),
            ]
        )
        if found["recent_corrections"]:
            print()
            print_table(COLUMNS, (_row(entry) for entry in found["recent_corrections"]))


def _add_correct(app: typer.Typer) -> None:
    @command(app, "correct", "customers correct 42 --credits -500 --reason 'to be paid out'")
    def correct(
        customer_id: CustomerArgument,
        credits: Annotated[
            str, typer.Option("--credits", metavar="INTEGER", help="a signed integer: -5 takes five credits off")
        ],
        reason: Annotated[str, typer.Option("--reason", help="why; shown in the customer's transactions")],
        idempotency_key: Annotated[
            str | None,
            typer.Option("--idempotency-key", help="a repeated key makes no second correction; generated if missing"),
        ] = None,
        client: ClientOption = "cli",
        purpose: Annotated[
            Purpose | None,
            typer.Option("--purpose", help="why credits are taken off; only those for a payout can be paid out"),
        ] = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Add credits to a customer's balance, or take credits off it.

        Credits that are taken off for a payout, the default, can be paid out by a withdrawal that names the
        correction.
        """
        from refund_worker.engine.accounts.corrections import correct
        from refund_worker.engine.intake.file_reader import strict_integer
        from refund_worker.engine.intake.schemas import CorrectionSchema, checked_client, checked_key, parse_schema
        from refund_worker.engine.views.api_objects import transaction_view

        fields = {"credits": strict_integer(credits, "credits"), "reason": reason}
        body = parse_schema(CorrectionSchema, fields | {"purpose": purpose.value if purpose else None})
        key = key_or_new(idempotency_key)
        with runtime.context() as context:
            row, new = correct(
                context,
                customer_id=customer_id,
                credits=body.credits,
                reason=body.reason,
                purpose=body.wanted,
                client=checked_client(client),
                idempotency_key=checked_key(key),
                actor=acting_user(),
            )
        if not new:
            print_line("this idempotency key was used before; this is the correction that it made")
        _show(transaction_view(row), output)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "transactions list 42")
    def list_(
        customer_id: CustomerArgument,
        limit: Annotated[int, at_most(LIMIT_MAX, "transactions")] = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List a customer's transactions, newest first."""
        from refund_worker.engine.views.api_objects import transactions

        with runtime.context() as context, context.database.read() as connection:
            page = transactions(connection, customer_id, limit=limit, after=starting_after)
        if output is Output.JSON:
            print_json(page)
            return
        print_table(COLUMNS, (_row(entry) for entry in page["data"]), empty="no transactions")
        if page["has_more"]:
            print_line(f"there are more transactions: --starting-after {page['data'][-1]['transaction_id']}")


def _add_reverse(app: typer.Typer) -> None:
    @command(app, "reverse", "transactions reverse txn_0199…")
    def reverse(
        transaction_id: Annotated[
            str, typer.Argument(metavar="ID", help="a correction or a credit refund to balance", callback=spelled)
        ],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Undo a transaction with a linked reversal entry.

        A transaction is reversed once; repeating the command shows the same entry. Exit 5 if money has already moved
        or the credits are already spent.
        """
        from refund_worker.engine.accounts.corrections import reverse_transaction
        from refund_worker.engine.views.api_objects import transaction_view

        with runtime.context() as context:
            row = reverse_transaction(context, transaction_id, actor=acting_user())
        _show(transaction_view(row), output)


def _payable(part: Payable) -> str:
    from refund_worker.engine.views.money_format import money

    return f"{part['credits']:,} ({money(part['amount_minor'], part['currency'])})"


def _row(entry: Transaction) -> tuple[object, ...]:
    return (
        entry["transaction_id"],
        entry["kind"],
        entry.get("purpose"),
        f"{entry['credits']:+,}",
        entry["refers_to"],
        entry["description"],
        moment(entry["occurred_at"]),
    )


def _show(entry: Transaction, output: Output) -> None:
    if output is Output.JSON:
        print_json(entry)
    else:
        print_facts(zip((column.title for column in COLUMNS), _row(entry), strict=True))
