"""Keys of the HTTP API: each is shown once, and can be revoked."""

from __future__ import annotations

from tests.cli.conftest import Cli


def test_key_is_shown_once_and_can_be_revoked(cli: Cli) -> None:
    made = cli("keys", "create", "backend", "--client", "shop", "--role", "requester", "-o", "json").json
    assert (set(made), made["client"], made["role"]) == ({"key", "client", "role"}, "shop", "requester")
    listed = cli("keys", "list", "-o", "json")
    assert made["key"] not in listed.out
    assert [(key["name"], key["status"]) for key in listed.json["data"]] == [("backend", "active")]
    assert cli("keys", "create", "backend", "--client", "shop", "--role", "viewer").code == 5
    assert cli("keys", "create", "other", "--client", "shop", "--role", "emperor").code == 2
    assert cli("keys", "revoke", "backend", "-o", "json").json["status"] == "revoked"
    assert cli("keys", "revoke", "backend").code == 4


def test_signed_key_is_shown_once_with_its_secret(cli: Cli) -> None:
    make = ("keys", "create", "backend", "--client", "shop", "--role", "requester", "--signed", "-o", "json")
    made = cli(*make).json
    assert list(made) == ["key", "signing_secret", "client", "role"]
    listed = cli("keys", "list", "-o", "json")
    assert listed.json["data"][0]["signed"] is True
    assert made["signing_secret"] not in listed.out
