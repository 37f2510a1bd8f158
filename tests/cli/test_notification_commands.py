"""Commands that list notifications and send them again."""

from __future__ import annotations

import base64

import pytest
from tests.cli.conftest import Cli

SECRET = base64.b64encode(b"n" * 32).decode()


def test_notifications_are_listed_and_redelivered_only_by_name(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shop("notifications", "list", "-o", "json").json == {"data": [], "has_more": False}
    monkeypatch.setenv("REFUND_WORKER_NOTIFY_URL", "http://127.0.0.1:9/hooks")
    monkeypatch.setenv("REFUND_WORKER_NOTIFY_SECRET", SECRET)
    asked = ("--kind", "withdrawal", "--to", "source", "--customer", "ann", "--credits", "10", "--reason", "asked")
    created = shop("refunds", "create", *asked, "-o", "json")
    assert created.code == 0, created.err
    (message,) = shop("notifications", "list", "-o", "json").json["data"]
    assert (message["type"], message["state"]) == ("refund.queued", "waiting")
    assert message["refund_id"] == created.json["id"]
    assert shop("notifications", "list", "--given-up", "-o", "json").json["data"] == []
    assert message["id"] in shop("notifications", "list").out
    assert shop("notifications", "redeliver").code == 2
    assert shop("notifications", "redeliver", "msg_none").code == 4
    assert shop("notifications", "redeliver", "--given-up", "-o", "json").json == {"due": 0}
    assert shop("notifications", "redeliver", message["id"], "-o", "json").json == {"due": 1}
