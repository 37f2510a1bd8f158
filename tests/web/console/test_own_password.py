"""Your password: changed by every person for themselves, with the current one, and with an end to other sessions."""

from __future__ import annotations

import httpx
import pytest
from tests.web.client import Web
from tests.web.console.session import shift_times
from tests.web.console.visitor import PASSWORD, Visitor, text_of, visitor

from refund_worker.engine.access import console_users
from refund_worker.engine.access.api_keys import ConsoleRole
from refund_worker.engine.audit import log
from refund_worker.errors import InvalidRequest
from refund_worker.store.access import console_users as store
from refund_worker.store.tables import console_tries

NEW = "staple battery horse"


def change(person: Visitor, current: str = PASSWORD, new: str = NEW, again: str | None = None) -> httpx.Response:
    page = person.get("/password")
    return person.submit(page, "/password", current=current, new=new, again=new if again is None else again)


@pytest.mark.parametrize("role", list(ConsoleRole))
def test_every_role_changes_its_own_password(web: Web, role: ConsoleRole) -> None:
    person = visitor(web, role, "anna")
    changed = change(person)
    assert "Your password is changed" in text_of(person.follow(changed))
    assert Visitor(web).sign_in("anna", PASSWORD).status_code == 403
    assert Visitor(web).sign_in("anna", NEW).status_code == 303


def test_change_ends_the_other_sessions_and_no_one_elses(web: Web) -> None:
    anna, omar = visitor(web, "support", "anna"), visitor(web, "support", "omar")
    elsewhere = Visitor(web)
    elsewhere.sign_in("anna")
    assert elsewhere.get("/").status_code == 200
    assert change(anna).status_code == 303
    assert [person.get("/").status_code for person in (anna, omar, elsewhere)] == [200, 200, 303]


def test_change_is_in_the_audit_trail_under_the_persons_name(web: Web) -> None:
    anna = visitor(web, "viewer", "anna")
    change(anna)
    with web.context.database.read() as connection:
        (event,) = log.entries(connection, kind="user_password_set")["data"]
    assert (event["who"], event["detail"]) == ("console/anna", {"user": "anna"})
    assert NEW not in anna.get("/audit").text


@pytest.mark.parametrize("new", ["too short", "x" * 11, "x" * 201, ""])
def test_rules_are_those_of_set_password(web: Web, new: str) -> None:
    anna = visitor(web, "viewer", "anna")
    refused = change(anna, new=new)
    with pytest.raises(InvalidRequest) as by_command:
        console_users.set_password(web.context, "anna", password=new, actor="cli:boss")
    assert refused.status_code == 422
    assert by_command.value.message in text_of(refused).replace("The password", "the password")
    assert (
        'id="new" name="new" type="password" autocomplete="new-password" required minlength="12" aria-' in refused.text
    )
    assert Visitor(web).sign_in("anna").status_code == 303


def test_repetition_that_differs_changes_nothing(web: Web) -> None:
    anna = visitor(web, "viewer", "anna")
    refused = change(anna, again=NEW + "!")
    assert refused.status_code == 422
    assert "differ: enter both again" in text_of(refused)
    assert NEW not in refused.text
    assert Visitor(web).sign_in("anna").status_code == 303


def test_wrong_current_password_is_held_back_as_at_sign_in(web: Web) -> None:
    anna = visitor(web, "support", "anna")
    for _ in range(5):
        wrong = change(anna, current="not it, not it")
        assert (wrong.status_code, "The current password is wrong" in text_of(wrong)) == (403, True)
    _count_more(web, 12)
    held = change(anna)
    assert held.status_code == 429
    assert int(held.headers["retry-after"]) > 800
    assert "Too many wrong passwords: try again in " in text_of(held)
    # Another form of the same session gives a guesser no more attempts.
    shift_times(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
    page = anna.get("/add-credits", customer="cust-1")
    confirmed = anna.submit(page, "/add-credits", credits="1", reason="x", password=PASSWORD)
    assert confirmed.status_code == 403
    # The person can sign in elsewhere, and the wrong ones are among those counted for the name.
    assert Visitor(web).sign_in("anna").status_code == 303
    with web.context.database.read() as connection:
        assert store.tries_of(connection, "name:anna")[0] == 5


def test_password_set_by_an_admin_meanwhile_stays(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thief of the session, who knows the old password, sends the form just as an admin sets another one."""
    thief = visitor(web, "viewer", "anna")
    checked = console_users._checked_user

    def admin_is_faster(*arguments, **named):  # type: ignore[no-untyped-def]
        row = checked(*arguments, **named)
        console_users.set_password(web.context, "anna", password="set by the admin", actor="cli:boss")
        return row

    monkeypatch.setattr(console_users, "_checked_user", admin_is_faster)
    assert change(thief).status_code == 403
    monkeypatch.undo()
    assert Visitor(web).sign_in("anna", NEW).status_code == 403
    assert Visitor(web).sign_in("anna", "set by the admin").status_code == 303


def test_form_from_another_session_changes_nothing(web: Web) -> None:
    anna, omar = visitor(web, "viewer", "anna"), visitor(web, "viewer", "omar")
    fields = {"current": PASSWORD, "new": NEW, "again": NEW}
    token = httpx.Response(200, text=omar.get("/password").text).text.partition('name="token" value="')[2][:64]
    assert anna.post("/password", fields | {"token": token}).status_code == 403
    assert Visitor(web).sign_in("anna").status_code == 303


def _count_more(web: Web, number: int) -> None:
    """Count more wrong passwords of the session, so that its wait is longer than this test."""
    subject = console_tries.c.subject.like("session:%")
    more = console_tries.update().where(subject).values(tries=console_tries.c.tries + number)
    web.context.database.run(lambda connection: connection.execute(more))
