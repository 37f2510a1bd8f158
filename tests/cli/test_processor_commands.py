"""Pausing and resuming processors."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Become, Cli

from refund_worker.api_schema import Switch
from refund_worker.processors.sandbox import Sandbox


def test_paused_processor_is_shown_with_actor_and_reason(cli: Cli, become: Become) -> None:
    become("anna")
    paused = cli("processors", "pause", "stripe", "--reason", "wrong amounts", "-o", "json").json
    assert (paused["name"], paused["paused"], paused["paused_by"], paused["reason"]) == (
        "stripe",
        True,
        "cli:anna",
        "wrong amounts",
    )
    states = {line["name"]: line["paused"] for line in cli("processors", "status", "-o", "json").json["data"]}
    assert states == {"all": False, "manual": False, "stripe": True}
    assert cli("processors", "resume", "stripe", "-o", "json").json["paused"] is False
    assert cli("processors", "pause", "strip", "--reason", "x").code == 4


def test_pause_and_resume_print_the_object_of_the_http_call(cli: Cli, become: Become) -> None:
    become("anna")
    for name in ("stripe", "manual", "all"):
        paused = cli("processors", "pause", name, "-o", "json").json
        assert paused.pop("paused_at") is not None
        reason = "paused on the command line"
        assert paused == {
            "name": name,
            "paused": True,
            "paused_by": "cli:anna",
            "paused_until": None,
            "code": "paused_by_hand",
            "reason": reason,
        }
        resumed = cli("processors", "resume", name, "-o", "json").json
        nothing = dict.fromkeys(("paused_by", "paused_at", "paused_until", "code", "reason"))
        assert resumed == {"name": name, "paused": False, **nothing}
        assert name in cli("processors", "pause", "--help").out
    assert set(Switch.__annotations__) == {"name", "paused", *nothing}


def test_status_names_the_runbook_entry_of_what_is_not_sending(cli: Cli) -> None:
    cli("processors", "pause", "stripe")
    shown = cli("processors", "status")
    assert "what to do about stripe: refund-worker explain paused_by_hand" in shown.err.splitlines()
    assert "manual: refund" not in shown.err
    assert "A person paused sending" in cli("explain", "paused_by_hand").out
    assert "explain" not in cli("processors", "resume", "stripe").err


def test_status_names_adapter_mode_and_accounts_without_refunds(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = {"stripe": {"api_key": "sk_test_1"}, "stripe:old": {"refunds": "off"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    rows = cli("processors", "status", "-o", "json").json["data"]
    facts = {row["name"]: (row["adapter"], row["mode"], row["refunds"]) for row in rows}
    assert facts == {
        "all": (None, None, None),
        "manual": ("manual", None, "on"),
        "stripe": ("stripe", "test", "on"),
        "stripe:old": ("stripe", "no credentials", "off"),
    }
    monkeypatch.setenv("COLUMNS", "120")
    shown = cli("processors", "status").out
    assert re.search(r"stripe +sending +test +stripe", shown)
    assert re.search(r"stripe:old +sending, refunds off +no credentials +stripe", shown)


def test_pause_needs_no_reason(cli: Cli) -> None:
    paused = cli("processors", "pause", "stripe", "-o", "json")
    assert (paused.code, paused.json["paused"], paused.json["reason"]) == (0, True, "paused on the command line")


def test_reconcile_names_the_processors_that_have_a_list(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_1")
    ran = cli("reconcile", "--processor", "manual")
    assert ran.code == cli("refunds", "list", "--status", "nonsense").code
    assert "--processor: stripe" in ran.err


@pytest.mark.parametrize(
    ("times", "code"),
    [
        (("--since", "2150-01-01"), 2),
        (("--since", "2150-01-01", "--until", "2150-02-01"), 2),
        (("--until", "2150-02-01"), 0),
    ],
    ids=["since later", "both later", "until later"],
)
def test_reconcile_of_a_time_to_come_is_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: tuple[str, ...], code: int
) -> None:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_1")
    with Sandbox(book=tmp_path / "book.jsonl") as sandbox:
        monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", sandbox.url)
        ran = cli("reconcile", *times)
    assert (ran.code, "since must be in the past" in ran.err) == (code, code == 2), ran.err


def test_processor_that_only_payments_name_can_be_paused(cli: Cli, tmp_path: Path) -> None:
    assert cli("processors", "pause", "worldpay").code == 4
    payments = tmp_path / "payments.csv"
    payments.write_text(
        "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
        "p,c,worldpay,PAYID-1,100,EUR,10,2026-11-01T09:00:00Z\n"
    )
    assert cli("import", "payments", str(payments)).code == 0
    assert cli("processors", "pause", "worldpay", "-o", "json").json["paused"] is True
    assert cli("processors", "resume", "worldpay", "-o", "json").json["paused"] is False
