"""The local PayPal pays out: guards against duplicates, statuses, money, faults, events, its book over a restart."""

from __future__ import annotations

import http.client
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.processors.paypal.payout_client import PATH, PayoutClient, item
from tests.support.openapi_check import described

from refund_worker.processors.paypal.sandbox import PayPalSandbox, PayPalSandboxError
from refund_worker.processors.paypal.sandbox.book import DAY, PAYOUTS
from refund_worker.processors.paypal.sandbox.server import PayPalServer

DESCRIPTION = "paypal_payments_payouts_batch_v1.json"


@pytest.fixture
def client(server: PayPalServer) -> PayoutClient:
    """A client of the local PayPal, whose balance has 1,000 US dollars."""
    server.book.balance["USD"] = Decimal(1_000)
    return PayoutClient(server.url)


def paid(client: PayoutClient, sender_batch_id: str = "po-1", **of: Any) -> str:
    """Pay one receiver and return the batch's id."""
    status, answer = client.pay(sender_batch_id, item(**of))
    assert status == 201, answer
    return str(answer["batch_header"]["payout_batch_id"])


# --- duplicates -------------------------------------------------------------------------------------------------------


def test_answer_names_the_batch_and_no_item(client: PayoutClient) -> None:
    status, answer = client.pay("po-1", item())
    assert status == 201
    assert answer["batch_header"]["batch_status"] == "PENDING"
    assert "items" not in answer


def test_key_returns_the_first_batch_for_30_days(client: PayoutClient, server: PayPalServer) -> None:
    first = paid(client)
    assert client.pay("po-1", item())[1]["batch_header"]["payout_batch_id"] == first
    server.book.clock_offset += 31 * DAY
    client = PayoutClient(server.url)
    assert client.pay("po-1", item())[1]["batch_header"]["payout_batch_id"] != first


@pytest.mark.parametrize("remembers", [True, False])
def test_repeat_of_the_batchs_own_id_is_refused_with_a_link(
    client: PayoutClient, server: PayPalServer, remembers: bool
) -> None:
    server.book.payouts.remembers_request_ids = remembers
    first = paid(client)
    status, refusal = client.pay("po-1", item(value="8.00"), key="other" if remembers else "po-1")
    assert (status, refusal["name"]) == (400, "USER_BUSINESS_ERROR")
    (detail,) = refusal["details"]
    assert detail["field"] == "SENDER_BATCH_ID"
    assert detail["link"][0]["href"] == f"{server.url}{PATH}/{first}"
    assert len(server.book.payouts.batches) == 1


def test_batchs_own_id_is_free_again_after_30_days(client: PayoutClient, server: PayPalServer) -> None:
    first = paid(client)
    server.book.clock_offset += 31 * DAY
    assert paid(PayoutClient(server.url)) != first


def test_id_of_a_refused_batch_stays_free(client: PayoutClient, server: PayPalServer) -> None:
    assert client.pay("po-1", item(value="2000.00"))[0] == 422
    server.book.balance["USD"] = Decimal(5_000)
    assert client.pay("po-1", item(value="2000.00"))[0] == 201


# --- money ------------------------------------------------------------------------------------------------------------


def test_amount_and_fee_leave_the_balance_once(client: PayoutClient, server: PayPalServer) -> None:
    paid(client)
    client.pay("po-1", item(), key="other")
    client.batch(next(iter(server.book.payouts.batches)))
    assert server.book.balance["USD"] == Decimal(1_000) - Decimal("9.00") - Decimal("0.18")
    assert server.book.payouts.received() == {"ann@example.com": {"USD": Decimal("9.00")}}


@pytest.mark.parametrize(
    ("status", "left", "received"),
    [
        ("FAILED", "1000.00", False),
        ("BLOCKED", "1000.00", False),
        ("RETURNED", "1000.00", False),
        ("UNCLAIMED", "990.82", False),
        ("ONHOLD", "990.82", False),
        ("PENDING", "990.82", False),
        ("SUCCESS", "990.82", True),
        ("REVERSED", "999.82", False),
        ("REFUNDED", "999.82", False),
    ],
)
def test_each_status_says_who_has_the_money(
    client: PayoutClient, server: PayPalServer, status: str, left: str, received: bool
) -> None:
    shown = client.item(paid(client))
    assert shown["payout_item_fee"] == {"currency": "USD", "value": "0.18"}
    server.payouts.change(shown["payout_item_id"], status, "RECEIVER_UNREGISTERED")
    assert server.book.balance["USD"] == Decimal(left)
    assert bool(server.book.payouts.received()) is received


def test_balance_that_is_too_low_refuses_the_whole_batch(client: PayoutClient, server: PayPalServer) -> None:
    status, refusal = client.pay("po-1", item(value="600.00"), item(value="600.00"))
    assert (status, refusal["name"]) == (422, "INSUFFICIENT_FUNDS")
    assert server.book.balance["USD"] == Decimal(1_000)
    assert not server.book.payouts.batches


# --- statuses ---------------------------------------------------------------------------------------------------------


