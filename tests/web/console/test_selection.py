"""Selected rows of the list of refunds: one page confirms an action on them, and reports the result of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.visitor import Visitor, form_on, text_of, visitor

from refund_worker.engine.access.persons import link_person
from refund_worker.store.tables import legs, refunds
from refund_worker.web.console.selection import PAGE


@pytest.fixture
def web(migrated_url: str) -> Iterator[Web]:
    """A console where more than 1.50 EUR a day of one customer needs a second person. Ten credits are 1.00 EUR."""
    with Web(settings_for(migrated_url, APPROVAL_THRESHOLD_MINOR="150")) as web:
        web.seed()
        yield web


def ask(web: Web, *numbers: int) -> list[str]:
    return [web.refund(f"k{n}", credits=10, reason=f"wish {n}").json()["id"] for n in numbers]


def stop(web: Web, refund_id: str, **leg: Any) -> None:
    def work(connection: Any) -> None:
        told = {"failure_code": "balance_insufficient"}
        left = {"status": "needs_attention", "due_at": None}
        connection.execute(refunds.update().where(refunds.c.refund_id == refund_id).values(**left, **told))
        stopped = {"status": "blocked", "attention": "balance_insufficient", "next_at": None}
        connection.execute(legs.update().where(legs.c.refund_id == refund_id).values(**stopped, **told, **leg))

    web.context.database.run(work)


def statuses(web: Web, ids: list[str]) -> list[str]:
    return [web.call("GET", f"/v1/refunds/{refund_id}").json()["status"] for refund_id in ids]


def confirm(person: Visitor, action: str, ids: list[str], **more: str) -> Any:
    return person.call("GET", f"/selected/{action}?" + "&".join([f"selected={each}" for each in ids]) + _query(more))


def _query(more: dict[str, str]) -> str:
    return "".join(f"&{name}={value}" for name, value in more.items())


def times_of(web: Web, refund_id: str, what: str) -> int:
    timeline = web.call("GET", f"/v1/refunds/{refund_id}/events").json()["data"]
    return [line["what"] for line in timeline].count(what)


def test_statuses_of_decided_refunds_have_a_page_of_their_own(web: Web) -> None:
    (queued,) = ask(web, 1)
    person = visitor(web, "support")
    page = confirm(person, "cancel", [queued])
    result = person.submit(page, "/selected/cancel", reason="a slip")
    assert f'data-from="/console/selected/now?refund={queued}"' in result.text
    now = person.get("/selected/now", refund=queued)
    for each in (result, now):
        assert re.search(f'<td id="now-{queued}" data-live[^>]*><span class="badge[^>]*>canceled<', each.text)
    assert person.call("GET", "/selected/now?" + "refund=x&" * 201).status_code == 422


def test_selected_refunds_are_canceled_and_the_rest_is_named(web: Web) -> None:
    queued, waiting, stopped = ask(web, 1, 2, 3)
    stop(web, stopped)
    person = visitor(web, "support")
    page = confirm(person, "cancel", [queued, waiting, stopped, "rf_none"])
    text = text_of(page)
    assert "Cancel 2 refunds" in text
    assert "2.00 EUR in 2 refunds" in text
    assert "2 are left out" in text
    why = "Its status is “needs attention”; this is possible only while it is “awaiting approval” or “queued”"
    assert why in text
    assert "rf_none – No refund with this id is known here" in text
    assert statuses(web, [queued, waiting]) == ["queued", "awaiting_approval"], "the page itself changes nothing"
    done = text_of(person.submit(page, "/selected/cancel", reason="a slip"))
    assert "2 of 2 canceled" in done
    assert statuses(web, [queued, waiting, stopped]) == ["canceled", "canceled", "needs_attention"]


def test_form_sent_twice_changes_each_refund_once(web: Web) -> None:
    ids = ask(web, 1)
    stop(web, ids[0])
    person = visitor(web, "operator")
    page = confirm(person, "retry", ids)
    for _ in range(2):
        assert "1 of 1 retried" in text_of(person.submit(page, "/selected/retry", reason="topped up"))
    assert times_of(web, ids[0], "retry_requested") == 1
    stop(web, ids[0])
    again = form_on(page, "/console/selected/retry") | {"reason": "topped up", "request_id": "b" * 20}
    assert "It has changed since you opened the list" in text_of(person.post("/selected/retry", again))


def test_selected_approvals_need_a_second_person(web: Web) -> None:
    own_key = web.key("requester", client="backend", name="pauls-key")
    first, other = ask(web, 1, 2)
    own = web.refund("own", credits=10, key=own_key).json()["id"]
    person = visitor(web, "approver", "paul")
    link_person(web.context, "paul", "key:backend/pauls-key", by="cli:root")
    page = confirm(person, "approve", [other, own])
    assert "Approve 1 refund " in text_of(page)
    fields = form_on(page, "/console/selected/approve") | {"reason": "checked"}
    with_own = fields | {"ids": f"{fields['ids']} {own}:1"}
    done = text_of(person.post("/selected/approve", with_own))
    assert "1 of 2 approved" in done
    assert statuses(web, [first, other, own]) == ["queued", "queued", "awaiting_approval"]


def test_retry_of_many_does_not_accept_refunds_made_elsewhere(web: Web) -> None:
    ids = ask(web, 1)
    stop(web, ids[0], blocked_by=["re_elsewhere"])
    person = visitor(web, "operator")
    page = confirm(person, "retry", ids)
    assert "retry it on its own page" in text_of(page)
    with pytest.raises(AssertionError, match="no form"):
        form_on(page, "/console/selected/retry")
    with web.context.database.read() as connection:
        (version,) = connection.execute(refunds.select().with_only_columns(refunds.c.version)).one()
    token = form_on(person.get("/help"), "/console/sign-out")["token"]
    forged = {"ids": f"{ids[0]}:{version}", "reason": "all", "request_id": "a" * 20, "token": token}
    assert "1 of 1 retried" in text_of(person.post("/selected/retry", forged))
    with web.context.database.read() as connection:
        (seen,) = connection.execute(legs.select().with_only_columns(legs.c.seen_elsewhere)).one()
    assert "re_elsewhere" not in str(seen), "the worker looks for it again"


def test_retry_that_does_not_help_is_said_before_the_press(web: Web) -> None:
    ids = ask(web, 1)
    stop(web, ids[0])
    person = visitor(web, "operator")
    assert "does not remove the cause" not in text_of(confirm(person, "retry", ids))
    disputed = {"failure_code": "charge_disputed"}
    web.context.database.run(lambda connection: connection.execute(refunds.update().values(**disputed)))
    assert "For 1 of these, a retry alone does not remove the cause" in text_of(confirm(person, "retry", ids))


def test_rows_can_be_selected_by_those_who_may_act(web: Web) -> None:
    (refund_id,) = ask(web, 1)
    offered = {
        "viewer": [],
        "support": ["cancel"],
        "operator": ["retry", "cancel"],
        "approver": ["approve", "reject"],
        "admin": ["retry", "approve", "reject", "cancel"],
    }
    for role, acts in offered.items():
        page = visitor(web, role).get("/refunds").text
        assert re.findall(r'formaction="/console/selected/(\w+)"', page) == acts, role
        box = f'<input type="checkbox" name="selected" value="{refund_id}" form="selection"'
        assert (box in page) == bool(acts), role
        assert (f'aria-label="Select refund {refund_id}"' in page) == bool(acts), role


def test_at_most_the_rows_of_one_page_are_acted_on(web: Web) -> None:
    ids = ask(web, 1)
    person = visitor(web, "support")
    assert confirm(person, "cancel", [f"rf_{n}" for n in range(PAGE + 1)]).status_code == 422
    nothing = confirm(person, "cancel", [])
    assert nothing.status_code == 422
    assert "No refund is selected." in text_of(nothing)
    page = confirm(person, "cancel", ids * 3)
    assert "Cancel 1 refund " in text_of(page), "each once"
    fields = form_on(page, "/console/selected/cancel") | {"reason": "no"}
    many = " ".join(f"rf_{n}:1" for n in range(PAGE + 1))
    for wrong in ({"ids": many}, {"ids": ""}, {"reason": " "}, {"request_id": "x"}):
        assert person.post("/selected/cancel", fields | wrong).status_code == 422, wrong
    assert statuses(web, ids) == ["queued"]
    kept = person.post("/selected/cancel", fields | {"reason": ""})
    assert "Cancel 1 refund " in text_of(kept), "the selection is kept with the error"


def test_way_back_is_the_list_with_its_filters_and_nothing_else(web: Web) -> None:
    ids = ask(web, 1)
    person = visitor(web, "support")
    listed = person.get("/refunds", status="queued", customer_id="cust-1")
    back = form_on(listed, "/console/selected/cancel")["back"]
    assert back == "status=queued&customer_id=cust-1"
    page = confirm(person, "cancel", ids, back="status%3Dqueued%26customer_id%3Dcust-1")
    assert page.text.count('href="/console/refunds?status=queued&amp;customer_id=cust-1"') == 2
    done = person.submit(page, "/selected/cancel", reason="a slip")
    assert 'href="/console/refunds?status=queued&amp;customer_id=cust-1"' in done.text
    evil = confirm(person, "cancel", ids, back="//evil.example/%3Fx%3D1").text
    assert re.findall(r'href="([^"]*evil[^"]*)"', evil) == ["/console/refunds?%2F%2Fevil.example%2F%3Fx=1"] * 2
