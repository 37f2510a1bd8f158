"""Lists for operators: customers, payments and batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    AfterOption,
    OutputOption,
    QuietOption,
    ReasonOption,
    acting_user,
    at_most,
    check_quiet,
    checked_reason,
    command,
    group,
    normalized_id,
)
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    count,
    moment,
    print_facts,
    print_ids,
    print_json,
    print_line,
    print_table,
)
from refund_worker.domain.ids import spelled
from refund_worker.engine.views.money_format import monies

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from refund_worker.engine.context import Context

    Read = Callable[[Connection, Context, int, str | None], Json]

LimitOption = Annotated[int, at_most(LIMIT_MAX, "rows")]
CustomerFilter = Annotated[
    str | None,
    typer.Option("--customer", "--customer-id", help="only of this customer", callback=normalized_id),
]
PaymentFilter = Annotated[
    str | None, typer.Option("--payment", "--payment-id", help="only of this payment", callback=normalized_id)
]
CUSTOMER_COLUMNS = (
    Column("id", whole=True),
    Column("balance", right=True),
    Column("available", right=True),
    Column("payable", right=True),
)
PAYMENT_COLUMNS = (
    Column("id", whole=True),
    Column("customer"),
    Column("account", only_wide=True),
    Column("at the processor"),
    Column("amount", right=True),
    Column("credits", right=True),
    Column("verified", only_wide=True),
    Column("captured (UTC)", only_wide=True),
)
BATCH_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("rows", right=True),
    Column("client"),
    Column("by", only_wide=True),
    Column("created (UTC)"),
)
REJECTED_COLUMNS = (Column("row", right=True), Column("code"), Column("message"))


class Shown(NamedTuple):
    """The objects of a list as people see them."""

    id_field: str
    columns: Sequence[Column]
    row_of: Callable[[Json], tuple[object, ...]]


def add_to(app: typer.Typer) -> None:
    """Register the groups `payments` and `batches`."""
    payments = group("payments", "Recorded payments.", app)
    _add_payments_list(payments)
    _add_payments_show(payments)
    _add_payments_close(payments)
    batches = group("batches", "Batches of refund requests that came over HTTP.", app)
    _add_batches_list(batches)
    _add_batches_show(batches)


def add_customers_list(app: typer.Typer) -> None:
    """Register the command `list` in the group `customers`."""

    def read(connection: Connection, _context: Context, limit: int, after: str | None) -> Json:
        from refund_worker.engine.views.lists import customers

        return customers(connection, limit=limit, after=after)

    about = "List customers with their balances, by id."
    add_list(app, "customers list --limit 50", about, read, Shown("customer_id", CUSTOMER_COLUMNS, _customer_row))


def _add_batches_list(app: typer.Typer) -> None:
    def read(connection: Connection, context: Context, limit: int, after: str | None) -> Json:
        from refund_worker.engine.intake.batches import list_batches

        return list_batches(connection, now=context.clock(connection), limit=limit, after=after)

    about = "List batches, newest first."
    add_list(app, "batches list", about, read, Shown("batch_id", BATCH_COLUMNS, _batch_row))


def add_list(app: typer.Typer, example: str, about: str, read: Read, shown: Shown) -> None:
    """Register a command `list` without filters. `about` is its help."""

    def list_(
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        check_quiet(quiet, output)
        with runtime.context() as context, context.database.read() as connection:
            page = read(connection, context, limit, starting_after)
        show_page(page, output, quiet, shown)

    list_.__doc__ = about
    command(app, "list", example)(list_)


def _add_payments_list(app: typer.Typer) -> None:
    @command(app, "list", "payments list --customer 42")
    def list_(
        customer: CustomerFilter = None,
        limit: LimitOption = LIMIT_DEFAULT,
        starting_after: AfterOption = None,
        quiet: QuietOption = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List recorded payments, by id."""
        from refund_worker.engine.views.lists import payments

        check_quiet(quiet, output)
        with runtime.context() as context, context.database.read() as connection:
            page = payments(connection, context, customer_id=customer, limit=limit, after=starting_after)
        show_page(page, output, quiet, Shown("payment_id", PAYMENT_COLUMNS, _payment_row))


