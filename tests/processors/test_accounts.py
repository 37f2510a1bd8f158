"""The accounts of an installation: PROCESSORS_FILE, the short form, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from refund_worker.errors import BadSettings
from refund_worker.processors import registry
from refund_worker.processors.accounts import CONNECTED_MAX, Accounts, accounts_of
from refund_worker.settings import PREFIX, Settings, load_settings

TWO = """
["stripe"]
api_key = "sk_test_one"
webhook_secret = "whsec_one,whsec_two"

["stripe:old"]
api_key_file = "{key}"
rate_per_second = 3
refunds = "off"
"""


def load(**values: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in values.items()})


def of_file(folder: Path, text: str, **values: str) -> Accounts:
    """Return the accounts of a file with this text."""
    file = folder / "processors.toml"
    file.write_text(text, "utf-8")
    return accounts_of(load(PROCESSORS_FILE=str(file), **values))


@pytest.fixture
def two(tmp_path: Path) -> Accounts:
    (tmp_path / "key").write_text("sk_test_two\n", "utf-8")
    return of_file(tmp_path, TWO.format(key=tmp_path / "key"))


def test_each_table_is_an_account_and_manual_is_always_there(two: Accounts) -> None:
    assert list(two) == ["stripe", "stripe:old", "manual"]
    assert two.of_processor("stripe") == ("stripe", "stripe:old")
    assert {name: made.name for name, made in two.make_processors(5).items()} == {name: name for name in two}


def test_each_account_has_its_own_settings(two: Accounts) -> None:
    assert two.rates == {"stripe": 25, "stripe:old": 3, "manual": 0}
    assert two.lowest_rate == 3
    assert two["stripe"].settings.webhook_secrets == ("whsec_one", "whsec_two")
    assert two["stripe:old"].settings.webhook_secrets == ()
    assert two["stripe:old"].settings.refunds == "off"


def test_decisions_follow_the_accounts_own_settings(tmp_path: Path) -> None:
    own = '["stripe"]\nkey_life_seconds = 600\nquiet_seconds = 90\nrefunds = "off"\n["stripe:new"]'
    rules = of_file(tmp_path, own).rules
    assert (rules["stripe"].key_use_seconds, rules["stripe"].quiet_seconds, rules["stripe"].refunds_on) == (
        600,
        90,
        False,
    )
    new = rules["stripe:new"]
    assert (new.key_use_seconds, new.quiet_seconds, new.refunds_on) == (None, None, True)


def test_worker_gets_the_secrets_that_were_read_from_files(two: Accounts, tmp_path: Path) -> None:
    file = tmp_path / "processors.toml"
    settings = load(PROCESSORS_FILE=str(file))
    (tmp_path / "key").unlink()
    assert settings.processors is not None
    again = accounts_of(load(PROCESSORS=settings.processors.get_secret_value()))
    assert again == two


def test_short_form_is_one_account_named_stripe() -> None:
    accounts = accounts_of(load(STRIPE_API_KEY="sk_test_1", STRIPE_RATE_PER_SECOND="7"))
    assert list(accounts) == ["stripe", "manual"]
    assert accounts["stripe"].has_access
    assert accounts.rates["stripe"] == 7
    assert accounts["stripe"].setting("api_key") == "REFUND_WORKER_STRIPE_API_KEY"


def test_stripe_is_there_without_access_where_nothing_is_set() -> None:
    accounts = accounts_of(load())
    assert not accounts["stripe"].has_access
    assert set(accounts.make_processors(5)) == {"manual"}


def test_file_without_stripe_has_no_account_of_that_name(tmp_path: Path) -> None:
    assert "stripe" not in of_file(tmp_path, '["acme"]\nadapter = "manual"')


def test_short_form_and_file_are_joined(tmp_path: Path) -> None:
    accounts = of_file(tmp_path, '["stripe:old"]\napi_key = "sk_test_2"', STRIPE_API_KEY="sk_test_1")
    assert list(accounts) == ["stripe", "stripe:old", "manual"]


def test_default_rates_are_those_of_the_capability_tables() -> None:
    rates = accounts_of(load()).rates
    assert rates == {
        entry.name: entry.capabilities.rate_per_second for entry in registry.entries() if entry.name in rates
    }
    assert Settings.model_fields["stripe_rate_per_second"].default == rates["stripe"]


@pytest.mark.parametrize(("key", "live"), [("sk_test_1", False), ("sk_1", None)])
def test_mode_of_the_objects_follows_from_the_key(key: str, live: bool | None) -> None:
    assert accounts_of(load(STRIPE_API_KEY=key))["stripe"].rules.live is live


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the file is empty"),
        ("# nothing yet", "has no table"),
        ("api_key = 'sk_test_1'", "api_key is in no table"),
        ("[stripe\n[other]", "is no valid TOML at line 1, column 8"),
        ('["stripe"]\n["stripe"]', "is no valid TOML"),
        ('["Stripe"]', "an account is named PROCESSOR or PROCESSOR:LABEL"),
        ('["all"]\nadapter = "manual"', "an account is named"),
        ('["stripe:a:b"]', "an account is named"),
        ('["acme"]', "there is no adapter acme. Set adapter to one of"),
        ('["acme"]\nadapter = "no.such.module"', "No module named"),
        ('["acme"]\nadapter = 7', "adapter: must be one of"),
        ('["stripe"]\napi_kee = "sk_test_1"', "api_kee: is no setting of an account with the adapter stripe"),
        ('["stripe"]\napi_key = "pk_test_hidden"', "api_key: "),
        ('["stripe"]\napi_key = ["sk_test_hidden"]', "api_key: must be a text, a number, true or false"),
        ('["stripe"]\napi_key = "sk_test_hidden"\napi_key_file = "x"', "api_key and api_key_file are both set"),
        ('["stripe"]\napi_key_file = "/no/such/file"', "api_key_file: cannot read the file"),
        ('["stripe"]\napi_key = "sk_live_hidden"', "they need REFUND_WORKER_ENVIRONMENT=production"),
        ('["stripe"]\napi_key = "sk_test_hidden', "is no valid TOML"),
        ('["paypal"]\nclient_id = "hidden"', 'PROCESSORS_FILE, ["paypal"]: client_secret must be set too'),
        ('["stripe"]\nrate_per_second = -1', "rate_per_second: "),
        ('["stripe"]\nrefunds = "maybe"', "refunds: "),
        ('["stripe"]\napi_base = "ftp://x"', "api_base: must be an http:// or https:// URL"),
    ],
)
def test_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(BadSettings) as caught:
        of_file(tmp_path, text)
    assert told in caught.value.message
    assert "PROCESSORS_FILE" in caught.value.message
    assert "hidden" not in caught.value.message


def test_live_credentials_go_to_no_test_server(tmp_path: Path) -> None:
    text = '["stripe"]\napi_key = "sk_live_1"\napi_base = "https://127.0.0.1"'
    with pytest.raises(BadSettings, match="live credentials are never sent there"):
        of_file(tmp_path, text, ENVIRONMENT="production")


def test_one_account_is_not_described_twice(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="describe one account: keep one"):
        of_file(tmp_path, '["stripe"]\napi_key = "sk_test_2"', STRIPE_API_KEY="sk_test_1")


def test_server_in_plain_text_is_dangerous_for_every_account(tmp_path: Path) -> None:
    text = '["stripe:old"]\napi_base = "http://elsewhere.example"'
    with pytest.raises(BadSettings, match=r'\["stripe:old"\], api_base sends the key to elsewhere.example'):
        of_file(tmp_path, text, ENVIRONMENT="production", STRICT="on")


def test_any_number_of_connected_accounts_has_adapters(two: Accounts) -> None:
    adapters = two.make_processors(5)
    first = adapters["stripe/acct_0"]
    for number in range(1, CONNECTED_MAX):
        assert adapters[f"stripe/acct_{number}"].name == f"stripe/acct_{number}"
    assert adapters["stripe/acct_0"] is first  # and used last
    name = f"stripe:old/acct_{CONNECTED_MAX}"
    assert adapters[name].name == name
    assert adapters["stripe/acct_0"] is first
    assert len(adapters) == len(two)  # they are no accounts of ours
    with pytest.raises(KeyError):
        adapters["manual/acct_1"]
