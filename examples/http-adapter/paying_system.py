"""The paying system of the reference server: two tables. Replace this file by calls of your own system.

Each method of `PayingSystem` returns the document that the protocol answers, or raises `Problem`.
"""

import json
import time
import uuid
from datetime import UTC, datetime

DAY, PAGE_MAX = 86_400, 100
# What the paying system can do. The account's table in PROCESSORS_FILE must say the same.
CAPABILITIES = {
    "protocol": 1,
    "live": False,
    "key_seconds": 30 * DAY,
    "finds_by": "payment",
    "lists_refunds": True,
    "list_proves_absence": True,
    "answers_are_outcomes": True,
    "answers_are_final": False,
    "reads_payments": True,
    "partial_refunds": True,
    "cancels": True,
    "refund_window_seconds": 180 * DAY,
    "currency_steps": {},
}
SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (id TEXT PRIMARY KEY, document TEXT);
CREATE TABLE IF NOT EXISTS refunds (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, payment TEXT, leg TEXT, at TEXT, document TEXT);
"""
SAVE = """INSERT INTO refunds (id, payment, leg, at, document) VALUES (:id, :payment, :leg, :at, :document)
    ON CONFLICT (id) DO UPDATE SET document = :document"""
LIST = """SELECT number, document FROM refunds WHERE (:payment IS NULL OR payment = :payment)
    AND (:leg IS NULL OR leg = :leg) AND at >= :since AND at < :until AND number < :after
    ORDER BY number DESC LIMIT :limit + 1"""


class Problem(Exception):
    """An answer that says that nothing was executed. Raise it only where that is certain."""

    def __init__(self, status, code, detail):
        super().__init__(detail)
        self.status, self.answer = status, {"code": code, "detail": detail, "executed": False}


def now():
    return time.time()


def time_text(moment):
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class PayingSystem:
    """Payments and refunds. `on_change(refund, kind)` is called for each refund that is made or changes."""

    def __init__(self, db, on_change):
        self.db, self.on_change = db, on_change
        db.executescript(SCHEMA)

    def payment(self, payment_id):
        payment = self.one("SELECT document FROM payments WHERE id = ?", payment_id)
        rows = self.db.execute("SELECT document FROM refunds WHERE payment = ?", (payment_id,))
        refunds = [json.loads(row[0]) for row in rows]
        gone = sum(each["amount_minor"] for each in refunds if each["status"] not in ("failed", "canceled"))
        return payment | {"refunded_minor": gone}

    def refund(self, refund_id):
        return self.one("SELECT document FROM refunds WHERE id = ?", refund_id)

    def make_refund(self, body):
        """Make the refund that the body asks for.

        The key and the refund are stored in one transaction here. If another system moves the money, do it in three
        steps. Store the key, and commit. Call that system with the same key. Store its answer under the key. While
        that runs, a second request with the key gets 503 `busy`. After a crash, ask that system what became of the key
        before anything is sent again: what may have been executed is never called refused.
        """
        try:
            order = json.loads(body)
            payment, amount, ours = self.payment(order["payment"]), order["amount_minor"], order["ours"]
            is_right = type(amount) is int and amount > 0 and isinstance(ours, dict)
            is_right = is_right and order["currency"] == payment["currency"]
        except (ValueError, KeyError, TypeError):
            is_right = False
        if not is_right:
            raise Problem(400, "bad_request", "a field is missing or wrong, such as the amount or the currency")
        left = payment["captured_minor"] - payment["refunded_minor"]
        for code, is_so, detail in (
            ("disputed", payment["disputed"], "a dispute over this payment is open"),
            ("too_late", now() - payment["captured_at"] > CAPABILITIES["refund_window_seconds"], "it is too old"),
            ("already_refunded", left == 0, "nothing is left of this payment"),
            ("more_than_left", amount > left, f"only {left} minor units are left of this payment"),
        ):
            if is_so:
                raise Problem(422, code, detail)
        return self.new_refund(payment, amount, ours)

    def new_refund(self, payment, amount, ours):
        made = {"id": f"r-{uuid.uuid4().hex}", "payment": payment["id"], "amount_minor": amount, "ours": ours}
        made |= {"currency": payment["currency"], "status": "succeeded", "failure_code": None, "live": False}
        return self.save(made | {"created_at": time_text(datetime.fromtimestamp(now(), UTC))}, "refund.created")

    def cancel(self, refund_id):
        refund = self.refund(refund_id)
        if refund["status"] not in ("requires_action", "canceled"):
            raise Problem(409, "not_cancelable", "the refund does not wait for the customer")
        return self.save(refund | {"status": "canceled"}, "refund.updated")

    def list_refunds(self, query):
        where = {"payment": query.get("payment"), "leg": query.get("leg"), "since": "", "until": "A"}
        given = [name for name in ("since", "until") if name in query]
        try:
            where |= {name: time_text(datetime.fromisoformat(query[name])) for name in given}
            limit, where["after"] = int(query.get("limit", PAGE_MAX)), int(query.get("after", 2**62))
        except ValueError:
            raise Problem(400, "bad_request", "since, until, limit or after has a wrong form") from None
        if "payment" in query:
            self.payment(query["payment"])  # an unknown payment has no empty list
        limit = min(max(limit, 1), PAGE_MAX)
        rows = self.db.execute(LIST, where | {"limit": limit}).fetchall()
        following = str(rows[limit - 1][0]) if len(rows) > limit else None
        return {"data": [json.loads(document) for _, document in rows[:limit]], "next": following}

    def save(self, refund, kind):
        row = {"id": refund["id"], "payment": refund["payment"], "leg": (refund["ours"] or {}).get("leg_id")}
        self.db.execute(SAVE, row | {"at": refund["created_at"], "document": json.dumps(refund)})
        self.on_change(refund, kind)
        return refund

    def one(self, sql, value):
        row = self.db.execute(sql, (value,)).fetchone()
        if row is None:
            raise Problem(404, "not_found", "there is no such payment or refund")
        return json.loads(row[0])
