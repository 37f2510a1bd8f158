"""Stripe's events about payees' accounts, from delivery to the status of the payee."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select
from tests.web.client import Web, settings_for
from tests.web.payout_shop import PayoutShop, use_context
from tests.web.test_stripe_webhooks import NEW, deliver, signed, stored

from refund_worker.domain.payouts.transfers import PayeeRead, PayeeState
from refund_worker.engine.payees.refresh import refresh_payees
from refund_worker.engine.processor_sync.transfer_events import NOT_OURS, PAYEE_ASKED
from refund_worker.engine.processor_sync.webhook_inbox import process_inbox
from refund_worker.store.tables import inbox

OURS, OTHERS = "acct_1Abcd", "acct_other"


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[PayoutShop]:
    """A payee whose status was just read, and Stripe's own entry for the events."""
    with Web(settings_for(migrated_sqlite_url, STRIPE_WEBHOOK_SECRET=NEW)) as running:
        accounts = running.context.accounts
        shop = PayoutShop(running)
        use_context(running, replace(running.context, accounts=accounts))
        assert refresh_payees(running.context) == 1
        yield shop


def report(shop: PayoutShop, event: dict[str, Any]) -> str:
    """Deliver a signed event and process it; return its outcome."""
    body = json.dumps(event).encode()
    assert deliver(shop.web, body, signed(body)).status_code == 200
    assert process_inbox(shop.web.context) == 1
    with shop.web.context.database.read() as connection:
        return str(connection.execute(select(inbox.c.outcome).where(inbox.c.event_id == event["id"])).scalar_one())


def account_event(kind: str, account: str) -> dict[str, Any]:
    """Return an event that Stripe sends to the platform about a connected account."""
    about = {"id": account, "object": "account"} if kind == "account.updated" else {"id": "ba_1", "account": account}
    return {"id": f"evt_{account}", "type": kind, "account": account, "data": {"object": about}}


@pytest.mark.parametrize("kind", ["account.updated", "account.external_account.updated", "capability.updated"])
def test_event_of_a_connected_account_refreshes_the_payee(shop: PayoutShop, kind: str) -> None:
    shop.route.payee = PayeeRead(PayeeState.INCOMPLETE, "past_due", ("individual.address",))
    assert refresh_payees(shop.web.context) == 0, "without an event it is read once a day"
    assert report(shop, account_event(kind, OURS)) == PAYEE_ASKED
    assert stored(shop.web)[0][0] == f"stripe/{OURS}"
    assert refresh_payees(shop.web.context) == 1
    payee = shop.get("/v1/payees/p1")
    assert (payee["status"], payee["status_reason"]) == ("incomplete", "past_due")


def test_event_of_an_account_without_a_payee_refreshes_nobody(shop: PayoutShop) -> None:
    assert report(shop, account_event("account.updated", OTHERS)) == NOT_OURS
    assert refresh_payees(shop.web.context) == 0
