"""Payout runs on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Become, Cli
from tests.support.payees import IBAN, KEY

from refund_worker.engine.payouts.drive_runs import drive_due_runs
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings

CREATE = ("payout-runs", "create", "--processor-account", "payer", "--currency", "gbp", "--key", "k")


@pytest.fixture
def site(shop: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Return `shop` with a payee who has earned 2.00 GBP, and a threshold above which a second person approves."""
    accounts = {"stripe": {}, "payer": {"adapter": "tests.support.payee_adapter"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    monkeypatch.setenv("REFUND_WORKER_DESTINATIONS_KEY", KEY)
    monkeypatch.setenv("REFUND_WORKER_PAYEE_COOLDOWN_SECONDS", "0")
    monkeypatch.setenv("REFUND_WORKER_EARNINGS_HOLD_SECONDS", "0")
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "199")
    bank = tmp_path / "bank.json"
    bank.write_text(json.dumps({"kind": "bank", "iban": IBAN, "holder": "Maria Example"}))
    named = ("--processor-account", "payer", "--currency", "gbp", "--destination", str(bank))
    assert shop("payees", "create", "maria", *named).code == 0
    earned = ("--payee", "maria", "--amount-minor", "200", "--currency", "GBP")
    assert shop("earnings", "record", "e1", *earned).code == 0
    return shop


def drive() -> None:
    """Let the scheduler's job work."""
    with build_runtime(load_settings(), processors=False) as runtime:
        while drive_due_runs(runtime.context):
            pass


def test_run_is_planned_approved_and_paid(site: Cli, become: Become) -> None:
    run = site(*CREATE, "-o", "json").json
    assert (run["status"], run["payees"]) == ("planning", 1)
    assert "before" in site(*CREATE).err
    timed_out = site("payout-runs", "wait", run["run_id"], "--seconds", "0")
    assert (timed_out.code, "planning: 0 of 1" in timed_out.err, "still planning" in timed_out.err) == (1, True, True)
    drive()
    waits = site("payout-runs", "wait", run["run_id"])
    assert (waits.code, "approval_threshold" in waits.out) == (3, True)
    refused = site("payout-runs", "approve", run["run_id"], "--reason", "checked")
    assert (refused.code, "second person" in refused.err) == (5, True)
    become("bob")
    assert site("payout-runs", "approve", run["run_id"], "--reason", "checked", "-o", "json").json["status"] == "paying"
    drive()
    assert site("payout-runs", "wait", run["run_id"]).code == 0
    assert "done" in site("payout-runs", "show", run["run_id"]).out
    listed = site("payout-runs", "list")
    assert run["run_id"] in listed.out
    assert "maria" in site("payout-runs", "rows", run["run_id"], "--paid").out
    assert "maria" not in site("payout-runs", "rows", run["run_id"], "--skipped").out
    assert site("payout-runs", "rows", run["run_id"], "--csv").out.splitlines()[1].startswith("maria,200,200,0")


def test_both_names_of_the_key_make_one_run(site: Cli) -> None:
    first = site(*CREATE, "-o", "json").json
    again = site(*CREATE[:-2], "--idempotency-key", "k", "-o", "json")
    assert (again.json["run_id"], "before" in again.err) == (first["run_id"], True)
    refused = site(*CREATE[:-1], " k", "-o", "json")
    assert (refused.code, refused.problem["field"]) == (2, "idempotency_key")


def test_dry_run_and_cancel(site: Cli) -> None:
    run_id = site(*CREATE, "--dry-run", "-o", "json").json["run_id"]
    drive()
    assert site("payout-runs", "wait", run_id, "-o", "json").code == 0
    assert site("payout-runs", "show", run_id, "-o", "json").json["status"] == "planned"
    other = site(*CREATE[:-1], "k2", "-o", "json").json["run_id"]
    assert site("payout-runs", "cancel", other, "--reason", "a mistake", "-o", "json").json["status"] == "canceled"
    assert site("payout-runs", "wait", other).code == 3
    assert site("payout-runs", "cancel", other, "--reason", "again").code == 5
    assert site("payout-runs", "show", "none").code == 4
