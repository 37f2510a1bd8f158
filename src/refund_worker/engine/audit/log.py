"""The audit trail for display: how far the chain is sealed, verified and anchored, and who did what."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping

from refund_worker.engine.audit.hash_chain import ANCHORED, VERIFIED
from refund_worker.engine.views.api_objects import Json, event_view, transaction_view
from refund_worker.engine.views.payout_objects import event_without_cause
from refund_worker.errors import InvalidRequest
from refund_worker.store import accounts, audit, timeline
from refund_worker.times import iso

# A search without a refund or a customer reads at most this many rows back and says so: it must not read ten million
# rows.
LOOKBACK = 20_000
TABLES = {"timeline": "events", "ledger": "ledger_transactions"}
# The filters that each kind of entry accepts.
FILTERS = {
    "timeline": ("refund_id", "actor", "kind", "alarm"),
    "ledger": ("refund_id", "actor", "kind", "customer_id"),
}


def status(connection: Connection) -> Json:
    """Return {sealed, unsealed_rows, verified, verified_all, anchored}: the last seal, and the last check of each kind.

    `sealed` is {seal, hash, sealed_at}; a check is {at, actor, first_seal, last_seal, rows, findings}; each is null if
    never.
    """
    last, tops, upto = audit.last_seal(connection), audit.top_seqs(connection), audit.last_sealed_seqs(connection)
    return {
        "sealed": {"seal": last["seq"], "hash": last["hash"], "sealed_at": iso(last["sealed_at"])} if last else None,
        "unsealed_rows": sum(max(0, tops[table] - upto[table]) for table in tops),
        "verified": _check(audit.last_check(connection, VERIFIED)),
        "verified_all": _check(audit.last_check(connection, VERIFIED, of_all=True)),
        "anchored": _check(audit.last_check(connection, ANCHORED)),
    }


def _check(row: RowMapping | None) -> Json | None:
    if row is None:
        return None
    names = ("actor", "first_seal", "last_seal", "rows")
    return {"at": iso(row["at"]), **{name: row[name] for name in names}, "findings": json.loads(row["findings"])}


def entries(
    connection: Connection,
    of: str = "timeline",
    *,
    before: int | None = None,
    limit: int = 50,
    whole: bool = True,
    **wanted: Any,
) -> Json:
    """Return entries, newest first, as {data, has_more, looked_back_to}; pass `looked_back_to` as `before` to see
    more.

    `of` is "timeline" (events in the form of a refund's timeline, with seq and refund_id) or "ledger" (transactions,
    with seq, customer_id and actor). Without `whole`, events about compliance outcomes of payouts lack their reasons
    and details. Raises `InvalidRequest` for a filter that this kind does not have.
    """
    if of not in TABLES:
        raise InvalidRequest(f"the value is one of {', '.join(TABLES)}", field="of")
    equal = {name: value for name, value in wanted.items() if value not in (None, "", False)}
    unknown = [name for name in equal if name not in FILTERS[of]]
    if unknown:
        raise InvalidRequest(f"the {of} has no {unknown[0]}", field=unknown[0])
    if "customer_id" in equal:  # entries keep the ids from before a merge
        equal["customer_id"] = tuple(
            accounts.ids_of(connection, accounts.survivor_of(connection, equal["customer_id"]))
        )
    top = before if before is not None else audit.top_seqs(connection)[TABLES[of]] + 1
    rows = audit.lines(connection, TABLES[of], equal, before=before, lookback=LOOKBACK, limit=limit + 1)
    page, has_more = rows[:limit], len(rows) > limit
    far = "refund_id" in equal or "customer_id" in equal
    reached = page[-1]["seq"] if has_more else 1 if far else max(1, top - LOOKBACK)
    data = [_transaction(row) for row in page] if of == "ledger" else _events(connection, page, whole)
    return {"data": data, "has_more": has_more or reached > 1, "looked_back_to": reached}


def _events(connection: Connection, rows: Sequence[RowMapping], whole: bool) -> list[Json]:
    hidden = set() if whole else timeline.about_compliance(connection, [row["seq"] for row in rows])
    found = []
    for row in rows:
        seen_whole = whole or row["refund_id"] is not None
        event = event_view(row) if seen_whole else event_without_cause(row, hides=row["seq"] in hidden)
        found.append({"seq": row["seq"], "refund_id": row["refund_id"], **event})
    return found


def _transaction(row: RowMapping) -> Json:
    return {"seq": row["seq"], "customer_id": row["customer_id"], "actor": row["actor"], **transaction_view(row)}
