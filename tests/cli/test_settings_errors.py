"""Wrong settings and unusable databases: every command names the setting and never prints a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.cli.conftest import Cli

SANDBOX = ("sandbox", "--port", "0", "--book", "book.jsonl")


WRONG_VALUES = [
    ("BROKER_URL", "redis://localhost:abc/0"),
    ("BROKER_URL", "redis://[foo"),
    ("BROKER_URL", "redis://:donotshow@127.0.0.1:6379/0;redis://:donotshow@example.com:6379/0"),
    ("STRIPE_API_BASE", "http://h:99999"),
    ("DATABASE_URL", "foo"),
    ("DATABASE_URL", "postgresql+psycopg://u:donotshow@h:abc/d"),
    ("DATABASE_URL", "postgresql+psycopg://[foo"),
    ("VELOCITY_WINDOW_SECONDS", "inf"),
    ("APPROVAL_THRESHOLD_MINOR", "1.0"),
    ("NOTIFY_SECRET", "donotshow"),
    ("STRIPE_WEBHOOK_SECRET", ","),
]


def test_unknown_setting_stops_every_command_with_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")
    for command in (
        ("refunds", "list"),
        ("config", "show"),
        ("db", "current"),
        ("processors", "status"),
        ("worker",),
        ("demo",),
        SANDBOX,
    ):
        ran = cli(*command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "REFUND_WORKER_SURPRISE" in ran.err


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_wrong_value_of_a_setting_stops_commands_and_fails_doctor(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"REFUND_WORKER_{name}", value)
    for command in (
        ("refunds", "list"),
        ("config", "show"),
        ("db", "upgrade"),
        ("worker",),
        ("web",),
        ("reconcile",),
        ("demo",),
        SANDBOX,
    ):
        ran = cli(*command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert ran.err.startswith(f"error: REFUND_WORKER_{name}: must ")
    doctor = cli("doctor", "-o", "json")
    assert doctor.code == 1
    assert [line["check"] for line in doctor.json["data"] if line["verdict"] == "fail"] == ["settings"]
    assert "donotshow" not in doctor.out + doctor.err


def test_secrets_are_in_no_output(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_donotshow")
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", "http://127.0.0.1:9")
    monkeypatch.setenv("REFUND_WORKER_STRIPE_WEBHOOK_SECRET", "whsec_donotshow")
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "redis://:donotshow@127.0.0.1:9/0")
    monkeypatch.setenv(
        "REFUND_WORKER_DATABASE_URL", "postgresql+psycopg://u:a/donotshow@127.0.0.1:9/d?password=donotshow"
    )
    for output in ("table", "json"):
        for command in (("config", "show"), ("doctor",)):
            ran = cli(*command, "-o", output)
            assert "donotshow" not in ran.out + ran.err


@pytest.mark.parametrize(
    "url",
    [
        "what:ever@donotshow",
        "mysql://u:donotshow@h/x",
        "sqlite:////dev/null/donot/x.db",
        "postgresql://u:donotshow@127.0.0.1:9/x",
    ],
)
def test_unusable_database_is_reported_without_password(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", url)
    ran = cli("refunds", "list", "-o", "json")
    assert (ran.code, ran.out) == (1 if "127.0.0.1" in url else 2, "")
    assert ran.problem["code"] in ("bad_settings", "unavailable")
    assert "donotshow" not in ran.err


def test_file_that_is_no_database_is_a_usage_error(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be read as one" * 20)
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert cli("refunds", "list").code == 2


def test_any_command_but_db_current_migrates_sqlite(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", f"sqlite:///{tmp_path / 'new' / 'file.db'}")
    before = cli("db", "current", "-o", "json").json
    assert (before["current"], before["head"] is None) == (None, False)
    assert cli("db", "current", "-o", "json").json == before
    assert cli("refunds", "list").code == 0
    now = cli("db", "current", "-o", "json").json
    assert now["current"] == now["head"] == before["head"]
    assert cli("db", "upgrade", "-o", "json").json["before"] == before["head"]


def test_reconcile_without_a_processor_names_the_missing_setting(cli: Cli) -> None:
    ran = cli("reconcile")
    assert (ran.code, "STRIPE_API_KEY" in ran.err) == (2, True)
