"""Addresses of every page of the console, filled with ids from the database so that each page shows data.

Tests that visit all pages (for speed, for accessibility) use this list; a route without an address is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlencode

from sqlalchemy import Column, Connection, func, select

from refund_worker.domain.refund import FINAL
from refund_worker.store.tables import (
    api_keys,
    claims,
    console_users,
    events,
    ledger_transactions,
    payees,
    payments,
    payout_runs,
    payouts,
    reconciliations,
    refund_batches,
    refunds,
)
from refund_worker.web.console.permissions import RULES

# Static files, downloads, parts that pages load, and addresses that redirect a person who is signed in.
NO_PAGES = frozenset(
    {
        "/static/{name}",
        "/refunds.csv",
        "/refunds/{refund_id}/timeline.json",
        "/audit.csv",
        "/customer.json",
        "/payee/statement.csv",
        "/payout-runs/{run_id}/rows.csv",
        "/reconciliations/{reconciliation_id}/differences.csv",
        "/refund-transaction/preview",
        "/sign-in",
    }
)

WEBHOOKS = ({"status": "failed"}, {"status": "refund", "type": "refund.created"}, {"status": "waiting"}, {"type": "x"})


def addresses(connection: Connection) -> Mapping[str, Sequence[str]]:
    """Return addresses under /console by route. Raises `AssertionError` for a page without a known address."""
    found = _addresses(connection)
    pages = {path for method, path in RULES if method == "GET"} - NO_PAGES
    assert found.keys() >= pages, f"add addresses for {sorted(pages - found.keys())}"
    return {route: found[route] for route in sorted(pages)}


def _addresses(connection: Connection) -> dict[str, Sequence[str]]:
    customer = _customer_with_most_entries(connection)
    middle = _middle_entry(connection, customer)
    spend = _latest_entry(connection, customer, "spend")
    first_payment = _first(connection, payments.c.payment_id)
    payee = connection.execute(select(func.min(payees.c.payee_id))).scalar()
    run = connection.execute(select(func.min(payout_runs.c.run_id))).scalar()
    page_of = {
        "/refund-transaction": [
            _at("/refund-transaction", id=spend),
            _at("/refund-transaction", id=spend, to="source"),
        ],
        "/delete-transaction": [_at("/delete-transaction", id=_latest_entry(connection, customer, "credit_refund"))],
        "/add-credits": [_at("/add-credits", customer=customer)],
        "/return-money": [_at("/return-money", id=_paid_out(connection, customer))],
        "/customer": [_at("/customer", id=customer)],
        "/payment": [_at("/payment", id=first_payment)],
        "/payments": ["/payments", _at("/payments", q=customer), _at("/payments", after=first_payment)],
        "/customers": ["/customers", _at("/customers", q=customer[:4]), _at("/customers", after=customer)],
        "/transactions": [
            "/transactions",
            _at("/transactions", after=middle["transaction_id"]),
            _at("/transactions", q="chat"),
            _at("/transactions", id=spend),
            _at("/transactions", day="2010-12-01"),
            _at("/transactions", customer=customer),
            _at("/transactions", customer=customer, after=middle["transaction_id"]),
        ],
        "/refunds": _lists(connection, customer),
        "/refunds/{refund_id}": [f"/refunds/{refund_id}" for refund_id in _one_of_each_status(connection)],
        **{path: [_at(path, id=payee)] if payee else [] for path in ("/payee", "/payee/statement", "/pay-out")},
        "/payees": ["/payees", _at("/payees", customer_id=customer)],
        "/payout-runs/{run_id}": [f"/payout-runs/{run}"] if run else [],
        "/payouts": ["/payouts", _at("/payouts", status="paid"), _at("/payouts", payee_id="nobody")],
        "/payouts/{payout_id}": [f"/payouts/{payout_id}" for payout_id in _payouts(connection)],
        "/outside-refunds/{claim_id}": _claims(connection, "outside_refund"),
        "/disputes/{claim_id}": _claims(connection, "dispute"),
        "/failures/retry": [_at("/failures/retry", code=code) for code in _codes(connection)],
        "/failures/watch": [_watched(connection)],
        "/approvals": ["/approvals", _at("/approvals", customer_id=customer)],
        "/approvals/approve": [_at("/approvals/approve", customer_id=customer)],
        "/approvals/reject": [_at("/approvals/reject", customer_id=customer)],
        **{
            f"/selected/{action}": [_at(f"/selected/{action}", selected=_latest(connection))]
            for action in ("approve", "reject", "cancel", "retry")
        },
        "/selected/now": [_at("/selected/now", refund=_latest(connection))],
        "/user": [_at("/user", name=_first(connection, console_users.c.name))],
        "/key": [_at("/key", id=_first(connection, api_keys.c.key_id))],
        "/notifications": ["/notifications", *(_at("/notifications", state=s) for s in ("waiting", "delivered"))],
        "/figures": [_at("/figures", days=days) for days in (14, 7)],
        "/webhooks": ["/webhooks", *(_at("/webhooks", **chosen) for chosen in WEBHOOKS)],
        "/search": ["/search", _at("/search", q="no such words"), _at("/search", q=customer)],
        "/refunds/{refund_id}/retry": [f"/refunds/{_needs_attention(connection)}/retry"],
    }
    batch = connection.execute(select(func.max(refund_batches.c.batch_id))).scalar()
    page_of["/batches/{batch_id}"] = [f"/batches/{batch}"]
    one = connection.execute(select(func.min(reconciliations.c.reconciliation_id))).scalar()
    its_pages = [f"/reconciliations/{one}", f"/reconciliations/{one}?state=open"] if one else []
    page_of["/reconciliations/{reconciliation_id}"] = its_pages
    plain = {path for method, path in RULES if method == "GET" and "{" not in path} - page_of.keys()
    return page_of | {path: [path] for path in plain}


def _claims(connection: Connection, kind: str) -> list[str]:
    path = "/disputes" if kind == "dispute" else "/outside-refunds"
    query = select(claims.c.claim_id).where(claims.c.kind == kind).limit(2)
    return [f"{path}/{claim_id}" for claim_id in connection.execute(query).scalars()]


def _payouts(connection: Connection) -> list[str]:
    """Return a payout in each status."""
    o = payouts.c
    return list(connection.execute(select(func.max(o.payout_id)).group_by(o.status).order_by(o.status)).scalars())


def _first(connection: Connection, column: Column[str]) -> str:
    return str(connection.execute(select(func.min(column))).scalar())


def _at(path: str, **query: object) -> str:
    return f"{path}?{urlencode(query, doseq=True)}"


def _customer_with_most_entries(connection: Connection) -> str:
    t = ledger_transactions.c
    query = (
        select(t.customer_id)
        .where(t.customer_id.is_not(None))
        .group_by(t.customer_id)
        .order_by(func.count().desc(), t.customer_id)
        .limit(1)
    )
    return str(connection.execute(query).scalar_one())


def _middle_entry(connection: Connection, customer: str) -> Mapping[str, object]:
    t = ledger_transactions.c
    query = select(t.seq, t.transaction_id).where(t.customer_id == customer, t.kind == "spend").order_by(t.seq)
    rows = connection.execute(query).mappings().all()
    return dict(rows[len(rows) // 2])


def _latest_entry(connection: Connection, customer: str, kind: str) -> str:
    t = ledger_transactions.c
    query = select(t.transaction_id).where(t.customer_id == customer, t.kind == kind).order_by(t.seq.desc()).limit(1)
    return str(connection.execute(query).scalar())


def _paid_out(connection: Connection, customer: str) -> str:
    """Return the id of a correction that removed credits."""
    t = ledger_transactions.c
    query = select(t.transaction_id).where(t.customer_id == customer, t.kind == "correction", t.credits < 0).limit(1)
    return str(connection.execute(query).scalar())


def _lists(connection: Connection, customer: str) -> list[str]:
    r = refunds.c
    ids = list(connection.execute(select(r.refund_id).order_by(r.refund_id)).scalars())
    key = connection.execute(select(r.idempotency_key).where(r.refund_id == ids[0])).scalar()
    middle = ids[len(ids) // 2]
    filters: list[dict[str, object]] = [
        {"status": ["queued", "sending", "pending", "reversing"]},
        {"status": sorted(FINAL)},
        {"status": sorted(FINAL), "starting_after": middle},
        {"status": "rejected"},
        {"customer_id": customer},
        {"customer_id": customer, "status": "failed"},
        {"customer_id": "nobody"},
        {"failure_code": "declined"},
        {"failure_code": "none_of_ours"},
        {"failure_code": "none_of_ours", "status": sorted(FINAL)},
        {"created_gte": "2020-01-01"},
        {"created_gte": "2099-01-01"},
        {"created_gte": "2099-01-01", "status": sorted(FINAL)},
        {"idempotency_key": key},
        {"idempotency_key": "no such key"},
        {"starting_after": middle},
        {"id": middle},
        {"reason": "no such words"},
        {"amount": "12.34", "kind": "withdrawal"},
        {"requested_by": "nobody", "starting_after": middle},
        {"created_lte": "2099-01-01"},
    ]
    return ["/refunds", *(_at("/refunds", **chosen) for chosen in filters)]


def _one_of_each_status(connection: Connection) -> list[str]:
    r = refunds.c
    return list(connection.execute(select(func.max(r.refund_id)).group_by(r.status).order_by(r.status)).scalars())


def _latest(connection: Connection) -> list[str]:
    """Return a page of the latest refunds in every status."""
    query = select(refunds.c.refund_id).order_by(refunds.c.refund_id.desc()).limit(50)
    return list(connection.execute(query).scalars())


def _needs_attention(connection: Connection) -> str:
    return str(
        connection.execute(select(func.max(refunds.c.refund_id)).where(refunds.c.status == "needs_attention")).scalar()
    )


def _codes(connection: Connection) -> list[str]:
    r = refunds.c
    query = select(r.failure_code).where(r.status == "needs_attention", r.failure_code.is_not(None)).distinct()
    return sorted(connection.execute(query).scalars()) or [""]


def _watched(connection: Connection) -> str:
    last = connection.execute(select(func.max(events.c.seq))).scalar() or 0
    return _at("/failures/watch", first=max(1, last - 500), last=last, by="console/anna")
