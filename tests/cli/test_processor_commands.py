"""Pausing and resuming processors."""

from __future__ import annotations

from tests.cli.conftest import Become, Cli

from refund_worker.api_schema import Switch
from refund_worker.engine.processor_sync.status import SWITCH_FIELDS


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
    assert set(Switch.__annotations__) == set(SWITCH_FIELDS)


def test_pause_needs_no_reason(cli: Cli) -> None:
    paused = cli("processors", "pause", "stripe", "-o", "json")
    assert (paused.code, paused.json["paused"], paused.json["reason"]) == (0, True, "paused on the command line")
