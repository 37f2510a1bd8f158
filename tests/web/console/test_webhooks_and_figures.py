"""The pages Webhooks and Figures: filters, links to refunds, real tries, and the range of days."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor

from refund_worker.engine.processor_sync import webhook_inbox
from refund_worker.processors.stripe.entry import ENTRY
from refund_worker.store import inbox
from refund_worker.store.reporting import console_queries
from refund_worker.store.tables import legs, refund_objects
from refund_worker.web.console.charts import RANGES
from refund_worker.web.console.svg import LABEL_HEIGHT, columns, lines


def receive(web: Web, event_id: str, kind: str, body: Any, outcome: str | None, tries: int = 0) -> None:
    def work(connection: Any) -> None:
        inbox.insert_event(connection, "stripe", event_id, kind, json.dumps(body), 1.7e9 + tries)
        for _ in range(tries):
            inbox.mark_tried(connection, [("stripe", event_id)])
        if outcome is not None:
            inbox.mark_processed(connection, [("stripe", event_id, outcome)], 1.7e9 + 60)

    web.context.database.run(work)


def about(object_id: str, leg_id: str | None = None) -> Any:
    found: dict[str, Any] = {"id": object_id, "object": "refund"}
    return {"data": {"object": found | ({"metadata": {"refund_worker_leg": leg_id}} if leg_id else {})}}


def rows_of(page: Any) -> dict[str, list[str]]:
    """Return the cells of each row, by the event's id."""
    found = {}
    for row in page.text.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1:]:
        cells = [" ".join(re.sub(r"<[^>]*>", " ", cell).split()) for cell in row.split("</td>")[:-1]]
        if len(cells) > 1:
            found[cells[2]] = cells
    return found


def test_webhooks_lead_to_their_refunds_and_count_real_tries(web: Web) -> None:
    refund_id, other = (web.refund(f"k{n}", credits=1).json()["id"] for n in range(2))

    def make_object(connection: Any) -> str:
        ids = {row.refund_id: row.leg_id for row in connection.execute(legs.select())}
        values = {"processor": "stripe", "processor_refund_id": "re_1", "leg_id": ids[refund_id], "attempt": 1}
        values |= {"state": "succeeded", "status": "succeeded", "amount_minor": 10, "currency": "EUR"}
        connection.execute(refund_objects.insert().values(**values, created_at=1.7e9, seen_at=1.7e9))
        return str(ids[other])

    leg_id = web.context.database.run(make_object)
    receive(web, "evt_object", "refund.created", about("re_1"), webhook_inbox.PROCESSED)
    receive(web, "evt_leg", "refund.updated", about("re_2", leg_id), None, tries=3)
    receive(web, "evt_strange", "charge.updated", {"data": {"object": {"id": "ch_1"}}}, webhook_inbox.NOT_ABOUT_REFUND)
    page = visitor(web, "operator").get("/webhooks")
    rows = rows_of(page)
    assert rows["evt_object"][4:] == [refund_id, "processed", "1"]
    assert [rows["evt_leg"][4], rows["evt_leg"][6]] == [other, "3"]
    assert rows["evt_leg"][5].startswith("waiting stripe did not return this refund")
    assert rows["evt_strange"][4:] == ["–", "not about a refund", "1"]
    assert f'href="/console/refunds/{refund_id}"' in page.text


def test_webhooks_are_filtered_by_status_and_type(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    for n, outcome in enumerate(
        [
            webhook_inbox.PROCESSED,
            webhook_inbox.UNKNOWN_REFUND,
            webhook_inbox.NOT_ABOUT_REFUND,
            webhook_inbox.NOT_UNDERSTOOD,
            webhook_inbox.BROKEN,
            webhook_inbox.UNANSWERED,
            None,
        ]
    ):
        receive(web, f"evt_{n}", f"refund.{'created' if n % 2 else 'failed'}", about(f"re_{n}"), outcome)
    person = visitor(web, "operator")

    def shown(**query: str) -> set[str]:
        return {name.removeprefix("evt_") for name in rows_of(person.get("/webhooks", **query)) if "evt_" in name}

    by_status = {
        "refund": {"0"}, "unknown": {"1"}, "other": {"2"}, "not_understood": {"3"}, "failed": {"4", "5"},
        "waiting": {"6"},
    }  # fmt: skip
    assert {status: shown(status=status) for status in by_status} == by_status
    assert shown(type="refund.created") == {"1", "3", "5"}
    assert shown(type="refund.created", status="failed") == {"5"}
    assert shown(type="charge.updated") == set()
    assert "No webhook matches these filters." in text_of(person.get("/webhooks", type="charge.updated"))
    assert person.get("/webhooks", status="lost").status_code == 422
    # Filters search the latest events alone, except for those that still wait.
    receive(web, "evt_7", "refund.late", about("re_7"), webhook_inbox.PROCESSED, tries=9)
    monkeypatch.setattr(console_queries, "EVENTS_SEARCHED", 1)
    assert shown(status="failed") == set()
    assert shown(status="waiting") == {"6"}


def test_event_that_cannot_be_read_is_not_called_another_event(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(kind: str, body: str) -> None:
        raise KeyError("data")

    web.refund("k1", credits=1)
    receive(web, "evt_1", "refund.created", {}, None)
    person = visitor(web, "operator")
    with monkeypatch.context() as patched:
        broken_entry = replace(ENTRY, webhooks=replace(ENTRY.webhooks, event_hint=broken))
        account = replace(web.context.accounts["stripe"], entry=broken_entry)
        patched.setattr(web.context.accounts, "_by_name", {"stripe": account})
        webhook_inbox.process_inbox(web.context)
        page = person.get("/webhooks", status="not_understood")
    assert "not understood: the next poll finds the change" in rows_of(page)["evt_1"]


def test_figures_show_the_chosen_days_and_no_other_number(web: Web) -> None:
    person = visitor(web, "viewer")
    web.refund("k1", credits=10)
    for days, hours in RANGES.items():
        page = person.get("/figures", days=days)
        assert f"The last {days} days" in text_of(page)
        assert re.findall(r'aria-current="true">(\d+) days', page.text) == [str(days)]
        assert 24 % hours == 0, "no period of the oldest refund spans two days"
    assert 'aria-current="true">14 days' in person.get("/figures").text
    for wrong in ("0", "15", "-7", "1000000", "x"):
        assert person.get("/figures", days=wrong).status_code == 422, wrong


@pytest.mark.parametrize("slowest", [2.0, 70.0, 5_000.0, 90_000.0, 1_100_000.0])
def test_names_of_the_scale_do_not_overlap(slowest: float) -> None:
    ticks = lines("x", "", ["half"], [("mon", [0.5]), ("tue", [slowest])], str).ticks
    heights = sorted(at for at, _ in ticks)
    assert all(low + LABEL_HEIGHT <= high for low, high in pairwise(heights))
    assert ticks[-1][1] == "0.1 s"
    assert heights[0] == 8, "the scale ends with a name at its top"


def test_single_day_is_visible_beside_large_ones() -> None:
    single = lines("x", "", ["half"], [("mon", [None]), ("tue", [5.0]), ("wed", [None])], str).lines[0]
    assert [dot.alone for dot in single.dots] == [True]
    joined = lines("x", "", ["half"], [("mon", [4.0]), ("tue", [5.0])], str).lines[0]
    assert [dot.alone for dot in joined.dots] == [False, False]
    small = columns("x", "", ["a", "b"], [("mon", [1, 1]), ("tue", [100_000, 0])]).bars
    assert [bar.height for bar in small[:2]] == [2.0, 2.0]
    assert small[1].y == small[0].y - 2.0
