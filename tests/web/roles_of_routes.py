"""The roles that may call each route of the API, and all rows of the database before and after a call."""

from __future__ import annotations

import re

from tests.web.client import Web

from refund_worker.engine.access.api_keys import Role
from refund_worker.store.tables import metadata

# Written out manually, so that a change of the table fails here: v, r, a, o, m for viewer, requester, approver,
# operator, admin.
EXPECTED = {
    ("DELETE", "/v1/transactions/{transaction_id}"): "rom",
    ("GET", "/v1/customers/{customer_id}"): "vraom",
    ("GET", "/v1/customers/{customer_id}/transactions"): "vraom",
    ("POST", "/v1/disputes/{dispute_id}/decide"): "om",
    ("POST", "/v1/disputes/{dispute_id}/link"): "om",
    ("POST", "/v1/outside-refunds/{outside_refund_id}/link"): "om",
    ("POST", "/v1/outside-refunds/{outside_refund_id}/decide"): "om",
    ("POST", "/v1/payments/{payment_id}/close"): "om",
    ("GET", "/v1/disputes"): "vraom",
    ("GET", "/v1/disputes/{dispute_id}"): "vraom",
    ("GET", "/v1/fraud-warnings"): "vraom",
    ("GET", "/v1/outside-refunds"): "vraom",
    ("GET", "/v1/outside-refunds/{outside_refund_id}"): "vraom",
    ("GET", "/v1/payments"): "vraom",
    ("GET", "/v1/payments/{payment_id}"): "vraom",
    ("GET", "/v1/refund-batches/{batch_id}"): "vraom",
    ("POST", "/v1/payees"): "rom",
    ("GET", "/v1/payees"): "vraom",
    ("GET", "/v1/payees/{payee_id}"): "vraom",
    ("PUT", "/v1/payees/{payee_id}"): "rom",
    ("GET", "/v1/payees/{payee_id}/destination"): "m",
    ("GET", "/v1/payees/{payee_id}/events"): "vraom",
    ("GET", "/v1/payees/{payee_id}/statement"): "vraom",
    ("POST", "/v1/payees/{payee_id}/pause"): "om",
    ("POST", "/v1/payees/{payee_id}/resume"): "om",
    ("POST", "/v1/earnings"): "rom",
    ("GET", "/v1/earnings"): "vraom",
    ("GET", "/v1/earnings/{earning_id}"): "vraom",
    ("POST", "/v1/payouts"): "rm",
    ("GET", "/v1/payouts"): "vraom",
    ("POST", "/v1/payouts/preview"): "raom",
    ("GET", "/v1/payouts/{payout_id}"): "vraom",
    ("GET", "/v1/payouts/{payout_id}/events"): "vraom",
    ("POST", "/v1/payouts/{payout_id}/sync"): "rom",
    ("POST", "/v1/payouts/{payout_id}/approve"): "am",
    ("POST", "/v1/payouts/{payout_id}/reject"): "am",
    ("POST", "/v1/payouts/{payout_id}/cancel"): "rom",
    ("POST", "/v1/payouts/{payout_id}/retry"): "om",
    ("POST", "/v1/payouts/{payout_id}/resolve"): "om",
    ("POST", "/v1/payout-runs"): "om",
    ("GET", "/v1/payout-runs"): "vraom",
    ("GET", "/v1/payout-runs/{run_id}"): "vraom",
    ("GET", "/v1/payout-runs/{run_id}/rows"): "vraom",
    ("GET", "/v1/payout-runs/{run_id}/events"): "vraom",
    ("POST", "/v1/payout-runs/{run_id}/approve"): "am",
    ("POST", "/v1/payout-runs/{run_id}/cancel"): "oam",
    ("GET", "/v1/refunds"): "vraom",
    ("GET", "/v1/refunds/{refund_id}"): "vraom",
    ("GET", "/v1/refunds/{refund_id}/events"): "vraom",
    ("GET", "/v1/refunds/{refund_id}/waits"): "vraom",
    ("GET", "/v1/search"): "vraom",
    ("GET", "/v1/funds"): "vraom",
    ("POST", "/v1/refunds/{refund_id}/sync"): "rom",
    ("POST", "/v1/customers/{customer_id}/corrections"): "rom",
    ("POST", "/v1/customers/{customer_id}/merge"): "om",
    ("POST", "/v1/customers/{customer_id}/erase"): "m",
    ("GET", "/v1/customers/{customer_id}/export"): "om",
    ("POST", "/v1/payments"): "rom",
    ("POST", "/v1/processors/{name}/pause"): "om",
    ("POST", "/v1/processors/{name}/resume"): "om",
    ("GET", "/v1/reconciliations"): "vraom",
    ("GET", "/v1/reconciliations/{reconciliation_id}"): "vraom",
    ("GET", "/v1/reconciliations/{reconciliation_id}/differences"): "vraom",
    ("POST", "/v1/reconciliations"): "om",
    ("POST", "/v1/reconciliations/{reconciliation_id}/differences/{n}/acknowledge"): "om",
    ("POST", "/v1/reconciliations/{reconciliation_id}/differences/{n}/apply"): "om",
    ("POST", "/v1/refund-batches"): "rm",
    ("POST", "/v1/refunds"): "rm",
    ("POST", "/v1/refunds/preview"): "raom",
    ("POST", "/v1/refunds/{refund_id}/approve"): "am",
    ("POST", "/v1/refunds/{refund_id}/cancel"): "rom",
    ("POST", "/v1/refunds/{refund_id}/reject"): "am",
    ("POST", "/v1/refunds/{refund_id}/resolve"): "om",
    ("POST", "/v1/refunds/{refund_id}/retry"): "om",
    ("POST", "/v1/transactions"): "rom",
}
LETTERS = {"v": Role.VIEWER, "r": Role.REQUESTER, "a": Role.APPROVER, "o": Role.OPERATOR, "m": Role.ADMIN}


def filled(path: str) -> str:
    return re.sub(r"{\w+}", "nothing", path.replace("{n}", "1"))


def everything(web: Web) -> list[str]:
    """Return all rows of all tables except the keys and their sealed copies."""
    with web.context.database.read() as connection:
        tables = [table for table in metadata.sorted_tables if table.name not in ("api_keys", "metric_values")]
        rows = [(table.name, row) for table in tables for row in connection.execute(table.select())]
    return [str(tuple(row)) for name, row in rows if name != "snapshots" or row.table_name != "api_keys"]
