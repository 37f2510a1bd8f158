"""Dangerous settings do not start, and no secret is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from refund_worker.domain import money
from refund_worker.domain.payouts.runs import RunSchedule
from refund_worker.errors import BadSettings
from refund_worker.processors.accounts import accounts_of
from refund_worker.runtime import policy_of, run_schedule_of
from refund_worker.settings import AMOUNT_MAX, PREFIX, SECRETS, Settings, load_settings
from refund_worker.worker.runtime_dir import folder_of
from refund_worker.worker.scheduler import jobs_of

# Written in two parts, so that no scanner mistakes it for a real one.
LIVE = "sk_" + "live_0123456789"


def settings(**given: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in given.items()})


@pytest.mark.parametrize("key", [LIVE, "rk_" + "live_0123456789"])
def test_live_key_starts_only_in_production_without_a_test_server(key: str) -> None:
    with pytest.raises(BadSettings, match="live key"):
        settings(STRIPE_API_KEY=key)
    with pytest.raises(BadSettings, match="live key"):
        settings(STRIPE_API_KEY=key, ENVIRONMENT="production", STRIPE_API_BASE="http://127.0.0.1:1")
    assert settings(STRIPE_API_KEY=key, ENVIRONMENT="production").stripe_api_key is not None


@pytest.mark.parametrize("environment", ["development", "production"])
@pytest.mark.parametrize("base", [{}, {"STRIPE_API_BASE": "http://127.0.0.1:1"}])
@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("sk_org_" + "live_0123456789", "organisation"),
        ("sk_org_" + "test_0123456789", "organisation"),
        ("rk_org_" + "live_0123456789", "organisation"),
        ("pk_" + "live_0123456789", "publishable"),
        ("pk_" + "test_0123456789", "publishable"),
        ("ek_" + "live_0123456789", "ephemeral"),
        ("whsec_" + "0123456789", "STRIPE_WEBHOOK_SECRET"),
        ("0123456789", "sk_"),
        ("SK_" + "LIVE_0123456789", "sk_"),
        ("sk_", "sk_"),
        ("sk_test_0123456789 ", "blanks"),
        ("sk_test_0123 456789", "blanks"),
        ("sk_test_0123456789\n", "blanks"),
    ],
)
def test_unusable_key_is_refused_with_a_reason_and_not_shown(
    environment: str, base: dict[str, str], key: str, why: str
) -> None:
    with pytest.raises(BadSettings, match=f"^{PREFIX}STRIPE_API_KEY: .*{why}") as told:
        settings(STRIPE_API_KEY=key, ENVIRONMENT=environment, **base)
    assert "0123" not in str(told.value)


@pytest.mark.parametrize("key", ["sk_test_0123456789", "rk_test_0123456789", "sk_12345"])
def test_a_secret_or_restricted_test_key_starts_anywhere(key: str) -> None:
    for environment in ("development", "production"):
        for base in ({}, {"STRIPE_API_BASE": "http://127.0.0.1:1"}):
            assert settings(STRIPE_API_KEY=key, ENVIRONMENT=environment, **base).stripe_api_key is not None


def test_key_that_contains_live_is_never_sent_to_a_test_server() -> None:
    with pytest.raises(BadSettings, match="live key"):
        settings(
            STRIPE_API_KEY="sk_of_" + "live_0123456789",
            ENVIRONMENT="production",
            STRIPE_API_BASE="http://127.0.0.1:1",
        )


@pytest.mark.parametrize(
    "url",
    [
        "redis://10.0.0.5:6379/0",
        "redis://cache.example/0",
        "amqp://queue.example//",
    ],
)
def test_remote_broker_without_password_or_tls_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match="BROKER_URL"):
        settings(BROKER_URL=url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://:secret@10.0.0.5/0",
        "rediss://cache.example/0",
        "amqps://q.example//",
        "memory://",
        "redis://[::1]:6379/0",
        "redis://:a%3Bb@10.0.0.5/0",
    ],
)
def test_local_or_protected_broker_is_accepted(url: str) -> None:
    assert settings(BROKER_URL=url).broker_url.get_secret_value() == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379;redis://127.0.0.1:6380",
        "redis://127.0.0.1:6379/0;redis://127.0.0.1:6380/0",
        "redis://:s3/cret@10.0.0.5/0;rediss://cache.example/0",
        "amqps://u:p@a//v;amqps://u:p@b//v",
        "redis://127.0.0.1,127.0.0.2;127.0.0.3/0",
        "redis://:a;b@10.0.0.5/0",
        "redis://localhost/0;",
        "embedded;redis://localhost/0",
    ],
)
def test_list_of_brokers_is_refused(url: str) -> None:
    with pytest.raises(BadSettings, match=f"^{PREFIX}BROKER_URL: must be one address.*proxy.*%3B") as told:
        settings(BROKER_URL=url)
    assert "cret" not in str(told.value)


@pytest.mark.parametrize(("name", "value"), [("LEASE_SECONDS", "0"), ("SWEEP_SECONDS", "soon"), ("SURPRISE", "1")])
def test_wrong_value_and_unknown_name_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + name):
        settings(**{name: value})


def test_verifying_payments_is_on_until_it_is_switched_off() -> None:
    assert (policy_of(settings()).verify_payments, policy_of(settings(VERIFY_PAYMENTS="off")).verify_payments) == (
        True,
        False,
    )
    with pytest.raises(BadSettings, match=f"{PREFIX}VERIFY_PAYMENTS"):
        settings(VERIFY_PAYMENTS="no")


SECONDS = [name.upper() for name in Settings.model_fields if name.endswith("_seconds")]


@pytest.mark.parametrize("value", ["inf", "nan", "-inf", "1e300", "1_0", "", " 1", "\u0661"])
@pytest.mark.parametrize("name", [*SECONDS, "STRIPE_RATE_PER_SECOND"])
def test_seconds_are_finite_numbers(name: str, value: str) -> None:
    if not value:  # as if it were not set
        assert settings(**{name: value}) == settings()
        return
    with pytest.raises(BadSettings, match=PREFIX + name):
        settings(**{name: value})


@pytest.mark.parametrize(
    "name", ["APPROVAL_THRESHOLD_MINOR", "PAYOUT_AUTO_APPROVE_MINOR", "VELOCITY_AMOUNT_MINOR", "VELOCITY_COUNT"]
)
@pytest.mark.parametrize("value", ["1.0", "1_000", "9" * 24, "-1", "+1", "1e3", str(AMOUNT_MAX + 1), "\u0661"])
def test_integers_are_digits_only_and_no_larger_than_any_amount(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + name):
        settings(**{name: value})
    assert getattr(settings(**{name: "1000"}), name.lower()) == 1000
    assert money.AMOUNT_MAX == AMOUNT_MAX


WRONG_URLS = {
    "BROKER_URL": [
        *("redis://localhost:abc/0", "redis://[foo", "redis://localhost:0/0", "redis://localhost:99999/0", "redis:"),
        *("redis://localhost/prod", "rediss://:p@h/0x1", "redis://localhost/0/1"),
        *("redis://localhost/0;", "http://h/", "redis://:s3/cret@h", "redis://:s3#cret@h", "redis://u:12/cret@h"),
    ],
    "DATABASE_URL": [
        *("foo", "mysql://x/y", "postgresql+psycopg://u:p@h:abc/d", "postgresql+psycopg://[foo", "sqlite"),
        *("postgresql+psycopg://u:p@h:99999/d", "postgresql+psycopg://u:p@ss@h/d", "postgresql+psycopg2://u:p@h/d"),
    ],
    "STRIPE_API_BASE": ["http://h:99999", "http://h:abc", "http://[foo", "ftp://h", "http://", "http://h /x"],
    "NOTIFY_URL": ["http://h:99999", "http://[foo", "https://user:pass@h/"],
    "STRIPE_WEBHOOK_SECRET": [",", " , ", "sk_test_/cret", "whsec_a, we_1/cret", "pk_test_1", "rk_test_1,whsec_a"],
    "NOTIFY_SECRET": ["abc", "whsec_", "!" * 40],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in WRONG_URLS for value in WRONG_URLS[name]])
def test_unusable_value_is_refused_by_name_and_not_repeated(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=f"^{PREFIX}{name}: must ") as told:
        settings(**{name: value})
    assert "/cret" not in str(told.value)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///refunds.db",
        "sqlite:////var/x@y/refunds.db",
        "sqlite://",
        "postgresql://h/d",
        "postgresql+psycopg:///d",
        "postgresql+psycopg://u:s3/cr#e?t@h:5432/d",
        "postgresql+psycopg://u:p@[::1]:5432/d?sslmode=require",
    ],
)
def test_database_url_is_read_as_sqlalchemy_reads_it(url: str) -> None:
    assert settings(DATABASE_URL=url).database_url.get_secret_value() == url
    folder_of(url)


def test_the_folder_of_a_database_does_not_depend_on_its_password() -> None:
    folders = {
        folder_of(f"postgresql+psycopg://{who}db.example:5432/refunds") for who in ("", "u@", "u:p@", "u:a/b#c?d@")
    }
    assert len(folders) == 1


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_is_as_if_it_were_not_set(name: str) -> None:
    assert settings(**{name.upper(): ""}) == settings()


def test_empty_variable_does_not_hide_its_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk_test_fromAFile\n")
    file = {"STRIPE_API_KEY_FILE": str(tmp_path / "secret")}
    for given in ({"STRIPE_API_KEY": "", **file}, {**file, "STRIPE_API_KEY": ""}):
        key = settings(**given).stripe_api_key
        assert key is not None
        assert key.get_secret_value() == "sk_test_fromAFile"
    with pytest.raises(BadSettings, match="are both set"):
        settings(STRIPE_API_KEY="sk_test_other", **file)


@pytest.mark.parametrize("name", SECRETS)
def test_empty_name_of_a_secret_file_counts_as_unset(name: str) -> None:
    empty = {f"{name.upper()}_FILE": ""}
    assert settings(**empty) == settings()
    assert settings(STRIPE_API_KEY="sk_test_x", STRIPE_API_KEY_FILE="") == settings(STRIPE_API_KEY="sk_test_x")


def test_secret_and_its_file_in_other_capitals_are_both_set(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk_test_fromAFile\n")
    both = {"refund_worker_stripe_api_key": "sk_test_x", f"{PREFIX}STRIPE_API_KEY_FILE": str(tmp_path / "secret")}
    with pytest.raises(BadSettings, match="are both set"):
        load_settings(both)


@pytest.mark.parametrize("name", ["DATABASE_URL", "STRIPE_API_KEY"])
def test_one_setting_in_two_spellings_is_refused_with_both_names(name: str) -> None:
    first = PREFIX + name
    second = first.lower()
    for one, other in ((first, second), (second, first)):
        with pytest.raises(BadSettings, match=f"^{one} and {other} are both set: keep one$"):
            load_settings({one: "sqlite:///a.db", other: "sqlite:///b.db"})


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_empty_secret_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "secret").write_text(content)
    for name in ("STRIPE_API_KEY_FILE", "DATABASE_URL_FILE", "NOTIFY_SECRET_FILE"):
        with pytest.raises(BadSettings, match=f"{PREFIX}{name}: the file is empty"):
            settings(**{name: str(tmp_path / "secret")})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"DATABASE_URL": "postgresql+psycopg://u:s3/cr#e?t@h/d"}, "postgresql+psycopg://u:***@h/d"),
        ({"DATABASE_URL": "postgresql+psycopg://u:s3://cret@h/d"}, "postgresql+psycopg://u:***@h/d"),
        (
            {"DATABASE_URL": "postgresql+psycopg:///d?host=h&password=s3cret"},
            "postgresql+psycopg:///d?host=h&password=***",
        ),
        ({"DATABASE_URL": "postgresql+psycopg://h/d?sslpassword=s3cret"}, "postgresql+psycopg://h/d?sslpassword=***"),
        ({"BROKER_URL": "redis://localhost/0?password=s3cret"}, "redis://localhost/0?password=***"),
        ({"BROKER_URL": "amqps://u:s3cret@a//v"}, "amqps://u:***@a//v"),
        ({"STRIPE_API_BASE": "http://h/?token=s3cret"}, "http://h/?token=***"),
    ],
)
def test_url_is_shown_without_its_passwords(given: dict[str, str], shown: str) -> None:
    (name,) = given
    made = settings(**given)
    assert made.redacted()[PREFIX + name] == shown
    assert "s3" not in repr(made).replace("token=s3cret", "")


def test_no_secret_is_in_a_repr_an_error_or_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_fromAFile\n")
    made = settings(
        STRIPE_API_KEY="sk_test_hidden",
        STRIPE_WEBHOOK_SECRET_FILE=str(tmp_path / "secret"),
        DATABASE_URL="postgresql+psycopg://app:hidden@db/refunds",
        BROKER_URL="redis://:hidden@127.0.0.1/0",
    )
    assert accounts_of(made)["stripe"].settings.webhook_secrets == ("whsec_fromAFile",)
    shown = repr(made) + str(made) + str(made.redacted())
    assert "hidden" not in shown.replace("(set, hidden)", "")
    assert "fromAFile" not in shown
    assert "app:***@db" in shown
    with pytest.raises(BadSettings) as told:
        settings(STRIPE_API_KEY=LIVE)
    assert LIVE not in str(told.value)


@pytest.mark.parametrize(
    ("given", "networks"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/8,fd00::/8", "10.0.0.0/8,fd00::/8"),
        (" 10.0.0.0/8 ,\t::1 ", "10.0.0.0/8,::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ],
)
def test_trusted_proxies_are_networks_and_addresses(given: str, networks: str) -> None:
    settings = load_settings({"REFUND_WORKER_TRUSTED_PROXIES": given})
    assert ",".join(map(str, settings.trusted_networks)) == networks
    assert settings.redacted()["REFUND_WORKER_TRUSTED_PROXIES"] == networks


def test_no_proxy_is_trusted_by_default() -> None:
    assert load_settings({}).trusted_networks == ()
    assert load_settings({"REFUND_WORKER_TRUSTED_PROXIES": ""}).trusted_networks == ()


@pytest.mark.parametrize(
    ("given", "part"),
    [("*", 1), ("proxy.internal", 1), ("10.0.0.0/33", 1), ("10.0.0.1/8", 1), ("::1,", 2), ("::1,,::2", 2), (" ", 1),
     ("127.0.0.1:80", 1), ("[::1]", 1), ("10.0.0.0/8 192.0.2.1", 1), ("010.0.0.1", 1)],
)  # fmt: skip
def test_invalid_network_is_refused_by_its_position(given: str, part: int) -> None:
    with pytest.raises(BadSettings, match=rf"^REFUND_WORKER_TRUSTED_PROXIES: entry {part} is no") as caught:
        load_settings({"REFUND_WORKER_TRUSTED_PROXIES": given})
    assert given.strip() == "" or given not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "8000"),
        ("SERVICE_PORT_HTTP", "8000"),
        ("PORT", "tcp://10.0.0.1:8000"),
        ("PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("WEB_SERVICE_HOST", "10.0.0.1"),
        ("WEB_PORT", "udp://10.0.0.1:53"),
        ("WEB_PORT_53_UDP_PROTO", "udp"),
        ("DATABASE_URL_SERVICE_HOST", "10.0.0.1"),
    ],
)
def test_variables_of_kubernetes_services_are_ignored(name: str, value: str) -> None:
    assert settings(**{name: value}) == settings()


@pytest.mark.parametrize(
    ("name", "value"), [("PORT", "8000"), ("WEB_PORT", ""), ("SERVICE", "x"), ("HOST", "10.0.0.1")]
)
def test_a_name_that_kubernetes_does_not_make_is_still_refused(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match="is not a setting"):
        settings(**{name: value})


def test_short_postgres_address_means_our_driver() -> None:
    url = settings(DATABASE_URL="postgres://user:pass@host:5432/name?sslmode=require").database_url
    assert url.get_secret_value() == "postgresql+psycopg://user:pass@host:5432/name?sslmode=require"


@pytest.mark.parametrize("name", ["refunds", "_r2", "a" * 63])
def test_a_schema_is_a_plain_name(name: str) -> None:
    assert settings(DATABASE_URL="postgresql://db/x", DATABASE_SCHEMA=name).database_schema == name


def test_sqlite_has_no_schemas() -> None:
    assert settings(DATABASE_SCHEMA="public").database_schema == "public"
    with pytest.raises(BadSettings, match=r"DATABASE_SCHEMA is for Postgres: .* remove it"):
        settings(DATABASE_SCHEMA="refunds")


def test_a_search_path_in_the_url_names_the_setting_instead() -> None:
    later = "-c+statement_timeout=5s+-c+search_path=x"
    for options in ("-csearch_path%3Drefunds", "-c%20search_path=x", later, "-c%20SEARCH_PATH=x", "--search-path=x"):
        with pytest.raises(BadSettings, match=r"no search_path .* set REFUND_WORKER_DATABASE_SCHEMA"):
            settings(DATABASE_URL=f"postgresql://db/x?options={options}")
    url = "postgresql://db/x?options=-c%20geqo%3Doff"
    assert settings(DATABASE_URL=url).database_url.get_secret_value() == url


@pytest.mark.parametrize("hosts", ["h1:5432,h2:5432", "h1,h2", "[::1]:5432,h2:1"])
def test_several_postgres_hosts_are_taken(hosts: str) -> None:
    url = f"postgresql+psycopg://me:a,b%40@{hosts}/db"
    assert settings(DATABASE_URL=url).database_url.get_secret_value() == url


@pytest.mark.parametrize("hosts", ["h1:5432,h2:x", "h1:70000,h2", "h1,,h2", "h1,"])
def test_each_of_several_postgres_hosts_is_checked(hosts: str) -> None:
    with pytest.raises(BadSettings, match="DATABASE_URL: must have a host, and a port"):
        settings(DATABASE_URL=f"postgresql://me:secret@{hosts}/db")


@pytest.mark.parametrize("name", ["Refunds", "1a", "a-b", 'a"b', "a" * 64, "pg_x", "information_schema", "a b"])
def test_a_schema_that_needs_quotation_marks_is_refused(name: str) -> None:
    with pytest.raises(BadSettings, match=f"{PREFIX}DATABASE_SCHEMA: must be"):
        settings(DATABASE_SCHEMA=name)


@pytest.mark.parametrize("text", ["-a", "a b", "a" * 51, "ä", "a*"])
def test_a_broker_prefix_is_short_and_plain(text: str) -> None:
    assert settings(BROKER_PREFIX="prod.refunds:").broker_prefix == "prod.refunds:"
    with pytest.raises(BadSettings, match=f"{PREFIX}BROKER_PREFIX: must be"):
        settings(BROKER_PREFIX=text)


@pytest.mark.parametrize(
    "template",
    [
        "https://dashboard.example/x",
        "ftp://h/{id}",
        "https://{id}/",
        "https://h/{id}/{name}",
        "javascript:{id}",
        "{id}",
    ],
)
def test_a_link_without_a_place_for_the_id_is_refused(template: str) -> None:
    good = "https://dashboard.example/payments/{id}?a={id}"
    assert settings(PROCESSOR_URL_TEMPLATE=good).processor_url_template == good
    for name in ("PROCESSOR_URL_TEMPLATE", "CUSTOMER_URL_TEMPLATE"):
        with pytest.raises(BadSettings, match=f"{PREFIX}{name}: must"):
            settings(**{name: template})


def test_levels_and_formats_of_the_log_are_taken_in_any_case() -> None:
    assert (settings(LOG_LEVEL="WARNING").log_level, settings(LOG_FORMAT="Text").log_format) == ("warning", "text")
    with pytest.raises(BadSettings, match="LOG_LEVEL"):
        settings(LOG_LEVEL="loud")


@pytest.mark.parametrize(
    ("value", "schedule"),
    [
        ("", RunSchedule()),
        ("off", RunSchedule()),
        ("daily", RunSchedule("daily")),
        ("weekly:mon", RunSchedule("weekly", 0)),
        ("Weekly:Sun", RunSchedule("weekly", 6)),
        ("monthly:1", RunSchedule("monthly", 1)),
        ("monthly:28", RunSchedule("monthly", 28)),
    ],
)
def test_payout_schedule_is_read(value: str, schedule: RunSchedule) -> None:
    assert run_schedule_of(settings(PAYOUT_SCHEDULE=value)) == schedule
    at_once = run_schedule_of(settings(PAYOUT_SCHEDULE=value, PAYOUT_AUTO_APPROVE_MINOR="5"))
    assert at_once == replace(schedule, auto_approve_minor=5)


@pytest.mark.parametrize("value", ["hourly", "weekly", "weekly:1", "daily:1", "monthly:0", "monthly:29", "monthly:01"])
def test_other_payout_schedule_is_refused(value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + "PAYOUT_SCHEDULE"):
        settings(PAYOUT_SCHEDULE=value)


def test_scheduler_drives_payout_runs_and_follows_the_schedule() -> None:
    assert "payout-runs" in {job.name for job in jobs_of(settings())}
    assert "payout-schedule" not in {job.name for job in jobs_of(settings())}
    assert "payout-schedule" in {job.name for job in jobs_of(settings(PAYOUT_SCHEDULE="daily"))}


@pytest.mark.parametrize("name", ["PAYOUT_MINIMUM", "PAYOUT_MAXIMUM"])
@pytest.mark.parametrize("value", ["XXX:5", "eur:5", "EUR", "EUR:0", "EUR:5,EUR:6", "USD:1,ZZZ:5"])
def test_amount_of_no_currency_is_refused(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=f"^{PREFIX}{name}: entry {len(value.split(','))} is no amount of a currency"):
        settings(**{name: value})


def test_payout_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(BadSettings) as refused:
        settings(PAYOUT_MINIMUM="USD:1,EUR:10", PAYOUT_MAXIMUM="EUR:9,USD:5")
    what = f"{PREFIX}PAYOUT_MINIMUM is more than {PREFIX}PAYOUT_MAXIMUM in EUR: no payout could be made"
    assert refused.value.message == what
    for maximum in ("EUR:10", "USD:5", ""):
        assert settings(PAYOUT_MINIMUM="EUR:10", PAYOUT_MAXIMUM=maximum).payout_minimum == "EUR:10"


@pytest.mark.parametrize(
    "given",
    [
        {"PAYMENTS_FROM_WEBHOOKS": "on"},
        {"PAYMENTS_FROM_WEBHOOKS": "on", "PAYMENTS_CUSTOMER_KEY": "user"},
        {"PAYMENTS_CREDITS_KEY": "credits", "PAYMENTS_CREDITS_PER_MAJOR": "100"},
        {"NOTIFY_URL": "https://shop.example/hook"},
        {"PAYOUT_MINIMUM": "EUR:10", "PAYOUT_MAXIMUM": "EUR:5"},
        {"DATABASE_SCHEMA": "refunds"},
    ],
)
def test_settings_that_do_not_fit_together_are_named_as_they_are_set(given: dict[str, str]) -> None:
    with pytest.raises(BadSettings) as refused:
        settings(**given)
    assert refused.value.message.startswith(tuple(PREFIX + name for name in given))
