"""The scenes of people who are paid out: performers, over Stripe and over PayPal.

Banks and payees take days. The clocks of the sandboxes move by these days; ours does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from refund_worker.cli.demo.session import Demo
from refund_worker.cli.stack import PAYPAL
from refund_worker.domain.refund import Kind, To
from refund_worker.engine.views.money_format import money

DAY = 86_400.0
# The performers, each with the account at Stripe or the address at PayPal.
AT_STRIPE = {"lena": "acct_lena", "marc": "acct_marc", "rosa": "acct_rosa"}
AT_PAYPAL = {"sven": "sven@example.com"}
NOT_CLAIMED = ("UNCLAIMED", "RECEIVER_UNREGISTERED")
CLAIM_DAYS = 30


def paid_then_returned(demo: Demo) -> None:
    """Pay a performer in two steps, and let the bank return the money days later."""
    demo.title("13 · A performer is paid out, and days later her bank returns the money")
    demo.api.hear_webhooks()
    _record_payees(demo)
    _earn(demo, "lena", 5000)
    demo.narrate("lena earned 50.00 USD; Stripe takes two steps: a transfer to her account there, and a payout from it")
    payout_id = _pay_out(demo, "lena")
    sent = _wait(demo, payout_id, ("pending",), "the transfer is made, then the payout")
    steps = [(leg["step"], leg["status"]) for leg in sent["legs"]]
    on_way = steps == [("transfer", "succeeded"), ("payout", "pending")]
    demo.check("the transfer is made and the payout is on its way to her bank", on_way, sent)
    demo.stack.sandbox.advance_clock(2 * DAY)
    paid = _wait(demo, payout_id, ("paid",), "two days pass at Stripe")
    demo.check("two days later it is paid", (paid["status"], _payable(demo, "lena")) == ("paid", 0), paid)
    demo.stack.sandbox.advance_clock(3 * DAY)
    payout_object = paid["legs"][1]["object_id"]
    demo.stack.sandbox.act(
        "move_payout", account=AT_STRIPE["lena"], payout=payout_object, status="failed", failure_code="account_closed"
    )
    back = _wait(demo, payout_id, ("returned",), "her bank returns the money; the transfer is undone")
    steps = [(leg["step"], leg["status"]) for leg in back["legs"]]
    undone = ("reversal", "succeeded") in steps
    over = back["status"] == "returned"
    demo.check("three days after that it is returned, and the transfer undone", over and undone, back)
    claim = f"her {money(5000, 'USD')} are on her balance again, once: {back['failure_code']}"
    demo.check(claim, _payable(demo, "lena") == 5000, demo.api.get("/v1/payees/lena"))


def lost_answers_of_a_payout(demo: Demo) -> None:
    """Lose the answers to both steps of a payout."""
    demo.title("14 · Stripe made both steps of a payout, and both answers were lost")
    account = AT_STRIPE["marc"]
    for kind in ("create_transfer", "create_payout"):
        whose = {"payment": account} if kind == "create_transfer" else {"account": account}
        demo.stack.sandbox.add_fault({"reset": "after"}, match={"path_kind": kind, **whose})
    _earn(demo, "marc", 3200)
    payout_id = _pay_out(demo, "marc")
    _wait(demo, payout_id, ("pending", "paid"), "no answer arrives; the worker repeats each call with its key")
    demo.stack.sandbox.advance_clock(2 * DAY)
    payout = _wait(demo, payout_id, ("paid",), "two days pass at Stripe")
    demo.check("no missing answer counted as a refusal: it is paid", payout["status"] == "paid", payout)
    book = demo.stack.sandbox.book()
    transfers = [each["amount"] for each in book["transfers"] if each["destination"] == account]
    payouts = [each["amount"] for each in book["payouts"] if each.get("account") == account]
    made = transfers, payouts
    demo.check("Stripe has exactly one transfer and one payout", made == ([3200], [3200]), made)


def unclaimed_payout(demo: Demo) -> None:
    """Pay to an address without an account at PayPal, and let the time to claim pass."""
    demo.title("15 · A payout by PayPal waits for the performer, who never claims it")
    demo.paypal.expect_payouts(AT_PAYPAL["sven"], *NOT_CLAIMED)
    _earn(demo, "sven", 2000)
    demo.narrate("sven earned 20.00 USD; his address has no account at PayPal, which holds the money for him")
    payout_id = _pay_out(demo, "sven")
    waits = _wait(demo, payout_id, ("recipient_action",), "PayPal writes to sven")
    masked = AT_PAYPAL["sven"] not in str(waits)
    demo.check(
        f"it waits for him, until {str(waits['act_by'])[:10]}, and his address is masked",
        bool(waits["act_by"]) and masked and waits["status"] == "recipient_action",
        waits,
    )
    demo.paypal.control("clock", seconds=(CLAIM_DAYS + 1) * DAY)
    back = _wait(demo, payout_id, ("returned",), f"{CLAIM_DAYS} days pass at PayPal")
    once = (back["status"], _payable(demo, "sven")) == ("returned", 2000)
    demo.check("the money came back, and his 20.00 USD are on his balance, once", once, back)
    demo.check("PayPal's book: he received nothing", AT_PAYPAL["sven"] not in demo.paypal.book()["received"], back)


def clawed_back_earning(demo: Demo) -> None:
    """Refund a chat whose performer was paid already: the share becomes a debt, which the next earning pays."""
    demo.title("16 · A chat is refunded after its performer was paid: her share is taken back")
    demo.pay_in("finn", ("ch_finn", 10_000, 1000))
    demo.spend("finn", "chat-1016", 100, "Private chat, 10 minutes")
    _earn(demo, "rosa", 600, "chat-1016")
    demo.narrate("finn spent 100 credits on a chat with rosa; her share of it is 6.00 USD, and it is paid out")
    first = _pay_out(demo, "rosa")
    _wait(demo, first, ("pending",), "the transfer is made, then the payout")
    demo.stack.sandbox.advance_clock(2 * DAY)
    _wait(demo, first, ("paid",), "two days pass at Stripe")
    demo.wait(demo.request("finn-1", Kind.CREDIT_REFUND, To.BALANCE, "finn", transaction_id="chat-1016", credits=50))
    balance = _balance(demo, "rosa")
    taken = (balance["clawed_back_minor"], balance["debt_minor"], balance["payable_minor"])
    demo.check(
        "half of the chat is refunded: half of her share, 3.00 USD, is her debt now", taken == (300, 300, 0), balance
    )
    refused = _ask(demo, "rosa", "rosa-debt")
    demo.check("nothing can be paid out to her", refused.get("code") == "insufficient_earnings", refused)
    _earn(demo, "rosa", 1000)
    balance = _balance(demo, "rosa")
    paid_off = (balance["debt_minor"], balance["payable_minor"]) == (0, 700)
    demo.check("her next 10.00 USD pay the debt first: 7.00 USD can be paid out", paid_off, balance)
    second = _pay_out(demo, "rosa", "rosa-2")
    _wait(demo, second, ("pending",), "the transfer is made, then the payout")
    demo.stack.sandbox.advance_clock(2 * DAY)
    payout = _wait(demo, second, ("paid",), "two days pass at Stripe")
    demo.check("and they are paid", (payout["status"], payout["amount_minor"]) == ("paid", 700), payout)


def _record_payees(demo: Demo) -> None:
    """Record all performers. The scheduler asks each one's processor whether it can be paid."""
    for payee_id, account in AT_STRIPE.items():
        demo.stack.sandbox.act("connect_account", account=account)
        _record(demo, payee_id, "stripe", {"kind": "stripe_account", "account": account})
    for payee_id, email in AT_PAYPAL.items():
        _record(demo, payee_id, PAYPAL, {"kind": "paypal", "email": email})
    demo.stack.sandbox.act("top_up", currency="usd", amount_minor=100_000)


