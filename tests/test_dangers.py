"""Dangerous settings in production: a warning at every start and in `doctor`, a refusal with STRICT=on."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from threading import Timer

import pytest

from refund_worker.dangers import dangers_of, is_this_machine, warn_of_dangers
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, Settings, load_settings
from tests.support.migrated import migrated_sqlite_url, sqlite_template

__all__ = ["migrated_sqlite_url", "sqlite_template"]
POSTGRES = "postgresql+psycopg://u:secret@"
NOTIFY = {"NOTIFY_SECRET": "whsec_" + "a" * 40}


def settings(**given: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in ({"ENVIRONMENT": "production"} | given).items()})


DANGEROUS = [
    {"NOTIFY_URL": "http://backend.example/hook"} | NOTIFY,
    {"NOTIFY_URL": "HTTP://backend.example/hook"} | NOTIFY,
    {"NOTIFY_URL": "Http://backend.example/hook"} | NOTIFY,
    {"DATABASE_URL": POSTGRES + "db.example/x"},
    {"DATABASE_URL": POSTGRES + "db.example:6432/x?sslmode=prefer"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=disable"},
    {"DATABASE_URL": POSTGRES + "10.0.0.5/x?sslmode=allow"},
    {"DATABASE_URL": "postgresql://u:secret/with?all#of:it@db.example/x"},
    {"DATABASE_URL": POSTGRES + "[2001:db8::1]:5432/x"},
    {"DATABASE_URL": POSTGRES + "/x?host=db.example"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1/x?hostaddr=10.0.0.5"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1.evil.example/x"},
    {"DATABASE_URL": POSTGRES + "/x?host=db.example:5432&host=localhost:5433"},
    {"DATABASE_URL": POSTGRES + "/x?host=localhost&host=db.example"},
    {"DATABASE_URL": POSTGRES + "/x?host=localhost,db.example"},
    {"DATABASE_URL": POSTGRES + "localhost/x?%68ost=db.example"},
    {"DATABASE_URL": POSTGRES + "127.0.0.1/x?hostaddr=10.0.0.5&hostaddr=127.0.0.1"},
    {"DATABASE_URL": POSTGRES + "/x?host=localhost,db.example&hostaddr=127.0.0.1,"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=disable&sslmode=require"},
    {"DATABASE_URL": POSTGRES + "db.example/x?sslmode=require&sslmode=disable"},
    {"DATABASE_URL": POSTGRES + "/x?service=prod"},
    {"DATABASE_URL": POSTGRES + "localhost/x?service=prod"},
    {"DATABASE_URL": POSTGRES + "/x?conninfo=host%3Ddb.example"},
    {"BROKER_URL": "redis://:secret@cache.example/0"},
    {"BROKER_URL": "redis:///0?host=cache.example"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_cert_reqs=none"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_cert_reqs=CERT_NONE"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_cert_reqs=required&ssl_cert_reqs=None"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_%63ert_reqs=n%6Fne"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_check_hostname=False"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_check_hostname=0"},
    {"BROKER_URL": "amqps://u:secret@queue.example//?ssl_cert_reqs=none"},
    {"BROKER_URL": "amqps://u:secret@queue.example//?ssl_check_hostname=false"},
    {"TRUSTED_PROXIES": "0.0.0.0/0"},
    {"TRUSTED_PROXIES": "10.0.0.0/8,::/0"},
    {"TRUSTED_PROXIES": "0.0.0.0/1,128.0.0.0/1"},
    {"TRUSTED_PROXIES": "96.0.0.0/4"},
    {"TRUSTED_PROXIES": "104.0.0.0/8,105.0.0.0/8"},
    {"TRUSTED_PROXIES": "2000::/3"},
    {"TRUSTED_PROXIES": "f000::/4"},
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
    {"DATABASE_URL": POSTGRES + "db.example/x?hostaddr=127.0.0.1"},
    {"DATABASE_URL": POSTGRES + "/x?host=localhost:5432&host=127.0.0.1:5433"},
    {"DATABASE_URL": POSTGRES + "/x?service=prod&sslmode=verify-full"},
    {"DATABASE_URL": POSTGRES + "/x?service=prod&hostaddr=127.0.0.1"},
    {"BROKER_URL": "rediss://:secret@cache.example/0?ssl_cert_reqs=CERT_REQUIRED&ssl_check_hostname=True"},
    {"BROKER_URL": "rediss://127.0.0.1/0?ssl_cert_reqs=none"},
    {"BROKER_URL": "amqps://u:secret@queue.example//?ssl_cert_reqs=required&ssl_ca_certs=/ca.pem"},
    {"TRUSTED_PROXIES": "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,127.0.0.1,fc00::/7,::1"},
    {"TRUSTED_PROXIES": "173.245.48.0/20,104.16.0.0/13,8.0.0.0/8,2606:4700::/32,2400::/16"},
    {"STRIPE_API_BASE": "http://127.0.0.1:12111"},
]


@pytest.fixture(autouse=True)
def no_variables_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGSSLMODE", "PGHOST", "PGHOSTADDR", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("given", DANGEROUS, ids=str)
def test_dangerous_setting_warns_and_is_refused_if_strict(
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
def test_protected_or_local_setting_starts_if_strict(given: dict[str, str]) -> None:
    assert dangers_of(settings(**given, STRICT="on")) == ()


def test_variables_of_libpq_supplement_the_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "db.example")
    assert [danger.setting for danger in dangers_of(settings(DATABASE_URL="postgresql://u@/x"))] == ["DATABASE_URL"]
    monkeypatch.setenv("PGSSLMODE", "verify-full")
    assert dangers_of(settings(DATABASE_URL="postgresql://u@/x")) == ()


def test_variables_of_libpq_can_make_a_safe_url_dangerous(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_dangerous(url: str) -> bool:
        return [danger.setting for danger in dangers_of(settings(DATABASE_URL=url))] == ["DATABASE_URL"]

    here = POSTGRES + "localhost/x"
    monkeypatch.setenv("PGHOSTADDR", "10.0.0.5")  # goes before the host of the URL
    assert is_dangerous(here)
    assert not is_dangerous(here + "?hostaddr=127.0.0.1")
    assert not is_dangerous(here + "?sslmode=require")
    monkeypatch.delenv("PGHOSTADDR")
    monkeypatch.setenv("PGSERVICE", "prod")
    monkeypatch.setenv("PGSSLMODE", "require")  # what the service says goes before it
    assert is_dangerous(here)
    assert not is_dangerous(here + "?sslmode=require")


@pytest.mark.parametrize("value", ["true", "1", "ON", "yes"])
def test_strict_is_on_or_off_and_nothing_else(value: str) -> None:
    with pytest.raises(BadSettings, match="STRICT"):
        settings(STRICT=value)
    assert settings().strict == "off"


def test_hosts_of_this_machine() -> None:
    here = ("", "localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "::1", "[::1]")
    assert all(is_this_machine(host) for host in here)
    assert not any(is_this_machine(host) for host in ("localhost.evil", "10.0.0.1", "0.0.0.0", "::", "127.0.0.1.x"))


@pytest.mark.parametrize("command", ["worker", "scheduler", "web --port 0"])
def test_every_long_running_process_warns_as_it_starts(command: str, migrated_sqlite_url: str) -> None:
    given = {"ENVIRONMENT": "production", "NOTIFY_URL": "http://backend.example/"} | NOTIFY
    given |= {"DATABASE_URL": migrated_sqlite_url, "BROKER_URL": "memory://"}
    environment = os.environ | {PREFIX + name: value for name, value in given.items()}
    begin = [sys.executable, "-m", "refund_worker", *command.split()]
    with subprocess.Popen(begin, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        alarm = Timer(60, process.kill)
        alarm.start()
        found = any("REFUND_WORKER_NOTIFY_URL is http://" in line for line in process.stderr)
        alarm.cancel()
        process.kill()
    assert found
    refused = subprocess.run(
        begin, stderr=subprocess.PIPE, text=True, env=environment | {PREFIX + "STRICT": "on"}, timeout=60, check=False
    )
    assert refused.returncode == 2
    assert "STRICT" in refused.stderr
