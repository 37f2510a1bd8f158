"""Refunds as the commands show them: read as HTTP objects, printed as JSON or as tables for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import compress
from typing import TYPE_CHECKING, Literal, NamedTuple

from refund_worker.api_schema import Amount, Event, Leg, NextAction, PlannedLeg, Preview, Refund, Wait
from refund_worker.cli.explain import without_marks
from refund_worker.cli.output import Column, Output, moment, print_facts, print_json, print_table
from refund_worker.engine.views.money_format import monies

if TYPE_CHECKING:
    from refund_worker.engine.context import Context
    from refund_worker.engine.views.refund_facts import RefundExplanation

ACCOUNT = Column("account")
LIST_COLUMNS = (
    Column("id", whole=True),
    Column("status"),
    Column("customer"),
    Column("credits", right=True, only_wide=True),
    Column("requested", right=True),
    Column("paid", right=True, only_wide=True),
    ACCOUNT,
    Column("failure"),
    Column("created (UTC)", only_wide=True),
)
LEG_COLUMNS = (
    Column("leg"),
    Column("status"),
    Column("amount", right=True),
    Column("payment"),
    Column("account"),
    Column("refund at processor", only_wide=True),
    Column("attempts", right=True, only_wide=True),
    Column("failure"),
)
EVENT_COLUMNS = (Column("when (UTC)"), Column("what"), Column("to"), Column("who"), Column("why"))


def read_refund(context: Context, refund_id: str) -> Refund:
    """Return the refund as its HTTP object. Raises `NotFound` if the id is unknown."""
    return read_explained(context, refund_id).refund


class ExplainedRefund(NamedTuple):
    """A refund as its HTTP object, the explanation of its failure, and the causes for which it waits."""

    refund: Refund
    why: RefundExplanation | None
    waits: tuple[Wait, ...]


def read_explained(context: Context, refund_id: str) -> ExplainedRefund:
    """Return the refund with what a person wants to know of it. Raises `NotFound`."""
    from refund_worker.engine.processor_sync.refund_waits import wait_view, waits_of
    from refund_worker.engine.views.api_objects import find_refund, refund_view
    from refund_worker.engine.views.refund_facts import explain_refund

    with context.database.read() as connection:
        refund = find_refund(connection, refund_id)
        waits = tuple(wait_view(wait) for wait in waits_of(connection, context, refund))
    return ExplainedRefund(refund_view(refund), explain_refund(refund), waits)


def print_refunds(refunds: Sequence[Refund], accounts: Collection[str]) -> None:
    """Print a table of refunds, given as HTTP objects, which names the accounts of each if there are several.

    `accounts` are those of the settings. `manual`, which always exists, only counts where a refund has a leg there.
    """
    from refund_worker.processors.accounts import MANUAL

    used = {leg["processor_account"] for refund in refunds for leg in refund["legs"]}
    shown = [each is not ACCOUNT or len(used | set(accounts) - {MANUAL}) > 1 for each in LIST_COLUMNS]
    rows = (compress(_list_row(refund), shown) for refund in refunds)
    print_table(list(compress(LIST_COLUMNS, shown)), (list(row) for row in rows), empty="no such refunds")


def print_events(events: Iterable[Event]) -> None:
    """Print the timeline of a refund, given as HTTP objects."""
    print_table(EVENT_COLUMNS, (_event_row(event) for event in events))


def _list_row(refund: Refund) -> tuple[object, ...]:
    return (
        refund["id"],
        refund["status"],
        refund["customer_id"],
        f"{refund['credits']:,}",
        _sum(refund["amounts"], "requested_minor"),
        _sum(refund["amounts"], "succeeded_minor"),
        ", ".join(dict.fromkeys(leg["processor_account"] for leg in refund["legs"])),
        refund["failure_code"],
        moment(refund["created_at"]),
    )


def _event_row(event: Event) -> tuple[object, ...]:
    what = f"{event['what']}{' (alarm)' if event['alarm'] else ''}"
    return moment(event["at"]), what, event["to"], event["who"], event["why"]


def _sum(amounts: Iterable[Amount], which: Literal["requested_minor", "succeeded_minor"]) -> str:
    return monies((line["currency"], line[which]) for line in amounts)


def show_refund(
    refund: Refund, output: Output, why: RefundExplanation | None = None, waits: Iterable[Wait] = ()
) -> None:
    """Print one refund, given as its HTTP object: as JSON, or for people with its failure and its waits explained."""
    if output is Output.JSON:
        print_json(refund)
        return
    print_facts(
        [
            ("refund", refund["id"]),
            ("status", refund["status"]),
            ("failure", " - ".join(filter(None, (refund["failure_code"], refund["failure_message"])))),
            *_explained(why),
            *(("waits", _wait_text(wait)) for wait in waits),
            ("kind", f"{refund['kind']} to {refund['to']}"),
            ("payee", refund["payee_id"]),
            ("destinations", ", ".join(refund["destinations"] or ())),
            ("customer", refund["customer_id"]),
            ("transaction", refund["transaction_id"]),
            ("credits", f"{refund['credits']:,}"),
            ("requested", _sum(refund["amounts"], "requested_minor")),
            ("paid", _sum(refund["amounts"], "succeeded_minor")),
            ("reason", refund["reason"]),
            ("note", refund["note"]),
            ("requested by", f"{refund['actor']} ({refund['client']})"),
            ("stated requester", refund["requested_by"]),
            ("instructions to", refund["instructions_email"]),
            ("idempotency key", refund["idempotency_key"]),
            ("created", f"{moment(refund['created_at'])} UTC"),
            ("updated", f"{moment(refund['updated_at'])} UTC, version {refund['version']}"),
            ("possible actions", ", ".join(refund["available_actions"])),
        ]
    )
    if refund["legs"]:
        print()
        print_table(LEG_COLUMNS, (_leg_row(leg) for leg in refund["legs"]))
        for leg in refund["legs"]:
            print()
            print_facts(_where(leg))


def _where(leg: Leg) -> list[tuple[str, str]]:
    """Return where the money of a leg is, for people."""
    trace, expected, action = leg["trace"], leg["expected_by"], leg["next_action"]
    status = " - ".join(filter(None, (leg["processor_status"], leg["pending_reason"])))
    reference = f"{trace['kind']} {trace['value'] or ''} ({trace['status'] or 'no status'})" if trace else ""
    return [
        ("leg", leg["leg_id"].rsplit("-", 1)[-1]),
        ("at the processor", status),
        ("customer must act", _action_text(action) if action else ""),
        ("trace", reference),
        ("statement", leg["statement"] or ""),
        ("expected", f"{expected['earliest'][:10]} to {expected['latest'][:10]}" if expected else ""),
        ("for staff", leg["staff_text"]),
        ("for the customer", leg["customer_text"]),
    ]


def _action_text(action: NextAction) -> str:
    sent = f"e-mail to {action['email_sent_to']}" if action["email_sent_to"] else "no e-mail is known"
    return f"{sent}, until {moment(action['expires_at'])} UTC" if action["expires_at"] else sent


def _explained(why: RefundExplanation | None) -> Iterable[tuple[str, str]]:
    if why is None:
        return
    yield "meaning", f"{why.title}. {without_marks(why.cause)}"
    yield "facts", " ".join(why.facts)
    yield "what to do", without_marks(why.advice)
    yield "more", f"refund-worker explain {why.entry}"


def _wait_text(wait: Wait) -> str:
    since = f"since {moment(wait['since'])} UTC" if wait["since"] else ""
    until = f"next try at {moment(wait['until'])} UTC" if wait["until"] else ""
    said = " - ".join(filter(None, (wait["code"], wait["reason"])))
    return f"{wait['text']} {'; '.join(filter(None, (since, until, said)))}".rstrip()


def _leg_row(leg: Leg) -> tuple[object, ...]:
    return (
        leg["leg_id"].rsplit("-", 1)[-1],
        leg["status"],
        monies([(leg["currency"], leg["amount_minor"])]),
        leg["payment_id"],
        leg["processor_account"],
        leg["processor_refund_id"],
        leg["attempts"],
        leg["failure_code"],
    )


def show_preview(preview: Preview) -> None:
    """Print a preview, given as its HTTP object, for people."""
    result = preview["would_be"]
    policy = preview["policy"]
    print_facts(
        [
            ("would be", result if isinstance(result, str) else f"refused: {result['message']} ({result['code']})"),
            ("credits", "" if preview["credits"] is None else f"{preview['credits']:,}"),
            ("maximum", f"{preview['maximum_credits']:,}"),
            ("money", _sum(preview["amounts"], "requested_minor")),
            ("balance before", "" if preview["balance_before"] is None else f"{preview['balance_before']:,}"),
            ("balance after", "" if preview["balance_after"] is None else f"{preview['balance_after']:,}"),
            ("approval", "needed" if policy["needs_approval"] else "not needed"),
        ]
    )
    if preview["legs"]:
        print()
        columns = Column("payment"), Column("account"), Column("amount", right=True), Column("credits", right=True)
        print_table(columns, (_preview_row(leg) for leg in preview["legs"]))


def _preview_row(leg: PlannedLeg) -> tuple[object, ...]:
    return (
        leg["payment_id"],
        leg["processor_account"],
        monies([(leg["currency"], leg["amount_minor"])]),
        f"{leg['credits']:,}",
    )