def test_items_come_once_the_batch_is_processed(client: PayoutClient, server: PayPalServer) -> None:
    server.book.payouts.seconds = 60
    batch_id = paid(client)
    assert "items" not in client.batch(batch_id)
    assert client.batch(batch_id)["batch_header"]["batch_status"] == "PENDING"
    server.book.clock_offset += 61
    shown = client.batch(batch_id)
    assert shown["batch_header"]["batch_status"] == "SUCCESS"
    assert [each["transaction_status"] for each in shown["items"]] == ["SUCCESS"]


def test_batch_with_one_failed_item_is_denied(client: PayoutClient, server: PayPalServer) -> None:
    server.book.payouts.outcomes["ann@example.com"] = "FAILED", "RECEIVER_ACCOUNT_LOCKED"
    shown = client.batch(paid(client))
    assert shown["batch_header"]["batch_status"] == "DENIED"
    assert shown["items"][0]["errors"]["name"] == "RECEIVER_ACCOUNT_LOCKED"


def test_batch_is_processing_while_an_item_is_pending(client: PayoutClient, server: PayPalServer) -> None:
    server.book.payouts.outcomes["ann@example.com"] = "PENDING", None
    batch_id = paid(client)
    assert client.batch(batch_id)["batch_header"]["batch_status"] == "PROCESSING"
    server.payouts.change(client.item(batch_id)["payout_item_id"], "SUCCESS")
    assert client.batch(batch_id)["batch_header"]["batch_status"] == "SUCCESS"


@pytest.mark.parametrize("status", ["UNCLAIMED", "ONHOLD"])
def test_money_that_waits_comes_back_after_30_days(client: PayoutClient, server: PayPalServer, status: str) -> None:
    server.book.payouts.outcomes["ann@example.com"] = status, "RECEIVER_UNREGISTERED"
    batch_id = paid(client)
    assert client.item(batch_id)["transaction_status"] == status
    server.book.clock_offset += 29 * DAY
    client = PayoutClient(server.url)
    assert client.item(batch_id)["transaction_status"] == status
    server.book.clock_offset += 2 * DAY
    client = PayoutClient(server.url)
    assert client.item(batch_id)["transaction_status"] == "RETURNED"
    assert server.book.balance["USD"] == Decimal("1000.00")


def test_only_unclaimed_items_are_canceled_and_only_once(client: PayoutClient, server: PayPalServer) -> None:
    server.book.payouts.outcomes["ann@example.com"] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    unclaimed = client.item(paid(client))["payout_item_id"]
    claimed = client.item(paid(client, "po-2", receiver="bob@example.com"))["payout_item_id"]
    status, shown = client.call("POST", f"{PATH}-item/{unclaimed}/cancel")
    assert (status, shown["transaction_status"]) == (200, "RETURNED")
    assert client.call("POST", f"{PATH}-item/{unclaimed}/cancel")[1]["name"] == "ITEM_ALREADY_CANCELLED"
    assert client.call("POST", f"{PATH}-item/{claimed}/cancel")[1]["name"] == "ITEM_INCORRECT_STATUS"


def test_batch_is_read_page_by_page(client: PayoutClient) -> None:
    _, answer = client.pay("po-1", *(item(value=f"{number}.00", sender_item_id=str(number)) for number in range(1, 6)))
    batch_id = answer["batch_header"]["payout_batch_id"]
    pages = [client.batch(batch_id, f"?page={page}&page_size=2&total_required=true") for page in (1, 2, 3)]
    ids = [[each["payout_item"]["sender_item_id"] for each in page["items"]] for page in pages]
    assert ids == [["1", "2"], ["3", "4"], ["5"]]
    assert {(page["total_items"], page["total_pages"]) for page in pages} == {(5, 3)}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"receiver": "nobody"}, "items[0].receiver"),
        ({"recipient_type": "PAYPAL_ID"}, "items[0].receiver"),
        ({"value": "0.00"}, "items[0].amount.value"),
        ({"value": "9.999"}, "items[0].amount.value"),
        ({"value": "9.50", "currency": "JPY"}, "items[0].amount.value"),
        ({"value": "20000.01"}, "items[0].amount.value"),
        ({"sender_item_id": "x" * 64}, "items[0].sender_item_id"),
    ],
)
def test_wrong_item_refuses_the_whole_batch(client: PayoutClient, wrong: dict[str, Any], field: str) -> None:
    status, refusal = client.pay("po-1", item(**wrong), item())
    assert (status, refusal["name"]) == (400, "VALIDATION_ERROR")
    assert refusal["details"][0]["field"] == field


def test_unknown_ids_are_not_found(client: PayoutClient) -> None:
    for path in (f"{PATH}/PYB1", f"{PATH}-item/PYI1"):
        status, refusal = client.call("GET", path)
        assert (status, refusal["name"]) == (404, "INVALID_RESOURCE_ID")


