"""`refund-worker doctor`: findings, advice and exit codes."""

from __future__ import annotations

import json

import pytest
from tests.cli.conftest import Cli

from refund_worker.domain.decision import AskedReading
from refund_worker.domain.processor_replies import PaymentUnreadable
from refund_worker.store.database import Database
from refund_worker.store.payment_readings import store_readings


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://:donotshow@127.0.0.1:9/0", "redis at 127.0.0.1:9: ConnectionError"),
        ("rediss://:donotshow@127.0.0.1:9/0?ssl_cert_reqs=CERT_REQUIRED", "rediss at 127.0.0.1:9: ConnectionError"),
        ("amqp://127.0.0.1:10//", "amqp at 127.0.0.1:10: Connection refused"),
    ],
)
def test_doctor_shows_the_brokers_address_and_the_fault(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str, found: str
) -> None:
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", url)
    ran = cli("doctor", "-o", "json")
    (broker,) = [line for line in ran.json["data"] if line["check"] == "broker"]
    assert (ran.code, broker["verdict"], broker["found"]) == (1, "fail", found)
    assert "donotshow" not in ran.out + ran.err


def test_doctor_warns_of_payments_that_cannot_be_read(
    shop: Cli, monkeypatch: pytest.MonkeyPatch, migrated_sqlite_url: str
) -> None:
    def payments_finding() -> tuple[str, str]:
        ran = shop("doctor", "-o", "json")
        (line,) = [line for line in ran.json["data"] if line["check"] == "payments"]
        return line["verdict"], line["found"]

    assert payments_finding()[0] == "ok"
    database = Database(migrated_sqlite_url)
    database.run(
        lambda connection: store_readings(connection, {"p1": AskedReading(PaymentUnreadable("HTTP 403"), 1.0)}, 1.0)
    )
    database.close()
    assert payments_finding() == ("warn", "1 with verified: false, because the processor does not let us read them")
    monkeypatch.setenv("REFUND_WORKER_VERIFY_PAYMENTS", "off")
    assert payments_finding()[0] == "warn"


def test_doctor_fails_with_advice_if_the_broker_is_down(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("doctor").code == 0
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "redis://127.0.0.1:9/0")
    ran = cli("doctor", "-o", "json")
    found = {line["check"]: line for line in ran.json["data"]}
    assert ran.code == 1
    assert (found["broker"]["verdict"], found["database"]["verdict"], found["stripe key"]["verdict"]) == (
        "fail",
        "ok",
        "warn",
    )
    assert found["broker"]["do"]


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "ok"),
        ({"ENVIRONMENT": "production"}, "ok"),
        ({"ENVIRONMENT": "production", "BROKER_URL": "redis://127.0.0.1:1"}, "warn"),
        ({"ENVIRONMENT": "production", "BROKER_URL": "redis://127.0.0.1:1", "CELERY_CLIENTS": "shop,desk"}, "ok"),
    ],
)
def test_doctor_warns_if_a_shared_broker_accepts_any_client(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], verdict: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"REFUND_WORKER_{name}", value)
    found = {line["check"]: line for line in cli("doctor", "-o", "json").json["data"]}
    assert found["celery clients"]["verdict"] == verdict


def test_doctor_shows_an_unknown_setting_as_a_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")
    ran = cli("doctor")
    assert ran.code == 1
    assert "REFUND_WORKER_SURPRISE" in ran.out


def test_doctor_reports_dangers_and_what_approval_covers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "ENVIRONMENT": "production",
        "NOTIFY_URL": "http://backend.example/",
        "APPROVAL_THRESHOLD_MINOR": "5000",
    }
    settings |= {"NOTIFY_SECRET": "whsec_" + "a" * 40}
    for name, value in settings.items():
        monkeypatch.setenv("REFUND_WORKER_" + name, value)
    found = {row["check"]: row for row in cli("doctor", "-o", "json").json["data"]}
    assert found["production"]["verdict"] == "warn"
    assert "NOTIFY_URL" in found["production"]["found"]
    assert "https://" in found["production"]["do"]
    assert "5000" in found["approval"]["found"]
    assert "not refunds to a balance, and not corrections" in found["approval"]["found"]


def test_doctor_counts_only_settings_that_have_a_value(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def counted() -> str:
        (line,) = [line for line in cli("doctor", "-o", "json").json["data"] if line["check"] == "settings"]
        return str(line["found"])

    before = counted()
    for name, value in {
        "REFUND_WORKER_SERVICE_HOST": "10.0.0.1",
        "REFUND_WORKER_PORT": "tcp://10.0.0.1:80",
        "REFUND_WORKER_WEB_PORT_8000_TCP_ADDR": "10.0.0.1",
        "REFUND_WORKER_NOTIFY_URL": "",
        "REFUND_WORKER_NOTIFY_SECRET_FILE": "",
    }.items():
        monkeypatch.setenv(name, value)
    assert counted() == before
    monkeypatch.setenv("REFUND_WORKER_POLL_SECONDS", "60")
    assert counted() != before


def test_doctor_names_the_setting_that_makes_webhooks_valid(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts: dict[str, dict[str, str]] = {"paypal": {}, "adyen": {}}

    def found(name: str) -> dict[str, str]:
        monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
        return {line["check"]: line for line in cli("doctor", "-o", "json").json["data"]}[f"{name} webhooks"]

    assert "no webhook_id set" in found("paypal")["found"]
    assert 'set webhook_id of ["paypal"]' in found("paypal")["do"]
    assert 'set webhook_secret of ["adyen"]' in found("adyen")["do"]
    accounts["paypal"]["webhook_id"] = "8PT597110X687430LKGECATA"
    assert found("paypal")["found"] == "1 webhook_id(s) set"
