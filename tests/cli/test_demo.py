"""The demo's stories in which others act on a payment; `make demo` plays the other ones too."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from refund_worker.cli.demo.runner import ALL_SCENES, run_demo
from refund_worker.cli.demo.scenes import credits_to_balance, money_to_source
from refund_worker.cli.demo.scenes_of_others import SCENES_OF_OTHERS

# The report prints the customers of the first two.
SCENES = (credits_to_balance, money_to_source, *SCENES_OF_OTHERS)


def test_the_demo_plays_the_acts_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    out = io.StringIO()
    code = run_demo(Console(file=out), "json", SCENES)
    ran = json.loads(out.getvalue())
    assert [check for check in ran["checks"] if not check["ok"]] == []
    assert (code, ran["ok"]) == (0, True)
    assert ran["proof"] == {"ledger_minor": 4000, "processor_minor": 4000, "legs": 3}
    assert ran["seconds"] < 60
    claims = " ".join(check["claim"] for check in ran["checks"])
    for words in ("written off", "chargeback", "u***@example.com", "reference", "every payment agrees"):
        assert words in claims, words
    progress = capsys.readouterr().err
    assert "uma@example.com" not in progress + out.getvalue()


def test_the_whole_demo_has_each_story_once() -> None:
    assert set(SCENES) < set(ALL_SCENES)
    assert len(ALL_SCENES) == len(set(ALL_SCENES)) == 11
