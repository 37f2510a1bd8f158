"""Alarms and failure codes in the console lead to the runbook, and the advice for one refund is true of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.client import Web
from tests.web.console.test_safe_retry import Place, made
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.alarms import anchor_of
from refund_worker.domain.decision import PAUSE_SECONDS
from refund_worker.engine.views.runbook import all_names
from refund_worker.store import processors

HELP_LINK = re.compile(r'href="/console/help#([^"]+)"')


@pytest.fixture
def place(migrated_sqlite_url: str, tmp_path: Path) -> Iterator[Place]:
    with made(migrated_sqlite_url, tmp_path) as place:
        yield place


def anchors_of_help(person: Visitor) -> list[str]:
    return re.findall(r'id="([^"]+)"', person.get("/help").text)


def test_help_page_has_one_anchor_for_every_entry(web: Web) -> None:
    anchors = anchors_of_help(visitor(web, "viewer"))
    assert [name for name in all_names() if anchors.count(anchor_of(name)) != 1] == []


def test_code_and_alarm_of_a_stopped_refund_lead_to_its_entry(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    person = visitor(place.web, "operator")
    for path in (f"/refunds/{refund_id}", "/failures", "/", f"/audit?refund_id={refund_id}"):
        assert "balance-insufficient" in HELP_LINK.findall(person.get(path).text), path
    assert "balance-insufficient" in anchors_of_help(person)


def test_page_of_a_refund_tells_its_own_facts(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    text = text_of(visitor(place.web, "support").get(f"/refunds/{refund_id}"))
    assert "which is ch_1 at stripe" in text
    assert "Credits:" in text
    assert "off the balance, and not settled yet" in text
    assert "No other payment" not in text


def test_page_of_an_already_refunded_payment_has_its_advice(place: Place) -> None:
    refund_id = place.stopped("charge_already_refunded")
    text = text_of(visitor(place.web, "support").get(f"/refunds/{refund_id}"))
    assert "The payment is already refunded" in text
    assert "no entry" not in text


def test_a_stopped_processor_leads_to_the_entry_of_its_code(web: Web) -> None:
    def stop(connection):  # type: ignore[no-untyped-def]
        now = web.context.clock(connection)
        reason = {"by": "refund-worker", "code": "api_key_expired", "reason": "expired"}
        processors.pause(connection, "stripe", now, until=now + PAUSE_SECONDS, **reason)

    web.context.database.run(stop)
    person = visitor(web, "operator")
    for path in ("/", "/processors"):
        assert "api-key-expired" in HELP_LINK.findall(person.get(path).text), path
    assert "api-key-expired" in anchors_of_help(person)


def test_a_code_without_an_entry_leads_to_the_general_one(place: Place) -> None:
    refund_id = place.stopped("a_code_of_next_year")
    person = visitor(place.web, "operator")
    assert "other-code" in HELP_LINK.findall(person.get(f"/refunds/{refund_id}").text)
    assert "other-code" in anchors_of_help(person)
