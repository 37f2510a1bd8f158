"""Metrics: one /metrics shows what all processes of the installation count, and docs/monitoring.md names each one."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from refund_worker import metrics
from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.jobs import metric_flush
from refund_worker.engine.jobs.metric_flush import MetricFlusher, flush
from refund_worker.metrics import COUNTS, METRICS, OTHER, SETS_MAX, Counts, Kind, count, observe
from refund_worker.store import processes
from refund_worker.store.database import Database, now
from refund_worker.store.reporting import metric_values
from tests.support.deployment import Deployment, wait_until
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.pages import DOCS, sections_of, tables_of
from tests.web.client import Web, settings_for

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template"]

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    assert "metric-flush" not in {thread.name for thread in threading.enumerate()}, "it would store counts of this test"
    COUNTS.forget()


@pytest.fixture
def web(migrated_sqlite_url: str) -> Iterator[Web]:
    with Web(settings_for(migrated_sqlite_url)) as running:
        yield running


@pytest.fixture
def database(migrated_url: str) -> Iterator[Database]:
    opened = Database(migrated_url)
    yield opened
    opened.close()


def samples_of(text: str) -> Samples:
    """Return the samples of a page of metrics by name and labels; the page must follow Prometheus' text format."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value_of(samples: Samples, name: str, **labels: str) -> float | None:
    """Return one value, None if there is none."""
    return samples.get((f"refund_worker_{name}", tuple(sorted(labels.items()))))


# --- counting --------------------------------------------------------------------------------------------------------


def test_counts_of_several_processes_are_added_in_the_database(database: Database) -> None:
    for _ in range(2):
        count(metrics.REFUNDS_ENDED, "failed", "expired_or_canceled_card", by=2)
        observe(metrics.SWEEP_SECONDS, 0.02)
        observe(metrics.SWEEP_SECONDS, 100.0)
        assert flush(lambda: nullcontext(database)) is None
    with database.read() as connection:
        assert metric_values.stored(connection) == {
            ("refunds_ended_total", ("failed", "expired_or_canceled_card"), ""): 4,
            ("sweep_seconds", (), "0.025"): 2,
            ("sweep_seconds", (), "+Inf"): 2,
            ("sweep_seconds", (), "sum"): pytest.approx(200.04),
        }
    assert COUNTS.take() == {}


def test_counts_stay_while_the_database_cannot_take_them(database: Database) -> None:
    raise_alarm(logging.getLogger(__name__), Alarm.SWEEP_FAILED, "a sweep failed")
    nowhere = Database("postgresql+psycopg://nobody@127.0.0.1:1/none")
    assert flush(lambda: nullcontext(nowhere)) is not None
    nowhere.close()
    raise_alarm(logging.getLogger(__name__), Alarm.SWEEP_FAILED, "a sweep failed")
    assert flush(lambda: nullcontext(database)) is None
    with database.read() as connection:
        assert metric_values.stored(connection) == {("alarms_total", ("sweep_failed",), ""): 2}


def test_process_stores_its_counts_by_itself_and_when_it_stops(database: Database) -> None:
    def stored() -> float:
        with database.read() as connection:
            return metric_values.stored(connection).get(("leases_expired_total", (), ""), 0)

    with MetricFlusher(lambda: nullcontext(database), seconds=0.05):
        count(metrics.LEASES_EXPIRED)
        wait_until(lambda: stored() == 1)
    with MetricFlusher(lambda: nullcontext(database), seconds=60):
        count(metrics.LEASES_EXPIRED)
    assert stored() == 2


def test_foreign_texts_cannot_fill_the_table() -> None:
    counts = Counts()
    for number in range(SETS_MAX + 50):
        counts.add(metrics.ATTEMPTS, ("stripe", "refused", f"code_{number}"), {"": 1})
    for text in ("a b", "x" * 81, 'say "hi"', "\n", "Müller"):
        counts.add(metrics.REFUNDS_ENDED, ("failed", text), {"": 1})
    taken = counts.take()
    assert len({labels for name, labels, _ in taken if name == "attempts_total"}) == SETS_MAX + 1
    assert taken["attempts_total", (OTHER, OTHER, OTHER), ""] == 50
    assert {labels for name, labels, _ in taken if name == "refunds_ended_total"} == {("failed", OTHER)}


