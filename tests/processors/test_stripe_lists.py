"""The Stripe adapter's lists: all pages are read once, and half a list never passes for the whole."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from tests.processors.scripted_stripe import (
    API_ERROR,
    HALF,
    HEAD,
    INVALID,
    MESSAGE,
    TIMEOUT_SECONDS,
    Act,
    Bench,
    Request,
    answers,
    error,
    page,
    raw,
    refund,
    sends_nothing,
)

from refund_worker.domain.processor_replies import Busy, Denied, Found, Misconfigured, Unanswered
from refund_worker.processors.stripe.paging import PAGE_SIZE, PAGES_MAX_OF_A_PAYMENT


def test_find_reads_every_page_and_returns_each_object_once(bench: Bench) -> None:
    other_leg = {"refund_worker_leg": "leg_2", "refund_worker_attempt": "1"}
    adapter = bench.play(
        page(refund(id="re_3"), refund(id="re_2", metadata={}, amount=10), has_more=True),
        page(refund(id="re_2", metadata={}, amount=10), refund(id="re_1", metadata=other_leg), has_more=True),
        page(
            refund(id="re_b", metadata={}, amount=200, status="failed"),
            refund(id="re_d", metadata={"order": "7"}, amount=3, status=None),
            refund(id="re_e", metadata={}, amount=800, charge="ch_other", payment_intent=None),
        ),
    )
    found = bench.run(adapter.find("ch_1", "leg_1"))
    assert isinstance(found, Found)
    assert [one.processor_refund_id for one in found.objects] == ["re_3", "re_2", "re_1", "re_b", "re_d", "re_e"]
    assert [one.leg_id for one in found.objects] == ["leg_1", None, "leg_2", None, None, None]
    limit = str(PAGE_SIZE)
    assert [request.query for request in bench.server.requests] == [
        {"charge": "ch_1", "limit": limit},
        {"charge": "ch_1", "limit": limit, "starting_after": "re_2"},
        {"charge": "ch_1", "limit": limit, "starting_after": "re_1"},
    ]


def test_find_uses_the_later_status_of_a_repeated_object(bench: Bench) -> None:
    adapter = bench.play(
        page(refund(status="pending"), has_more=True), page(refund(status="failed"), refund(id="re_0", metadata={}))
    )
    found = bench.run(adapter.find("pi_1", "leg_1"))
    assert isinstance(found, Found)
    assert [one.status for one in found.objects if one.leg_id] == ["failed"]
    assert "payment_intent" in bench.server.requests[0].query


def endless() -> Act:
    """Return an act that always sends another page."""
    count = iter(range(10**6))

    async def act(request: Request, writer: asyncio.StreamWriter) -> None:
        await page(refund(id=f"re_{next(count)}"), has_more=True)(request, writer)

    return act


@pytest.mark.parametrize(
    "acts",
    [
        [endless()],
        [page(refund(), has_more=True)],
        [page(has_more=True)],
        [page(refund(), has_more=True), page(refund(id="re_0", amount=None))],
        [page(refund(), has_more=True), raw(HEAD + HALF, then_reset=True)],
        [page(refund(), has_more=True), error(400, INVALID, "resource_missing", param="starting_after")],
        [answers(200, {"object": "list", "data": [refund()]})],
        [answers(200, {"object": "list", "data": {}, "has_more": False})],
        [answers(200, refund())],
        [page(refund(), has_more=True), sends_nothing],
    ],
)
def test_incomplete_list_is_unanswered(bench: Bench, acts: list[Act]) -> None:
    adapter = bench.play(*acts)
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert len(bench.server.requests) <= 51


@pytest.mark.parametrize("act", [page(refund(), has_more=True), page(has_more=True)])
def test_list_that_does_not_advance_ends_the_search(bench: Bench, act: Act) -> None:
    adapter = bench.play(act)
    reply = bench.run(adapter.find("ch_1", "leg_1"))
    assert isinstance(reply, Unanswered)
    assert "does not advance" in reply.reason
    assert len(bench.server.requests) <= 2


def test_search_of_slow_pages_ends_at_the_deadline_of_one_call(bench: Bench) -> None:
    next_page = endless()

    async def slowly(request: Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(TIMEOUT_SECONDS / 4)
        await next_page(request, writer)

    bench.play(slowly)
    adapter = bench.adapter(bench.server.url, TIMEOUT_SECONDS)
    started = bench.loop.time()
    assert isinstance(bench.run(adapter.find("ch_1", "leg_1")), Unanswered)
    assert bench.loop.time() - started < PAGES_MAX_OF_A_PAYMENT * TIMEOUT_SECONDS / 8, "half the time of all pages"


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (error(404, INVALID, "resource_missing", param="charge"), Misconfigured("resource_missing", MESSAGE, "req_1")),
        (error(400, INVALID, "odd"), Misconfigured("unknown_refusal", f"odd: {MESSAGE}", "req_1")),
        (error(400, INVALID, "charge_disputed"), Misconfigured("charge_disputed", MESSAGE, "req_1")),
        (error(400, INVALID, "parameter_unknown"), Denied("parameter_unknown", MESSAGE, maybe_kept=True)),
        (error(400, INVALID, "charge_already_refunded"), Unanswered("an answer that no list gives")),
        (error(401, INVALID), Denied("http_401", MESSAGE)),
        (error(429, INVALID, "rate_limit"), Busy("rate_limit")),
        (error(500, API_ERROR), Unanswered("HTTP 500 api_error", server_error=True)),
    ],
)
def test_failed_search_refuses_no_refund(bench: Bench, act: Act, expected: object) -> None:
    adapter = bench.play(act)
    assert bench.run(adapter.find("ch_1", "leg_1")) == expected
    assert bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC))) == expected


def test_recent_returns_our_and_foreign_refunds_since_a_time(bench: Bench) -> None:
    adapter = bench.play(page(refund(), has_more=True), page(refund(id="re_0", metadata={})))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.leg_id for one in found.objects] == ["leg_1", None]
    assert bench.server.requests[0].query["created[gte]"] == "1767225600"
    with pytest.raises(ValueError, match="time zone"):
        bench.run(adapter.recent(datetime(2026, 1, 1)))  # noqa: DTZ001 -- a time without a zone is under test


@pytest.mark.parametrize(
    "failing",
    [
        error(429, INVALID, "rate_limit"),
        error(500, API_ERROR),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", then_reset=True),
    ],
)
def test_recent_retries_an_unanswered_page(bench: Bench, failing: Act) -> None:
    bench.play(page(refund(), has_more=True), failing, failing, page(refund(id="re_0", metadata={})))
    adapter = bench.adapter(bench.server.url, page_pauses_seconds=(0.01, 0.01))
    found = bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC)))
    assert isinstance(found, Found)
    assert [one.processor_refund_id for one in found.objects] == ["re_1", "re_0"]
    asked = [request.query.get("starting_after") for request in bench.server.requests]
    assert asked == [None, "re_1", "re_1", "re_1"]


def test_recent_does_not_retry_a_denied_page(bench: Bench) -> None:
    bench.play(error(401, INVALID))
    adapter = bench.adapter(bench.server.url, page_pauses_seconds=(0.01, 0.01))
    assert isinstance(bench.run(adapter.recent(datetime(2026, 1, 1, tzinfo=UTC))), Denied)
    assert len(bench.server.requests) == 1
