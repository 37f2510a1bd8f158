"""Approval compares persons across API, console and CLI, and the console says why a person may not approve."""

from __future__ import annotations

import pytest
from tests.web.client import Web, is_problem
from tests.web.console.visitor import form_on, text_of, visitor

from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.persons import link_person
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.errors import ActionNotAllowed
from refund_worker.store.tables import console_sessions, console_users

WHY = "backend/boss asked for this refund, and is linked to the same person as console/boss"


def asked_for(web: Web, key: str) -> str:
    """Request a refund above the threshold with this key."""
    refund = web.refund(f"k-{key[-6:]}", key=key, credits=60).json()
    assert refund["status"] == "awaiting_approval"
    return str(refund["id"])


def rename_user(web: Web, name: str, new: str) -> None:
    with web.context.database.write() as connection:
        (row,) = connection.execute(console_users.select().where(console_users.c.name == name)).mappings()
        connection.execute(console_users.insert().values(**(dict(row) | {"name": new})))
        connection.execute(console_sessions.update().where(console_sessions.c.name == name).values(name=new))


def status_of(web: Web, refund_id: str) -> str:
    return str(web.call("GET", f"/v1/refunds/{refund_id}").json()["status"])


def test_console_user_cannot_approve_a_request_of_their_own_api_key(web: Web) -> None:
    refund_id = asked_for(web, web.key("requester", name="boss"))
    boss, anna = visitor(web, "approver", "boss"), visitor(web, "approver", "anna")
    before = boss.get(f"/refunds/{refund_id}")
    link_person(web.context, "boss", "key:backend/boss", by="cli:root")
    trail = text_of(boss.get("/audit"))
    assert "cli:root Two names linked as one person identity backend/boss , user console/boss" in trail
    page = boss.get(f"/refunds/{refund_id}")
    assert f"You cannot approve this refund: {WHY}" in text_of(page)
    assert f"/refunds/{refund_id}/approve" not in page.text
    assert f"/refunds/{refund_id}/reject" in page.text, "the requester may cancel it"
    assert "asked for this refund" in text_of(boss.get("/approvals"))
    # The page from before the link still has its form: the server decides.
    form = form_on(before, f"/console/refunds/{refund_id}/approve")
    pressed = boss.post(f"/refunds/{refund_id}/approve", form | {"reason": "fine"})
    assert pressed.status_code == 409
    assert status_of(web, refund_id) == "awaiting_approval"
    assert "Decide" in text_of(anna.get("/approvals"))
    done = anna.submit(anna.get(f"/refunds/{refund_id}"), f"/refunds/{refund_id}/approve", reason="fine")
    assert done.status_code == 303
    assert status_of(web, refund_id) == "queued"


def test_linked_person_cannot_approve_with_another_key_or_the_cli(web: Web) -> None:
    refund_id = asked_for(web, web.key("requester", name="boss"))
    visitor(web, "viewer", "boss")
    second_key = web.key("approver", name="boss-approves", client="office")
    for identity in ("key:backend/boss", "key:office/boss-approves", "cli:boss"):
        link_person(web.context, "boss", identity, by="cli:root")
    path = f"/v1/refunds/{refund_id}/approve"
    assert is_problem(web.call("POST", path, {"reason": "fine"}, key=second_key), 409, "action_not_allowed")
    with pytest.raises(ActionNotAllowed):
        perform_action(web.context, refund_id, Action.APPROVE, actor="cli:boss", reason="fine")
    assert status_of(web, refund_id) == "awaiting_approval"
    answer = web.call("POST", path, {"reason": "fine"}, key=web.key("approver", name="somebody"))
    assert answer.json()["status"] == "queued"


def test_same_name_in_other_letter_case_is_not_a_second_person(web: Web) -> None:
    """A database of an earlier version may have both names; a new one cannot."""
    ivy, ivy_again = visitor(web, "admin", "Ivy"), visitor(web, "admin", "eve")
    rename_user(web, "eve", "ivy")
    web.refund("k-1", credits=10)
    panel = ivy.get("/refund-transaction", id="tx-1")
    assert ivy.submit(panel, "/refund-transaction", to="source", reason="asked").status_code == 303
    waits = web.call("GET", "/v1/refunds?status=awaiting_approval").json()["data"]
    refund_id = waits[0]["id"]
    assert status_of(web, refund_id) == "awaiting_approval"
    assert "You cannot approve this refund: console/Ivy asked" in text_of(ivy_again.get(f"/refunds/{refund_id}"))


def test_requested_by_is_shown_as_a_note_next_to_the_actor(web: Web) -> None:
    key = web.key("admin", name="shop")
    refund = web.refund("k-1", key=key, credits=60, requested_by="console/anna").json()
    assert (refund["actor"], refund["requested_by"]) == ("backend/shop", "console/anna")
    (accepted,) = web.call("GET", f"/v1/refunds/{refund['id']}/events").json()["data"]
    assert (accepted["who"], accepted["detail"]["requested_by"]) == ("backend/shop", "console/anna")
    again = web.refund("k-1", key=key, credits=60, requested_by="somebody else")
    assert (again.status_code, again.json()["requested_by"]) == (200, "console/anna")
    own = web.call("POST", f"/v1/refunds/{refund['id']}/approve", {"reason": "fine"}, key=key)
    assert is_problem(own, 409, "action_not_allowed")
    anna = visitor(web, "approver", "anna")
    assert "stated requester: console/anna" in text_of(anna.get("/approvals"))
    page = text_of(anna.get(f"/refunds/{refund['id']}"))
    assert "Requested by backend/shop Stated requester console/anna" in page
