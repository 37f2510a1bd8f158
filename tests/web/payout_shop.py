"""The application with an account that pays out: a payee with an earning that is available, and a scripted route."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.routing import Mount
from tests.support.payees import KEY, payout_accounts
from tests.support.scripted_route import ScriptedRoute
from tests.web.client import Web

from refund_worker.domain.payouts.decision import PayoutPolicy, RouteRules
from refund_worker.engine.context import Context
from refund_worker.engine.payouts.process import process_payouts_until_idle
from refund_worker.sealing import Box
from refund_worker.web.dependencies import AppState

PAYEE = {
    "payee_id": "p1",
    "processor_account": "stripe",
    "destination": {"kind": "stripe_account", "account": "acct_1Abcd"},
    "currency": "EUR",
}
EARNING = {
    "earning_id": "earn-1",
    "payee_id": "p1",
    "amount_minor": 600,
    "currency": "EUR",
    "available_at": "2026-10-05T12:00:00Z",
}


def with_payouts(web: Web, **rules: Any) -> ScriptedRoute:
    """Give the application an account that pays out without a cool-down; return its route.

    `rules` are those of `PayoutPolicy`.
    """
    state: AppState = web.app.state.shared
    route = ScriptedRoute(time.time)
    policy = PayoutPolicy(
        calls=state.context.policy, routes={"stripe": RouteRules()}, **({"cooldown_seconds": 0.0} | rules)
    )
    context = replace(
        state.context,
        accounts=payout_accounts(),
        box=Box((KEY,)),
        processors={"stripe": object()},  # the account has access; refunds are not asked for here
        routes={"stripe": route},
        payout_policy=policy,
    )
    use_context(web, context)
    return route


def use_context(web: Web, context: Context) -> None:
    """Let the API and the console work with this context from now on."""
    shared = replace(web.app.state.shared, context=context)
    for app in (web.app, *(route.app for route in web.app.routes if isinstance(route, Mount))):
        if isinstance(app, FastAPI):
            app.state.shared = shared


class PayoutShop:
    """One payee, "p1", with 6.00 EUR that can be paid out."""

    def __init__(self, web: Web, **rules: Any) -> None:
        self.web, self.route = web, with_payouts(web, **rules)
        assert web.call("POST", "/v1/payees", PAYEE).status_code == 201
        assert web.call("POST", "/v1/earnings", EARNING).status_code == 201

    def ask(self, key: str = "k", *, api_key: str = "admin", **changes: Any) -> httpx.Response:
        """Request a payout of the whole balance, or with other fields."""
        body = {"payee_id": "p1", "currency": "EUR"} | changes
        return self.web.call("POST", "/v1/payouts", body, key=api_key, headers={"Idempotency-Key": key})

    def work(self) -> None:
        """Process payouts until none is due."""
        process_payouts_until_idle(self.web.context)

    def get(self, path: str, **options: Any) -> Any:
        """Return the JSON of a good answer."""
        answer = self.web.call("GET", path, **options)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, payout_id: str, action: str, **options: Any) -> httpx.Response:
        """Perform an action with a reason."""
        body = {"reason": "because"} | options.pop("body", {})
        return self.web.call("POST", f"/v1/payouts/{payout_id}/{action}", body, **options)
