"""Payouts on the command line and from files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Become, Cli

from refund_worker.engine.payouts.process import process_payouts_until_idle
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings

HEADER = "idempotency_key,payee_id,amount_minor,currency,description\n"
CREATE = ("payouts", "create", "--payee", "maria", "--currency", "GBP", "--idempotency-key", "k1")


@pytest.fixture
def site(shop: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Return `shop` with a payee who is paid by a person, and 50.00 GBP that can be paid out."""
    monkeypatch.setenv("REFUND_WORKER_PAYEE_COOLDOWN_SECONDS", "0")
    monkeypatch.setenv("REFUND_WORKER_EARNINGS_HOLD_SECONDS", "0")
    (tmp_path / "desk.json").write_text(json.dumps({"kind": "manual", "text": "cash"}))
    account = ("--processor-account", "manual", "--currency", "GBP", "--destination", "desk.json")
    assert shop("payees", "create", "maria", *account).code == 0
    earned = ("--payee", "maria", "--amount-minor", "5000", "--currency", "GBP")
    assert shop("earnings", "record", "e1", *earned).code == 0
    return shop


def work() -> None:
    """Process the payouts that are due, as a worker does."""
    with build_runtime(load_settings()) as built:
        process_payouts_until_idle(built.context)


def test_payout_is_created_once_and_shown(site: Cli) -> None:
    created = site(*CREATE, "--amount", "3000", "-o", "json")
    assert (created.code, created.json["status"], created.json["amount_minor"]) == (0, "queued", 3_000)
    assert "used before" in site(*CREATE, "--amount", "3000").err
    assert site(*CREATE, "--amount", "3001").code == 5
    shown = site("payouts", "show", created.json["id"])
    assert "30.00 GBP" in shown.out
    assert "for the payee" in shown.out
    assert site("payouts", "show", "po_none").code == 4
    assert "payout_accepted" in site("payouts", "events", created.json["id"]).out


def test_refused_request_ends_with_its_code(site: Cli) -> None:
    refused = site(*CREATE, "--amount", "5001", "-o", "json")
    assert (refused.code, refused.problem["code"]) == (3, "insufficient_earnings")
    assert site(*CREATE, "--amount", "1.5").code == 2
    assert site("payouts", "create", "--payee", "nobody", "--currency", "GBP").code == 3


def test_preview_stores_nothing(site: Cli) -> None:
    preview = site("payouts", "preview", "--payee", "maria", "-o", "json").json
    assert (preview["would_be"], preview["payable_minor"]) == ("accepted", 5_000)
    refused = site("payouts", "preview", "--payee", "maria", "--amount", "6000")
    assert (refused.code, "insufficient_earnings" in refused.out) == (0, True)
    assert site("payouts", "list", "-q").out == ""


def test_list_is_filtered(site: Cli) -> None:
    first = site(*CREATE, "--amount", "100", "-o", "json").json["id"]
    assert site("payouts", "list", "--payee", "maria", "--status", "queued,paid", "-q").out.split() == [first]
    assert site("payouts", "list", "--idempotency-key", "k2", "-o", "json").json["data"] == []
    assert site("payouts", "list", "--status", "lost").code == 2
    assert "maria" in site("payouts", "list", "--processor-account", "manual").out


def test_person_resolves_what_a_person_pays(site: Cli) -> None:
    payout_id = site(*CREATE, "-o", "json").json["id"]
    work()
    waits = site("payouts", "wait", payout_id, "--timeout", "0", "-o", "json")
    assert (waits.code, waits.json["status"]) == (3, "needs_attention")
    assert site("payouts", "resolve", payout_id, "--outcome", "paid_manually").code == 2
    assert site("payouts", "resolve", payout_id, "--outcome", "lost").code == 2
    paid = ("payouts", "resolve", payout_id, "--outcome", "paid_manually", "--reference", "desk 7", "-o", "json")
    assert site(*paid).json["status"] == "paid"
    assert site("payouts", "wait", payout_id, "--timeout", "0").code == 0
    assert site("payouts", "sync", payout_id, "-o", "json").json["status"] == "paid"


def test_other_person_approves(site: Cli, become: Become, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "1000")
    become("anna")
    payout_id = site(*CREATE, "-o", "json").json["id"]
    assert site("payouts", "approve", payout_id, "--reason", "fine").code == 5
    become("ben")
    assert site("payouts", "approve", payout_id, "--reason", "fine", "--version", "9").code == 5
    assert site("payouts", "approve", payout_id, "--reason", "fine", "-o", "json").json["status"] == "queued"
    assert site("payouts", "cancel", payout_id, "--reason", "no", "-o", "json").json["status"] == "canceled"


def test_file_is_tried_then_submitted_and_again_changes_nothing(site: Cli, tmp_path: Path) -> None:
    rows = "a,maria,3000,GBP,May\nb,maria,3000,GBP,May\nc,nobody,1,GBP,May\nd,maria,,GBP,the rest\n"
    (tmp_path / "p.csv").write_text(HEADER + rows)
    for dry in (("--dry-run",), ()):
        ran = site("payouts", "submit", "p.csv", *dry, "-o", "json")
        assert (ran.code, ran.json["accepted"], ran.json["replayed"]) == (3, 2, 0)
        assert [(row["line"], row["code"]) for row in ran.json["rejected"]] == [
            (3, "insufficient_earnings"),
            (4, "unknown_payee"),
        ]
        assert len(site("payouts", "list", "-q").out.split()) == (0 if dry else 2)
    again = site("payouts", "submit", "p.csv", "-o", "json").json
    assert (again["accepted"], again["replayed"]) == (0, 2)
    lines = [json.dumps({"idempotency_key": "a", "payee_id": "maria", "amount_minor": 3000, "currency": "GBP"})]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    assert site("payouts", "submit", "p.jsonl", "--client", "other", "-o", "json").json["rejected"] != []
    assert site("payouts", "submit", "p.txt").code == 2
