"""Payouts as the commands show them: read as HTTP objects, printed as JSON or as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from refund_worker.api_schema import Payout, PayoutLeg, PayoutPreview
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table
from refund_worker.engine.views.money_format import money

if TYPE_CHECKING:
    from refund_worker.engine.context import Context

LIST_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("payee"),
    Column("amount", right=True),
    Column("destination", only_wide=True),
    Column("account"),
    Column("why"),
    Column("created (UTC)", only_wide=True),
)
LEG_COLUMNS = (
    Column("step"),
    Column("status"),
    Column("amount", right=True),
    Column("at processor", only_wide=True),
    Column("attempts", right=True, only_wide=True),
    Column("failure"),
)


def read_payout(context: Context, payout_id: str) -> Payout:
    """Return the payout as its HTTP object. Raises `NotFound` if the id is unknown."""
    from refund_worker.engine.views.payout_objects import find_payout, show_payout

    with context.database.read() as connection:
        return show_payout(connection, find_payout(connection, payout_id))


def print_payouts(payouts: Sequence[Payout]) -> None:
    """Print a table of payouts, given as HTTP objects."""
    print_table(LIST_COLUMNS, ([*_row(payout)] for payout in payouts), empty="no such payouts")


def _row(payout: Payout) -> tuple[object, ...]:
    return (
        payout["id"],
        payout["status"],
        payout["payee_id"],
        money(payout["amount_minor"], payout["currency"]),
        payout["destination"],
        payout["processor_account"],
        payout["hold_code"] or payout["failure_code"],
        moment(payout["created_at"]),
    )


def show_payout(payout: Payout, output: Output) -> None:
    """Print one payout with its steps and both texts."""
    if output is Output.JSON:
        print_json(payout)
        return
    times = (("held until", payout["hold_until"]), ("act by", payout["act_by"]), ("paid", payout["paid_at"]))
    print_facts(
        [
            ("payout", payout["id"]),
            ("status", payout["status"]),
            ("payee", payout["payee_id"]),
            ("amount", money(payout["amount_minor"], payout["currency"])),
            ("destination", payout["destination"]),
            ("warning", _changed(payout)),
            ("account", payout["processor_account"]),
            ("description", payout["description"] or None),
            ("held for", payout["hold_code"]),
            ("failure", payout["failure_code"]),
            ("message", payout["failure_message"]),
            ("fault", payout["fault"]),
            *((name, moment(value)) for name, value in times if value is not None),
            ("actions", ", ".join(payout["available_actions"]) or None),
            ("for the payee", payout["payee_text"]),
            ("for staff", payout["staff_text"]),
        ]
    )
    print_table(LEG_COLUMNS, ([*_leg_row(leg)] for leg in payout["legs"]))


def _changed(payout: Payout) -> str | None:
    """Return the warning for a person who pays: the payee has another destination by now."""
    if payout["destination_changed_at"] is None:
        return None
    since = moment(payout["destination_changed_at"])
    return f"the payee has another destination since {since}: ask the payee before you pay, and compare the two"


def _leg_row(leg: PayoutLeg) -> tuple[object, ...]:
    return (
        leg["step"],
        leg["status"],
        money(leg["amount_minor"], leg["currency"]),
        leg["object_id"],
        leg["attempts"],
        leg["failure_code"],
    )


def show_payout_preview(preview: PayoutPreview) -> None:
    """Print the preview of a request as facts."""
    outcome, hold, currency = preview["would_be"], preview["hold"], preview["currency"]
    refused = outcome if isinstance(outcome, dict) else None
    amount, most = preview["amount_minor"], preview["maximum_minor"]
    held_until = preview["held_until"]
    print_facts(
        [
            ("would be", "accepted" if refused is None else f"refused: {refused['code']}"),
            ("because", None if refused is None else refused["message"]),
            ("amount", None if amount is None else money(amount, currency)),
            ("payable now", money(preview["payable_minor"], currency)),
            ("not payable", preview["not_payable_code"]),
            ("held", money(preview["held_minor"], currency)),
            ("next available", None if held_until is None else moment(held_until)),
            ("debt", money(preview["debt_minor"], currency)),
            ("on its way", money(preview["in_flight_minor"], currency)),
            ("smallest payout", money(preview["minimum_minor"], currency)),
            ("largest payout", None if most is None else money(most, currency)),
            ("route", f"{preview['processor_account']}: {', then '.join(preview['steps'])}"),
            ("destination", preview["destination"]),
            ("would wait", None if hold is None else f"{hold['code']}: {hold['staff_text']}"),
            ("needs approval", "yes" if preview["needs_approval"] else "no"),
        ]
    )
