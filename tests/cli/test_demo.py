"""The demo's stories of others, of two processors and of payees; `make demo` plays the other ones too."""

from __future__ import annotations

import io
import json
import re

import pytest
from rich.console import Console

from refund_worker.cli.demo.runner import ALL_SCENES, run_demo
from refund_worker.cli.demo.scenes import credits_to_balance, money_to_source
from refund_worker.cli.demo.scenes_of_others import SCENES_OF_OTHERS
from refund_worker.cli.demo.scenes_of_payees import SCENES_OF_PAYEES
from refund_worker.cli.demo.scenes_of_two_processors import SCENES_OF_TWO_PROCESSORS

# The report prints the customers of the first two.
SCENES = (credits_to_balance, money_to_source, *SCENES_OF_OTHERS, *SCENES_OF_TWO_PROCESSORS, *SCENES_OF_PAYEES)


def test_the_demo_plays_acts_of_others_and_of_payees(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    code = run_demo(Console(file=out), "json", SCENES)
    ran = json.loads(out.getvalue())
    assert [check for check in ran["checks"] if not check["ok"]] == []
    assert (code, ran["ok"]) == (0, True)
    assert ran["proof"] == {
        "ledger_minor": 8000,
        "processor_minor": 8000,
        "legs": 5,
        "payouts_ledger_minor": 4500,
        "payouts_processor_minor": 4500,
    }
    assert ran["seconds"] < 60
    claims = " ".join(check["claim"] for check in ran["checks"])
    for words in (
        "written off",
        "chargeback",
        "u***@example.com",
        "reference",
        "every payment agrees",
        "PayPal made one",
        "one transfer and one payout",
        "the transfer undone",
        "it waits for him, until 20",
        "is her debt now",
        "each payee got what the ledger says",
    ):
        assert words in claims, words
    progress = capsys.readouterr().err
    for account in ("stripe", "paypal"):
        assert f"The account {account}" in progress
        assert re.search(rf"│ \d +│ {account} +│ pay-", progress)
    assert not [secret for secret in ("uma@example.com", "sven@example.com") if secret in progress + out.getvalue()]


def test_the_whole_demo_has_each_story_once() -> None:
    assert set(SCENES) < set(ALL_SCENES)
    assert len(ALL_SCENES) == len(set(ALL_SCENES)) == 16
