"""The roles that may open each page of the console, the calls of these pages, and all rows before and after a call."""

from __future__ import annotations

from dataclasses import dataclass

from tests.web.client import Web
from tests.web.console.visitor import Visitor

from refund_worker.store.tables import metadata

# Written out manually, so that a change of the table fails here: v, s, o, a, m for viewer, support, operator, approver,
# admin; a * marks acts that need a recent password.
EXPECTED = {
    ("GET", "/"): "vsoam",
    ("GET", "/add-credits"): "som",
    ("GET", "/approvals"): "vsoam",
    ("GET", "/approvals/approve"): "am",
    ("GET", "/approvals/reject"): "am",
    ("GET", "/audit"): "vsoam",
    ("GET", "/audit.csv"): "vsoam",
    ("GET", "/batches"): "vsoam",
    ("GET", "/batches/{batch_id}"): "vsoam",
    ("GET", "/reconciliations"): "vsoam",
    ("GET", "/reconciliations/{reconciliation_id}"): "vsoam",
    ("GET", "/reconciliations/{reconciliation_id}/differences.csv"): "vsoam",
    ("POST", "/reconciliations"): "om",
    ("POST", "/reconciliations/{reconciliation_id}/apply"): "om*",
    ("POST", "/outside-refunds/{claim_id}/decide"): "om*",
    ("POST", "/outside-refunds/{claim_id}/link"): "om*",
    ("POST", "/disputes/{claim_id}/decide"): "om*",
    ("POST", "/payment/close"): "om*",
    ("POST", "/customer/merge"): "om*",
    ("POST", "/customer/erase"): "m*",
    ("GET", "/customer.json"): "om",
    ("POST", "/reconciliations/{reconciliation_id}/acknowledge"): "om*",
    ("GET", "/customer"): "vsoam",
    ("GET", "/customers"): "vsoam",
    ("GET", "/payment"): "vsoam",
    ("GET", "/payments"): "vsoam",
    ("GET", "/delete-transaction"): "som",
    ("GET", "/disputes"): "vsoam",
    ("GET", "/disputes/{claim_id}"): "vsoam",
    ("GET", "/outside-refunds"): "vsoam",
    ("GET", "/outside-refunds/{claim_id}"): "vsoam",
    ("GET", "/failures"): "vsoam",
    ("GET", "/failures/retry"): "om",
    ("GET", "/failures/watch"): "vsoam",
    ("GET", "/figures"): "vsoam",
    ("GET", "/help"): "vsoam",
    ("GET", "/password"): "vsoam",
    ("GET", "/processors"): "vsoam",
    ("GET", "/refund-transaction"): "som",
    ("GET", "/refund-transaction/preview"): "som",
    ("GET", "/payees"): "vsoam",
    ("GET", "/payee"): "vsoam",
    ("GET", "/payee/statement"): "vsoam",
    ("GET", "/payee/statement.csv"): "vsoam",
    ("GET", "/pay-out"): "som",
    ("GET", "/payouts"): "vsoam",
    ("GET", "/payouts/{payout_id}"): "vsoam",
    ("GET", "/payout-runs"): "vsoam",
    ("GET", "/payout-runs/{run_id}"): "vsoam",
    ("GET", "/payout-runs/{run_id}/rows.csv"): "vsoam",
    ("GET", "/refunds"): "vsoam",
    ("GET", "/refunds.csv"): "vsoam",
    ("GET", "/refunds/{refund_id}"): "vsoam",
    ("GET", "/refunds/{refund_id}/retry"): "om",
    ("GET", "/refunds/{refund_id}/timeline.json"): "vsoam",
    ("GET", "/return-money"): "som",
    ("GET", "/search"): "vsoam",
    ("GET", "/settings"): "om",
    ("GET", "/transactions"): "vsoam",
    ("GET", "/selected/approve"): "am",
    ("GET", "/selected/cancel"): "som",
    ("GET", "/selected/now"): "vsoam",
    ("GET", "/selected/reject"): "am",
    ("GET", "/selected/retry"): "om",
    ("GET", "/system"): "vsoam",
    ("GET", "/notifications"): "om",
    ("GET", "/key"): "m",
    ("GET", "/user"): "m",
    ("GET", "/users"): "m",
    ("GET", "/webhooks"): "om",
    ("POST", "/add-credits"): "som*",
    ("POST", "/approvals/approve"): "am*",
    ("POST", "/approvals/reject"): "am",
    ("POST", "/notifications/redeliver"): "om",
    ("POST", "/audit/verify"): "om",
    ("POST", "/delete-transaction"): "som*",
    ("POST", "/failures/retry"): "om*",
    ("POST", "/password"): "vsoam",
    ("POST", "/processors/pause"): "om",
    ("POST", "/processors/resume"): "om*",
    ("POST", "/refund-transaction"): "som*",
    ("POST", "/refund-transaction/preview"): "som",
    ("POST", "/pay-out"): "som*",
    ("POST", "/payee/destination"): "m*",
    ("POST", "/payee/pause"): "om",
    ("POST", "/payee/resume"): "om*",
    ("POST", "/payout-runs"): "om*",
    ("POST", "/payout-runs/{run_id}/approve"): "am*",
    ("POST", "/payout-runs/{run_id}/cancel"): "oam",
    ("POST", "/payouts/{payout_id}/approve"): "am*",
    ("POST", "/payouts/{payout_id}/cancel"): "som",
    ("POST", "/payouts/{payout_id}/reject"): "am",
    ("POST", "/payouts/{payout_id}/resolve"): "om*",
    ("POST", "/payouts/{payout_id}/retry"): "om*",
    ("POST", "/payouts/{payout_id}/sync"): "som",
    ("POST", "/refunds/{refund_id}/approve"): "am*",
    ("POST", "/refunds/{refund_id}/sync"): "som",
    ("POST", "/refunds/{refund_id}/cancel"): "som",
    ("POST", "/refunds/{refund_id}/reject"): "am",
    ("POST", "/refunds/{refund_id}/resolve"): "om*",
    ("POST", "/refunds/{refund_id}/retry"): "om*",
    ("POST", "/return-money"): "som*",
    ("POST", "/split-correction"): "som*",
    ("POST", "/selected/approve"): "am*",
    ("POST", "/selected/cancel"): "som",
    ("POST", "/selected/reject"): "am",
    ("POST", "/selected/retry"): "om*",
    ("POST", "/sign-out"): "vsoam",
    ("POST", "/key"): "m*",
    ("POST", "/user"): "m*",
}
CLOSED = sorted(EXPECTED)
QUERY = {
    "/customer": "?id=cust-1",
    "/customer.json": "?id=cust-1",
    "/add-credits": "?customer=cust-1",
    "/refund-transaction": "?id=tx-1",
    "/payee": "?id=p1",
    "/payee/statement": "?id=p1",
    "/payee/statement.csv": "?id=p1&month=2026-10",
    "/pay-out": "?id=p1",
    "/delete-transaction": "?id={correction}",
    "/return-money": "?id={correction}",
    "/failures/watch": "?first=1&last=2&by=x",
    "/approvals/approve": "?customer_id=cust-1",
    "/approvals/reject": "?customer_id=cust-1",
    **{f"/selected/{action}": "?selected=rf_x" for action in ("approve", "cancel", "reject", "retry")},
    "/user": "?name=admin",
    "/key": "?id={key_id}",
}


