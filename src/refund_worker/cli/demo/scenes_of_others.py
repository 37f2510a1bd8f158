"""The scenes in which others act on a payment: a colleague in the dashboard, a bank, a customer.

The processor tells the web process by webhooks, and everything is read and done through the HTTP API.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refund_worker.cli.demo.session import Demo, with_object

EMAIL, MASKED = "uma@example.com", "u***@example.com"


def dashboard_refund(demo: Demo) -> None:
    """Refund a payment twice in the dashboard: its credits come off the balance, and what was spent is written off."""
    demo.title("9 · A colleague refunds in the processor's dashboard, and the credits follow")
    demo.narrate("so far the worker found everything by asking; from here on the processor's webhooks arrive too")
    demo.api.hear_webhooks()
    demo.pay_in("nia", ("ch_nia", 5000, 500))
    demo.spend("nia", "chat-1009", 400, "Private chat, 40 minutes")
    demo.narrate("nia bought 500 credits for 50.00 USD and spent 400; a colleague returns 6.00 USD, then 10.00 USD")
    first = demo.stack.sandbox.act("dashboard_refund", payment="ch_nia", amount_minor=600)
    seen = demo.outside_refund("nia", first["id"])
    taken = (seen["status"], seen["credits"], seen["shortfall"])
    demo.check("the 6.00 USD took their 60 credits off", taken == ("posted", 60, 0), seen)
    newest = demo.api.get("/v1/customers/nia/transactions")["data"][0]
    entry = (newest["kind"], newest["credits"])
    demo.check("the balance is 40, and the entry is an outside refund", entry == ("outside_refund", -60), newest)
    second = demo.stack.sandbox.act("dashboard_refund", payment="ch_nia", amount_minor=1000)
    seen = demo.outside_refund("nia", second["id"])
    taken = (seen["status"], seen["credits"], seen["shortfall"])
    demo.check(
        "of the next 100 credits, 60 were spent already: written off",
        taken == ("posted", 100, 60),
        seen,
    )
    demo.check(
        "the balance is zero, and not below", demo.available("nia") == demo.balance("nia") == 0, demo.balance("nia")
    )


def lost_dispute(demo: Demo) -> None:
    """Let a bank dispute a part of a payment and win."""
    demo.title("10 · A customer's bank disputes a payment, and the dispute is lost")
    demo.pay_in("omar", ("ch_omar", 3000, 300))
    demo.narrate("omar bought 300 credits for 30.00 USD; their bank disputes 20.00 USD of it")
    dispute = demo.stack.sandbox.act("open_dispute", payment="ch_omar", amount_minor=2000)
    seen = _dispute(demo, dispute["id"], "needs_response")
    held = (seen["credits_held"], seen["credits_taken"], demo.available("omar"))
    demo.check("200 credits are held, and 100 are free", held == (200, 0, 100), seen)
    answer = demo.ask_refund("omar-1", "omar", 100)
    sent = [refund for refund in demo.stack.sandbox.refunds() if refund["charge"] == "ch_omar"]
    refused = answer.body.get("code") == "no_refundable_payment"
    demo.check("nothing is sent over the disputed payment: a refund is refused", refused and sent == [], (answer, sent))
    demo.stack.sandbox.act("move_dispute", dispute=dispute["id"], status="lost")
    seen = _dispute(demo, dispute["id"], "lost")
    taken = (seen["credits_held"], seen["credits_taken"], seen["shortfall"])
    demo.check("the dispute is lost: the 200 held credits are taken", taken == (0, 200, 0), seen)
    newest = demo.api.get("/v1/customers/omar/transactions")["data"][0]
    entry = (newest["kind"], newest["credits"], demo.balance("omar"))
    demo.check("the entry is a chargeback, and the balance is 100", entry == ("chargeback", -200, 100), newest)


def _dispute(demo: Demo, object_id: str, status: str) -> dict[str, Any]:
    return demo.until(
        lambda: with_object(demo.api.get("/v1/disputes", customer_id="omar"), object_id),
        lambda found: found.get("status") == status,
        "the webhook arrives",
    )


def customer_must_act(demo: Demo) -> None:
    """Cancel a refund that waits for the customer's bank details, and let the customer give them for the next one."""
    demo.title("11 · A refund waits for the customer's bank details")
    demo.pay_in("uma", ("ch_uma", 2000, 200), payment_method="konbini", customer_must_act=True)
    demo.narrate("uma paid in a shop, so the processor asks them by e-mail where to send the money")
    refund = _waiting(demo, "uma-1")
    leg = refund["legs"][0]
    masked = EMAIL not in str(refund) and refund["instructions_email"] == leg["next_action"]["email_sent_to"] == MASKED
    demo.check(f"the refund waits for the customer and shows the address masked: {MASKED}", masked, refund)
    demo.check("its 50 credits are off the balance meanwhile", demo.balance("uma") == 150, demo.balance("uma"))
    demo.api.ask("POST", f"/v1/refunds/{refund['id']}/cancel", {"reason": "The customer prefers credits"})
    ended = demo.wait(refund["id"], activity="the processor is asked to cancel")
    canceled = ended["failure_code"] == "canceled_on_request" and demo.amounts_at_processor("ch_uma") == []
    demo.check("a person cancels it, and nothing is paid", canceled, ended)
    demo.check("the credits are back, once", demo.balance("uma") == 200, demo.balance("uma"))
    _customer_acts(demo, _waiting(demo, "uma-2"))


def _customer_acts(demo: Demo, refund: dict[str, Any]) -> None:
    refund_object = refund["legs"][0]["processor_refund_id"]
    demo.stack.sandbox.act("customer_acts", refund=refund_object, after_seconds=0.5)
    ended = demo.wait(refund["id"], activity="the customer gives the bank details")
    demo.check("another one succeeds, because the customer acts", ended["status"] == "succeeded", ended)
    demo.stack.sandbox.act("show_reference", refund=refund_object)
    trace = demo.until(
        lambda: demo.api.get(f"/v1/refunds/{refund['id']}")["legs"][0]["trace"] or {},
        lambda trace: bool(trace.get("value")),
        "the bank's reference arrives",
    )
    found = [item["id"] for item in demo.api.get("/v1/search", q=trace.get("value") or "?")["data"]]
    demo.check("the bank's reference is shown, and a search for it finds the refund", found == [refund["id"]], trace)


def _waiting(demo: Demo, key: str) -> dict[str, Any]:
    """Request 50 credits of uma back, and return the refund as it waits for the customer."""
    answer = demo.ask_refund(key, "uma", 50, instructions_email=EMAIL)
    return demo.until(
        lambda: demo.api.get(f"/v1/refunds/{answer.body['id']}"),
        lambda refund: bool(refund["legs"] and refund["legs"][0]["next_action"]),
        "the processor writes to the customer",
    )


SCENES_OF_OTHERS: tuple[Callable[[Demo], None], ...] = (dashboard_refund, lost_dispute, customer_must_act)
