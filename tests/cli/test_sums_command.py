"""`refund-worker sums` and doctor's line about the sums."""

from __future__ import annotations

from sqlalchemy import text
from tests.cli.conftest import Cli

from refund_worker.engine.sums.rounds import SumChecker
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings


def test_sums_and_doctor_name_a_row_that_differs(shop: Cli, migrated_sqlite_url: str) -> None:
    good = shop("sums", "-o", "json")
    assert (good.code, good.json["holds"], good.json["violations"]) == (0, True, [])
    assert good.json["customers"] > 0
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        SumChecker().check(runtime.context)
        assert doctor(shop)[0] == "ok"
        with runtime.database.write() as connection:
            wrong = "UPDATE customers SET balance = balance + 7 WHERE customer_id IN (SELECT min(customer_id)"
            connection.execute(text(f"{wrong} FROM customers) RETURNING customer_id"))
            customer = connection.execute(text("SELECT min(customer_id) FROM customers")).scalar_one()
            connection.execute(text("UPDATE sum_rounds SET next_at = 0"))
        bad = shop("sums", "-o", "json")
        (row,) = bad.json["violations"]
        assert (bad.code, row["sum"], row["subject"]) == (5, "balance", customer)
        assert row["stored"] == row["expected"] + 7
        assert customer in shop("sums").out
        SumChecker().check(runtime.context)
        assert doctor(shop) == ("fail", f"1 row differs: balance of {customer}")


def doctor(shop: Cli) -> tuple[str, str]:
    """Return verdict and text of doctor's line about the sums."""
    (line,) = [f for f in shop("doctor", "-o", "json").json["data"] if f["check"] == "sums"]
    return line["verdict"], line["found"]