@dataclass(frozen=True)
class Things:
    """Ids of objects that the pages act on, all of one client: the console or another."""

    refund_id: str
    approvable_id: str
    batch_id: str
    correction: str
    key_id: str = "key_none"
    outside_refund_id: str = "cl_none"
    dispute_id: str = "cl_none"
    reconciliation_id: str = "rec_none"
    payout_id: str = "po_none"
    approvable_payout_id: str = "po_none"
    run_id: str = "run_none"


def call_page(person: Visitor, method: str, path: str, fields: dict[str, str], things: Things | None = None):  # type: ignore[no-untyped-def]
    named = things or Things("rf_none", "rf_none", "rb_none", "none")
    refund_id = named.approvable_id if path.endswith(("/approve", "/reject")) else named.refund_id
    filled = path.replace("{refund_id}", refund_id).replace("{batch_id}", named.batch_id)
    payout_id = named.approvable_payout_id if path.endswith(("/approve", "/reject")) else named.payout_id
    filled = filled.replace("{payout_id}", payout_id).replace("{run_id}", named.run_id)
    filled = filled.replace("{claim_id}", named.dispute_id if "/disputes" in path else named.outside_refund_id)
    filled = filled.replace("{reconciliation_id}", named.reconciliation_id)
    if method == "GET":
        return person.get(
            filled + QUERY.get(path, "").replace("{correction}", named.correction).replace("{key_id}", named.key_id)
        )
    return person.post(filled, fields)


def everything(web: Web) -> list[str]:
    """Return all rows of all tables except the sessions and the counters of requests."""
    with web.context.database.read() as connection:
        tables = [table for table in metadata.sorted_tables if table.name not in ("console_sessions", "metric_values")]
        return [str(tuple(row)) for table in tables for row in connection.execute(table.select())]
