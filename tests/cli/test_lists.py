"""Lists for operators: customers, payments, batches; ids alone; filters of refunds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cli.conftest import Cli

from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.intake.batches import accept_batch
from refund_worker.errors import InvalidRequest
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

ASK = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--reason", "asked", "--customer", "ann")


def pages(cli: Cli, command: tuple[str, ...], id_field: str, limit: int = 1) -> list[Any]:
    """Return all rows of a list, read page by page."""
    rows: list[Any] = []
    more: tuple[str, ...] = ()
    while True:
        page = cli(*command, "--limit", str(limit), *more, "-o", "json").json
        rows += page["data"]
        if not page["has_more"]:
            return rows
        more = ("--starting-after", page["data"][-1][id_field])


def test_customers_are_listed_with_their_balances(shop: Cli) -> None:
    rows = pages(shop, ("customers", "list"), "customer_id")
    assert [(row["customer_id"], row["balance"]) for row in rows] == [("ann", 600), ("bob", 1000)]
    for row in rows:
        shown = shop("customers", "show", row["customer_id"], "-o", "json").json
        assert row.items() <= shown.items()
    table = shop("customers", "list").out
    assert "ann" in table
    assert "1,000" in table


def test_payments_are_listed_as_one_is_shown(shop: Cli) -> None:
    rows = pages(shop, ("payments", "list"), "payment_id")
    assert [row["payment_id"] for row in rows] == ["p1", "p2", "p3"]
    assert [row["payment_id"] for row in pages(shop, ("payments", "list", "--customer", "bob"), "payment_id")] == [
        "p2",
        "p3",
    ]
    for row in rows:
        assert shop("payments", "show", row["payment_id"], "-o", "json").json == row
    assert "20.00 GBP" in shop("payments", "list").out
    assert "500 JPY" in shop("payments", "show", "p3").out
    assert shop("payments", "show", "p9").code == 4


def test_a_page_after_an_unknown_customer_is_refused(shop: Cli) -> None:
    for kind in ("customer", "payment"):
        refused = shop(f"{kind}s", "list", "--starting-after", "zzz")
        assert refused.code == 2
        assert f"starting_after: zzz is no {kind}" in refused.err
    assert shop("customers", "list", "--starting-after", "bob", "-q").code == 0


@pytest.fixture
def batch(shop: Cli, migrated_sqlite_url: str) -> str:
    """Return the id of a batch with one accepted and one rejected row."""
    asked = RefundRequest(
        idempotency_key="b-1",
        client="shop",
        actor="shop/anna",
        kind=Kind.WITHDRAWAL,
        to=To.SOURCE,
        customer_id="ann",
        credits=10,
        reason="asked",
        bulk=True,
    )
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        rows = [asked, InvalidRequest("credits: must be positive", field="credits")]
        return accept_batch(runtime.context, rows, client="shop", actor="shop/anna")["batch_id"]


def test_a_batch_is_listed_and_shown(shop: Cli, batch: str) -> None:
    (row,) = pages(shop, ("batches", "list"), "batch_id")
    assert (row["batch_id"], row["status"], row["rows"], row["actor"]) == (batch, "complete", 2, "shop/anna")
    shown = shop("batches", "show", batch, "-o", "json").json
    assert (shown["accepted"], [reject["index"] for reject in shown["rejected"]]) == (1, [1])
    table = shop("batches", "show", batch).out
    assert "1 queued" in table
    assert "credits: must be positive" in table
    assert shop("batches", "show", "rb_none").code == 4


def test_quiet_prints_ids_alone(shop: Cli, batch: str) -> None:
    refund = shop("refunds", "list", "-o", "json").json["data"][0]["id"]
    for command, ids in (
        (("refunds", "list"), [refund]),
        (("customers", "list"), ["ann", "bob"]),
        (("payments", "list"), ["p1", "p2", "p3"]),
        (("batches", "list"), [batch]),
    ):
        for option in ("-q", "--quiet"):
            ran = shop(*command, option)
            assert (ran.code, ran.out.splitlines(), ran.err) == (0, ids, "")
        assert shop(*command, "-q", "-o", "json").code == 2
        cut = shop(*command, "-q", "--limit", "1")
        assert cut.out.splitlines() == ids[:1]
        assert ("--starting-after" in cut.err) == (len(ids) > 1)


def test_statuses_may_be_a_list(shop: Cli) -> None:
    first, second = (shop(*ASK, "--credits", str(n), "-o", "json").json["id"] for n in (1, 2))
    assert shop("refunds", "cancel", first, "--reason", "mistake").code == 0
    for asked, ids in (
        (("queued",), [second]),
        (("queued,canceled",), [second, first]),
        (("queued, canceled", "failed"), [second, first]),
        (("failed", "rejected"), []),
    ):
        options = [part for each in asked for part in ("--status", each)]
        assert shop("refunds", "list", *options, "-q").out.split() == ids
    for wrong in ("queued,", "paid", "queued;failed", ""):
        ran = shop("refunds", "list", "--status", wrong)
        assert (ran.code, ran.out) == (2, "")
        assert "choose from queued, " in ran.err


def test_refunds_end_at_a_time_or_a_day(shop: Cli) -> None:
    refund = shop(*ASK, "-o", "json").json
    created = datetime.fromisoformat(refund["created_at"])
    today, yesterday = (day.strftime("%Y-%m-%d") for day in (datetime.now(UTC), datetime.now(UTC) - timedelta(days=1)))
    before = (created - timedelta(seconds=1)).isoformat()
    for until, found in ((today, 1), (yesterday, 0), (before, 0), ("2199-01-01", 1), ("1970-01-01", 0)):
        ran = shop("refunds", "list", "--created-lte", until, "-o", "json")
        assert len(ran.json["data"]) == found, until
    assert shop("refunds", "list", "--created-lte", "tomorrow").code == 2
    assert shop("refunds", "export", "-", "--created-lte", yesterday, "-o", "json").json["data"] == []
