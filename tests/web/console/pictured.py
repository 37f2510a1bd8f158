"""The pages of the screenshots, by name: every page of the console, and its states that look different.

A route of the console that is neither here nor among `NO_PICTURES` fails in `test_pictured.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

NO_PICTURES: Mapping[str, str] = {
    "/static/{name}": "the stylesheet, the script and the icon, which every picture shows",
    "/refunds.csv": "a file to download",
    "/refunds/{refund_id}/timeline.json": "a file to download",
    "/audit.csv": "a file to download",
    "/customer.json": "a file to download",
    "/payee/statement.csv": "a file to download",
    "/payout-runs/{run_id}/rows.csv": "a file to download",
    "/reconciliations/{reconciliation_id}/differences.csv": "a file to download",
    "/selected/now": "statuses that the result of a decision about many loads into itself",
    "/refund-transaction/preview": "a part that the form Refund transaction loads into itself",
}
# Pages that answer with an error on purpose, and the error.
ERRORS: Mapping[str, int] = {
    "not-found": 404,
    "refund-not-found": 404,
    "customer-not-found": 404,
    "refunds-wrong-filter": 422,
    "transactions-wrong-day": 422,
    "incomplete-address": 422,
}

Pages = dict[str, tuple[str, str]]


def pages(named: Mapping[str, str]) -> Pages:
    """Return the route and the address under /console of each page, by the name of its picture.

    `named` has the ids of `populate`, and `status-…` with the id of a refund in each status.
    """
    return {
        "sign-in": ("/sign-in", "/sign-in"),
        "not-found": ("", "/nothing-here"),
        "incomplete-address": ("/user", "/user"),
        "overview": ("/", "/"),
        "help": ("/help", "/help"),
        "system": ("/system", "/system"),
        "settings": ("/settings", "/settings"),
        "processors": ("/processors", "/processors"),
        "password": ("/password", "/password"),
        "users": ("/users", "/users"),
        "user": ("/user", _at("/user", name="berta")),
        "user-of-mine": ("/user", _at("/user", name="anna")),
        "user-disabled": ("/user", _at("/user", name="dora")),
        "key": ("/key", _at("/key", id=named["key"])),
        **_lists(named),
        **_customers(named),
        **_refunds(named),
        **_payouts(named),
        **_decisions(named),
    }


def _at(path: str, **query: object) -> str:
    return f"{path}?{urlencode(query, doseq=True)}"


def _lists(named: Mapping[str, str]) -> Pages:
    return {
        "refunds": ("/refunds", "/refunds"),
        "refunds-filtered": ("/refunds", _at("/refunds", status=["failed", "needs_attention"], kind="withdrawal")),
        "refunds-none": ("/refunds", _at("/refunds", customer_id="nobody", reason="no such words")),
        "refunds-wrong-filter": ("/refunds", _at("/refunds", created_gte="yesterday")),
        "search": ("/search", _at("/search", q="camera")),
        "search-id": ("/search", _at("/search", q=named["paid"])),
        "search-none": ("/search", _at("/search", q="no such words")),
        "search-empty": ("/search", "/search"),
        "failures": ("/failures", "/failures"),
        "failures-watch": ("/failures/watch", _at("/failures/watch", first=1, last=99_999, by="console/anna")),
        "approvals": ("/approvals", "/approvals"),
        "approvals-of-one": ("/approvals", _at("/approvals", customer_id=named["waiting"])),
        "approvals-none": ("/approvals", _at("/approvals", customer_id="nobody")),
        "outside-refunds": ("/outside-refunds", "/outside-refunds"),
        "outside-refunds-none": ("/outside-refunds", _at("/outside-refunds", customer_id="nobody")),
        **{
            f"outside-refund-{state}": ("/outside-refunds/{claim_id}", f"/outside-refunds/{named['outside-' + state]}")
            for state in ("posted", "needs_decision", "unmatched")
        },
        "disputes": ("/disputes", "/disputes"),
        "disputes-none": ("/disputes", _at("/disputes", customer_id="nobody")),
        **{
            f"dispute-{state}": ("/disputes/{claim_id}", f"/disputes/{named['dispute-' + state]}")
            for state in ("needs_response", "lost", "inquiry")
        },
        "batches": ("/batches", "/batches"),
        "batch": ("/batches/{batch_id}", f"/batches/{named['batch']}"),
        "reconciliations": ("/reconciliations", "/reconciliations"),
        "reconciliation": ("/reconciliations/{reconciliation_id}", f"/reconciliations/{named['reconciliation']}"),
        "webhooks": ("/webhooks", "/webhooks"),
        "webhooks-failed": ("/webhooks", _at("/webhooks", status="failed")),
        "webhooks-of-type": ("/webhooks", _at("/webhooks", type="refund.created")),
        "webhooks-none": ("/webhooks", _at("/webhooks", type="x")),
        "notifications": ("/notifications", "/notifications"),
        "notifications-waiting": ("/notifications", _at("/notifications", state="waiting")),
        "notifications-delivered": ("/notifications", _at("/notifications", state="delivered")),
        "audit": ("/audit", "/audit"),
        "audit-of-ledger": ("/audit", _at("/audit", of="ledger")),
        "figures": ("/figures", "/figures"),
        **{f"figures-{days}": ("/figures", _at("/figures", days=days)) for days in (7, 30, 90)},
    }


def _customers(named: Mapping[str, str]) -> Pages:
    customer, of_parts = named["customer"], named["customer_of_parts"]
    return {
        "customers": ("/customers", "/customers"),
        "customers-search": ("/customers", _at("/customers", q="NO")),
        "customers-none": ("/customers", _at("/customers", q="no such customer")),
        "customer": ("/customer", _at("/customer", id=customer)),
        "customer-of-parts": ("/customer", _at("/customer", id=of_parts)),
        "customer-of-both": ("/customer", _at("/customer", id=named["customer_of_both"])),
        "customer-not-found": ("/customer", _at("/customer", id="nobody")),
        "payments": ("/payments", "/payments"),
        "payments-of-one": ("/payments", _at("/payments", q=customer)),
        "payments-none": ("/payments", _at("/payments", q="no such payment")),
        "payment": ("/payment", _at("/payment", id=named["payment"])),
        "payment-by-paypal": ("/payment", _at("/payment", id=named["payment_by_paypal"])),
        "transactions": ("/transactions", "/transactions"),
        "transactions-of-one": ("/transactions", _at("/transactions", customer=customer)),
        "transactions-entry": ("/transactions", _at("/transactions", id=named["spend"])),
        "transactions-search": ("/transactions", _at("/transactions", q="camera", customer=customer)),
        "transactions-of-parts": ("/transactions", _at("/transactions", customer=of_parts)),
        "transactions-of-a-day": ("/transactions", _at("/transactions", day="2010-12-01")),
        "transactions-wrong-day": ("/transactions", _at("/transactions", day="yesterday")),
        "add-credits": ("/add-credits", _at("/add-credits", customer=customer)),
        "add-credits-in-parts": ("/add-credits", _at("/add-credits", customer=of_parts)),
        "refund-transaction": ("/refund-transaction", _at("/refund-transaction", id=named["spend"])),
        "refund-transaction-to-source": (
            "/refund-transaction",
            _at("/refund-transaction", id=named["spend"], to="source"),
        ),
        "delete-transaction": ("/delete-transaction", _at("/delete-transaction", id=named["correction"])),
        "return-money": ("/return-money", _at("/return-money", id=named["correction"])),
        "return-money-in-parts": ("/return-money", _at("/return-money", id=named["in_parts"])),
    }


def _refunds(named: Mapping[str, str]) -> Pages:
    shown = {name: named[name] for name in ("paid", "pending", "approval", "unknown", "both", "blocked")}
    shown |= {name: refund_id for name, refund_id in named.items() if name.startswith("status-")}
    return {
        **{f"refund-{name}": ("/refunds/{refund_id}", f"/refunds/{refund_id}") for name, refund_id in shown.items()},
        "refund-not-found": ("/refunds/{refund_id}", "/refunds/rf_none"),
        "retry-of-one": ("/refunds/{refund_id}/retry", f"/refunds/{named['unknown']}/retry"),
    }


def _payouts(named: Mapping[str, str]) -> Pages:
    shown = {name: payout_id for name, payout_id in named.items() if name.startswith("payout-")}
    return {
        "payees": ("/payees", "/payees"),
        "payees-none": ("/payees", _at("/payees", id="nobody")),
        **{name: ("/payee", _at("/payee", id=named[name])) for name in sorted(named) if name.startswith("payee-")},
        "payee": ("/payee", _at("/payee", id=named["payee"])),
        "statement": ("/payee/statement", _at("/payee/statement", id=named["payee"])),
        "pay-out": ("/pay-out", _at("/pay-out", id=named["payee"])),
        "pay-out-refused": ("/pay-out", _at("/pay-out", id=named["payee"], amount="99,999.00")),
        "runs": ("/payout-runs", "/payout-runs"),
        "run": ("/payout-runs/{run_id}", f"/payout-runs/{named['run']}"),
        "payouts": ("/payouts", "/payouts"),
        "payouts-none": ("/payouts", _at("/payouts", payee_id="nobody", status="paid")),
        "payout": ("/payouts/{payout_id}", f"/payouts/{named['payout']}"),
        **{name: ("/payouts/{payout_id}", f"/payouts/{payout_id}") for name, payout_id in shown.items()},
    }


def _decisions(named: Mapping[str, str]) -> Pages:
    some = [named[name] for name in sorted(named) if name.startswith("status-")]
    return {
        "failures-retry": ("/failures/retry", _at("/failures/retry", code="balance_insufficient")),
        "approvals-approve": ("/approvals/approve", _at("/approvals/approve", customer_id=named["waiting"])),
        "approvals-reject": ("/approvals/reject", _at("/approvals/reject", customer_id=named["waiting"])),
        **{
            f"selected-{action}": (f"/selected/{action}", _at(f"/selected/{action}", selected=some))
            for action in ("retry", "approve", "reject", "cancel")
        },
    }
