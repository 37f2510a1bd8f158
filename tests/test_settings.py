"""Settings that would be dangerous do not start, and no secret is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, Settings, load_settings

# Written in two parts, so that nobody's scanner takes it for a real one.
LIVE = "sk_" + "live_0123456789"


def settings(**given: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in given.items()})


@pytest.mark.parametrize("key", [LIVE, "rk_" + "live_0123456789"])
def test_a_live_key_starts_only_in_production_and_is_never_sent_to_a_test_server(key: str) -> None:
    with pytest.raises(BadSettings, match="live key"):
        settings(STRIPE_API_KEY=key)
    with pytest.raises(BadSettings, match="live key"):
        settings(STRIPE_API_KEY=key, ENVIRONMENT="production", STRIPE_API_BASE="http://127.0.0.1:1")
    assert settings(STRIPE_API_KEY=key, ENVIRONMENT="production").stripe_api_key is not None


@pytest.mark.parametrize("url", ["redis://10.0.0.5:6379/0", "redis://cache.example/0", "amqp://queue.example//"])
def test_a_broker_elsewhere_without_password_or_tls_is_refused_at_start(url: str) -> None:
    with pytest.raises(BadSettings, match="BROKER_URL"):
        settings(BROKER_URL=url)


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:6379/0", "redis://:secret@10.0.0.5/0", "rediss://cache.example/0", "amqps://q.example//"]
)
def test_a_broker_here_or_protected_is_taken(url: str) -> None:
    assert settings(BROKER_URL=url).broker_url.get_secret_value() == url


@pytest.mark.parametrize(("name", "value"), [("LEASE_SECONDS", "0"), ("SWEEP_SECONDS", "soon"), ("SURPRISE", "1")])
def test_a_wrong_value_and_an_unknown_name_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + name):
        settings(**{name: value})


def test_no_secret_is_in_a_repr_an_error_or_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("whsec_fromAFile\n")
    made = settings(
        STRIPE_API_KEY="sk_test_hidden",
        STRIPE_WEBHOOK_SECRET_FILE=str(tmp_path / "secret"),
        DATABASE_URL="postgresql+psycopg://app:hidden@db/refunds",
        BROKER_URL="redis://:hidden@127.0.0.1/0",
    )
    assert made.webhook_secrets == ("whsec_fromAFile",)
    shown = repr(made) + str(made) + str(made.redacted())
    assert "hidden" not in shown.replace("(set, hidden)", "")
    assert "fromAFile" not in shown
    assert "app:***@db" in shown
    with pytest.raises(BadSettings) as told:
        settings(STRIPE_API_KEY=LIVE)
    assert LIVE not in str(told.value)


@pytest.mark.parametrize(
    "url",
    ["redis://127.0.0.1:6379/0;redis://cache.example/0", "redis://:p@one.example;redis://two.example", "redis://;x"],
)
def test_no_part_of_a_list_of_brokers_may_be_elsewhere_and_open(url: str) -> None:
    with pytest.raises(BadSettings, match="BROKER_URL"):
        settings(BROKER_URL=url)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BROKER_URL", "redis://localhost:abc/0"),
        ("BROKER_URL", "redis://[foo"),
        ("BROKER_URL", "kafka://localhost"),
        ("STRIPE_API_BASE", "http://h:99999"),
        ("STRIPE_API_BASE", "ftp://h"),
        ("DATABASE_URL", "foo"),
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "postgresql+psycopg://u:p@h:abc/d"),
        ("DATABASE_URL", "postgresql+psycopg://[foo"),
        ("VELOCITY_WINDOW_SECONDS", "inf"),
        ("VELOCITY_WINDOW_SECONDS", "nan"),
        ("LEASE_SECONDS", "1e3"),
        ("QUIET_SECONDS", "\u0665"),
        ("NOTIFY_SECRET", "abc"),
        ("STRIPE_WEBHOOK_SECRET", " , "),
        ("APPROVAL_THRESHOLD_MINOR", "1.0"),
        ("APPROVAL_THRESHOLD_MINOR", "1_000"),
        ("APPROVAL_THRESHOLD_MINOR", "9" * 24),
        ("VELOCITY_COUNT", "-1"),
    ],
)
def test_a_value_that_can_not_work_stops_the_start_and_is_named_and_not_quoted(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=PREFIX + name) as told:
        settings(**{name: value})
    assert value.strip(" ,") == "" or len(value) < 4 or value not in str(told.value)


def test_an_empty_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(BadSettings, match="STRIPE_API_KEY_FILE"):
        settings(STRIPE_API_KEY_FILE=str(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("DATABASE_URL", "postgresql+psycopg://u:s3/cret@h/d"),
        ("DATABASE_URL", "postgresql+psycopg://u:s3#cret@h/d"),
        ("DATABASE_URL", "postgresql+psycopg://u:s3?cret@h/d"),
        ("DATABASE_URL", "postgresql+psycopg://u@h/d?password=s3cret"),
        ("DATABASE_URL", "postgresql+psycopg://u@h/d?sslmode=require&sslpassword=s3cret"),
        ("BROKER_URL", "redis://127.0.0.1/0?password=s3cret"),
        ("BROKER_URL", "redis://:first@127.0.0.1;redis://:s3cret@127.0.0.1"),
    ],
)
def test_no_password_is_shown_wherever_in_its_url_it_stands(name: str, url: str) -> None:
    shown = repr(settings(**{name: url})) + str(settings(**{name: url}).redacted())
    assert "cret" not in shown.replace("Secret", "").replace("secret", "")
