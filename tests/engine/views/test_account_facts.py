"""The facts of an account that the page of processors and `processors status` show: they are those of its settings."""

from __future__ import annotations

import json
from typing import Any

import pytest

from refund_worker.engine.views.account_facts import account_facts
from refund_worker.processors.accounts import Accounts, accounts_of
from refund_worker.settings import PREFIX, load_settings

PAYPAL = {"client_id": "A" * 20, "client_secret": "s" * 20}
HOUSE = {"adapter": "http", "api_base": "https://house.example", "secret": "s" * 40}


def accounts(**tables: dict[str, Any]) -> Accounts:
    """Return the accounts of these tables, where live credentials are allowed."""
    given = {"ENVIRONMENT": "production", "PROCESSORS": json.dumps(tables)}
    return accounts_of(load_settings({PREFIX + name: value for name, value in given.items()}))


@pytest.mark.parametrize(
    ("table", "mode"),
    [
        ({"api_key": "sk_test_1"}, "test"),
        ({"api_key": "rk_live_1"}, "live"),
        ({}, "no credentials"),
        (PAYPAL | {"adapter": "paypal"}, "test"),
        (PAYPAL | {"adapter": "paypal", "environment": "live"}, "live"),
        ({"adapter": "paypal"}, "no credentials"),
        (HOUSE, "unknown"),
        (HOUSE | {"mode": "live"}, "live"),
        ({"adapter": "manual"}, None),
    ],
)
def test_mode_is_that_of_the_credentials(table: dict[str, Any], mode: str | None) -> None:
    assert account_facts(accounts(stripe=table), "stripe")["mode"] == mode


def test_adapter_and_refunds_are_those_of_the_table() -> None:
    ours = accounts(house=HOUSE | {"refunds": "off"})
    assert account_facts(ours, "house")["adapter"] == "http"
    assert account_facts(ours, "house")["refunds"] == "off"
    assert account_facts(ours, "manual")["refunds"] == "on"


def test_name_that_is_no_account_has_no_facts() -> None:
    assert set(account_facts(accounts(stripe={}), "worldpay").values()) == {None}


def test_connected_account_has_the_facts_of_its_platform() -> None:
    ours = accounts(stripe={"api_key": "sk_live_1"})
    assert account_facts(ours, "stripe/acct_1") == {"adapter": "stripe", "mode": "live", "refunds": "on"}
