"""The table of an account: careful defaults, checks of each field, and the comparison with the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.processors.http.server import SECRET
from tests.processors.http.subject import TABLE, account

from refund_worker.errors import BadSettings
from refund_worker.processors.accounts import Accounts, accounts_of
from refund_worker.processors.conformance.http_checks import more_than_offered, settings_of
from refund_worker.processors.http.entry import CAPABILITIES, ENTRY, HttpSettings, capabilities_of
from refund_worker.settings import PREFIX, load_settings

GOOD = f'["house"]\nadapter = "http"\napi_base = "https://pay.example"\nsecret = "{SECRET}"\n'


def of_file(folder: Path, text: str, **values: str) -> Accounts:
    """Return the accounts of a file with this text."""
    file = folder / "processors.toml"
    file.write_text(text, "utf-8")
    given = {f"{PREFIX}{name}": value for name, value in {"PROCESSORS_FILE": str(file), **values}.items()}
    return accounts_of(load_settings(given))


def test_account_that_says_nothing_has_the_most_careful_table(tmp_path: Path) -> None:
    house = of_file(tmp_path, GOOD)["house"]
    assert house.capabilities == CAPABILITIES
    assert house.rules.key_seconds == 0
    assert (house.rules.finds_refunds, house.rules.list_proves_absence, house.rules.live) == (False, False, None)


def test_fields_of_the_account_are_its_table(tmp_path: Path) -> None:
    text = GOOD + (
        'mode = "test"\nkey_seconds = 86400\nfinds_by = "leg"\nlists_refunds = true\nlist_proves_absence = true\n'
        "answers_are_outcomes = true\nanswers_are_final = true\nreads_payments = true\npartial_refunds = true\n"
        'cancels = true\nrefund_window_seconds = 7776000\ncurrency_steps = "ISK:100, HUF:100"\nrate_per_second = 2\n'
    )
    accounts = of_file(tmp_path, text)
    house, table = accounts["house"], accounts["house"].capabilities
    assert (table.key_seconds, table.key_use_seconds) == (86_400, 72_000)
    flags = (table.finds_refunds, table.lists_refunds, table.list_proves_absence, table.answers_are_outcomes)
    others = (table.answers_are_final, table.reads_payments, table.partial_refunds, table.cancels)
    assert flags + others == (True,) * 8
    assert (table.refund_window_seconds, table.currency_steps) == (7_776_000, {"ISK": 100, "HUF": 100})
    assert (house.rules.live, house.rate_per_second, accounts.with_lists()) == (False, 2, ("house",))
    assert set(table.sources) == set(CAPABILITIES.sources)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("key_seconds = -1", "key_seconds"),
        ('finds_by = "payments"', "finds_by"),
        ('lists_refunds = "yes"', "lists_refunds"),
        ("lists_refunds = 1", "lists_refunds"),
        ("list_proves_absence = true", "list_proves_absence needs finds_by"),
        ('currency_steps = "ISK"', "currency_steps: must be steps in minor units such as ISK:100,HUF:100"),
        ('currency_steps = "ISK:0"', "currency_steps"),
        ('currency_steps = "ISK:100,XXX:100"', "currency_steps: must be steps in minor units such as ISK:100,HUF:100"),
        ('currency_steps = "ISK:100,ISK:10"', "each currency once"),
        ('mode = "production"', "mode"),
        ('webhook_secret = "hidden"', "webhook_secret: must be 24 to 64 random bytes in base64"),
        ('webhook_secret = ","', "webhook_secret: must have a secret between its commas"),
        ("keyseconds = 1", "keyseconds: is no setting of an account with the adapter http; it may have adapter"),
        ('mode = "live"', "they need REFUND_WORKER_ENVIRONMENT=production"),
    ],
)
def test_wrong_field_is_refused_with_its_name(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(BadSettings) as refused:
        of_file(tmp_path, f"{GOOD}{line}\n")
    assert told in refused.value.message
    assert "hidden" not in refused.value.message


@pytest.mark.parametrize("field", ["api_base", "secret"])
def test_address_and_secret_belong_together(tmp_path: Path, field: str) -> None:
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith(field))
    with pytest.raises(BadSettings, match=f"{field} must be set too"):
        of_file(tmp_path, text)


def test_wrong_secret_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as refused:
        of_file(tmp_path, GOOD.replace(SECRET, "too-short-secret"))
    assert "too-short-secret" not in str(refused.value)


def test_live_account_is_allowed_in_production(tmp_path: Path) -> None:
    accounts = of_file(tmp_path, f'{GOOD}mode = "live"\n', ENVIRONMENT="production")
    assert accounts["house"].rules.live is True


def test_entry_has_an_address_and_says_what_to_subscribe_to() -> None:
    assert ENTRY.address(account("https://pay.example")) == "https://pay.example"
    assert "refund.updated" in ENTRY.events


OFFERED: dict[str, Any] = {name: value for name, value in TABLE.items() if name != "mode"} | {
    "protocol": 1,
    "live": False,
    "currency_steps": {"ISK": 100},
}


def test_account_that_promises_no_more_than_the_server_is_right() -> None:
    assert more_than_offered(account("http://h", currency_steps="ISK:100"), OFFERED) == []
    careful = HttpSettings(api_base="http://h", secret=SECRET, currency_steps="ISK:100", refund_window_seconds=86_400)
    assert more_than_offered(careful, OFFERED) == []


@pytest.mark.parametrize(
    ("offered", "told"),
    [
        ({"key_seconds": 3_600}, "key_seconds is 2.592e+06, and 3600 there"),
        ({"finds_by": "leg"}, "finds_by is payment, and leg there"),
        ({"lists_refunds": False}, "lists_refunds is true, and false there"),
        ({"list_proves_absence": False}, "list_proves_absence is true, and false there"),
        ({"reads_payments": False}, "reads_payments is true, and false there"),
        ({"live": True}, "mode is test, and live there"),
        ({"currency_steps": {"ISK": 100, "HUF": 100}}, "currency_steps lacks HUF:100"),
        ({"refund_window_seconds": 3_600}, "refund_window_seconds is not 3600 or less"),
    ],
)
def test_each_field_that_promises_too_much_is_named(offered: dict[str, Any], told: str) -> None:
    assert more_than_offered(account("http://h", currency_steps="ISK:100"), OFFERED | offered) == [told]


@pytest.mark.parametrize(
    "offered",
    [
        {"key_seconds": "a day"},
        {"key_seconds": -1},
        {"finds_by": "name"},
        {"cancels": "yes"},
        {"currency_steps": []},
        {"currency_steps": {"isk": 100}},
        {"currency_steps": {"ISK": "100"}},
        {"refund_window_seconds": True},
        {"finds_by": "nothing"},
    ],
)
def test_capabilities_that_cannot_be_read_are_refused(offered: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        settings_of(OFFERED | offered)


def test_table_of_the_settings_is_computed_once() -> None:
    assert capabilities_of(account("http://h")) is capabilities_of(account("http://h"))
