"""Transactions and customers are found, links lead to the entry itself, and buttons have names of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from tests.web.client import PAYMENT, SPEND, Web, settings_for
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.store.reporting import entry_search


@pytest.fixture
def shop(migrated_url: str) -> Iterator[Web]:
    """Give the application on each database, with the customer of `Web.seed`."""
    with Web(settings_for(migrated_url)) as running:
        running.seed()
        yield running


@pytest.fixture
def anna(shop: Web) -> Visitor:
    return visitor(shop, "support", "anna")


def spend(web: Web, number: int, description: str = "Chat", day: str = "2026-11-02", customer: str = "cust-1") -> None:
    body = SPEND | {"transaction_id": f"chat-{number}", "customer_id": customer, "credits": 1}
    at = f"{day}T{10 + number // 60:02}:{number % 60:02}:00Z"
    assert (
        web.call("POST", "/v1/transactions", body | {"description": description, "occurred_at": at}).status_code == 201
    )


def ids_on(page: object) -> list[str]:
    return re.findall(r'<tr id="t-([^"]+)"', page.text)  # type: ignore[attr-defined]


def test_transaction_is_found_by_id_payment_refund_text_and_day(shop: Web, anna: Visitor) -> None:
    spend(shop, 1, "Private show, camera broken")
    spend(shop, 2, "Tip", "2026-11-05")
    refund = shop.refund("k", kind="credit_refund", to="balance", transaction_id="chat-1", credits=1).json()["id"]
    process_until_idle(shop.context)
    family = [f"{refund}-credit", "chat-1"]
    assert ids_on(anna.get("/transactions", q="chat-1")) == family
    assert ids_on(anna.get("/transactions", q=refund)) == family
    for payment in (PAYMENT["payment_id"], PAYMENT["processor_payment_id"]):
        assert ids_on(anna.get("/transactions", q=payment)) == [f"purchase-{PAYMENT['payment_id']}"]
    assert ids_on(anna.get("/transactions", q="CAMERA")) == ["chat-1"]
    assert ids_on(anna.get("/transactions", q="camera", customer="cust-1")) == ["chat-1"]
    assert ids_on(anna.get("/transactions", day="2026-11-05")) == ["chat-2"]
    assert ids_on(anna.get("/transactions", day="2026-11-05", q="show")) == []
    assert ids_on(anna.get("/transactions", q="%")) == [], "a wildcard of the database is a plain character"
    wrong = anna.get("/transactions", day="yesterday")
    assert wrong.status_code == 422
    assert "must be a day such as 2026-11-23" in text_of(wrong)


def test_search_in_texts_reads_a_bounded_part_and_goes_on(
    shop: Web, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_search, "ENTRIES_READ_MAX", 4)
    spend(shop, 1, "camera broken")
    for number in range(2, 7):
        spend(shop, number)
    page = anna.get("/transactions", q="camera")
    assert ids_on(page) == []
    assert "No transaction matches among the 4 searched so far" in text_of(page)
    assert "Search further back Searched back to 2026-11-02 10:03:00" in text_of(page)
    (further,) = re.findall(r'href="/console(/transactions\?q=camera[^"]+)">Search', page.text)
    assert ids_on(anna.get(further.replace("&amp;", "&"))) == ["chat-1"]


def test_customers_are_found_in_any_case_and_anywhere_in_the_id(
    shop: Web, anna: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(["Jane.Doe@example.com", "john.doe@example.com", "doe", "ZOË-7"]):
        ids = {"payment_id": f"p-{number}", "processor_payment_id": f"ch_9{number}", "customer_id": name}
        assert shop.call("POST", "/v1/payments", PAYMENT | ids).status_code == 201

    def found(q: str, **more: str) -> list[str]:
        return re.findall(r'class="customer" href="[^"]+">([^<]+)<', anna.get("/customers", q=q, **more).text)

    assert found("jane.doe") == ["Jane.Doe@example.com"]
    assert set(found("DOE")) == {"Jane.Doe@example.com", "john.doe@example.com", "doe"}
    assert found("doe")[0] == "doe", "the one with exactly this id comes first"
    assert found("zoë") == ["ZOË-7"]
    assert found("_oe") == []
    monkeypatch.setattr(entry_search, "CUSTOMERS_READ_MAX", 2)
    page = anna.get("/customers", q="nobody")
    assert "among the 2 searched so far" in text_of(page)
    assert "Search further" in text_of(page)


def test_link_to_an_entry_shows_it_on_whatever_page_it_stands(shop: Web, anna: Visitor) -> None:
    refund = shop.refund("k", kind="credit_refund", to="balance", transaction_id="tx-1", credits=5).json()["id"]
    process_until_idle(shop.context)
    for number in range(55):
        spend(shop, number)
    credit = f"{refund}-credit"
    assert "tx-1" not in ids_on(anna.get("/transactions", customer="cust-1"))
    for page in (anna.get("/transactions", id=credit), anna.get(f"/refunds/{refund}")):
        (link,) = set(re.findall(r'href="/console(/transactions\?id=tx-1)"', page.text))
        shown = anna.get(link)
        assert ids_on(shown) == [credit, "tx-1"]
        assert "Entry tx-1 and the entries that belong to it" in text_of(shown)
    assert anna.get("/transactions", id="nothing").status_code == 404


def test_all_customers_entries_are_in_the_order_of_their_times(shop: Web, anna: Visitor) -> None:
    """A backend reports late: the order of recording is another one."""
    for number in (3, 1, 2):
        spend(shop, number)
    for number in range(10, 60):
        spend(shop, number, day="2026-11-03")
    first = anna.get("/transactions")
    (older,) = re.findall(r'href="/console(/transactions\?after=[^"]+)">Older', first.text)
    listed = ids_on(first) + ids_on(anna.get(older))
    chats = [f"chat-{number}" for number in (*range(59, 9, -1), 3, 2, 1)]
    assert [id for id in listed if id.startswith("chat")] == chats
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize(
    ("field", "path", "body"), [("occurred_at", "transactions", SPEND), ("captured_at", "payments", PAYMENT)]
)
def test_record_of_the_future_is_refused(shop: Web, field: str, path: str, body: dict[str, object]) -> None:
    ids = {"payment_id": "p9", "processor_payment_id": "ch_9"} if path == "payments" else {"transaction_id": "t9"}
    for hours, status in ((23, 201), (25, 422)):
        at = (datetime.now(UTC) + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")
        answer = shop.call(
            "POST", f"/v1/{path}", body | {name: f"{id}{hours}" for name, id in ids.items()} | {field: at}
        )
        assert answer.status_code == status, answer.text
    assert answer.json()["field"] == field


@pytest.mark.parametrize(
    ("typed", "credits"),
    [("12,350", 12_350), ("\u221212,350", -12_350), ("+1 000", 1_000), ("1\u202f000\u00a0000", 1_000_000)],
)
def test_amount_is_taken_with_the_separators_of_the_pages(shop: Web, anna: Visitor, typed: str, credits: int) -> None:
    ids = {"payment_id": "p9", "processor_payment_id": "ch_9", "credits": 20_000, "amount_minor": 20_000}
    shop.call("POST", "/v1/payments", PAYMENT | ids)
    before = shop.call("GET", "/v1/customers/cust-1").json()["balance"]
    form = anna.get("/add-credits", customer="cust-1")
    answer = anna.submit(form, "/add-credits", credits=typed, reason="x")
    assert answer.status_code == 303, text_of(answer)
    assert shop.call("GET", "/v1/customers/cust-1").json()["balance"] == before + credits


@pytest.mark.parametrize("typed", ["1,2", "12,35", ",350", "1,0000", "1.000", "1,000 000", "12.5", "1e3"])
def test_amount_that_could_be_another_number_is_refused(shop: Web, anna: Visitor, typed: str) -> None:
    form = anna.get("/add-credits", customer="cust-1")
    answer = anna.submit(form, "/add-credits", credits=typed, reason="x")
    assert answer.status_code == 422
    assert "enter a whole number" in text_of(answer)


def test_each_action_has_a_name_of_its_own(shop: Web, anna: Visitor) -> None:
    """A screen reader lists the links of a page without the rows around them."""
    for number in range(3):
        spend(shop, number)
        body = {"credits": -1, "reason": "x"}
        shop.call("POST", "/v1/customers/cust-1/corrections", body, headers={"Idempotency-Key": f"c{number}"})
    for path in ("/transactions", "/add-credits"):
        page = anna.get(path, customer="cust-1")
        table = page.text.partition("<tbody>")[2].partition("</tbody>")[0]
        links = re.findall(r'<a class="button[^"]*" href="[^"]+">(.*?)</a>', table)
        names = [re.sub(r"<[^>]+>", "", link) for link in links]
        assert len(names) >= 6, names
        assert len(names) == len(set(names)), names
