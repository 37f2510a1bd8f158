"""The refund's page says at its top where the money is, and asks the processor on demand."""

from __future__ import annotations

import pytest
from sqlalchemy import update
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor

from refund_worker.store.tables import legs, refund_objects, refunds


@pytest.fixture
def waiting(web: Web) -> str:
    """Return a refund whose object waits for the customer."""
    refund = web.refund("order-77", to="source").json()
    leg_id = refund["legs"][0]["leg_id"]
    row = {"processor": "stripe", "processor_refund_id": "re_77", "leg_id": leg_id, "attempt": 1}
    row |= {"amount_minor": 100, "currency": "EUR", "created_at": 1.0, "seen_at": 1.0}
    row |= {"state": "requires_action", "status": "requires_action", "emailed_to": "j***@example.com"}
    with web.context.database.write() as connection:
        connection.execute(refund_objects.insert().values(**row, act_by=1_800_000_000.0))
        open_ = {"status": "requires_action", "processor_refund_id": "re_77", "sends": 1, "next_at": 9e9}
        connection.execute(update(legs).where(legs.c.leg_id == leg_id).values(**open_))
        connection.execute(update(refunds).values(status="pending", posted=True, due_at=9e9))
    return str(refund["id"])


def test_card_says_who_is_waited_for_and_what_to_tell_the_customer(web: Web, waiting: str) -> None:
    person = visitor(web, "support", "anna")
    answer = person.get("/search", q="re_77")
    assert answer.headers["location"].endswith(f"/refunds/{waiting}")
    page = text_of(person.get(f"/refunds/{waiting}"))
    assert "Where is the money? Waits for: the customer" in page
    assert "At the processor requires_action" in page
    assert "e-mail to j***@example.com , until 2027-01-15" in page
    assert "Tell the customer Your refund of" in page
    assert page.index("Where is the money?") < page.index("Payments")
    assert "Cancel the refund" in page


def test_support_asks_the_processor_from_the_page(web: Web, waiting: str) -> None:
    person = visitor(web, "support", "anna")
    answer = person.submit(person.get(f"/refunds/{waiting}"), f"/refunds/{waiting}/sync")
    assert answer.status_code == 503
    assert "cannot be asked now" in text_of(answer)
    unsent = web.refund("order-78", to="source").json()["id"]
    assert person.submit(person.get(f"/refunds/{unsent}"), f"/refunds/{unsent}/sync").status_code == 303
    viewer = visitor(web, "viewer")
    assert "Ask the processor now" not in viewer.get(f"/refunds/{waiting}").text


def test_cancel_of_a_waiting_refund_says_that_the_processor_is_asked(web: Web, waiting: str) -> None:
    person = visitor(web, "support", "anna")
    form = person.get(f"/refunds/{waiting}")
    answer = person.submit(form, f"/refunds/{waiting}/cancel", reason="asked by phone")
    assert answer.status_code == 303, text_of(answer)
    page = text_of(person.get(f"/refunds/{waiting}"))
    assert "It is being canceled" in page
    assert web.call("GET", f"/v1/refunds/{waiting}").json()["available_actions"] == []
