"""Payments of connected accounts over HTTP and in files, and metrics that name only their platform."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.web.client import PAYMENT, Web, is_problem, settings_for

from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.intake.file_import import import_payments
from refund_worker.engine.intake.file_reader import read_payments
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.engine.processor_sync.reconciliation.run import start_reconciliation
from refund_worker.metrics import CLAIM_TO_SEND, RATE_WAIT, observe
from refund_worker.store import processors
from refund_worker.worker.limiter import make_limiter

ACME = {"adapter": "tests.processors.second.acmepay.entry", "token": "test_token", "api_base": "http://127.0.0.1:9"}
STRIPE = {"api_key": "sk_test_1", "api_base": "http://127.0.0.1:9"}
DIRECT = {"account": "acct_One1"}
DESTINATION = {"account": "acct_One1", "reverse_transfer": True, "refund_application_fee": False}
HEAD = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at"


@pytest.fixture
def web(migrated_sqlite_url: str) -> Iterator[Web]:
    """The application with two Stripe accounts and another processor."""
    tables = {"stripe": STRIPE, "stripe:old": STRIPE | {"api_key": "sk_test_2"}, "acmepay": ACME}
    with Web(settings_for(migrated_sqlite_url, PROCESSORS=json.dumps(tables))) as running:
        yield running


def body(**changes: Any) -> dict[str, Any]:
    return PAYMENT | {"processor_account": "stripe"} | changes


def post(web: Web, **changes: Any) -> Any:
    return web.call("POST", "/v1/payments", body(**changes))


@pytest.mark.parametrize(
    ("connect", "shown"),
    [
        (DIRECT, DIRECT | {"reverse_transfer": None, "refund_application_fee": None}),
        (DESTINATION, DESTINATION),
        ({"refund_application_fee": True}, {"account": None, "reverse_transfer": None, "refund_application_fee": True}),
    ],
)
def test_payment_is_shown_with_its_account_and_connect(web: Web, connect: dict[str, Any], shown: Any) -> None:
    answer = post(web, connect=connect, processor_account="stripe:old")
    assert (answer.status_code, answer.json()) == (201, body(connect=connect, processor_account="stripe:old"))
    payment = web.call("GET", "/v1/payments/pay-1").json()
    assert (payment["processor"], payment["processor_account"]) == ("stripe", "stripe:old")
    assert payment["connect"] == shown
    assert post(web, connect=connect, processor_account="stripe:old").status_code == 200


@pytest.mark.parametrize(
    "other",
    [
        None,
        {"account": "acct_Two2"},
        DIRECT | {"reverse_transfer": True},
        DIRECT | {"refund_application_fee": True},
        DIRECT | {"reverse_transfer": False},
    ],
)
def test_payment_recorded_again_with_another_connect_is_a_conflict(web: Web, other: Any) -> None:
    assert post(web, connect=DIRECT).status_code == 201
    assert is_problem(post(web, connect=other), 409, "already_recorded")
    assert post(web, connect=DIRECT).status_code == 200


def test_equal_charges_of_two_accounts_are_two_payments(web: Web) -> None:
    for number, account in enumerate(("acct_One1", "acct_Two2", None)):
        connect = {"account": account} if account else None
        assert post(web, payment_id=f"pay-{number}", connect=connect).status_code == 201
    again = post(web, payment_id="pay-9", connect=DIRECT)
    assert is_problem(again, 409, "already_recorded")
    found = web.call("GET", "/v1/payments?processor_payment_id=ch_1").json()["data"]
    assert {each["payment_id"] for each in found} == {"pay-0", "pay-1", "pay-2"}


def test_destination_charge_belongs_to_the_platform(web: Web) -> None:
    assert post(web, connect=DESTINATION).status_code == 201
    assert is_problem(post(web, payment_id="pay-2", connect=None), 409, "already_recorded")
    assert post(web, payment_id="pay-2", connect=DIRECT).status_code == 201


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"processor": "acmepay", "processor_account": None, "processor_payment_id": "AP-1"}, "connect"),
        ({"processor": "manual", "processor_account": None}, "connect"),
        ({"processor": "elsewhere", "processor_account": None}, "connect"),
        ({"connect": {"account": "acct-1"}}, "connect.account"),
        ({"connect": {"account": "acct_"}}, "connect.account"),
        ({"connect": {"account": "stripe/acct_1"}}, "connect.account"),
        ({"connect": {"account": "acct_1/acct_2"}}, "connect.account"),
        ({"connect": {"reverse_transfer": "true"}}, "connect.reverse_transfer"),
        ({"connect": {"accounts": "acct_1"}}, "connect.accounts"),
        ({"processor_account": "stripe/acct_1"}, "processor_account"),
    ],
)
def test_wrong_connect_is_named(web: Web, changes: dict[str, Any], field: str) -> None:
    answer = web.call("POST", "/v1/payments", body(connect=DIRECT) | changes)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert web.call("GET", "/v1/payments").json()["data"] == []


def test_reverse_transfer_without_an_account_is_the_platforms(web: Web) -> None:
    """The account is for people here: Stripe knows the destination of its own charge."""
    assert post(web, connect={"reverse_transfer": True}).status_code == 201
    shown = web.call("GET", "/v1/payments/pay-1").json()
    assert shown["connect"] == {"account": None, "reverse_transfer": True, "refund_application_fee": None}


def test_columns_of_a_file_give_the_same_payments_as_http(web: Web, tmp_path: Path) -> None:
    file = tmp_path / "payments.csv"
    more = "processor_account,connect_account,connect_reverse_transfer,connect_refund_application_fee"
    rows = [
        "pay-1,cust-1,stripe,ch_1,2000,EUR,200,2026-11-01T09:00:00Z,stripe,acct_One1,,",
        "pay-2,cust-1,stripe,ch_2,2000,EUR,200,2026-11-01T09:00:00Z,stripe:old,acct_One1,true,false",
        "pay-3,cust-1,stripe,ch_3,2000,EUR,200,2026-11-01T09:00:00Z,stripe,,,",
        "pay-4,cust-1,stripe,ch_4,2000,EUR,200,2026-11-01T09:00:00Z,stripe,acct_One1,yes,",
        "pay-5,cust-1,stripe,ch_5,2000,EUR,200,2026-11-01T09:00:00Z,stripe,one,,",
    ]
    file.write_text("\n".join([f"{HEAD},{more}", *rows]) + "\n")
    summary = import_payments(web.context, read_payments(file))
    assert [each.message.partition(":")[0] for each in summary.rejected] == [
        "connect.reverse_transfer",
        "connect.account",
    ]
    connects = [web.call("GET", f"/v1/payments/pay-{number}").json()["connect"] for number in (1, 2, 3)]
    assert connects == [DIRECT | {"reverse_transfer": None, "refund_application_fee": None}, DESTINATION, None]
    assert post(web, connect=DIRECT).status_code == 200
    second = {"payment_id": "pay-2", "processor_payment_id": "ch_2", "processor_account": "stripe:old"}
    assert post(web, **second, connect=DESTINATION).status_code == 200


def test_payment_of_several_accounts_keeps_its_connected_one(web: Web) -> None:
    assert is_problem(post(web, processor_account=None, connect=DIRECT), 422, "processor_account_missing")
    assert post(web, processor_account="stripe:old", connect=DIRECT).status_code == 201
    assert post(web, processor_account=None, connect=DIRECT).status_code == 200


def test_switch_and_reconciliation_of_a_connected_account_over_http(web: Web) -> None:
    name = "stripe:old%2Facct_One1"
    paused = web.call("POST", f"/v1/processors/{name}/pause", {"reason": "test"})
    assert (paused.status_code, paused.json()["name"], paused.json()["paused"]) == (200, "stripe:old/acct_One1", True)
    assert web.call("POST", f"/v1/processors/{name}/resume", {}).json()["paused"] is False
    assert web.call("POST", "/v1/processors/acmepay%2Facct_One1/pause", {"reason": "test"}).status_code == 404
    started = web.call("POST", "/v1/reconciliations", {"processor_account": "stripe/acct_One1"})
    assert (started.status_code, started.json()["processor_account"]) == (202, "stripe/acct_One1")
    wrong = web.call("POST", "/v1/reconciliations", {"processor_account": "manual/acct_One1"})
    assert is_problem(wrong, 422, "invalid_request")


# -- metrics and rate -------------------------------------------------------------------------------------------------


def test_metrics_name_no_connected_account(web: Web) -> None:
    """There can be any number of them, and each name would be a time series of its own for ever."""
    context, name = web.context, "stripe/acct_One1"
    post(web, connect=DIRECT)
    assert web.refund("k", credits=100).status_code == 202
    pause_processor(context, "stripe", actor="op", reason="test")
    pause_processor(context, name, actor="op", reason="test")
    context.database.run(lambda connection: processors.record_listing(connection, name, 1.0, None))
    start_reconciliation(context, name, since=None, until=None, actor="op")
    observe(CLAIM_TO_SEND, 0.1, name)
    observe(RATE_WAIT, 0.1, f"{name} reads")
    text = web.call("GET", "/metrics", key=web.key("viewer")).text
    assert "acct_" not in text
    waiting = re.search(
        r'^refund_worker_\w*waiting\w*\{cause="processor_paused",processor="stripe"\} (\S+)$', text, re.M
    )
    assert waiting is not None, [line for line in text.splitlines() if "processor_paused" in line]
    assert float(waiting[1]) == 1.0


def test_connected_accounts_share_the_rate_of_their_platform(web: Web, migrated_sqlite_url: str) -> None:
    import asyncio
    import time

    settings = settings_for(
        migrated_sqlite_url, BROKER_URL="memory://", STRIPE_RATE_PER_SECOND="80", STRIPE_API_KEY="sk_test_1"
    )

    async def take(names: list[str]) -> float:
        limiter = make_limiter(settings)
        began = time.monotonic()
        await asyncio.gather(*(limiter.acquire(name) for name in names))
        await limiter.close()
        return time.monotonic() - began

    # Without a shared broker a process uses a quarter of the rate: 20 a second.
    assert asyncio.run(take([f"stripe/acct_{number}" for number in range(11)])) > 0.45
    assert asyncio.run(take(["stripe", *(f"stripe/acct_{number} reads" for number in range(2))])) < 0.2
    assert asyncio.run(take(["manual"] * 50)) < 0.2


def test_record_without_an_account_of_its_processor_stays_as_it_is(web: Web) -> None:
    record = PaymentRecord(
        payment_id="pay-1",
        customer_id="c",
        processor="elsewhere",
        processor_payment_id="x",
        amount_minor=1,
        currency="EUR",
        credits=1,
        captured_at=1.0,
    )
    (answer,) = record_payments(web.context, [record])
    assert not isinstance(answer, Exception)
    assert web.call("GET", "/v1/payments/pay-1").json()["processor_account"] == "elsewhere"
