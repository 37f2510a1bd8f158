"""Times in requests and files: only times that can be shown again are accepted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.web.client import PAYMENT, SPEND, Web, is_problem

from refund_worker.domain.records import PaymentRecord
from refund_worker.engine.accounts.payments import record_payments
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.intake.file_reader import read_payments
from refund_worker.engine.intake.schemas import PaymentSchema, SpendSchema
from refund_worker.errors import InvalidRequest
from refund_worker.store.tables import ledger_transactions, payments

UNUSABLE = [
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00Z",
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:59:59+01:00",
    "2200-01-01T00:00:00Z",
    "2199-12-31T23:59:59-00:01",
    "9999-12-31T23:59:59-14:00",
    "2026-W01-1T00:00:00Z",
    "20260101T000000Z",
    "2026-01-01x00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00",
    "2026-01-01",
    "٢٠٢٦-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z\n",
    "1767225600",
    "",
]
# More than a day from now: nothing was paid or spent there yet.
FUTURE = ["2199-12-31T23:59:59Z", "2200-01-01T00:00:00+14:00"]
USABLE = {
    "1970-01-01T00:00:00Z": "1970-01-01T00:00:00Z",
    "2026-01-01T00:00:00+05:45": "2025-12-31T18:15:00Z",
    "2026-01-01 00:00z": "2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00.123456789Z": "2026-01-01T00:00:00.123Z",
}


@pytest.mark.parametrize("time", [*UNUSABLE, *FUTURE])
def test_unusable_time_is_refused_and_nothing_is_stored(web: Web, time: str) -> None:
    paid = web.call("POST", "/v1/payments", PAYMENT | {"payment_id": "p", "customer_id": "new", "captured_at": time})
    assert is_problem(paid, 422, "invalid_request")
    assert paid.json()["field"] == "captured_at"
    spent = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": "s", "occurred_at": time})
    assert is_problem(spent, 422, "invalid_request")
    assert web.call("GET", "/v1/customers/new").status_code == 404
    assert web.call("GET", "/v1/customers/cust-1").json()["balance"] == 150


@pytest.mark.parametrize("time", USABLE)
def test_a_time_at_the_edge_is_stored_and_shown_in_utc(web: Web, time: str) -> None:
    asked = PAYMENT | {"payment_id": "p", "processor_payment_id": "ch_p", "captured_at": time}
    assert web.call("POST", "/v1/payments", asked).json()["captured_at"] == USABLE[time]
    spent = web.call("POST", "/v1/transactions", SPEND | {"transaction_id": "s", "occurred_at": time})
    assert spent.json()["occurred_at"] == USABLE[time]
    assert web.call("GET", "/v1/customers/cust-1/transactions").status_code == 200


def test_row_with_an_unusable_time_is_rejected_and_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    times = [time for time in UNUSABLE if "\n" not in time]
    columns = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at"
    rows = [f'p,c,stripe,ch_1,1000,USD,100,"{time}"' for time in [*times, *USABLE]]
    path.write_text("\n".join([columns, *rows]), "utf-8")
    found = [type(row) for _, row in read_payments(path)]
    assert found == [InvalidRequest] * len(times) + [PaymentRecord] * len(USABLE)


@pytest.mark.parametrize("time", ["2026-11-01T09:00:00.123456Z", "2026-11-01T09:00:00.0004+01:00", *USABLE])
def test_an_answer_that_is_sent_again_is_the_same_body(web: Web, time: str) -> None:
    asked = PAYMENT | {"payment_id": "p", "processor_payment_id": "ch_p", "captured_at": time}
    first = web.call("POST", "/v1/payments", asked)
    assert web.call("GET", "/v1/payments/p").json()["captured_at"] == first.json()["captured_at"]
    for body in (asked, first.json()):
        again = web.call("POST", "/v1/payments", body)
        assert (again.status_code, again.json()) == (200, first.json())
    spend = SPEND | {"transaction_id": "s", "occurred_at": time}
    spent = web.call("POST", "/v1/transactions", spend).json()
    for at in (time, spent["occurred_at"]):
        again = web.call("POST", "/v1/transactions", spend | {"occurred_at": at})
        assert (again.status_code, again.json()) == (200, spent)
    with web.context.database.read() as connection:
        stored = [
            *connection.execute(
                select(payments.c.captured_at).union(select(ledger_transactions.c.occurred_at))
            ).scalars()
        ]
    assert stored == [round(at, 3) for at in stored]


def test_a_time_that_an_earlier_version_stored_exactly_is_the_same(web: Web) -> None:
    """It stored 0.123456 s and showed 0.123 s; the backend may send either again."""
    paid = PAYMENT | {"payment_id": "p", "processor_payment_id": "ch_p"}
    spent = SPEND | {"transaction_id": "s"}
    exactly = datetime(2026, 11, 1, 9, 0, 0, 123456, UTC).timestamp()
    record_payments(web.context, [replace(PaymentSchema(**paid).record(), captured_at=exactly)])
    record_spends(web.context, [replace(SpendSchema(**spent).record(), occurred_at=exactly)])
    for part in (".123456", ".123"):
        time = f"2026-11-01T09:00:00{part}Z"
        assert web.call("POST", "/v1/payments", paid | {"captured_at": time}).status_code == 200
        assert web.call("POST", "/v1/transactions", spent | {"occurred_at": time}).status_code == 200
    time = "2026-11-01T09:00:00.124Z"
    assert is_problem(web.call("POST", "/v1/payments", paid | {"captured_at": time}), 409, "already_recorded")
    assert is_problem(web.call("POST", "/v1/transactions", spent | {"occurred_at": time}), 409, "already_recorded")
