"""Commands that create and change console users, and the audit trail of these changes."""

from __future__ import annotations

import io
import re

import pytest
from tests.cli.conftest import Cli
from tests.support.pages import ROOT

from refund_worker.cli.options import acting_user
from refund_worker.engine.access.permissions import Act
from refund_worker.web.console.pages import MENU
from refund_worker.web.console.permissions import RULES


def create(cli: Cli, name: str = "ivy", role: str = "support") -> dict[str, str]:
    user: dict[str, str] = cli("users", "create", name, "--role", role, "-o", "json").json
    return user


def trail(cli: Cli) -> list[tuple[str, str, dict[str, str]]]:
    """Return (what, who, detail) of all changes of users, the oldest first."""
    entries = cli("audit", "list", "-o", "json").json["data"]
    return [(e["what"], e["who"], e["detail"]) for e in reversed(entries) if e["what"].startswith("user_")]


@pytest.mark.parametrize("role", ["viewer", "support", "operator", "approver", "admin"])
def test_user_is_created_with_each_role_of_the_console(cli: Cli, role: str) -> None:
    made = create(cli, role=role)
    assert (made["name"], made["role"]) == ("ivy", role)
    assert len(made["password"]) == 20
    assert cli("users", "list", "-o", "json").json["data"][0]["role"] == role


def test_requester_is_a_role_of_keys_only(cli: Cli) -> None:
    ran = cli("users", "create", "ivy", "--role", "requester")
    assert ran.code == 2
    assert "for a person say support" in ran.err
    create(cli)
    assert "for a person say support" in cli("users", "set-role", "ivy", "requester").err
    assert cli("users", "set-role", "ivy", "root").code == 2
    assert cli("users", "list", "-o", "json").json["data"][0]["role"] == "support"


def test_names_that_differ_in_case_are_one_user(cli: Cli) -> None:
    create(cli, "Ivy")
    ran = cli("users", "create", "ivy", "--role", "viewer")
    assert ran.code == 5
    assert "there is a user named Ivy" in ran.err
    assert cli("users", "set-role", "IVY", "viewer", "-o", "json").json["name"] == "Ivy"
    assert [user["name"] for user in cli("users", "list", "-o", "json").json["data"]] == ["Ivy"]


def test_disabled_name_is_enabled_and_not_created_again(cli: Cli) -> None:
    create(cli)
    assert cli("users", "disable", "ivy", "-o", "json").json["status"] == "disabled"
    ran = cli("users", "create", "Ivy", "--role", "support")
    assert ran.code == 5
    assert "`refund-worker users enable ivy`" in ran.err
    enabled = cli("users", "enable", "ivy", "-o", "json").json
    assert (enabled["status"], enabled["disabled_at"], enabled["role"]) == ("active", None, "support")


@pytest.mark.parametrize("arguments", [["operator"], ["--role", "operator"]])
def test_role_is_given_as_an_argument_or_an_option(cli: Cli, arguments: list[str]) -> None:
    create(cli)
    assert cli("users", "set-role", "ivy", *arguments, "-o", "json").json["role"] == "operator"


def test_role_must_be_given_exactly_once(cli: Cli) -> None:
    create(cli)
    assert cli("users", "set-role", "ivy").code == 2
    assert cli("users", "set-role", "ivy", "viewer", "--role", "operator").code == 2


def test_password_is_shown_only_if_it_was_generated(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    first = create(cli)["password"]
    second = cli("users", "set-password", "IVY", "-o", "json").json
    assert second["name"] == "ivy"
    assert second["password"] not in ("", first)
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    ran = cli("users", "set-password", "ivy", "--password-stdin")
    assert ran.code == 0
    assert "correct horse" not in ran.out + ran.err
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    refused = cli("users", "set-password", "ivy", "--password-stdin")
    assert refused.code == 2
    assert "12 to 200 characters" in refused.err


@pytest.mark.parametrize("command", ["set-password", "set-role", "enable", "disable", "unlock"])
def test_unknown_user_name_exits_4(cli: Cli, command: str) -> None:
    ran = cli("users", command, "nobody", *(["viewer"] if command == "set-role" else []))
    assert ran.code == 4
    assert "no user is named nobody" in ran.err
    assert trail(cli) == []


def test_each_change_of_a_user_is_in_the_audit_trail_with_its_actor(cli: Cli) -> None:
    password = create(cli)["password"]
    cli("users", "set-role", "Ivy", "operator")
    cli("users", "set-role", "ivy", "operator")
    second = cli("users", "set-password", "ivy", "-o", "json").json["password"]
    cli("users", "unlock", "ivy")
    cli("users", "enable", "ivy")
    for command in ("disable", "disable", "enable"):
        cli("users", command, "ivy")
    found = trail(cli)
    assert [(what, detail) for what, _, detail in found] == [
        ("user_created", {"user": "ivy", "role": "support"}),
        ("user_role_set", {"user": "ivy", "role": "operator", "before": "support"}),
        ("user_password_set", {"user": "ivy"}),
        ("user_unlocked", {"user": "ivy"}),
        ("user_disabled", {"user": "ivy"}),
        ("user_enabled", {"user": "ivy"}),
    ]
    assert {who for _, who, _ in found} == {acting_user()}
    listed = cli("audit", "list").out
    assert "role operator, user ivy" in listed
    assert password not in listed + str(found)
    assert second not in listed + str(found)


def test_pages_that_a_viewer_may_not_open_are_named() -> None:
    closed = [name for _, pages in MENU for path, name in pages if RULES["GET", path] is Act.INSPECT]
    assert len(closed) == 3
    (for_admins,) = (name for _, pages in MENU for path, name in pages if RULES["GET", path] is Act.MANAGE)
    names = f"{', '.join(closed[:-1])} and {closed[-1]}"
    for file in ("src/refund_worker/cli/users.py", "docs/operations.md"):
        text = " ".join((ROOT / file).read_text("utf-8").split())
        assert f'all pages but {", ".join(closed)} and "{for_admins}"' in text
        assert re.search(f"sees? {names}", text)