def _add_payments_show(app: typer.Typer) -> None:
    @command(app, "show", "payments show pay-1")
    def show(
        payment_id: Annotated[str, typer.Argument(metavar="ID", help="your id of the payment", callback=spelled)],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show a payment as recorded, and as its processor reports it."""
        _show_payment(payment_id, output)


def _show_payment(payment_id: str, output: Output) -> None:
    from refund_worker.engine.views.payment_objects import payment

    with runtime.context() as context, context.database.read() as connection:
        found = payment(connection, context, payment_id)
    for_people = show_one(found, output, Shown("payment_id", PAYMENT_COLUMNS, _payment_row))
    if for_people and found["processor_says"]:
        print()
        facts = found["processor_says"].items()
        print_facts((f"processor: {name.replace('_', ' ')}", value) for name, value in facts)


def _add_payments_close(app: typer.Typer) -> None:
    @command(app, "close", "payments close pay-1 --reason 'the debit failed'")
    def close(
        payment_id: Annotated[str, typer.Argument(metavar="ID", help="your id of the payment", callback=spelled)],
        reason: ReasonOption,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Close a payment whose money never came, or that was recorded wrong.

        Its unspent credits come off the balance, and unsent refunds go over other payments. Exit 5 while a refund over
        it may have money under way.
        """
        from refund_worker.engine.claims.close import close_payment

        reason = checked_reason(reason)
        with runtime.context() as context:
            close_payment(context, payment_id, actor=acting_user(), reason=reason)
        _show_payment(payment_id, output)


def _add_batches_show(app: typer.Typer) -> None:
    @command(app, "show", "batches show rb_0199…")
    def show(
        batch_id: Annotated[str, typer.Argument(metavar="ID", help="the batch's id, rb_…")],
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Show the progress of a batch, its refunds by status, and its rejected rows."""
        from refund_worker.engine.intake.batches import batch_view

        with runtime.context() as context, context.database.read() as connection:
            batch = batch_view(connection, batch_id, now=context.clock(connection))
        if output is Output.JSON:
            print_json(batch)
            return
        statuses = ", ".join(f"{count(number)} {name}" for name, number in sorted(batch["refunds_by_status"].items()))
        print_facts(
            [
                ("batch", batch["batch_id"]),
                ("status", batch["status"]),
                ("what to do", batch["message"]),
                ("accepted", count(batch["accepted"])),
                ("replayed", count(batch["replayed"])),
                ("rejected", count(len(batch["rejected"]))),
                ("refunds", statuses),
                ("created", f"{moment(batch['created_at'])} UTC"),
            ]
        )
        if batch["rejected"]:
            print()
            rows = ((row["index"], row["code"], row["message"]) for row in batch["rejected"])
            print_table(REJECTED_COLUMNS, rows)


def show_page(page: Json, output: Output, quiet: bool, shown: Shown) -> None:
    """Print a page of a list as JSON, as ids alone, or as a table."""
    show_rows(page, output, quiet, shown.id_field, lambda rows: print_table(shown.columns, map(shown.row_of, rows)))


def show_rows(
    page: Any, output: Output, quiet: bool, id_field: str, print_rows: Callable[[Sequence[Any]], None]
) -> None:
    """Print a page of a list as JSON, as ids alone, or by `print_rows`."""
    if output is Output.JSON:
        print_json(page)
        return
    if quiet:
        print_ids(row[id_field] for row in page["data"])
    else:
        print_rows(page["data"])
    if page["has_more"]:
        print_line(f"there are more: --starting-after {page['data'][-1][id_field]}")


def show_one(found: Any, output: Output, shown: Shown) -> bool:
    """Print one object of a list: as JSON, or its cells line by line. Return whether people read it."""
    if output is Output.JSON:
        print_json(found)
        return False
    print_facts(zip((column.title for column in shown.columns), shown.row_of(found), strict=True))
    return True


def _customer_row(row: Any) -> tuple[object, ...]:
    return row["customer_id"], count(row["balance"]), count(row["available"]), count(row["payable"])


def _payment_row(row: Any) -> tuple[object, ...]:
    return (
        row["payment_id"],
        row["customer_id"],
        row["processor_account"],
        row["processor_payment_id"],
        monies([(row["currency"], row["amount_minor"])]),
        count(row["credits"]),
        row["verified"],
        moment(row["captured_at"]),
    )


def _batch_row(row: Any) -> tuple[object, ...]:
    return (
        row["batch_id"],
        row["status"],
        count(row["rows"]),
        row["client"],
        row["actor"],
        moment(row["created_at"]),
    )
