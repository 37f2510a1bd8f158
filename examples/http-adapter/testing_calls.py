"""The calls below /test: they let `refund-worker adapters check` make payments and play what a paying system does.

Offer them in a test environment only: whoever has the secret could invent payments with them.
"""

import json
import uuid

from paying_system import now


def answer(server, parts, fields):
    """Return the document that answers POST /test/PARTS."""
    paying = server.paying
    match parts:
        case ["payments"]:  # a customer paid: {"amount_minor", "currency", "disputed"}
            payment = {"id": f"p-{uuid.uuid4().hex}", "currency": fields["currency"], "live": False}
            payment |= {"captured_minor": fields["amount_minor"], "captured_at": now()}
            payment["disputed"] = bool(fields.get("disputed"))
            server.db.execute("INSERT INTO payments VALUES (?, ?)", (payment["id"], json.dumps(payment)))
            return paying.payment(payment["id"])
        case ["refunds"]:  # a person refunds elsewhere, without our ids: {"payment", "amount_minor"}
            return paying.new_refund(paying.payment(fields["payment"]), fields["amount_minor"], None)
        case ["refunds", refund_id]:  # a refund changes: {"status", "failure_code"}
            change = {"status": fields["status"], "failure_code": fields.get("failure_code")}
            return paying.save(paying.refund(refund_id) | change, "refund.updated")
        case ["events"]:  # from now on events are posted to this address: {"url"}
            server.options.events_url = fields["url"]
            return {}
    raise LookupError(parts)
