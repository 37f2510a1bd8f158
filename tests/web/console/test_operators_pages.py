"""Pages for operators: batches, the audit trail, processors, figures, and lists with the filters of the API."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from tests.web.client import Web
from tests.web.console.visitor import text_of, visitor

from refund_worker.domain.decision import PAUSE_SECONDS, ProcessorDenied
from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.engine.intake.dead_letters import keep_refused
from refund_worker.engine.jobs.daily_stats import count_daily_stats
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.errors import Refusal
from refund_worker.store import processors
from refund_worker.store.tables import APPEND_ONLY, console_users, events, refunds
from refund_worker.web.console import batches as page_of_batches
from refund_worker.web.console.charts import latency
from refund_worker.web.console.svg import HEIGHT, columns, lines

ROW = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}


def test_a_batch_is_listed_with_its_progress_and_its_rejects(web: Web) -> None:
    rows = [ROW | {"idempotency_key": f"b{n}", "credits": 10 ** (n + 1)} for n in range(3)]
    made = web.call("POST", "/v1/refund-batches", {"refunds": rows}).json()
    person = visitor(web, "operator")
    assert made["batch_id"] in person.get("/batches").text
    page = text_of(person.get(f"/batches/{made['batch_id']}"))
    assert "0 of 2 refunds finished" in page
    assert "exceeds_refundable" in page
    assert person.get("/batches/rb_none").status_code == 404


def test_batch_of_any_client_is_visible_to_every_console_role(web: Web) -> None:
    made = web.call("POST", "/v1/refund-batches", {"refunds": [ROW | {"idempotency_key": "b1"}]}).json()
    support = visitor(web, "support")
    assert made["batch_id"] in support.get("/batches").text
    assert support.get(f"/batches/{made['batch_id']}").status_code == 200


def test_audit_page_shows_the_verification_and_altered_rows(web: Web) -> None:
    web.refund("k1")
    Sealer().seal(web.context)
    person = visitor(web, "operator", "omar")
    assert "never" in text_of(person.get("/audit"))
    done = person.follow(person.submit(person.get("/audit"), "/audit/verify"))
    assert "The latest entries are unchanged." in done.text
    assert "by console/omar" in text_of(done)

    def tamper(connection):  # type: ignore[no-untyped-def]
        for table in APPEND_ONLY:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table.name}_no_update")
        connection.execute(events.update().where(events.c.seq == 1).values(actor="somebody else"))
        connection.execute(console_users.update().where(console_users.c.name == "omar").values(role="admin"))

    web.context.database.run(tamper)
    differs = text_of(person.follow(person.submit(person.get("/audit"), "/audit/verify")))
    assert "events row 1: changed" in differs
    assert "console_users : changed: role of omar" in differs, "the row itself, not the number of a snapshot"


def test_audit_entries_follow_the_filter_in_the_address(web: Web) -> None:
    refund_id = web.refund("k1").json()["id"]
    web.call("POST", f"/v1/refunds/{refund_id}/cancel", {"reason": "a slip"})
    person = visitor(web, "approver")
    assert "a slip" in person.get("/audit", kind="refund_canceled").text
    assert "No entry matches these filters." in person.get("/audit", actor="nobody").text
    assert "Private chat" in person.get("/audit", of="ledger", customer_id="cust-1").text
    assert person.get("/audit", of="ledger", alarm="true").status_code == 422


def test_open_circuit_is_shown_differently_from_a_manual_pause(web: Web) -> None:
    def open_circuit(connection):  # type: ignore[no-untyped-def]
        now = web.context.clock(connection)
        pause = ProcessorDenied("stripe", "http_401", "the key was refused")
        processors.pause(
            connection, pause.processor, now, by="refund-worker", code=pause.code, reason=pause.message,
            until=now + PAUSE_SECONDS,
        )  # fmt: skip

    web.context.database.run(open_circuit)
    person = visitor(web, "operator")
    page = text_of(person.get("/processors"))
    assert "circuit open" in page
    assert "the key was refused" in page
    assert "25 per second" in page
    form = {"name": "manual", "reason": "holiday"}
    person.follow(person.submit(person.get("/processors"), "/processors/pause", **form))
    assert "By console/operator" in text_of(person.get("/processors"))


def test_late_repeat_of_a_switch_does_not_undo_a_later_one(web: Web) -> None:
    person = visitor(web, "operator")
    pause, resume = "/processors/pause", "/processors/resume"

    def is_paused() -> bool:
        return "By console/operator" in text_of(person.get("/processors"))

    first = person.get("/processors")
    person.submit(first, pause, name="stripe", reason="fire")
    assert is_paused()
    shown = person.get("/processors")
    refused = person.submit(shown, resume, reason="")
    assert refused.status_code == 422
    assert is_paused(), "a reason is required"
    person.submit(shown, resume, reason="it is out")
    assert not is_paused()
    person.submit(person.get("/processors"), pause, name="stripe", reason="fire again")
    assert person.submit(shown, resume, reason="it is out").status_code == 303
    assert is_paused(), "the second click of the earlier resume"


def test_switch_reports_success_and_a_wrong_reason(web: Web) -> None:
    person = visitor(web, "operator")
    done = person.follow(person.submit(person.get("/processors"), "/processors/pause", name="stripe", reason="fire"))
    assert "Paused: nothing more is sent to this processor." in text_of(done)
    long = person.submit(person.get("/processors"), "/processors/resume", name="stripe", reason="x" * 2_001)
    assert (long.status_code, "at most 1,000 characters" in text_of(long)) == (422, True)


def test_csv_with_an_unknown_status_is_refused(web: Web) -> None:
    person = visitor(web, "operator")
    assert person.get("/refunds.csv", status="succeeded").status_code == 200
    assert person.get("/refunds.csv", status="nonsense").status_code == 422


def test_return_money_page_shows_payments_and_amounts(web: Web) -> None:
    correction = {"credits": -10, "reason": "asked"}
    made = web.call("POST", "/v1/customers/cust-1/corrections", correction, headers={"Idempotency-Key": "c1"}).json()
    page = visitor(web, "support").get("/return-money", id=made["transaction_id"])
    assert "Total 1.00 EUR" in text_of(page)
    assert '<button class="main">Return money' in page.text


def test_causes_needing_a_person_come_first_and_retry_keeps_input(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(4)]

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(refunds.update().values(status="failed", failure_code="declined"))
        one = refunds.update().where(refunds.c.refund_id == ids[0])
        connection.execute(one.values(status="needs_attention", failure_code="balance_insufficient"))

    web.context.database.run(stop)
    person = visitor(web, "operator")
    page = person.get("/failures").text
    assert page.index('id="balance_insufficient"') < page.index('id="declined"')
    asked = person.get("/failures/retry", code="balance_insufficient")
    assert "Amount: 0.10 EUR ." in text_of(asked)
    refused = person.submit(asked, "/failures/retry", expected="2", reason="topped up")
    assert refused.status_code == 409
    assert 'value="topped up"' in refused.text


def test_refund_list_has_the_api_filters_and_refuses_unknown_statuses(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(3)]

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(refunds.update().where(refunds.c.refund_id == ids[0]).values(status="failed"))

    web.context.database.run(stop)
    person = visitor(web, "operator")
    both = person.get("/refunds?status=failed&status=queued&customer_id=cust-1").text
    assert all(refund_id in both for refund_id in ids)
    assert ids[1] not in person.get("/refunds", status="failed").text
    assert person.get("/refunds", status="broken").status_code == 422
    assert person.get("/refunds", created_gte="2199-01-01").text.count("rf_") == 0
    key = person.get("/refunds", idempotency_key="k1").text
    assert (ids[1] in key, ids[0] in key) == (True, False)
    assert person.get("/refunds.csv?status=failed").text.count("\n") == 2


def test_every_chart_has_a_table_and_matches_the_timelines(web: Web) -> None:
    web.refund("k1", credits=10)
    web.refund("k1", credits=10)
    web.refund("k2", kind="credit_refund", to="balance", transaction_id="tx-1", credits=5)
    process_until_idle(web.context)
    Sealer().seal(web.context)
    count_daily_stats(web.context)
    page = visitor(web, "operator").get("/figures").text
    assert page.count("<figure") == page.count('<svg class="plot"') + page.count('class="nothing"')
    assert page.count('<svg class="plot"') == page.count("<summary>As a table")
    assert "1 succeeded" in page
    assert "1 the same request again" in page
    assert "Requested in this period: 1.00 EUR." in page


def test_bars_are_stacked_with_heights_proportional_to_their_values() -> None:
    plot = columns("x", "", ["a", "b"], [("mon", [3, 1]), ("tue", [0, 2])])
    lower, upper, single = plot.bars
    assert lower.y + lower.height == single.y + single.height == pytest.approx(HEIGHT), "they start at the axis"
    assert upper.y + upper.height == pytest.approx(lower.y)
    assert lower.height == pytest.approx(3 * upper.height)
    assert single.height == pytest.approx(2 * upper.height)
    assert plot.top == 4
    assert columns("x", "", ["a"], [("mon", [0])]).empty


def test_line_has_gaps_for_missing_values_and_labels_do_not_overlap() -> None:
    rows = [("mon", [1.0, 1.1]), ("tue", [None, None]), ("wed", [5.0, 5.2]), ("thu", [5.0, 5.2])]
    plot = lines("x", "", ["p50", "p95"], rows, lambda value: f"{value} s")
    assert [len(line.paths) for line in plot.lines] == [1, 1], "the dot of monday has no neighbour"
    first, second = sorted(line.label_y for line in plot.lines)
    assert second - first >= 12
    assert lines("x", "", ["p50"], [("mon", [None])], str).empty


@pytest.mark.parametrize(
    ("seconds", "told"), [(None, "–"), (0.23, "230 ms"), (0.0, "1 ms"), (1.0, "1 s"), (90, "1 min 30 s")]
)
def test_duration_below_a_second_is_shown_in_milliseconds(seconds: float | None, told: str) -> None:
    assert latency(seconds) == told


def test_chart_table_starts_with_the_newest(web: Web) -> None:
    web.refund("k1", credits=10)
    Sealer().seal(web.context)
    count_daily_stats(web.context)
    page = visitor(web, "operator").get("/figures").text
    table = page.partition("<summary>As a table")[2].partition("</table>")[0]
    days = re.findall(r'<th scope="row">(\d\d \w+)</th>', table)
    assert len(days) == 14
    with web.context.database.read() as connection:
        today = web.context.clock(connection)
    assert days[0] == datetime.fromtimestamp(today, UTC).strftime("%d %b")


def test_batch_page_filters_its_refunds_by_status(web: Web) -> None:
    rows = [ROW | {"idempotency_key": f"b{n}", "credits": n + 1} for n in range(2)]
    made = web.call("POST", "/v1/refund-batches", {"refunds": rows}).json()["batch_id"]
    other = web.refund("k1", credits=1).json()["id"]

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(refunds.update().where(refunds.c.idempotency_key == "b1").values(status="failed"))

    web.context.database.run(stop)
    person = visitor(web, "operator")
    everything, failed = person.get(f"/batches/{made}"), person.get(f"/batches/{made}", status="failed")
    assert other not in everything.text
    assert (everything.text.count('<td data-name="Refund">'), failed.text.count('<td data-name="Refund">')) == (2, 1)
    assert f"/console/batches/{made}?status=failed#refunds" in everything.text


def test_chart_bands_differ_by_pattern_without_colour(web: Web) -> None:
    page = visitor(web, "operator").get("/figures").text
    assert set(re.findall(r'<pattern id="(p\d)"', page)) == {"p1", "p2", "p3"}


def test_requests_refused_from_the_queue_are_shown(web: Web) -> None:
    person = visitor(web, "operator")
    assert "Refused requests" not in person.get("/failures").text
    for _ in range(3):
        keep_refused(web.context, "celery", {"client": "shop", "idempotency_key": "order-7"}, Refusal("no such thing"))
    page = text_of(person.get("/failures"))
    assert re.search(r"3 shop order-7 \S+ no such thing", page)


def test_second_click_of_a_bulk_retry_shows_the_result_of_the_first(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(2)]

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(refunds.update().values(status="needs_attention", failure_code="declined"))

    web.context.database.run(stop)
    person = visitor(web, "operator")
    page = person.get("/failures/retry", code="declined")
    clicks = [person.submit(page, "/failures/retry", reason="all is well again") for _ in range(2)]
    assert [click.status_code for click in clicks] == [303, 303]
    assert clicks[0].headers["location"] == clicks[1].headers["location"]
    for refund_id in ids:
        timeline = web.call("GET", f"/v1/refunds/{refund_id}/events").json()["data"]
        assert [line["what"] for line in timeline].count("retry_requested") == 1


def test_retry_is_the_main_button_only_where_a_retry_helps(web: Web) -> None:
    ids = [web.refund(f"k{n}", credits=1).json()["id"] for n in range(2)]

    def stop(connection):  # type: ignore[no-untyped-def]
        for refund_id, code in zip(ids, ("balance_insufficient", "charge_disputed"), strict=True):
            one = refunds.update().where(refunds.c.refund_id == refund_id)
            connection.execute(one.values(status="needs_attention", failure_code=code))

    web.context.database.run(stop)
    page = visitor(web, "operator").get("/failures").text
    buttons = re.findall(r'class="(button[^"]*)" href="/console/failures/retry\?code=(\w+)"', page)
    assert sorted(buttons) == [("button", "charge_disputed"), ("button main", "balance_insufficient")]


def test_batch_page_leads_to_every_row_and_to_stopped_ones(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_of_batches, "PAGE", 2)
    rows = [ROW | {"idempotency_key": f"b{n}", "credits": n + 1} for n in range(5)]
    made = web.call("POST", "/v1/refund-batches", {"refunds": rows}).json()["batch_id"]

    def stop(connection):  # type: ignore[no-untyped-def]
        stopped = refunds.update().where(refunds.c.idempotency_key.in_(["b0", "b1", "b4"]))
        connection.execute(stopped.values(status="needs_attention"))

    web.context.database.run(stop)
    person = visitor(web, "operator")
    seen: list[str] = []
    address = f"/batches/{made}"
    assert f'href="/console{address}?status=needs_attention#refunds">Show the 3 that need attention' in (
        person.get(address).text
    )
    while address:
        page = person.get(address).text
        seen += re.findall(r'<td data-name="Refund"><a class="id" href="/console/refunds/(\w+)"', page)
        found = re.search(r'href="/console([^"#]+)#refunds">Next rows', page)
        address = found[1].replace("&amp;", "&") if found else ""
    assert len(seen) == len(set(seen)) == 5
    stuck = person.get(f"/batches/{made}", status="needs_attention").text
    assert stuck.count('<td data-name="Refund">') == 2
    assert f"/console/batches/{made}?status=needs_attention&amp;after=" in stuck, "the filter stays on the next page"
