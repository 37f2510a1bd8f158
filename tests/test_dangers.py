"""What is dangerous in production is warned of at every start and in `doctor`, and refused with STRICT=on."""

from __future__ import annotations

import logging

import pytest

from refund_worker.dangers import dangers_of, is_this_machine, warn_of_dangers
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, Settings, load_settings
from tests.cli.conftest import Cli, cli

__all__ = ["cli"]
POSTGRES = "postgresql+psycopg://u:secret@"
NOTIFY = {"NOTIFY_SECRET": "whsec_" + "a" * 40}


def settings(**given: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in ({"ENVIRONMENT": "production"} | given).items()})


DANGEROUS = [
    {"NOTIFY_URL": "http://backend.example/hook"} | NOTIFY,
    {"DATABASE_URL": POSTGRES + "db.example/x"},
    {"DATABASE_URL": POSTGRES + "db.example:6432/x?sslmode=prefer"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=disable"},
    {"DATABASE_URL": POSTGRES + "10.0.0.5/x?sslmode=allow"},
    {"DATABASE_URL": POSTGRES + "[2001:db8::1]:5432/x"},
    {"DATABASE_URL": POSTGRES + "/x?host=db.example"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1/x?hostaddr=10.0.0.5"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1.evil.example/x"},
    {"BROKER_URL": "redis://:secret@cache.example/0"},
    {"BROKER_URL": "amqp://u:secret@queue.example//"},
    {"STRIPE_API_BASE": "http://stripe.example"},
]
SAFE = [
    {},
    {"NOTIFY_URL": "https://backend.example/hook"} | NOTIFY,
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=verify-full"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=verify-ca"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=require"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1:5433/x"},
    {"DATABASE_URL": POSTGRES + "[::1]/x"},
    {"DATABASE_URL": POSTGRES + "localhost/x"},
    {"DATABASE_URL": POSTGRES + "/x?host=/var/run/postgresql"},
    {"BROKER_URL": "rediss://:secret@cache.example/0"},
    {"BROKER_URL": "amqps://u:secret@queue.example//"},
    {"BROKER_URL": "redis://127.0.0.1/0"},
    {"STRIPE_API_BASE": "http://127.0.0.1:12111"},
]


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSSLMODE", "PGHOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("given", DANGEROUS, ids=str)
def test_what_is_dangerous_in_production_is_warned_of_and_refused_when_strict(
    given: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    name = next(iter(given))
    found = settings(**given)
    with caplog.at_level(logging.WARNING):
        warn_of_dangers(found, logging.getLogger("refund_worker"))
    assert [PREFIX + name in record.getMessage() for record in caplog.records] == [True]
    assert "secret" not in caplog.text
    with pytest.raises(BadSettings, match=name) as refused:
        settings(**given, STRICT="on")
    assert "STRICT" in refused.value.message
    assert "secret" not in refused.value.message
    assert dangers_of(settings(**given, ENVIRONMENT="development", STRICT="on")) == ()


@pytest.mark.parametrize("given", SAFE, ids=str)
def test_what_is_protected_or_here_starts_when_strict(given: dict[str, str]) -> None:
    assert dangers_of(settings(**given, STRICT="on")) == ()


def test_what_the_url_does_not_say_libpq_takes_from_its_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    assert [danger.setting for danger in dangers_of(settings(DATABASE_URL="postgresql://u@/x"))] == ["DATABASE_URL"]
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert dangers_of(settings(DATABASE_URL="postgresql://u@/x")) == ()


@pytest.mark.parametrize("value", ["true", "1", "ON", "yes"])
def test_strict_is_on_or_off_and_nothing_else(value: str) -> None:
    with pytest.raises(BadSettings, match="STRICT"):
        settings(STRICT=value)
    assert settings().strict == "off"


def test_hosts_of_this_machine() -> None:
    assert all(
        is_this_machine(host) for host in ("", "localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]")
    )
    assert not any(is_this_machine(host) for host in ("localhost.evil", "10.0.0.1", "0.0.0.0", "::", "127.0.0.1.x"))


def test_doctor_tells_of_dangers_and_of_what_approval_covers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ({"ENVIRONMENT": "production", "NOTIFY_URL": "http://backend.example/"} | NOTIFY).items():
        monkeypatch.setenv(PREFIX + name, value)
    monkeypatch.setenv(PREFIX + "APPROVAL_THRESHOLD_MINOR", "5000")
    told = {row["check"]: row for row in cli("doctor", "-o", "json").json["data"]}
    assert told["production"]["verdict"] == "warn"
    assert "NOTIFY_URL" in told["production"]["found"]
    assert "https://" in told["production"]["do"]
    assert "5000" in told["approval"]["found"]
    assert "not refunds to a balance, and not corrections" in told["approval"]["found"]


def test_every_long_running_process_warns_as_it_starts() -> None:
    from refund_worker.web import run as web
    from refund_worker.worker import run as worker

    for start in (web.run_web, worker.run_worker, worker.run_scheduler):
        assert "warn_of_dangers" in start.__code__.co_names, start.__name__
