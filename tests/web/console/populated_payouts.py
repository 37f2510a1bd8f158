"""Payees and payouts for the populated console: one payout in each status that looks different, by scripted routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.support.payees import KEY
from tests.support.scripted_route import ScriptedRoute

from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.payouts.runs import RunRequest
from refund_worker.domain.payouts.transfers import Method
from refund_worker.engine.context import Context
from refund_worker.engine.payees.earnings import record_earnings
from refund_worker.engine.payees.payees import pause_payee, record_payee
from refund_worker.engine.payouts.accept import AcceptedPayout, request_payouts
from refund_worker.engine.payouts.actions import perform_payout_action
from refund_worker.engine.payouts.drive_runs import drive_due_runs
from refund_worker.engine.payouts.process import process_payouts_until_idle
from refund_worker.engine.payouts.runs import create_run
from refund_worker.sealing import Box

CONNECTED = Destination(kind=DestinationKind.STRIPE_ACCOUNT, account="acct_1QhT3kPerformer")
PAYPAL = Destination(kind=DestinationKind.PAYPAL, email="maria.long-name@performers.example")


@dataclass(frozen=True)
class Way:
    """The account of a payee, the words of its routes' script, and the amount that is paid."""

    script: tuple[str, ...] = ()
    account: str = "stripe"
    minor: int = 4_000
    works: bool = True


WAYS: Mapping[str, Way] = {
    "paid": Way(("succeeded", "succeeded")),
    "pending": Way(("succeeded", "pending")),
    "attention": Way(("misconfigured",)),
    "failed": Way(("refused",)),
    "returning": Way(("succeeded", "failed", "pending")),
    "recipient": Way(("requires_action",), account="paypal"),
    "unknown": Way(("nothing",), account="paypal"),
    "approval": Way(minor=5_400, works=False),
    "canceled": Way(works=False),
    "queued": Way(works=False),
}


def populate_payouts(shop: Any) -> dict[str, str]:
    """Create a payee and a payout for each way, one payee with everything, and return their ids by name."""
    routes = {name: ScriptedRoute(lambda: float(shop.now), name=name) for name in ("stripe", "paypal")}
    context: Context = replace(
        shop.context,
        routes=routes,
        box=Box((KEY,)),
        payout_policy=replace(shop.context.payout_policy, cooldown_seconds=0.0),
        limits=replace(shop.context.limits, approval_threshold_minor=5_000),
    )
    named = {}
    for name, way in WAYS.items():
        payee_id = f"performer-{name}"
        _record(context, payee_id, way.account)
        _earn(context, payee_id, f"share-{name}", 5_500, shop.now - 86_400)
        named[f"payout-{name}"] = _ask(context, payee_id, way.minor, name)
        if way.works:
            routes[way.account].script = list(way.script)
            process_payouts_until_idle(context, [named[f"payout-{name}"]])
    _act(context, named["payout-canceled"], PayoutAction.CANCEL, "asked by the payee")
    named["payout-held"] = _ask(context, "performer-pending", 1_000, "held")
    process_payouts_until_idle(context, [named["payout-held"]])
    _full_payee(shop, context)
    request = RunRequest(
        idempotency_key="run", processor="stripe", currency="EUR", client="backend", actor="backend/shop"
    )
    run, _ = create_run(context, request)
    drive_due_runs(context)
    pause_payee(context, "performer-queued", actor="console/berta", reason="asked for by letter")
    named |= {"run": run.run_id, "payee": "maria", "payout": named["payout-paid"]}
    return named | {"payee-paused": "performer-queued", "payee-failed": "performer-failed"}


def _full_payee(shop: Any, context: Context) -> None:
    """Create a payee who earned of spends that were refunded, with a part that is held."""
    _record(context, "maria", "stripe")
    for n in range(1, 9):
        _earn(context, "maria", f"maria-{n}", 900 + n, shop.now - 86_400, f"chat-{n}")
    _earn(context, "maria", "maria-held", 2_500, shop.now + 864_000)


def _record(context: Context, payee_id: str, account: str) -> None:
    record = PayeeRecord(
        payee_id=payee_id,
        customer_id=None,
        processor=account,
        destination=CONNECTED if account == "stripe" else PAYPAL,
        currency="EUR",
        country="DE",
        method=Method.STANDARD,
    )
    record_payee(context, record, actor="backend/shop")


def _earn(context: Context, payee_id: str, earning_id: str, minor: int, at: float, spend: str | None = None) -> None:
    record = EarningRecord(
        earning_id=earning_id,
        payee_id=payee_id,
        amount_minor=minor,
        currency="EUR",
        transaction_id=spend,
        available_at=at,
        description="Private chat",
    )
    (answer,) = record_earnings(context, [record], actor="backend/shop")
    assert not isinstance(answer, Exception), answer


def _ask(context: Context, payee_id: str, minor: int, name: str) -> str:
    request = PayoutRequest(
        idempotency_key=f"payout-{name}",
        payee_id=payee_id,
        amount_minor=minor,
        currency="EUR",
        description="October",
        client="backend",
        actor="backend/shop",
    )
    (answer,) = request_payouts(context, [request])
    assert isinstance(answer, AcceptedPayout), answer
    return answer.payout_id


def _act(context: Context, payout_id: str, action: PayoutAction, reason: str) -> None:
    perform_payout_action(context, payout_id, action, actor="console/berta", reason=reason)
