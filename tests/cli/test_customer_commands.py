"""Corrections of balances, and their reversal."""

from __future__ import annotations

import pytest
from tests.cli.conftest import Cli


def test_correction_is_made_once_and_reversed_once(shop: Cli) -> None:
    made = shop(
        "customers", "correct", "ann", "--credits", "-100", "--reason", "r", "--idempotency-key", "k", "-o", "json"
    )
    again = shop(
        "customers", "correct", "ann", "--credits", "-100", "--reason", "r", "--idempotency-key", "k", "-o", "json"
    )
    assert made.json == again.json
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 500
    reversal = shop("transactions", "reverse", made.json["transaction_id"], "-o", "json").json
    assert (reversal["kind"], reversal["credits"], reversal["refers_to"]) == (
        "reversal",
        100,
        made.json["transaction_id"],
    )
    assert shop("transactions", "reverse", made.json["transaction_id"], "-o", "json").json == reversal
    listed = shop("transactions", "list", "ann", "-o", "json").json["data"]
    assert [entry["kind"] for entry in listed] == ["reversal", "correction", "spend", "purchase"]
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


@pytest.mark.parametrize("credits", ["0", "+5", "1e2", "-9999"])
def test_refused_correction_changes_no_balance(shop: Cli, credits: str) -> None:
    ran = shop("customers", "correct", "ann", "--credits", credits, "--reason", "r", "-o", "json")
    assert (ran.code, ran.out) == (3 if credits == "-9999" else 2, "")
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


def test_purpose_and_payable_amounts_are_shown(shop: Cli) -> None:
    correct = ("customers", "correct", "ann", "--reason", "r", "-o", "json")
    made = shop(*correct, "--credits", "-5", "--purpose", "expiry").json
    assert (made["kind"], made["purpose"]) == ("expiry", "expiry")
    assert shop(*correct, "--credits", "-5").json["purpose"] == "payout"
    assert shop(*correct, "--credits", "5", "--purpose", "payout").code == 2
    assert shop(*correct, "--credits", "-5", "--purpose", "gift").code == 2
    (payable,) = shop("customers", "show", "ann", "-o", "json").json["payable_by_currency"]
    assert f"{payable['credits']:,} (" in shop("customers", "show", "ann").out