# --- faults and events ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "is_made"),
    [("error500", True), ("proxy", True), ("reset", True), ("error503", False), ("429", False), ("lost", False)],
)
def test_fault_says_whether_the_batch_is_made(
    client: PayoutClient, server: PayPalServer, fault: str, is_made: bool
) -> None:
    server.book.faults[PAYOUTS].append(fault)
    try:
        status, _ = client.pay("po-1", item())
        assert status >= 400
    except (http.client.HTTPException, ConnectionError):
        assert fault in ("reset", "lost")
    assert bool(server.book.payouts.batches) is is_made


def test_events_follow_the_items_and_the_batch(client: PayoutClient, server: PayPalServer) -> None:
    server.webhook_url = "http://127.0.0.1:9/nowhere"
    server.book.payouts.outcomes["ann@example.com"] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    shown = client.item(paid(client))
    server.payouts.change(shown["payout_item_id"], "SUCCESS")
    server.payouts.change(shown["payout_item_id"], "REVERSED")
    client.item(shown["payout_batch_id"])
    kinds = [event.kind for event in server.events]
    assert kinds == [
        "PAYMENT.PAYOUTS-ITEM.UNCLAIMED",
        "PAYMENT.PAYOUTSBATCH.SUCCESS",
        "PAYMENT.PAYOUTS-ITEM.SUCCEEDED",
    ]
    of_item, of_batch, _ = (json.loads(event.body)["resource"] for event in server.events)
    assert of_item["payout_batch_id"] == of_batch["batch_header"]["payout_batch_id"] == shown["payout_batch_id"]
    assert "items" not in of_batch


def test_everything_fits_the_published_description(client: PayoutClient, server: PayPalServer) -> None:
    published = described(DESCRIPTION)
    server.book.payouts.outcomes["ann@example.com"] = "UNCLAIMED", "RECEIVER_UNREGISTERED"
    shown = client.item(paid(client, sender_item_id="po-1", note="for October"))
    paid(client, "po-2", receiver="bob@example.com", currency="JPY", value="900")
    client.batch(shown["payout_batch_id"], "?total_required=true")
    client.pay("po-1", item(), key="other")
    client.pay("po-3", item(value="0"))
    client.pay("po-3", item(value="9000"))
    client.call("POST", f"{PATH}-item/{shown['payout_item_id']}/cancel")
    client.call("POST", f"{PATH}-item/{shown['payout_item_id']}/cancel")
    client.call("GET", f"{PATH}-item/PYI1")
    client.call("GET", f"{PATH}/PYB1")
    faults = []
    for exchange in server.exchanges:
        name = exchange.path.removeprefix(PATH)
        path = PATH + ("" if not name else "/{id}" if name.startswith("/") else "-item/{payout_item_id}")
        path += "/cancel" if name.endswith("/cancel") else ""
        if exchange.request is not None:
            schema = published.request(path, exchange.method)
            faults += [f"request of {path}: {each}" for each in published.faults(exchange.request, schema)]
        answer = published.answer(path, exchange.method, exchange.status) or published.schema_of("error")
        faults += [f"{exchange.status} of {path}: {each}" for each in published.faults(exchange.answer, answer)]
    assert faults == []
    assert {exchange.status for exchange in server.exchanges} == {200, 201, 400, 404, 422}


# --- a process of its own ---------------------------------------------------------------------------------------------


def test_payouts_survive_the_process(tmp_path: Path) -> None:
    with PayPalSandbox(book=tmp_path / "book") as process:
        process.expect_payouts("ann@example.com", "UNCLAIMED", "RECEIVER_UNREGISTERED")
        batch_id = paid(PayoutClient(process.url))
        before = process.book()["payouts"]
        process.kill()
        process.start()
        client = PayoutClient(process.url)
        assert process.book()["payouts"] == before
        assert client.item(batch_id)["transaction_status"] == "UNCLAIMED"
        assert client.pay("po-1", item(), key="other")[1]["name"] == "USER_BUSINESS_ERROR"
        process.change_payout(client.item(batch_id)["payout_item_id"], "SUCCESS")
        assert process.book()["received"] == {"ann@example.com": {"USD": "9.00"}}


def test_control_claims_holds_and_ends(tmp_path: Path) -> None:
    with PayPalSandbox() as process:
        client = PayoutClient(process.url)
        batch_id = paid(client)
        item_id = client.item(batch_id)["payout_item_id"]
        for action, status in (("hold", "ONHOLD"), ("claim", "SUCCESS"), ("reverse", "REVERSED")):
            assert process.control(f"items/{item_id}", action=action)["transaction_status"] == status
        process.control("settings", payout_seconds=60)
        waiting = paid(client, "po-2")
        assert process.control(f"batches/{waiting}", status="DENIED")["batch_status"] == "DENIED"
        assert client.item(waiting)["transaction_status"] == "FAILED"
        assert process.control("payout_events", id=item_id, kind="PAYMENT.PAYOUTS-ITEM.FAILED")["event_id"]
        with pytest.raises(PayPalSandboxError, match="LOST"):
            process.control(f"items/{item_id}", status="LOST")
