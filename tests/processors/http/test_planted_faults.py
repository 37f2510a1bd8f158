"""`adapters check` names each fault of a server in words, and finds none in the reference server."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from tests.processors.http.planted import FAULTS, PAYING, SERVER, Planted, planted_server

from refund_worker.cli.app import run_command
from refund_worker.processors.conformance import http_checks, run


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait shorter for an event: the servers are on this machine."""
    monkeypatch.setattr(http_checks, "EVENT_SECONDS_MAX", 1.5)


def check(fault: Planted | None, folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the JSON of `adapters check` against the server with this fault."""
    with planted_server(fault, folder) as server:
        capsys.readouterr()
        secret = ["--secret-file", str(folder / "secret")]
        code = run_command(["adapters", "check", server.url, *secret, "--list-lag", "0.3", "-o", "json"])
        printed = capsys.readouterr()
    assert printed.err == ""
    return code, json.loads(printed.out)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted_fault_is_named_in_words(fault: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    code, report = check(fault, tmp_path, capsys)
    failed = {row["check"]: row for row in report["data"] if row["verdict"] == "failed"}
    assert code == 1
    assert fault.check in failed, failed
    assert fault.words in failed[fault.check]["found"], failed
    assert all(row["do"] for row in failed.values())
    assert not [row for row in failed.values() if "the check itself broke" in row["found"]], failed
    assert time.monotonic() - began < run.CHECK_SECONDS_MAX


def test_reference_server_keeps_every_promise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report = check(None, tmp_path, capsys)
    assert [row for row in report["data"] if row["verdict"] != "ok"] == []
    assert (code, report["ok"], report["failed"], report["not_asked"]) == (0, len(report["data"]), 0, 0)


WHOLE = '"finds_by": "payment",\n    "lists_refunds": True,\n    "list_proves_absence": True,\n'
# Servers that can do less than the reference server, and say so.
LESS = (
    Planted("keeps no keys", PAYING, '"key_seconds": 30 * DAY', '"key_seconds": 0', "", ""),
    Planted("finds by our ids", PAYING, '"finds_by": "payment"', '"finds_by": "leg"', "", ""),
    Planted("has no lists", PAYING, WHOLE, '"finds_by": "nothing",\n', "", ""),
    Planted("is final", PAYING, '"answers_are_final": False', '"answers_are_final": True', "", ""),
    Planted("reads no payments", PAYING, '"reads_payments": True', '"reads_payments": False', "", ""),
    Planted("refunds whole payments", PAYING, '"partial_refunds": True', '"partial_refunds": False', "", ""),
    Planted("has a step", PAYING, '"currency_steps": {}', '"currency_steps": {"EUR": 100}', "", ""),
    Planted(
        "is busy now and then",
        SERVER,
        "            with ours.lock, ours.db:  # the",
        "            Handler.turn = getattr(Handler, 'turn', 0) + 1\n"
        "            if Handler.turn % 5 == 0:\n"
        "                raise Problem(503, 'busy', 'not now')\n"
        "            with ours.lock, ours.db:  # the",
        "",
        "",
    ),
)


@pytest.mark.parametrize("less", LESS, ids=lambda less: less.name)
def test_server_that_can_do_less_fails_nothing(
    less: Planted, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = check(less, tmp_path, capsys)
    assert [row for row in report["data"] if row["verdict"] == "failed"] == []
    assert code == 0
    assert report["ok"] >= 20


def test_planted_faults_are_many_and_named_once() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(names) == len(set(names)) >= 30


def test_every_check_is_broken_by_some_fault() -> None:
    """A check that no planted fault breaks may be one that cannot fail."""
    names = {each.name for each in (*run.ANY, *http_checks.CHECKS, *run.LAST)}
    unbroken = names - {fault.check for fault in FAULTS}
    assert unbroken == set()
