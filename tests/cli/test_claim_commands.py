"""Outside refunds and disputes on the command line."""

from __future__ import annotations

import re
import shlex

import pytest
from tests.cli.conftest import Cli
from tests.support.outside_objects import dispute, hear, outside_refund, warning

from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings


@pytest.fixture
def outside(shop: Cli, migrated_sqlite_url: str) -> Cli:
    """Return `shop` after 5.00 GBP of ann's payment were refunded in the dashboard, and bob disputed 1.00 GBP."""
    with build_runtime(load_settings({f"{PREFIX}DATABASE_URL": migrated_sqlite_url}), processors=False) as built:
        hear(built.context, outside_refund("re_1", 500, currency="GBP"))
        hear(built.context, dispute("du_1", 100, payment="ch_2", currency="GBP"))
    return shop


def test_outside_refunds_are_listed_and_shown(outside: Cli) -> None:
    (row,) = outside("outside-refunds", "list", "-o", "json").json["data"]
    assert (row["object_id"], row["credits"], row["status"]) == ("re_1", 250, "posted")
    assert outside("outside-refunds", "show", row["id"], "-o", "json").json == row
    assert "5.00 GBP" in outside("outside-refunds", "show", row["id"]).out
    assert re.search(r" p\d +stripe +re_1 ", outside("outside-refunds", "list").out)
    assert outside("outside-refunds", "list", "--status", "posted", "-q").out.split() == [row["id"]]
    assert outside("outside-refunds", "list", "--customer", "bob", "-o", "json").json["data"] == []


def test_disputes_are_listed_and_shown(outside: Cli) -> None:
    (row,) = outside("disputes", "list", "--payment", "p2", "-o", "json").json["data"]
    assert (row["object_id"], row["credits_held"], row["status"]) == ("du_1", 100, "needs_response")
    assert re.search(r" p2 .* stripe +du_1", outside("disputes", "list").out)
    assert outside("disputes", "show", row["id"], "-o", "json").json == row
    assert "2026-11-20 23:59" in outside("disputes", "list").out
    assert outside("disputes", "list", "--status", "lost", "-o", "json").json["data"] == []


def test_fraud_warnings_are_listed_with_their_commands(outside: Cli, migrated_sqlite_url: str) -> None:
    with build_runtime(load_settings({f"{PREFIX}DATABASE_URL": migrated_sqlite_url}), processors=False) as built:
        hear(built.context, warning("issfr_1"), warning("issfr_2", actionable=False))
    (row,) = outside("disputes", "warnings", "--status", "open", "-o", "json").json["data"]
    assert (row["object_id"], row["suggested_refund"]) == (
        "issfr_1",
        {"amount_minor": 1_500, "currency": "GBP", "credits": 750, "payable_credits": 350},
    )
    shown = outside("disputes", "warnings", "--payment", "p1")
    assert "15.00 GBP" in shown.out
    (line,) = [line for line in shown.err.splitlines() if line.startswith("refund-worker refunds create")]
    asked = outside(*shlex.split(line)[1:], "--idempotency-key", "efw", "-o", "json")
    assert asked.code == 0, asked.err
    assert (asked.code, asked.json["credits"], asked.json["amounts"][0]["requested_minor"]) == (0, 350, 700)
    after = outside("disputes", "warnings", "--status", "open", "-o", "json").json["data"][0]["suggested_refund"]
    assert (after["amount_minor"], after["payable_credits"]) == (800, 0)
    assert "refund-worker refunds" not in outside("disputes", "warnings").err, "nothing more can be paid out"
    assert outside("disputes", "warnings", "--customer", "bob", "-o", "json").json["data"] == []
    assert outside("disputes", "warnings", "--status", "gone").code == 2


def test_unknown_claim_and_wrong_status_are_refused(outside: Cli) -> None:
    assert outside("disputes", "show", "cl_nothing").code == 4
    assert outside("outside-refunds", "show", "cl_nothing").code == 4
    ran = outside("outside-refunds", "list", "--status", "gone")
    assert (ran.code, "needs_decision" in ran.err) == (2, True)


def test_a_person_decides_about_a_shortfall(outside: Cli, migrated_sqlite_url: str) -> None:
    with build_runtime(load_settings({f"{PREFIX}DATABASE_URL": migrated_sqlite_url}), processors=False) as built:
        hear(built.context, outside_refund("re_2", 1500, currency="GBP"), shortfall="person")
    (row,) = outside("outside-refunds", "list", "--status", "needs_decision", "-o", "json").json["data"]
    assert row["shortfall"] == 400
    wrong = outside("outside-refunds", "decide", row["id"], "--decision", "maybe", "--reason", "x")
    assert (wrong.code, "write_off or debt" in wrong.err) == (2, True)
    decide = ("outside-refunds", "decide", row["id"], "--decision", "debt", "--reason", "agreed by phone")
    for _ in range(2):
        decided = outside(*decide, "-o", "json")
        assert (decided.code, decided.json["status"]) == (0, "posted")
    assert outside("customers", "show", "ann", "-o", "json").json["balance"] == -400
    other = outside("outside-refunds", "decide", row["id"], "--decision", "write_off", "--reason", "no")
    assert other.code == 5


def test_a_payment_is_closed_once(outside: Cli) -> None:
    for _ in range(2):
        ran = outside("payments", "close", "p3", "--reason", "the debit failed", "-o", "json")
        assert (ran.code, ran.json["payment_id"]) == (0, "p3")
    assert outside("customers", "show", "bob", "-o", "json").json["balance"] == 500
    assert outside("payments", "close", "p9", "--reason", "none").code == 4


def test_an_outside_refund_is_linked_to_a_spend(outside: Cli) -> None:
    (row,) = outside("outside-refunds", "list", "-o", "json").json["data"]
    assert outside("outside-refunds", "link", row["id"], "--reason", "x").code == 2
    ran = outside("outside-refunds", "link", row["id"], "--transaction", "t1", "--reason", "for the chat", "-o", "json")
    assert (ran.code, ran.json["status"]) == (0, "linked")
