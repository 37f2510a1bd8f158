"""Workers, schedulers, comparisons and notifications are visible, and ids lead to the pages of other systems."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.client import Web, settings_for
from tests.web.console.visitor import form_on, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.store import outbox, processes, processors
from refund_worker.store.reporting import reconciliation
from refund_worker.store.tables import outbox as outbox_table
from refund_worker.web.console.pages import filled

HOUR = 3_600.0
NO_SCHEDULER, NO_WORKER = "No scheduler is running", "No worker is running"


@pytest.fixture
def web(migrated_url: str) -> Iterator[Web]:
    links = {"PROCESSOR_URL_TEMPLATE": "https://dashboard.example/find/{id}?x=1"}
    links["CUSTOMER_URL_TEMPLATE"] = "https://backend.example/people/{id}"
    with Web(
        settings_for(migrated_url, NOTIFY_URL="https://backend.example/n", NOTIFY_SECRET="s" * 32, **links)
    ) as web:
        web.seed()
        yield web


def report(web: Web, kind: str, age: float, broker: str | None = None, **other: Any) -> None:
    row = {"process_id": f"{kind}{age}{other}", "kind": kind, "queues": "", "host": "h", "pid": 1, "version": "9.9"}
    with web.context.database.write() as connection:
        processes.report(connection, row | {"broker": broker} | other, web.context.clock(connection) - age)


def test_running_and_silent_processes_are_told_apart(web: Web) -> None:
    person = visitor(web, "viewer")
    assert "No worker or scheduler has reported to this database yet." in text_of(person.get("/system"))
    report(web, "worker", 5, queues="refunds,bulk")
    report(web, "worker", 2 * HOUR, pid=2, host="elsewhere", queues="refunds")
    report(web, "scheduler", 3, broker="reachable")
    page = text_of(person.get("/system"))
    assert re.search(r"running \d+ s ago refunds, bulk h, process 1 9.9", page)
    assert "silent 2 h 0 min ago refunds elsewhere, process 2" in page
    assert "Not everything runs" not in page
    overview = text_of(person.get("/"))
    assert "Workers 1 running Scheduler running Broker reachable" in overview


@pytest.mark.parametrize(
    ("worker", "scheduler", "broker", "told"),
    [
        (5, 400, "reachable", [NO_SCHEDULER]),
        (400, 5, "reachable", [NO_WORKER]),
        (400, 400, "reachable", [NO_SCHEDULER, NO_WORKER]),
        (400, 5, "unreachable", ["cannot reach the broker"]),
        (400, 5, "none", []),
        (40, 140, "reachable", []),
    ],
)
def test_missing_process_is_named_with_its_effect(
    web: Web, worker: float, scheduler: float, broker: str, told: list[str]
) -> None:
    report(web, "worker", worker)
    report(web, "scheduler", scheduler, broker=broker)
    person = visitor(web, "viewer")
    for address in ("/", "/system"):
        page = text_of(person.get(address))
        for problem in (NO_SCHEDULER, NO_WORKER, "cannot reach the broker"):
            assert (problem in page) == (problem in told), (address, problem)


def test_queue_without_a_worker_is_named(web: Web) -> None:
    report(web, "worker", 5, queues="refunds")
    report(web, "worker", 400, queues="bulk", pid=2)
    report(web, "scheduler", 5, broker="reachable")
    assert "No running worker serves the queue bulk." in text_of(visitor(web, "viewer").get("/"))


def test_last_listing_comparison_and_payment_are_shown(web: Web) -> None:
    def store(connection: Any) -> None:
        now = web.context.clock(connection)
        processors.record_listing(connection, "stripe", now - 65, "server")
        reconciliation.record(connection, "stripe", now - 2 * HOUR, compared=12, differences=3)

    web.context.database.run(store)
    person = visitor(web, "viewer")
    page = text_of(person.get("/system"))
    assert re.search(r"stripe 1 min \d+ s ago 2 h 0 min ago 3 differences 12 compared", page)
    assert "not lately" in page
    assert "3 differences 2 h 0 min ago" in text_of(person.get("/"))


def test_notifications_are_shown_by_state_and_sent_again(web: Web) -> None:
    refund_id = web.refund("k1").json()["id"]
    person = visitor(web, "operator")
    (message,) = outbox_rows(web)

    def abandon(connection: Any) -> None:
        ended = {"next_at": None, "given_up_at": 1.8e9, "tries": 10, "last_error": "the receiver answered <b>500</b>"}
        connection.execute(outbox_table.update().values(**ended))

    assert "refund.queued" in text_of(person.get("/notifications"))
    web.context.database.run(abandon)
    assert "1 abandoned" in text_of(person.get("/"))
    page = person.get("/notifications")
    assert f"/console/refunds/{refund_id}" in page.text
    assert "abandoned 10 the receiver answered <b>500</b>" in text_of(page)
    assert "None." in text_of(person.get("/notifications", state="delivered"))
    assert "abandoned" in text_of(person.get("/notifications", refund_id=refund_id))
    assert person.post("/notifications/redeliver", form_on(page, "/console/sign-out")).status_code == 422
    fields = form_on(page, "/console/notifications/redeliver")
    assert fields["all"] == "given_up"
    again = person.follow(person.post("/notifications/redeliver", fields))
    assert "The scheduler sends it again within seconds." in text_of(again)
    assert [(row["message_id"], row["tries"], row["given_up_at"]) for row in outbox_rows(web)] == [
        (message["message_id"], 0, None)
    ]
    assert person.post("/notifications/redeliver", fields | {"all": "", "id": "msg_none"}).status_code == 404
    assert visitor(web, "support").get("/notifications").status_code == 403


def outbox_rows(web: Web) -> list[Any]:
    with web.context.database.read() as connection:
        return outbox.messages(connection, 10)


def test_ids_lead_to_the_processor_and_to_the_customer(web: Web) -> None:
    refund_id = web.refund("k1").json()["id"]
    process_until_idle(web.context)
    person = visitor(web, "viewer")
    page = person.get(f"/refunds/{refund_id}").text
    assert 'href="https://dashboard.example/find/ch_1?x=1" target="_blank" rel="noopener noreferrer"' in page
    assert 'href="https://backend.example/people/cust-1"' in page
    assert 'href="https://backend.example/people/cust-1"' in person.get("/customer", id="cust-1").text
    strange = 'a b/../?&#"<é'
    assert filled("https://x.example/{id}", strange) == "https://x.example/a%20b%2F..%2F%3F%26%23%22%3C%C3%A9"
