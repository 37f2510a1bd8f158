"""The rules for ids and keys also apply to the entry points other than HTTP: files and the Python API."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from tests.support.engine_world import World, withdrawal

from refund_worker import request_refund
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.intake.file_reader import read_payments, read_refund_requests, read_spends
from refund_worker.errors import InvalidRequest

PAYMENTS = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
SPENDS = "transaction_id,customer_id,kind,credits,description,occurred_at\n"
REQUESTS = "idempotency_key,kind,to,customer_id,transaction_id,credits,reason,note,requested_by,requested_at\n"
AT = "2026-01-01T00:00:00Z"
BLANKS = "blanks at its ends"


def payment(tmp_path: Path, row: str) -> PaymentRecord | InvalidRequest:
    """Read one payment row from a file and return its record or the error."""
    path = tmp_path / "payments.csv"
    path.write_text(PAYMENTS + row, encoding="utf-8")
    ((_, found),) = read_payments(path)
    return found


@pytest.mark.parametrize("key", ["click-1 ", " click-1", "  click-1  "])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_files_key_with_blanks_is_refused_by_name(tmp_path: Path, suffix: str, key: str) -> None:
    path = tmp_path / f"requests.{suffix}"
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "ada", "credits": 39, "reason": "x"}
    rows = {
        "csv": REQUESTS + f"{key},withdrawal,source,ada,,39,x,,,\n",
        "jsonl": json.dumps({"idempotency_key": key, **fields}),
    }
    path.write_text(rows[suffix], encoding="utf-8")
    ((_, found),) = read_refund_requests(path, client="cli", actor="a")
    assert isinstance(found, InvalidRequest)
    assert (found.field, BLANKS in found.message) == ("idempotency_key", True)


def test_a_files_ids_are_those_of_people_in_one_spelling(tmp_path: Path) -> None:
    found = payment(tmp_path, f"auth0|1,Zoe\u0308 O'Brien,stripe,ch_1,1000,GBP,500,{AT}\n")
    assert isinstance(found, PaymentRecord)
    assert (found.payment_id, found.customer_id) == ("auth0|1", "Zo\u00eb O'Brien")
    path = tmp_path / "spends.csv"
    path.write_text(SPENDS + f"Zoe\u0308/1,Zoe\u0308,spend,5,,{AT}\n", encoding="utf-8")
    ((_, spend),) = read_spends(path)
    assert isinstance(spend, SpendRecord)
    assert (spend.transaction_id, spend.customer_id) == ("Zo\u00eb/1", "Zo\u00eb")


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ("p ,c,stripe,ch_1", "payment_id"),
        ("p, c,stripe,ch_1", "customer_id"),
        ("p,..,stripe,ch_1", "customer_id"),
        ("p,a/../b,stripe,ch_1", "customer_id"),
        ("p,c\u200b,stripe,ch_1", "customer_id"),
        ("p,c,all,x", "processor"),
        ("p,c,stripe,ch_a.b", "processor_payment_id"),
        ("p,c,stripe,pi_1_secret_2", "processor_payment_id"),
    ],
)
def test_a_row_with_what_is_no_id_is_refused_by_name(tmp_path: Path, cells: str, field: str) -> None:
    found = payment(tmp_path, f"{cells},1000,GBP,500,{AT}\n")
    assert isinstance(found, InvalidRequest)
    assert found.field == field
    assert "_secret_2" not in found.message


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"idempotency_key": "k "}, "idempotency_key"),
        ({"idempotency_key": "\tk"}, "idempotency_key"),
        ({"idempotency_key": "a\x00"}, "idempotency_key"),
        ({"client": "shop "}, "client"),
        ({"client": "sh\x00p"}, "client"),
        ({"client": ""}, "client"),
        ({"customer_id": " c"}, "customer_id"),
        ({"customer_id": ".."}, "customer_id"),
        ({"transaction_id": "a\u202eb"}, "transaction_id"),
        ({"metadata": {"4111 1111 1111 1111": "x"}}, "metadata.[card number removed]"),
        ({"metadata": {"a\x00": "x"}}, None),
    ],
)
def test_the_python_door_refuses_it_by_name_too(world: World, change: dict[str, object], field: str | None) -> None:
    world.pay()
    engine = create_engine(world.database.url)
    with engine.connect() as connection, connection.begin():
        with pytest.raises(InvalidRequest) as refused:
            request_refund(connection, withdrawal(1, "k", **{"client": "shop", **change}))
        assert field is None or refused.value.field == field
        assert "4111" not in refused.value.message
        taken = request_refund(connection, withdrawal(1, "k", client="shop"))
        assert not taken.replayed
    engine.dispose()


def test_the_python_door_finds_a_customer_in_either_spelling(world: World) -> None:
    world.pay(customer_id="Zo\u00eb")
    engine = create_engine(world.database.url)
    with engine.connect() as connection, connection.begin():
        request: RefundRequest = withdrawal(1, "k", customer_id="Zoe\u0308")
        first = request_refund(connection, request)
        again = request_refund(connection, withdrawal(1, "k", customer_id="Zo\u00eb"))
        assert (again.refund_id, again.replayed) == (first.refund_id, True)
    engine.dispose()
