"""The settings of an account at Adyen, its addresses, and its entry in the registry."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.processors.adyen.book import HMAC_KEY, MERCHANT
from tests.support.pages import ROOT
from tests.web.client import settings_for

from refund_worker.errors import BadSettings
from refund_worker.processors.accounts import Account, accounts_of
from refund_worker.processors.adyen.entry import ENTRY, address

KEY = "AQE-not_a_real-key=="
GOOD: dict[str, Any] = {"api_key": KEY, "merchant_account": MERCHANT, "webhook_secret": HMAC_KEY}
LIVE = {**GOOD, "environment": "live", "live_prefix": "0a1b2c3d4e5f-Shop"}


def account_of(table: dict[str, Any], **others: str) -> Account:
    settings = settings_for("sqlite://", PROCESSORS=json.dumps({"adyen": table}), **others)
    return accounts_of(settings)["adyen"]


def test_addresses_are_those_of_the_environment() -> None:
    assert address(account_of(GOOD).settings) == "https://checkout-test.adyen.com/v72"  # type: ignore[arg-type]
    live = "https://0a1b2c3d4e5f-Shop-checkout-live.adyenpayments.com/checkout/v71"
    assert ENTRY.address(account_of({**LIVE, "checkout_version": "v71"}, ENVIRONMENT="production").settings) == live
    local = account_of({**GOOD, "api_base": "http://127.0.0.1:1/"}).settings
    assert ENTRY.address(local) == "http://127.0.0.1:1/v72"


def test_account_that_only_takes_webhooks_needs_no_api_key() -> None:
    found = account_of({"merchant_account": MERCHANT, "webhook_secret": HMAC_KEY})
    assert not found.has_access
    assert account_of(GOOD).has_access


def test_account_sets_how_long_an_event_may_take() -> None:
    assert account_of(GOOD).rules.report_seconds == 5 * 86_400
    assert account_of({**GOOD, "report_seconds": 86_400}).rules.report_seconds == 86_400
    with pytest.raises(BadSettings, match="report_seconds"):
        account_of({**GOOD, "report_seconds": 60})


def test_live_account_needs_production_and_no_test_server() -> None:
    assert account_of(LIVE, ENVIRONMENT="production").rules.live is True
    assert account_of(GOOD).rules.live is False
    with pytest.raises(BadSettings, match="production"):
        account_of(LIVE)
    with pytest.raises(BadSettings, match="api_base"):
        account_of({**LIVE, "api_base": "http://127.0.0.1:1"}, ENVIRONMENT="production")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"api_key": "with a blank"}, "API key"),
        ({"merchant_account": None}, "merchant_account must be set"),
        ({"merchant_account": "a:b"}, "merchant account"),
        ({"environment": "production"}, "environment"),
        ({"environment": "live"}, "live_prefix"),
        ({"live_prefix": "0a1b2c"}, "only for environment"),
        ({"environment": "live", "live_prefix": "https://x.example/"}, "prefix alone"),
        ({"environment": "live", "live_prefix": "evil.example/x"}, "prefix alone"),
        ({"checkout_version": "72"}, "v72"),
        ({"webhook_secret": "not hexadecimal"}, "hexadecimal"),
        ({"webhook_secret": "AB" * 32 + ",abc"}, "hexadecimal"),
        ({"webhook_secret": ","}, "hexadecimal"),
        ({"webhook_user": "a"}, "together"),
        ({"webhook_password": "a"}, "together"),
        ({"webhook_user": "a:b", "webhook_password": "c"}, "colon"),
        ({"apikey": "x"}, "is no setting"),
    ],
)
def test_wrong_setting_is_named_and_never_quoted(changes: dict[str, Any], text: str) -> None:
    table = {name: value for name, value in {**GOOD, **changes}.items() if value is not None}
    with pytest.raises(BadSettings, match=text) as refused:
        account_of(table)
    shown = str(refused.value)
    for value in (KEY, HMAC_KEY, "not hexadecimal", "with a blank"):
        assert value not in shown


def test_secrets_are_not_in_a_repr() -> None:
    settings = account_of({**GOOD, "webhook_user": "adyen", "webhook_password": "geheim"}).settings
    for value in (KEY, HMAC_KEY, "geheim"):
        assert value not in repr(settings)


def test_entry_imports_no_http_client() -> None:
    program = "import sys, refund_worker.processors.adyen.entry; print('aiohttp' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60, cwd=ROOT
    )
    assert shown.stdout.strip() == "False"
