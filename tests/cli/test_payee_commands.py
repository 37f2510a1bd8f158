"""Payees and their earnings on the command line and from files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli
from tests.support.payees import IBAN, KEY

DESTINATION = {"kind": "bank", "iban": IBAN, "holder": "Maria Example"}
EARNINGS = "earning_id,payee_id,amount_minor,currency,transaction_id,available_at,description\n"
CREATE = ("create", "maria", "--processor-account", "payer", "--currency", "gbp", "--destination", "bank.json")
RECORD = ("record", "e1", "--payee", "maria", "--amount-minor", "200", "--currency", "GBP", "--transaction", "t1")


@pytest.fixture
def site(shop: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Return `shop` with an account that pays to banks, and a key that seals."""
    accounts = {"stripe": {}, "payer": {"adapter": "tests.support.payee_adapter"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    monkeypatch.setenv("REFUND_WORKER_DESTINATIONS_KEY", KEY)
    (tmp_path / "bank.json").write_text(json.dumps(DESTINATION))
    return shop


def test_payee_is_created_once_and_shown_masked(site: Cli) -> None:
    created = site("payees", *CREATE, "-o", "json")
    assert created.code == 0
    assert created.json["status"] == "ready"
    again = site("payees", *CREATE)
    assert (again.code, "recorded before" in again.err) == (0, True)
    for shown in (site("payees", "show", "maria"), site("payees", "list")):
        assert "•••• 3000" in shown.out
        assert IBAN not in shown.out
    assert site("payees", "show", "maria", "--whole", "-o", "json").json == DESTINATION
    assert site("payees", "list", "-q").out.split() == ["maria"]
    assert site("payees", "show", "nobody").code == 4


def test_unusable_payee_ends_with_its_reason(site: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong.json").write_text(json.dumps(DESTINATION | {"iban": "DE00370400440532013000"}))
    refused = site("payees", *CREATE[:-1], "wrong.json")
    assert (refused.code, "destination.iban" in refused.err, "0532" in refused.err) == (2, True, False)
    assert site("payees", *CREATE[:-1], "missing.json").code == 2
    (tmp_path / "broken.json").write_text("{")
    assert site("payees", *CREATE[:-1], "broken.json").code == 2
    monkeypatch.delenv("REFUND_WORKER_DESTINATIONS_KEY")
    assert "REFUND_WORKER_DESTINATIONS_KEY" in site("payees", *CREATE).err


def test_update_pause_and_resume(site: Cli, tmp_path: Path) -> None:
    site("payees", *CREATE)
    (tmp_path / "bank.json").write_text(json.dumps({"kind": "stripe_account", "account": "acct_1Abcd"}))
    updated = site("payees", "update", *CREATE[1:], "--country", "de", "-o", "json").json
    assert (updated["destination"]["masked"], updated["country"]) == ("Stripe account acct_•••• cd", "DE")
    assert "paused" in site("payees", "pause", "maria", "--reason", "asked by letter").out
    assert site("payees", "resume", "maria", "--reason", "a mistake", "-o", "json").json["status"] == "ready"


def test_earning_is_recorded_once_and_listed(site: Cli) -> None:
    site("payees", *CREATE)
    first = site("earnings", *RECORD, "-o", "json")
    assert (first.code, first.json["amount_minor"]) == (0, 200)
    assert "recorded before" in site("earnings", *RECORD).err
    other = list(RECORD)
    other[5] = "201"
    assert site("earnings", *other).code == 5
    assert site("earnings", "list", "--payee", "maria", "-q").out.split() == ["e1"]
    assert site("earnings", "list", "--transaction", "t2", "-o", "json").json["data"] == []
    assert "2.00 GBP" in site("earnings", "show", "e1").out


def test_earnings_are_imported_and_again_nothing_new(site: Cli, tmp_path: Path) -> None:
    site("payees", *CREATE)
    (tmp_path / "earnings.csv").write_text(
        EARNINGS
        + "e1,maria,200,GBP,t1,2026-01-10T00:00:00Z,Private chat\n"
        + "e2,maria,50,GBP,,,A gift\n"
        + "e3,nobody,50,GBP,,,A gift\n"
        + "e4,maria,50,GBP,t9,,A chat\n"
        + "e5,maria,0,GBP,,,A gift\n"
    )
    report = site("import", "earnings", "earnings.csv", "-o", "json")
    assert report.code == 3
    assert (report.json["imported"], report.json["unchanged"]) == (2, 0)
    assert [(row["line"], row["code"]) for row in report.json["rejected"]] == [
        (4, "unknown_payee"),
        (5, "unknown_transaction"),
        (6, "invalid_request"),
    ]
    again = site("import", "earnings", "earnings.csv", "-o", "json").json
    assert (again["imported"], again["unchanged"]) == (0, 2)
    assert [row["earning_id"] for row in site("earnings", "list", "-o", "json").json["data"]] == ["e1", "e2"]


def test_statement_of_a_month(site: Cli) -> None:
    site("payees", *CREATE)
    month = site("earnings", *RECORD, "-o", "json").json["created_at"][:7]
    table = site("payees", "statement", "maria", "--month", month).out
    assert "closing" in table
    assert "2.00 GBP" in table
    assert site("payees", "statement", "maria", "--month", month, "-o", "json").json["lines"][0]["closing_minor"] == 200
    rows = list(csv.DictReader(io.StringIO(site("payees", "statement", "maria", "--month", month, "-o", "csv").out)))
    assert [row["kind"] for row in rows] == ["opening", "earning", "closing"]
    assert site("payees", "statement", "maria", "--month", "2026").code == 2
    assert "no entries" in site("payees", "statement", "maria", "--month", "2020-01").err