def test_errors_stay_visible_after_the_label_sets_are_full() -> None:
    counts = Counts()
    for number in range(SETS_MAX):
        counts.add(metrics.HTTP_REQUESTS, ("GET", f"/v1/{number}", 401), {"": 1})
    for status in (500, 503):
        counts.add(metrics.HTTP_REQUESTS, ("POST", "/v1/refunds", status), {"": 1})
    taken = counts.take()
    assert {taken["http_requests_total", ("POST", OTHER, str(status)), ""] for status in (500, 503)} == {1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_process_counts_from_zero_without_its_parents_lock() -> None:
    count(metrics.LEASES_EXPIRED)
    with COUNTS._lock:  # as if another thread of the parent was counting
        child = os.fork()
        if child == 0:
            count(metrics.LEASES_EXPIRED)
            os._exit(0 if list(COUNTS.take().values()) == [1] else 1)
    waiting = threading.Timer(30, os.kill, (child, 9))
    waiting.start()
    assert os.waitpid(child, 0)[1] == 0
    waiting.cancel()
    assert list(COUNTS.take().values()) == [1]


# --- the page --------------------------------------------------------------------------------------------------------


def test_every_metric_is_documented_and_no_other() -> None:
    section = sections_of((DOCS / "monitoring.md").read_text("utf-8"), 2)["Metrics"]
    documented = {row[0].strip("`"): row[1] for table in tables_of(section) for row in table}
    assert documented == {
        metric.full_name: ", ".join(f"`{label}`" for label in metric.labels) or "–" for metric in METRICS.values()
    }


def test_page_has_every_metric_with_its_labels(web: Web) -> None:
    web.call("GET", "/v1/refunds")
    text = web.call("GET", "/metrics").text
    described = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.MULTILINE))
    wanted = {metric.full_name: str(metric.kind) for metric in METRICS.values()}
    assert {name: described.get(name) for name in wanted} == wanted
    samples = samples_of(text)
    for name, labels in samples:
        metric = METRICS.get(re.sub("_(bucket|sum|count)$", "", name.removeprefix("refund_worker_")))
        metric = metric or METRICS[name.removeprefix("refund_worker_")]
        assert {label for label, _ in labels} - {"le"} == set(metric.labels), name
    assert value_of(samples, "http_requests_total", method="GET", route="/v1/refunds", status="200") == 1
    assert value_of(samples, "http_request_seconds_count", method="GET", route="/v1/refunds") == 1
    assert value_of(samples, "database_writable") == 1
    assert value_of(samples, "processes", kind="scheduler") == 0
    # To Prometheus, a counter that begins at 1 has not increased.
    assert {value_of(samples, "alarms_total", alarm=alarm) for alarm in Alarm} == {0}
    again = samples_of(web.call("GET", "/metrics").text)
    assert [key for key in again if "metrics" in str(key[1])] == [], "monitors are not counted"


def test_page_says_whether_processes_share_a_broker(web: Web) -> None:
    def shared(*brokers: str | None) -> float | None:
        with web.context.database.write() as connection:
            for pid, broker in enumerate(brokers):
                row = {"process_id": f"p{pid}", "kind": "scheduler", "queues": "", "host": "h", "version": "1"}
                processes.report(connection, row | {"pid": pid, "broker": broker}, now(connection))
        return value_of(samples_of(web.call("GET", "/metrics").text), "broker_shared")

    assert shared() == 1
    assert shared("none") == 0
    assert shared("none", "unreachable") == 1
    assert shared(None, "none") == 1
    assert shared("none", "none") == 0


def test_unknown_methods_and_paths_make_no_label_of_their_own(web: Web) -> None:
    for path in ("/a", "/b/c"):
        web.call("BREW", path)
    samples = samples_of(web.call("GET", "/metrics").text)
    assert value_of(samples, "http_requests_total", method="other", route="none", status="404") == 2


class Storing:
    """A thread that has taken all counts, and stores them once the database is `opened` by the test."""

    def __init__(self, database: Database, *, seconds_max: float) -> None:
        self.opened = threading.Event()
        self.thread = threading.Thread(target=flush, args=[self._open])
        self._database, self._seconds_max, self._taken = database, seconds_max, threading.Event()
        self.thread.start()
        assert self._taken.wait(10)

    def _open(self) -> AbstractContextManager[Database]:
        self._taken.set()
        self.opened.wait(self._seconds_max)
        return nullcontext(self._database)


