"""The approvals page says why each refund waits, the oldest first, and decides many together, each in its own step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.visitor import Visitor, form_on, text_of, visitor

from refund_worker.engine.access.persons import link_person
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.errors import Unavailable
from refund_worker.web.authorised import act_on_refund
from refund_worker.web.console import approvals as page_of_approvals
from refund_worker.web.console import decide_many

ROW = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}


@pytest.fixture
def web(migrated_url: str) -> Iterator[Web]:
    """A console where more than 1.50 EUR a day of one customer needs a second person. Ten credits are 1.00 EUR."""
    with Web(settings_for(migrated_url, APPROVAL_THRESHOLD_MINOR="150")) as web:
        web.seed()
        yield web


@pytest.fixture
def paul(web: Web) -> Visitor:
    return visitor(web, "approver", "paul")


def ask(web: Web, *numbers: int) -> list[str]:
    return [web.refund(f"k{n}", credits=10, reason=f"wish {n}").json()["id"] for n in numbers]


def statuses(web: Web, ids: list[str]) -> list[str]:
    return [web.call("GET", f"/v1/refunds/{refund_id}").json()["status"] for refund_id in ids]


def test_each_refund_shows_why_it_waits_and_the_balance_after(web: Web, paul: Visitor) -> None:
    ids = ask(web, 1, 2, 3)
    assert statuses(web, ids) == ["queued", "awaiting_approval", "awaiting_approval"]
    process_until_idle(web.context)
    page = paul.get("/approvals")
    text = text_of(page)
    assert "2.00 EUR for this customer within 24 hours; the threshold is 1.50 EUR" in text
    assert "3.00 EUR for this customer within 24 hours" in text
    assert "1 other refund of the customer in that time" in text
    assert page.text.index(ids[1]) < page.text.index(ids[2]), "the oldest first"
    own = text_of(paul.get(f"/refunds/{ids[2]}"))
    assert "3.00 EUR for this customer within 24 hours; the threshold is 1.50 EUR" in own
    balance = web.call("GET", "/v1/customers/cust-1").json()["balance"]
    assert f"Balance now {balance} → after approval {balance - 10}" in own
    assert ids[0] in own, "the customer's history"


def test_why_it_waits_forgets_what_was_rejected(web: Web, paul: Visitor) -> None:
    ids = ask(web, 1, 2)
    web.call("POST", f"/v1/refunds/{ids[0]}/cancel", {"reason": "a slip"})
    assert "No total exceeds the threshold any more" in text_of(paul.get("/approvals"))


def test_more_than_one_page_can_be_walked_through(web: Web, paul: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_of_approvals, "PAGE", 2)
    ids = ask(web, *range(1, 7))[1:]
    seen: list[str] = []
    address = "/approvals"
    while address:
        page = paul.get(address)
        seen += [refund_id for refund_id in ids if f'id="a-{refund_id}"' in page.text]
        _, _, rest = page.text.partition('href="/console/approvals?starting_after=')
        address = f"/approvals?starting_after={rest.partition(chr(34))[0]}" if rest else ""
    assert seen == ids


def test_all_of_a_customer_are_approved_together_and_only_once(web: Web, paul: Visitor) -> None:
    first, *ids = ask(web, 1, 2, 3)
    confirm = paul.get("/approvals/approve", customer_id="cust-1")
    assert "Approve 2 refunds" in text_of(confirm)
    assert "2.00 EUR in 2 refunds" in text_of(confirm)
    fields = form_on(confirm, "/console/approvals/approve") | {"reason": "checked by phone"}
    (late,) = ask(web, 4)
    done = paul.post("/approvals/approve", fields)
    assert "2 of 2 approved" in text_of(done)
    assert statuses(web, [first, *ids, late])[1:] == ["queued", "queued", "awaiting_approval"]
    again = paul.post("/approvals/approve", fields)
    assert "2 of 2 approved" in text_of(again)
    events = web.call("GET", f"/v1/refunds/{ids[0]}/events").json()["data"]
    assert [(e["who"], e["why"]) for e in events if e["what"] == "refund_approved"] == [
        ("console/paul", "checked by phone")
    ]


def test_all_of_a_batch_are_rejected_together(web: Web, paul: Visitor) -> None:
    (other, waits) = ask(web, 1, 2)
    rows = [ROW | {"idempotency_key": f"b{n}"} for n in (1, 2)]
    batch = web.call("POST", "/v1/refund-batches", {"refunds": rows}).json()["batch_id"]
    confirm = paul.get("/approvals/reject", batch_id=batch)
    done = paul.submit(confirm, "/approvals/reject", reason="the file was wrong")
    assert "2 of 2 rejected" in text_of(done)
    assert statuses(web, [other, waits]) == ["queued", "awaiting_approval"]


def test_persons_own_requests_are_left_out_and_refused_one_by_one(web: Web, paul: Visitor) -> None:
    own_key = web.key("requester", client="backend", name="pauls-key")
    ids = ask(web, 1, 2)
    ids += [web.refund("own", credits=10, key=own_key).json()["id"]]
    before = form_on(paul.get("/approvals/approve", customer_id="cust-1"), "/console/approvals/approve")
    link_person(web.context, "paul", "key:backend/pauls-key", by="cli:root")
    confirm = text_of(paul.get("/approvals/approve", customer_id="cust-1"))
    assert "Approve 1 refund " in confirm
    assert "1 is left out" in confirm
    done = text_of(paul.post("/approvals/approve", before | {"reason": "all fine"}))
    assert "1 of 2 approved" in done
    assert "not approved" in done
    assert statuses(web, ids) == ["queued", "queued", "awaiting_approval"]


def test_refund_that_changed_meanwhile_is_left_alone(web: Web, paul: Visitor) -> None:
    _, second, third = ask(web, 1, 2, 3)
    confirm = paul.get("/approvals/approve", customer_id="cust-1")
    web.call("POST", f"/v1/refunds/{second}/cancel", {"reason": "a slip"})
    done = text_of(paul.submit(confirm, "/approvals/approve", reason="fine"))
    assert "1 of 2 approved" in done
    assert "It has changed since you opened the list: open the refund and decide there." in done
    assert statuses(web, [second, third]) == ["canceled", "queued"]


def test_outage_ends_many_decisions_and_pressing_again_goes_on(
    web: Web, paul: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, *ids = ask(web, 1, 2, 3, 4)
    confirm = paul.get("/approvals/approve", customer_id="cust-1")
    tried: list[str] = []

    def lost(context: object, who: object, refund_id: str, *_: object, **terms: Any) -> None:
        tried.append(refund_id)
        if len(tried) > 1:
            raise Unavailable("the database cannot be used just now")
        act_on_refund(web.context, who, refund_id, *_, **terms)  # type: ignore[arg-type]

    with monkeypatch.context() as outage:
        outage.setattr(decide_many, "act_on_refund", lost)
        stopped = paul.submit(confirm, "/approvals/approve", reason="fine")
    assert tried == ids[:2], "no further one waits for the database"
    words = text_of(stopped)
    assert "1 of 3 approved" in words
    assert "not known The database cannot be used just now" in words
    assert words.count("not tried Press the button below.") == 1
    assert statuses(web, ids) == ["queued", "awaiting_approval", "awaiting_approval"]
    assert "3 of 3 approved" in text_of(paul.submit(stopped, "/approvals/approve"))
    assert statuses(web, ids) == ["queued"] * 3


def test_many_decisions_end_after_a_time(web: Web, paul: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    _, *ids = ask(web, 1, 2, 3)
    confirm = paul.get("/approvals/reject", customer_id="cust-1")
    with monkeypatch.context() as hurry:
        hurry.setattr(decide_many, "MANY_SECONDS", 0.0)
        stopped = paul.submit(confirm, "/approvals/reject", reason="no")
    assert "0 of 2 rejected" in text_of(stopped)
    assert "2 are still to do" in text_of(stopped)
    assert "2 of 2 rejected" in text_of(paul.submit(stopped, "/approvals/reject"))
    assert statuses(web, ids) == ["rejected"] * 2


def test_many_are_decided_only_for_one_customer_or_batch(web: Web, paul: Visitor) -> None:
    ids = ask(web, 1, 2)
    assert paul.get("/approvals/approve").status_code == 422
    confirm = paul.get("/approvals/approve", customer_id="cust-1")
    missing = paul.submit(confirm, "/approvals/approve", reason=" ")
    assert missing.status_code == 422
    assert "Reason: say why in a few words" in text_of(missing)
    fields = form_on(confirm, "/console/approvals/approve") | {"reason": "fine"}
    for ids_of_form in ("", "rf_x", ":3", " ".join(f"rf_{n}:1" for n in range(decide_many.MANY_MAX + 1))):
        assert paul.post("/approvals/approve", fields | {"ids": ids_of_form}).status_code == 422, ids_of_form
    assert statuses(web, ids) == ["queued", "awaiting_approval"]
