"""The actor on the command line is the user of the operating system. No option, variable or file can choose it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from tests.cli.conftest import REQUESTS, Become, Cli

from refund_worker.cli.options import acting_user

ASK = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--reason", "asked", "--credits", "100")
ROW = "k1,withdrawal,source,ann,,100,asked,,bob,2026-01-04T00:00:00Z\n"


@pytest.fixture(autouse=True)
def threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "100")


def test_actor_is_the_user_of_the_process_despite_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME", "LNAME", "SUDO_USER"):
        monkeypatch.setenv(name, "somebody")
    assert acting_user() == f"cli:{pwd.getpwuid(os.getuid()).pw_name}"


def test_user_without_a_name_is_identified_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_011)
    assert acting_user() == "cli:uid-2000000011"


@pytest.mark.parametrize(
    "act",
    [
        (*ASK, "--customer", "ann", "--actor", "bob"),
        (*ASK, "--customer", "ann", "--actor=bob"),
        ("refunds", "submit", "requests.csv", "--actor", "bob"),
        ("customers", "correct", "ann", "--credits", "5", "--reason", "r", "--actor", "console/anna"),
        ("transactions", "reverse", "t1", "--actor", "console/anna"),
        ("processors", "pause", "stripe", "--actor", "anna"),
        ("failures", "retry", "declined", "--expected", "0", "--reason", "r", "--actor", "anna"),
        ("audit", "verify", "--actor", "anna"),
    ],
    ids=" ".join,
)
def test_chosen_actor_is_refused_with_advice_and_no_effect(shop: Cli, tmp_path: Path, act: tuple[str, ...]) -> None:
    (tmp_path / "requests.csv").write_text(REQUESTS + ROW)
    ran = shop(*act, "-o", "json")
    assert (ran.code, ran.out) == (2, "")
    assert f"the actor is who runs the command ({acting_user()})" in ran.problem["detail"]
    assert "leave it out" in ran.problem["detail"]
    assert shop("audit", "list", "-o", "json").json["data"] == []
    assert shop("audit", "list", "--of", "ledger", "--actor", "anna", "-o", "json").json["data"] == []


def test_no_action_accepts_a_chosen_actor(shop: Cli) -> None:
    refund = shop(*ASK, "--customer", "ann", "-o", "json").json
    for act in ("approve", "reject", "cancel", "retry"):
        assert shop("refunds", act, refund["id"], "--reason", "r", "--actor", "console/somebody").code == 2
    resolve = ("--outcome", "reverse", "--reason", "r", "--actor", "console/somebody")
    assert shop("refunds", "resolve", refund["id"], *resolve).code == 2
    assert shop("refunds", "show", refund["id"], "-o", "json").json["version"] == refund["version"]


@pytest.mark.parametrize("name", ["requests.csv", "requests.jsonl"])
def test_submitter_of_a_file_is_its_actor_and_cannot_approve_it(
    shop: Cli, become: Become, tmp_path: Path, name: str
) -> None:
    json_line = (
        '{"idempotency_key": "k1", "kind": "withdrawal", "to": "source", "customer_id": "ann", "credits": 100,'
        ' "reason": "asked", "requested_by": "bob"}\n'
    )
    (tmp_path / name).write_text(REQUESTS + ROW if name.endswith("csv") else json_line)
    become("anna")
    assert shop("refunds", "submit", name).code == 0
    (refund,) = shop("approvals", "list", "-o", "json").json["data"]
    assert (refund["actor"], refund["requested_by"]) == ("cli:anna", "bob")
    (accepted,) = shop("refunds", "events", refund["id"], "-o", "json").json["data"]
    assert (accepted["who"], accepted["detail"]["requested_by"]) == ("cli:anna", "bob")
    own = shop("refunds", "approve", refund["id"], "--reason", "fine", "-o", "json")
    assert (own.code, own.problem["code"]) == (5, "action_not_allowed")
    become("bob")
    assert shop("refunds", "approve", refund["id"], "--reason", "fine").code == 0


def test_create_notes_who_asked_for_the_refund(shop: Cli, become: Become) -> None:
    become("anna")
    ran = shop(*ASK, "--customer", "ann", "--requested-by", "Mrs Smith, by phone", "-o", "json")
    assert (ran.json["actor"], ran.json["requested_by"]) == ("cli:anna", "Mrs Smith, by phone")
    assert "Mrs Smith, by phone" in shop("refunds", "show", ran.json["id"]).out


def test_linked_names_are_one_person_on_the_command_line(shop: Cli, become: Become) -> None:
    assert shop("users", "create", "anna", "--role", "viewer").code == 0
    become("anna")
    refund = shop(*ASK, "--customer", "ann", "-o", "json").json
    become("root")
    for identity in ("cli:anna", "cli:root"):
        linked = shop("users", "link", "anna", identity, "-o", "json").json
        assert linked == {"user": "console/anna", "identity": identity, "linked": True}
    own = shop("refunds", "approve", refund["id"], "--reason", "fine", "-o", "json")
    assert (own.code, own.problem["code"]) == (5, "action_not_allowed")
    assert "cli:anna" in own.problem["detail"]
    assert "cli:root" in shop("users", "links").out
    assert "identity cli:anna, user console/anna" in " ".join(shop("audit", "list").out.split())
    assert shop("users", "unlink", "anna", "cli:root", "-o", "json").json["linked"] is False
    assert shop("refunds", "approve", refund["id"], "--reason", "fine").code == 0
    assert shop("users", "link", "nobody", "cli:root").code == 4
    assert shop("users", "link", "anna", "a/b/c").code == 2
