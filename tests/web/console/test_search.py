"""The search box and the filters of the Refunds page find a refund by whatever a person has in hand."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from sqlalchemy import event
from tests.web.client import PAYMENT, Web, settings_for
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.engine.views import search as search_view
from refund_worker.engine.views.search import search
from refund_worker.processors.sandbox import Sandbox
from refund_worker.store.reporting import search as store
from refund_worker.store.tables import refunds

ROW = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}


@pytest.fixture
def asked(web: Web) -> dict[str, str]:
    """Request refunds of each kind and return their ids by key."""
    ids = {
        "order-7": web.refund("order-7", credits=20, reason="Zoë’s CAMERA broke", note="ticket 4711").json()["id"],
        "chat": web.refund("chat", kind="credit_refund", to="balance", transaction_id="tx-1", credits=5).json()["id"],
    }
    process_until_idle(web.context)
    return ids


@pytest.fixture
def anna(web: Web) -> Visitor:
    return visitor(web, "support", "anna")


def opened(person: Visitor, text: str) -> str:
    """Return the address below /console that the only hit of the search is opened at."""
    answer = person.get("/search", q=text)
    assert answer.status_code == 303, text_of(answer)
    return str(answer.headers["location"]).removeprefix("/console")


def test_single_hit_is_opened_at_once(asked: dict[str, str], anna: Visitor) -> None:
    money = f"/refunds/{asked['order-7']}"
    for text in (asked["order-7"], "order-7", " pay-1 ", "ch_1", "zoë's camera".replace("'", "’"), "TICKET 4711"):
        assert opened(anna, text) == money, text
    assert opened(anna, "tx-1") == f"/refunds/{asked['chat']}"


def test_each_kind_of_name_is_found_on_both_databases(migrated_url: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with Sandbox(book=tmp_path / "book.jsonl") as sandbox:
        sandbox.register_payments([{"processor_payment_id": "ch_1", "amount_minor": 2000, "currency": "GBP"}])
        with Web(settings_for(migrated_url)) as web:
            web.seed()
            batch = web.call("POST", "/v1/refund-batches", {"refunds": [ROW | {"idempotency_key": "b1"}]}).json()
            (refund_id,) = [refund["id"] for refund in web.call("GET", "/v1/refunds").json()["data"]]
            with web.context.database.write() as connection:
                leg = {"leg_id": f"{refund_id}-1", "processor": "stripe", "processor_refund_id": "re_9"}
                from refund_worker.store.tables import refund_objects

                worth = {"amount_minor": 1, "currency": "GBP", "created_at": 1.0, "seen_at": 1.0}
                connection.execute(refund_objects.insert().values(**leg, **worth))
            today = web.call("GET", "/v1/refunds").json()["data"][0]["created_at"][:10]
            names = {"id": refund_id, "payment": "pay-1", "processor's refund": "re_9", "customer": "cust-1"}
            for matched, text in (names | {"day": today, "text": "ASKED"}).items():
                with web.context.database.read() as connection:
                    found = search(connection, text)
                assert (found.matched, [each["id"] for each in found.refunds]) == (matched, [refund_id]), text
            with web.context.database.read() as connection:
                assert search(connection, batch["batch_id"]).batch_id == batch["batch_id"]
                assert search(connection, refund_id, client="another").refunds == []
                assert search(connection, "asked", client="another").refunds == []


def test_batch_customer_day_and_transaction_are_opened(web: Web, anna: Visitor) -> None:
    batch = web.call("POST", "/v1/refund-batches", {"refunds": [ROW | {"idempotency_key": f"b{n}"} for n in (1, 2)]})
    batch_id = batch.json()["batch_id"]
    assert opened(anna, batch_id) == f"/batches/{batch_id}"
    assert opened(anna, "purchase-pay-1") == "/transactions?id=purchase-pay-1"
    assert opened(anna, "2020-01-01") == "/refunds?created_gte=2020-01-01&created_lte=2020-01-01"
    several = text_of(anna.get("/search", q="cust-1"))
    assert "match “ cust-1 ” by customer" in several


def test_payment_without_refunds_and_customer_in_any_case_are_opened(web: Web, anna: Visitor) -> None:
    paid = PAYMENT | {"payment_id": "pay-mia", "customer_id": "mia", "processor_payment_id": "ch_paymia"}
    assert web.call("POST", "/v1/payments", paid).status_code == 201
    for text in ("pay-mia", "ch_paymia"):
        assert opened(anna, text) == f"/transactions?id={text}"
        assert "purchase-pay-mia" in anna.get("/transactions", id=text).text
    assert opened(anna, "MIA") == opened(anna, "Mi") == "/customer?id=mia"
    other = paid | {"payment_id": "p", "customer_id": "mia-2", "processor_payment_id": "ch_p"}
    assert web.call("POST", "/v1/payments", other).status_code == 201
    several = anna.get("/search", q="MIA")
    assert "No refund matches “ MIA ”, but ids of customers do." in text_of(several)
    assert 'href="/console/customer?id=mia-2"' in several.text


@pytest.mark.parametrize("text", ["cust-1", "pay-1"])
def test_search_by_name_says_that_there_are_more(
    asked: dict[str, str], web: Web, anna: Visitor, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    web.refund("one-more", credits=1)
    monkeypatch.setattr(search_view, "LIMIT", 1)
    page = anna.get("/search", q=text)
    assert page.status_code == 200
    assert "There are more than these. All refunds of customer cust-1" in text_of(page)
    assert 'href="/console/refunds?customer_id=cust-1"' in page.text
    monkeypatch.setattr(search_view, "LIMIT", 3)
    assert "There are more" not in text_of(anna.get("/search", q=text))


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "2200-01-01", "1969-12-31"])
def test_day_that_no_filter_takes_is_searched_as_a_word(anna: Visitor, text: str) -> None:
    page = anna.get("/search", q=text)
    assert page.status_code == 200
    assert f"Nothing matches “ {text} ”" in text_of(page)
    assert anna.get(opened(anna, "2199-12-31")).status_code == 200


def test_nothing_found_says_what_can_be_found(anna: Visitor) -> None:
    page = anna.get("/search", q="<b>nothing")
    assert page.status_code == 200
    assert "Nothing matches “ <b>nothing ”" in text_of(page)
    assert "Ids, keys and days must be complete." in text_of(page)
    assert anna.get("/search").status_code == 200


def test_words_are_searched_piece_by_piece(
    asked: dict[str, str], web: Web, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(5):
        web.refund(f"later-{n}", credits=1, reason="another")
    monkeypatch.setattr(store, "WINDOW", 4)
    first = anna.get("/search", q="camera")
    assert "among the refunds searched so far" in text_of(first)
    address = first.text.partition('href="/console/search?')[2].partition('"')[0].replace("&amp;", "&")
    assert asked["order-7"] in anna.get(f"/search?{address}").text


def test_refunds_are_filtered_by_id_amount_reason_person_kind_and_end(asked: dict[str, str], anna: Visitor) -> None:
    money, credits_only = asked["order-7"], asked["chat"]

    def shown(**chosen: str) -> set[str]:
        page = anna.get("/refunds", **chosen)
        assert page.status_code == 200, text_of(page)
        return {refund_id for refund_id in (money, credits_only) if refund_id in page.text}

    assert shown(id=money) == {money}
    assert shown(amount="2.00") == shown(amount="2 eur") == shown(amount="2.0") == {money}
    assert shown(amount="2 USD") == shown(amount="2.01") == set()
    assert shown(reason="camera") == {money}
    assert shown(requested_by="backend/ADMIN") == {money, credits_only}
    assert shown(kind="withdrawal") == {money}
    assert shown(kind="credit_refund", status="succeeded") == {credits_only}
    assert shown(created_lte="2020-01-01") == set()
    assert shown(created_gte="2020-01-01", created_lte="2099-01-01") == {money, credits_only}
    for chosen, word in ({"amount": "much"}, "12.50"), ({"created_lte": "soon"}, "2026-11-27"), ({"kind": "x"}, "kind"):
        page = anna.get("/refunds", **chosen)
        assert page.status_code == 422
        assert word in text_of(page)


def test_download_is_whole_and_readable_by_excel(web: Web, asked: dict[str, str], anna: Visitor) -> None:
    with web.context.database.write() as connection:
        row = dict(connection.execute(refunds.select().where(refunds.c.refund_id == asked["chat"])).mappings().one())
        copies = [
            row | {"refund_id": f"rf_000000000000{n:014x}", "idempotency_key": f"copy-{n}", "due_at": None}
            for n in range(10_250)
        ]
        connection.execute(refunds.insert(), copies)
    answer = anna.get("/refunds.csv")
    assert answer.content.startswith(b"\xef\xbb\xbfid,")
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert len({row["id"] for row in rows}) == len(rows) == 10_252
    assert "Zoë’s CAMERA broke" in {row["reason"] for row in rows}
    few = list(csv.DictReader(io.StringIO(anna.get("/refunds.csv", reason="camera").content.decode("utf-8-sig"))))
    assert [row["id"] for row in few] == [asked["order-7"]]
    assert anna.get("/refunds.csv", amount="much").status_code == 422


def test_head_of_the_download_reads_no_rows(web: Web, asked: dict[str, str], anna: Visitor) -> None:
    assert asked
    read: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_others: Any) -> None:
        if "FROM refunds" in statement:
            read.append(statement)

    engine, counts = web.context.database.engine, {}
    event.listen(engine, "before_cursor_execute", note)
    try:
        for method in ("HEAD", "GET"):
            read.clear()
            answer = anna.call(method, "/refunds.csv")
            assert answer.status_code == 200
            assert answer.headers["content-type"] == "text/csv; charset=utf-8"
            assert "refunds.csv" in answer.headers["content-disposition"]
            counts[method] = len(read)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert 0 < counts["HEAD"] < counts["GET"]  # HEAD checks the filters
