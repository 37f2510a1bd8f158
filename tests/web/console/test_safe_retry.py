"""Safe retry: the page shows the processor's answer before the retry, and many clicks make one retry."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from tests.web.client import Web, settings_for
from tests.web.console.browser import Aside
from tests.web.console.visitor import form_on, text_of, visitor

from refund_worker.engine.audit.log import entries
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.store.tables import attempts, legs, refunds

PAYMENT = {"processor_payment_id": "ch_1", "amount_minor": 2000, "currency": "EUR"}
SILENT_BUT_PAID = [{"match": {"path_kind": "create"}, "do": {"timeout": {"effect": "now"}}}]


@dataclass
class Place:
    """A console, a worker that runs on request, and the processor that both use."""

    web: Web
    runtime: Runtime
    sandbox: Sandbox
    aside: Aside

    def work(self) -> None:
        self.aside.do(process_until_idle, self.runtime.context)

    def stopped(self, code: str = "outcome_unknown") -> str:
        """Return a refund that was sent once and now needs a person; without a script the processor made no refund."""
        if code == "balance_insufficient":
            self.sandbox.change_faults({"balance": {"eur": 0}})
        refund_id = str(self.web.refund("k1").json()["id"])
        self.work()
        if code == "balance_insufficient":
            self.sandbox.change_faults({"balance": {}})
            return refund_id

        def stop(connection):  # type: ignore[no-untyped-def]
            told = {"failure_code": code, "failure_message": "nobody knows"}
            leg = {"status": "blocked", "attention": code, "next_at": None, "doubtful": False, "look_first": False}
            connection.execute(legs.update().values(**leg, **told))
            left = {"due_at": None, "lease_until": None, "lease_token": None}
            connection.execute(refunds.update().values(status="needs_attention", **left, **told))

        self.web.context.database.run(stop)
        return refund_id

    def status(self, refund_id: str) -> str:
        return str(self.web.call("GET", f"/v1/refunds/{refund_id}").json()["status"])

    def retries(self, refund_id: str) -> int:
        with self.web.context.database.read() as connection:
            return len(entries(connection, refund_id=refund_id, kind="retry_requested")["data"])

    def sends(self) -> int:
        with self.web.context.database.read() as connection:
            return sum(row.sends for row in connection.execute(attempts.select()))


@pytest.fixture
def place(migrated_sqlite_url: str, tmp_path: Path) -> Iterator[Place]:
    with made(migrated_sqlite_url, tmp_path) as place:
        yield place


@pytest.fixture
def place_on_both(migrated_url: str, tmp_path: Path) -> Iterator[Place]:
    with made(migrated_url, tmp_path) as place:
        yield place


@contextmanager
def made(url: str, tmp_path: Path) -> Iterator[Place]:
    with Sandbox(book=tmp_path / "book.jsonl") as sandbox:
        sandbox.register_payments([PAYMENT])
        settings = settings_for(
            url,
            STRIPE_API_KEY="sk_test_forTheSandboxAlone",
            STRIPE_API_BASE=sandbox.url,
            STRIPE_RATE_PER_SECOND="0",
            PROCESSOR_TIMEOUT_SECONDS="2",
        )
        aside = Aside()
        runtime = aside.do(build_runtime, settings)
        with Web(settings) as web:
            web.seed()
            yield Place(web, runtime, sandbox, aside)
        aside.do(runtime.close)
        aside.close()


def test_refund_found_after_a_timeout_is_recorded_and_not_sent_again(place: Place) -> None:
    place.sandbox.change_faults({"rules": SILENT_BUT_PAID})
    refund_id = place.stopped()
    (made,) = place.sandbox.refunds()
    person = visitor(place.web, "operator")
    assert f"/console/refunds/{refund_id}/retry" in person.get(f"/refunds/{refund_id}").text
    asked = person.get(f"/refunds/{refund_id}/retry")
    assert made["id"] in text_of(asked)
    assert "A refund exists" in text_of(asked)
    person.follow(person.submit(asked, f"/refunds/{refund_id}/retry", reason="it is there"))
    place.work()
    assert place.status(refund_id) == "succeeded"
    assert len(place.sandbox.refunds()) == 1
    assert place.sends() == 1, "a look-up is not a second send"


def test_retry_without_an_existing_refund_makes_one_new_attempt(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    person = visitor(place.web, "operator")
    asked = person.get(f"/refunds/{refund_id}/retry")
    assert "The processor has no refund for this." in text_of(asked)
    person.follow(person.submit(asked, f"/refunds/{refund_id}/retry", reason="topped up"))
    place.work()
    assert len(place.sandbox.refunds()) == 1


def test_refund_made_elsewhere_is_listed_and_retry_marks_it_as_seen(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    theirs = httpx.post(
        f"{place.sandbox.url}/v1/refunds",
        data={"charge": "ch_1", "amount": 700},
        headers={"Authorization": "Bearer sk_test_somebodyElse", "Idempotency-Key": "by-hand"},
    ).json()["id"]
    person = visitor(place.web, "operator")
    asked = person.get(f"/refunds/{refund_id}/retry")
    assert theirs in text_of(asked)
    assert "This payment was also refunded outside this program." in text_of(asked)
    person.follow(person.submit(asked, f"/refunds/{refund_id}/retry", reason="topped up"))
    place.work()
    page = text_of(person.get(f"/refunds/{refund_id}"))
    assert "This payment was also refunded elsewhere" in page
    assert f"refunded elsewhere: {theirs}" in page
    assert [o["id"] for o in place.sandbox.refunds()] == [theirs], "the first retry only found the foreign refund"
    asked = person.get(f"/refunds/{refund_id}/retry")
    person.follow(person.submit(asked, f"/refunds/{refund_id}/retry", reason="it has nothing to do with ours"))
    place.work()
    assert place.status(refund_id) == "succeeded"
    assert "seen before" not in text_of(person.get(f"/refunds/{refund_id}"))


def test_unanswered_lookup_is_not_shown_as_no_refund(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    place.sandbox.change_faults({"rules": [{"match": {"path_kind": "list"}, "times": None, "do": {"reset": "before"}}]})
    asked = text_of(visitor(place.web, "operator").get(f"/refunds/{refund_id}/retry"))
    assert "The processor could not be asked" in asked
    assert "The processor has no refund" not in asked


def test_retry_page_reports_missing_access_to_the_processor(web: Web) -> None:
    refund_id = web.refund("k1").json()["id"]

    def stop(connection):  # type: ignore[no-untyped-def]
        connection.execute(legs.update().values(status="blocked", attention="declined", last_sent_at=1.0))
        connection.execute(refunds.update().values(status="needs_attention", failure_code="declined"))

    web.context.database.run(stop)
    asked = text_of(visitor(web, "operator").get(f"/refunds/{refund_id}/retry"))
    assert "could not be asked: no access to stripe is configured here" in asked


def test_a_double_click_and_a_second_operator_make_one_retry(place_on_both: Place) -> None:
    place = place_on_both
    refund_id = place.stopped("balance_insufficient")
    anna, omar = visitor(place.web, "operator", "anna"), visitor(place.web, "operator", "omar")
    path = f"/refunds/{refund_id}/retry"
    hers, his = anna.get(path), omar.get(path)
    for _ in range(2):
        answer = anna.submit(hers, path, reason="all is well again")
        assert answer.headers["location"].startswith(f"/console/refunds/{refund_id}"), (
            "the second click shows the result of the first"
        )
    late = omar.submit(his, path, reason="me too")
    assert late.status_code in (409, 412)
    assert place.retries(refund_id) == 1
    place.work()
    assert len(place.sandbox.refunds()) == 1


def test_simultaneous_clicks_make_one_retry(place_on_both: Place) -> None:
    place = place_on_both
    refund_id = place.stopped("balance_insufficient")
    person = visitor(place.web, "operator")
    path = f"/refunds/{refund_id}/retry"
    fields = form_on(person.get(path), f"/console{path}") | {"reason": "pressed hard"}
    cookie = "; ".join(f"{name}={value}" for name, value in person.cookies.items())
    body = "&".join(f"{name}={value.replace(' ', '+')}" for name, value in fields.items())
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    answers = place.web.calls([("POST", f"/console{path}", None)] * 5, key=None, headers=headers, content=body)
    assert {answer.status_code for answer in answers} == {303}
    assert place.retries(refund_id) == 1


def test_refund_settled_meanwhile_is_not_retried(place: Place) -> None:
    place.sandbox.change_faults({"rules": SILENT_BUT_PAID})
    refund_id = place.stopped()
    path = f"/refunds/{refund_id}/retry"
    person = visitor(place.web, "operator")
    seen = person.get(path)
    place.web.call("POST", f"/v1{path}", {"reason": "by the API"})
    place.work()
    late = person.submit(seen, path, reason="too late")
    assert late.status_code in (409, 412)
    assert "There is nothing to retry" in text_of(late)
    assert len(place.sandbox.refunds()) == 1


def test_no_transaction_is_open_while_the_processor_is_asked(place: Place) -> None:
    refund_id = place.stopped("balance_insufficient")
    slow = {"match": {"path_kind": "list"}, "times": None, "do": {"delay_seconds": 1.5}}
    place.sandbox.change_faults({"rules": [slow]})
    person = visitor(place.web, "operator")
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(person.get, f"/refunds/{refund_id}/retry")
        while not asking.done():
            engine = place.web.context.database.engine
            assert engine.pool.checkedout() <= 1  # type: ignore[attr-defined]
            if engine.pool.checkedout() == 0:  # type: ignore[attr-defined]
                break
        assert asking.result(20).status_code == 200
