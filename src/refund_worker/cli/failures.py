"""Commands for refunds that need a person: failures by cause, retrying them together, and approvals."""

from __future__ import annotations

from typing import Annotated

import typer

from refund_worker.api_schema import Refund
from refund_worker.cli import dead_letters, runtime
from refund_worker.cli.explain import without_marks
from refund_worker.cli.options import (
    LIMIT_MAX,
    OutputOption,
    ReasonOption,
    acting_user,
    at_most,
    checked_reason,
    command,
    group,
)
from refund_worker.cli.output import (
    Column,
    Json,
    Output,
    count,
    moment,
    print_facts,
    print_json,
    print_line,
    print_table,
)
from refund_worker.engine.views.money_format import monies


def add_to(app: typer.Typer) -> None:
    """Register the groups `failures` and `approvals`."""
    failures = group("failures", "Failed refunds by cause, and refused requests.", app)
    dead_letters.add_to(failures)
    _add_list(failures)
    _add_retry(failures)
    _add_approvals(group("approvals", "Refunds that wait for a second person.", app))


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "failures list")
    def list_(output: OutputOption = Output.TABLE) -> None:
        """Count the refunds that failed or need a person, by failure code."""
        from refund_worker.engine.views.failure_groups import failures

        with runtime.context() as context, context.database.read() as connection:
            found = failures(connection)
        if output is Output.JSON:
            print_json({"data": found, "has_more": False})
        else:
            print_table(FAILURE_COLUMNS, (_failure_row(group) for group in found), empty="no failures")
            if found:
                print_line("more about a code: refund-worker explain CODE")


FAILURE_COLUMNS = (
    Column("failure"),
    Column("refunds", right=True),
    Column("need attention", right=True),
    Column("amount", right=True),
    Column("account", only_wide=True),
    Column("first (UTC)", only_wide=True),
    Column("last (UTC)"),
    Column("what to do", only_wide=True),
)


def _failure_row(group: Json) -> tuple[object, ...]:
    from refund_worker.engine.views.failure_codes import explain

    return (
        group["failure_code"] or "(none)",
        count(group["refunds"]),
        count(group["needs_attention"]),
        monies((line["currency"], line["amount_minor"]) for line in group["amounts"]),
        ", ".join(group["processor_accounts"]),
        moment(group["first_seen"]),
        moment(group["last_seen"]),
        without_marks(explain(group["failure_code"], ended=not group["needs_attention"]).advice),
    )


def _add_retry(app: typer.Typer) -> None:
    @command(app, "retry", "failures retry balance_insufficient --expected 37 --reason 'topped up'")
    def retry(
        failure_code: Annotated[
            str, typer.Argument(metavar="CODE", help="the failure code, as failures list shows it")
        ],
        expected: Annotated[
            int, typer.Option("--expected", min=1, help="how many need attention, as failures list shows; 500 if more")
        ],
        reason: ReasonOption,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Retry all refunds that need attention for one cause.

        Each is looked up at the processor first. At most 500 are retried at once, the oldest first. If the number of
        refunds that need attention differs from --expected, nothing is retried: exit 5.
        """
        from refund_worker.engine.refunds.bulk_retry import retry_all

        with runtime.context() as context:
            retried = retry_all(
                context,
                failure_code,
                expected=expected,
                actor=acting_user(),
                reason=checked_reason(reason),
            )
        if output is Output.JSON:
            print_json({"failure_code": failure_code, "retried": retried.refunds})
        else:
            print_facts([("retried", count(retried.refunds))])


APPROVAL_COLUMNS = (
    Column("id", whole=True),
    Column("customer"),
    Column("requested", right=True),
    Column("requested by"),
    Column("reason", only_wide=True),
    Column("created (UTC)", only_wide=True),
)


def _add_approvals(app: typer.Typer) -> None:
    @command(app, "list", "approvals list")
    def list_(
        limit: Annotated[int, at_most(LIMIT_MAX, "refunds")] = 50,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """List the refunds that wait for approval.

        Decide with refunds approve and refunds reject.
        """
        from refund_worker.domain.refund import RefundStatus
        from refund_worker.engine.views.api_objects import list_refunds
        from refund_worker.store.refunds import Filters

        waiting = Filters(statuses=(RefundStatus.AWAITING_APPROVAL,), limit=limit)
        with runtime.context() as context, context.database.read() as connection:
            page = list_refunds(connection, waiting)
        if output is Output.JSON:
            print_json(page)
            return
        print_table(
            APPROVAL_COLUMNS, (_approval_row(refund) for refund in page["data"]), empty="no refund waits for approval"
        )
        if page["has_more"]:
            print_line(f"there are more than these {limit}: raise --limit")


def _approval_row(refund: Refund) -> tuple[object, ...]:
    return (
        refund["id"],
        refund["customer_id"],
        monies((line["currency"], line["requested_minor"]) for line in refund["amounts"]),
        refund["actor"],
        refund["reason"],
        moment(refund["created_at"]),
    )