def _record(demo: Demo, payee_id: str, account: str, destination: dict[str, str]) -> None:
    body = {"payee_id": payee_id, "processor_account": account, "destination": destination, "currency": "USD"}
    demo.api.post("/v1/payees", body)


def _earn(demo: Demo, payee_id: str, amount_minor: int, transaction_id: str | None = None) -> None:
    """Record an earning, which can be paid out at once."""
    count = len(demo.api.get("/v1/earnings", payee_id=payee_id)["data"])
    body = {
        "earning_id": f"earn-{payee_id}-{count + 1}",
        "payee_id": payee_id,
        "amount_minor": amount_minor,
        "currency": "USD",
        "transaction_id": transaction_id,
    }
    demo.api.post("/v1/earnings", body)


def _pay_out(demo: Demo, payee_id: str, key: str = "") -> str:
    """Request a payout of all that can be paid out, and return its id."""
    return str(_ask(demo, payee_id, key or f"{payee_id}-1").get("id"))


def _ask(demo: Demo, payee_id: str, key: str) -> dict[str, Any]:
    return demo.api.ask("POST", "/v1/payouts", {"payee_id": payee_id, "currency": "USD"}, idempotency_key=key).body


def _wait(demo: Demo, payout_id: str, statuses: tuple[str, ...], activity: str) -> dict[str, Any]:
    """Wait until the payout has one of the statuses, and return it."""
    return demo.until(
        lambda: demo.api.get(f"/v1/payouts/{payout_id}"), lambda payout: payout["status"] in statuses, activity
    )


def _balance(demo: Demo, payee_id: str) -> dict[str, Any]:
    (balance,) = demo.api.get(f"/v1/payees/{payee_id}")["balances"]
    return dict(balance)


def _payable(demo: Demo, payee_id: str) -> int:
    return int(_balance(demo, payee_id)["payable_minor"])


SCENES_OF_PAYEES: tuple[Callable[[Demo], None], ...] = (
    paid_then_returned,
    lost_answers_of_a_payout,
    unclaimed_payout,
    clawed_back_earning,
)
