"""Overwrites the texts and destinations of one customer's payouts and earnings, and of files for banks.

The functions are as those of `store/erasures.py`. Only payouts that are paid or have ended are changed. Ids and
amounts stay, with which their processor can be asked about them. So does the id of a connected account, which is also
the name of an account in the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, select

from refund_worker.domain.payouts.destination import ERASED_DESTINATION, ERASED_TEXT
from refund_worker.domain.payouts.payout import PAYOUT_OPEN
from refund_worker.domain.state_machine import LegOutcome
from refund_worker.sealing import Box
from refund_worker.store.erasures import (
    After,
    Scope,
    are_payouts_of,
    change_page,
    its_payouts,
    payees_of,
    payouts_of,
    without_addresses,
)
from refund_worker.store.payouts.sealed import open_sealed
from refund_worker.store.tables import (
    bank_files,
    earnings,
    event_subjects,
    events,
    payout_attempts,
    payout_legs,
    payouts,
)

# Fields of a request, frozen or as it was sent, with the words of the one who asked.
_WORDS = frozenset({"description", "note"})
# A file whose contents were erased. No other file is empty.
NO_CONTENT = ""


def open_payouts(connection: Connection, ids: Collection[str]) -> list[tuple[str, str]]:
    """Return (payout_id, status) of the customer's payouts that are neither paid nor ended."""
    p = payouts.c
    query = select(p.payout_id, p.status).where(are_payouts_of(tuple(ids)), p.status.in_(PAYOUT_OPEN))
    return [(row[0], row[1]) for row in connection.execute(query.order_by(p.payout_id))]


def files_with_open_payments(connection: Connection, ids: Collection[str]) -> list[str]:
    """Return the ids of the files with a payment to the customer that also carry a payout under way, to anyone."""
    g = payout_legs.c
    query = (
        select(g.file_id)
        .join(payouts, payouts.c.payout_id == g.payout_id)
        .where(g.file_id.in_(_files_of(connection, payouts_of(tuple(ids)))), payouts.c.status.in_(PAYOUT_OPEN))
    )
    return sorted(set(connection.execute(query).scalars()))


def _files_of(connection: Connection, its: Select[str]) -> list[str]:
    """Return the ids of all files that carry or carried one of these payouts: a later file replaces it in the leg."""
    g = payout_legs.c
    found = set(connection.execute(select(g.file_id).where(g.payout_id.in_(its), g.file_id.is_not(None))).scalars())
    sent = (
        select(events.c.detail)
        .join(event_subjects, event_subjects.c.seq == events.c.seq)
        .where(event_subjects.c.subject_id.in_(its), events.c.kind == f"leg_{LegOutcome.SENT}")
    )
    details = (json.loads(detail) for detail in connection.execute(sent).scalars())
    return sorted(found | {detail["file_id"] for detail in details if detail.get("file_id")})


def erase_attempts(connection: Connection, scope: Scope, after: After) -> After:
    """Erase destinations and texts in the frozen requests, and addresses in the answers. Run it before the payouts.

    Raises `DestinationsKeyMissing` if a request was sealed with a key that is not here.
    """
    its_legs = select(payout_legs.c.leg_id).where(payout_legs.c.payout_id.in_(its_payouts(scope)))

    def change(row: RowMapping) -> dict[str, Any]:
        frozen = _opened(scope.box, row["body"], row["leg_id"])
        without = _without(frozen, _secrets(connection, scope, row["leg_id"]))
        body = row["body"] if without == frozen else scope.box.seal(_json(without))
        return {"body": body, "outcome_message": without_addresses(row["outcome_message"])}

    return change_page(connection, payout_attempts, after, payout_attempts.c.leg_id.in_(its_legs), change)


def _opened(box: Box, sealed: str, whose: str) -> Any:
    opened = open_sealed(box, sealed, whose)
    try:
        return json.loads(opened)
    except ValueError:
        return {}


def _secrets(connection: Connection, scope: Scope, leg_id: str) -> frozenset[str]:
    """Return the values of the destination of this leg's payout, but for its connected account."""
    p = payouts.c
    query = select(p.destination_box, p.connected_account).join(payout_legs, payout_legs.c.payout_id == p.payout_id)
    sealed, account = connection.execute(query.where(payout_legs.c.leg_id == leg_id)).one()
    fields: dict[str, str] = _opened(scope.box, sealed, leg_id)
    return frozenset(value for name, value in fields.items() if name != "kind") - {account}


def _without(value: Any, secrets: frozenset[str]) -> Any:
    """Return a frozen request without these values, the words of people and addresses; all other fields stay."""
    if isinstance(value, dict):
        return {
            name: "" if name in _WORDS and isinstance(each, str) else _without(each, secrets)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [_without(each, secrets) for each in value]
    if not isinstance(value, str):
        return value
    return ERASED_TEXT if value in secrets else without_addresses(value)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def erase_payouts(connection: Connection, scope: Scope, after: After) -> After:
    """Erase description and destination, and the texts of the request."""

    def change(row: RowMapping) -> dict[str, Any]:
        body = {name: value for name, value in json.loads(row["body"]).items() if name not in _WORDS}
        changes = {
            "description": "",
            "requested_by_note": None,
            "body": json.dumps(body, sort_keys=True),
            "failure_message": without_addresses(row["failure_message"]),
        }
        # Without its connected account, a transfer could not be undone when the payout comes back.
        if row["connected_account"] is None and row["destination_masked"] != ERASED_TEXT:
            changes["destination_box"] = scope.box.seal(_json(ERASED_DESTINATION.as_fields()))
            changes["destination_masked"] = ERASED_TEXT
        return changes

    return change_page(connection, payouts, after, scope.payouts, change)


def erase_legs(connection: Connection, scope: Scope, after: After) -> After:
    """Erase addresses in the messages about legs."""
    its = payout_legs.c.payout_id.in_(its_payouts(scope))
    return change_page(
        connection, payout_legs, after, its, lambda row: {"failure_message": without_addresses(row["failure_message"])}
    )


def erase_earnings(connection: Connection, scope: Scope, after: After) -> After:
    """Erase descriptions of earnings."""
    its = earnings.c.payee_id.in_(payees_of(scope.ids))
    return change_page(connection, earnings, after, its, lambda _row: {"description": ""})


def erase_files(connection: Connection, scope: Scope, after: After) -> After:
    """Erase the whole contents of files with a payment to the customer. A file with a payout under way stays."""
    held = files_with_open_payments(connection, scope.ids)
    ids = [file_id for file_id in _files_of(connection, its_payouts(scope)) if file_id not in held]
    emptied = set(_emptied(connection, scope, ids))

    def change(row: RowMapping) -> dict[str, Any]:
        return {} if row["file_id"] in emptied else {"body": scope.box.seal(NO_CONTENT)}

    return change_page(connection, bank_files, after, bank_files.c.file_id.in_(ids), change)


def _emptied(connection: Connection, scope: Scope, ids: Collection[str]) -> Iterator[str]:
    f = bank_files.c
    for file_id, sealed in connection.execute(select(f.file_id, f.body).where(f.file_id.in_(ids))):
        try:
            if scope.box.open(sealed) == NO_CONTENT:
                yield file_id
        except ValueError:  # of another key: it cannot be read here, and is overwritten
            continue


# The frozen requests come first: they are compared with the payouts' destinations.
PIECES = (erase_attempts, erase_payouts, erase_legs, erase_earnings, erase_files)
