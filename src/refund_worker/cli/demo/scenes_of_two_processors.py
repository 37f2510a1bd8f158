"""The scene of a customer who paid over two processors, and whose money goes back over both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.table import Table

from refund_worker.cli.demo.session import Demo
from refund_worker.cli.stack import PAYPAL
from refund_worker.engine.views.money_format import money


def over_two_processors(demo: Demo) -> None:
    """Return one refund over PayPal and Stripe, and lose PayPal's answer."""
    demo.title("12 · One refund over two processors, and the answer of one is lost")
    demo.api.hear_webhooks()
    demo.pay_in("ivy", ("ch_ivy", 3000, 300))
    capture_id = demo.pay_in_by_paypal("ivy", 2000, 200)
    demo.narrate("ivy bought 300 credits for 30.00 USD by Stripe, later 200 for 20.00 USD by PayPal; 400 are returned")
    demo.paypal.add_fault("reset", capture_id)
    answer = demo.ask_refund("ivy-1", "ivy", 400)
    demo.wait(str(answer.body.get("id")), activity="PayPal refunds, and the connection breaks before its answer")
    refund = demo.api.get(f"/v1/refunds/{answer.body.get('id')}")
    demo.console.print(_legs_table(refund))
    sent = [(leg["processor_account"], leg["amount_minor"]) for leg in refund["legs"]]
    both = [(PAYPAL, 2000), ("stripe", 2000)]
    succeeded = refund["status"] == "succeeded"
    demo.check("20.00 USD went back over PayPal and 20.00 USD over Stripe", succeeded and sent == both, refund)
    made = [each for each in demo.paypal.refunds() if each["capture_id"] == capture_id]
    shown = [(each["status"], each["amount"]["value"]) for each in made]
    demo.check("PayPal's answer was lost, and PayPal made one refund", shown == [("COMPLETED", "20.00")], made)
    made += [each for each in demo.stack.sandbox.refunds() if each["charge"] == "ch_ivy"]
    theirs = [each["id"] for each in made]
    ours = [leg["processor_refund_id"] for leg in refund["legs"]]
    demo.check("each leg names the refund of its own processor", ours == theirs, (ours, theirs))
    answers = demo.until(
        lambda: [event["answers"] for event in demo.paypal.book()["events"]],
        lambda answers: answers == [[200]],
        "PayPal's event arrives",
    )
    demo.check("PayPal's signed event was accepted, too", answers == [[200]], answers)
    demo.check("400 of the 500 credits are off the balance", demo.balance("ivy") == 100, demo.balance("ivy"))


def _legs_table(refund: dict[str, Any]) -> Table:
    table = Table(title=f"Refund {refund['id']}", title_justify="left")
    for column in ("leg", "account", "payment", "amount", "status", "refund at the processor"):
        table.add_column(column, justify="right" if column == "amount" else "left", overflow="fold")
    for number, leg in enumerate(refund["legs"], start=1):
        table.add_row(
            str(number),
            leg["processor_account"],
            leg["payment_id"],
            money(leg["amount_minor"], leg["currency"]),
            leg["status"],
            leg["processor_refund_id"] or "",
        )
    return table


SCENES_OF_TWO_PROCESSORS: tuple[Callable[[Demo], None], ...] = (over_two_processors,)