def listed(web: Web) -> float | None:
    """Return how often the page says that refunds were listed."""
    samples = samples_of(web.call("GET", "/metrics").text)
    return value_of(samples, "http_requests_total", method="GET", route="/v1/refunds", status="200")


def test_page_has_the_counts_that_a_thread_is_just_storing(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_flush, "OTHERS_SECONDS_MAX", 30)  # a busy machine may need more than the usual second
    web.call("GET", "/v1/refunds")
    storing = Storing(web.context.database, seconds_max=0.3)
    assert listed(web) == 1
    storing.thread.join()


def test_page_does_not_wait_long_for_a_thread_that_cannot_store(web: Web) -> None:
    web.call("GET", "/v1/refunds")
    storing = Storing(web.context.database, seconds_max=30)
    assert listed(web) is None
    assert storing.thread.is_alive()
    storing.opened.set()
    storing.thread.join()
    assert listed(web) == 1


def test_stranger_cannot_make_a_label_set_of_each_route_and_method(web: Web) -> None:
    for method in ("PUT", "PATCH", "BREW"):
        for path in ("/v1/refunds", "/v1/payments/pay-1"):
            assert web.call(method, path, key=None).status_code == 405
    assert web.call("GET", "/v1/refunds/rf_none").status_code == 404
    samples = samples_of(web.call("GET", "/metrics").text)
    counted = {labels for name, labels in samples if name == "refund_worker_http_requests_total"}
    assert {dict(labels)["route"] for labels in counted} == {"none"}
    assert value_of(samples, "http_request_seconds_count", method="other", route="none") == 2


def test_without_a_database_the_page_says_so(tmp_path: Any, migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url)) as web:
        key = web.key("viewer")
        assert web.call("GET", "/metrics", key=key).status_code == 200
        web.context.database.engine.dispose()
        for each in tmp_path.glob("refunds.db*"):
            each.unlink()
        (tmp_path / "refunds.db").mkdir()
        answer = web.call("GET", "/metrics", key=None, client=("127.0.0.1", 1), headers={"Host": "127.0.0.1"})
        assert answer.status_code == 200
        samples = samples_of(answer.text)
        assert (value_of(samples, "database_up"), value_of(samples, "database_writable")) == (0, 0)
        assert value_of(samples, "refunds_due") is None


def test_page_shows_what_web_worker_and_scheduler_counted(tmp_path: Any) -> None:
    with Deployment(tmp_path) as deployment:
        deployment.start("worker", "scheduler")
        key = create_key(deployment.context, name="shop", client="shop", role="admin")
        deployment.parts.add("web", "web", "--port", "0")
        deployment.settle(deployment.ask(publish=True, count=3))
        log = tmp_path / "web.log"
        url = wait_until(lambda: log.exists() and re.search(r"listens on (http://[0-9.:]+)", log.read_text()))[1]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            wait_until(lambda: http.get("/readyz").status_code == 200)

            def is_complete() -> bool:
                samples = samples_of(http.get("/metrics").text)
                ended = value_of(samples, "refunds_ended_total", status="succeeded", code="")
                sent = value_of(samples, "attempts_total", processor="stripe", outcome="answered", code="succeeded")
                named = {"processor": "stripe", "call": "send"}
                return (
                    (ended, sent) == (3, 3)
                    and value_of(samples, "processor_call_seconds_count", **named) == 3
                    and value_of(samples, "claim_to_send_seconds_count", processor="stripe") == 3
                    and value_of(samples, "request_to_confirmed_seconds_count") == 3
                    and (value_of(samples, "sweep_seconds_count") or 0) > 0
                    and value_of(samples, "processes", kind="worker") == 1
                    and value_of(samples, "processes", kind="scheduler") == 1
                    and (value_of(samples, "heartbeat_age_seconds", kind="scheduler") or 0) < 30
                    and (value_of(samples, "last_sync_timestamp_seconds", processor="stripe") or 0) > 0
                )

            wait_until(is_complete, pause=0.3)


def test_kinds_have_the_names_that_prometheus_expects() -> None:
    for metric in METRICS.values():
        assert metric.full_name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
        assert metric.kind is not Kind.HISTOGRAM or metric.name.endswith("_seconds")
