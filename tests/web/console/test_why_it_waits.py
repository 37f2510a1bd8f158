"""The pages, the API and the metrics say why refunds and webhooks wait, and the headline accounts for all of it."""

from __future__ import annotations

from typing import Any

import pytest
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor
from tests.web.test_health_and_switches import figures

from refund_worker.metrics import COUNTS, WEBHOOKS_REFUSED, WEBHOOKS_STORED, count
from refund_worker.store import inbox, processes, processors
from refund_worker.store.reporting import metric_values

CALM = "Nothing needs a person"


def change(web: Web, name: str, state: str) -> None:
    """Bring the processor into a state in which nothing is sent to it."""

    def work(connection: Any) -> None:
        now = web.context.clock(connection)
        if state == "listing_stale":
            processors.record_listing(connection, name, now - 7_200, None)
        else:
            until = now + 300 if state == "circuit_open" else None
            processors.pause(connection, name, now, by="x", code="api_key_expired", reason="the <key>", until=until)

    web.context.database.run(work)


@pytest.mark.parametrize(
    ("name", "cause", "said", "entry"),
    [
        ("stripe", "listing_stale", "It waits for the list of stripe's refunds", "listing-stale"),
        ("stripe", "processor_paused", "A person paused stripe", "api-key-expired"),
        ("all", "processor_paused", "A person paused stripe", "api-key-expired"),
        ("stripe", "circuit_open", "The circuit of stripe is open", "api-key-expired"),
    ],
)
def test_refunds_that_wait_for_a_processor_are_counted_with_the_cause(
    web: Web, name: str, cause: str, said: str, entry: str
) -> None:
    person, series = visitor(web, "viewer"), f'refund_worker_refunds_waiting{{cause="{cause}",processor="stripe"}}'
    one = web.refund("k-1", to="source").json()["id"]
    web.refund("k-2", to="source")
    assert CALM in text_of(person.get("/"))
    change(web, name, cause)
    overview = person.get("/")
    assert CALM not in text_of(overview)
    assert f"2 refunds wait for stripe . {said}" in text_of(overview)
    assert f'href="/console/help#{entry}">What to do' in overview.text
    assert '<li><span><a href="/console/processors"><strong>2</strong>' in overview.text, "one sentence, not torn apart"
    assert "waiting for a worker; 2 more for stripe" in text_of(overview)
    assert figures(web).get(series) == 2
    (wait,) = web.call("GET", f"/v1/refunds/{one}/waits").json()["data"]
    assert (wait["cause"], wait["processor"]) == (cause, "stripe")
    assert wait["text"].startswith(said)
    assert wait["since"].endswith("Z")
    page = text_of(person.get(f"/refunds/{one}"))
    assert f"Why it waits {said}" in page
    assert ("is paused" in text_of(overview)) == (cause == "processor_paused")


def test_headline_is_calm_only_if_nothing_on_the_page_is_wrong(web: Web) -> None:
    person = visitor(web, "viewer")
    assert CALM in text_of(person.get("/"))
    with web.context.database.write() as connection:
        row = {"process_id": "p", "kind": "worker", "queues": "", "host": "h", "pid": 1, "version": "9", "broker": None}
        processes.report(connection, row, web.context.clock(connection) - 4_000)
    page = text_of(person.get("/"))
    assert "Not everything runs" in page
    assert CALM not in page


def counted(web: Web, metric: Any, *labels: str, by: int = 1) -> None:
    COUNTS.forget()
    count(metric, *labels, by=by)
    web.context.database.run(lambda connection: metric_values.add(connection, COUNTS.take()))


def test_refused_webhooks_are_shown_with_number_time_and_reason(web: Web) -> None:
    person = visitor(web, "operator")
    assert "refused so far" not in text_of(person.get("/webhooks"))
    counted(web, WEBHOOKS_REFUSED, "stripe", "bad_signature", by=3)
    for address in ("/", "/webhooks"):
        page = person.get(address)
        assert "3 webhooks from stripe were refused so far: none of our secrets signed it" in text_of(page), address
        assert "/console/help#webhooks-rejected" in page.text
        assert CALM not in page.text
    counted(web, WEBHOOKS_STORED, "stripe")
    assert CALM in text_of(person.get("/"))
    assert "the last accepted new one at" in text_of(person.get("/webhooks"))


def test_waiting_webhook_says_why_and_since_when(web: Web) -> None:
    def receive(connection: Any) -> None:
        now = web.context.clock(connection)
        # The next try counts from the arrival. It must not pass while a busy machine renders the page.
        inbox.insert_event(connection, "stripe", "evt_1", "refund.updated", "{}", now + 3_600)
        long_ago = now - 7_200
        inbox.insert_event(connection, "stripe", "evt_2", "refund.updated", "{}", long_ago)
        inbox.mark_tried(connection, [("stripe", "evt_1"), ("stripe", "evt_2")])

    web.context.database.run(receive)
    person = visitor(web, "operator")
    shown = person.get("/webhooks")
    page = text_of(shown)
    assert shown.text.count('<td data-name="Result"><div><span class="badge warn">') == 2, "one block beside its name"
    assert "waiting stripe did not return this refund: it does not know it, or it did not answer, since 20" in page
    assert page.count("next try: 20") == 1, "a time that has passed is no next try"
    change(web, "stripe", "circuit_open")
    assert "waiting the circuit of stripe is open, since 20" in text_of(person.get("/webhooks"))
