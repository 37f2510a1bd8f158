"""`refund-worker funds` and `doctor` compare the money at the accounts with what refunds need."""

from __future__ import annotations

from tests.cli.conftest import Cli

from refund_worker.store import funds
from refund_worker.store.database import Database
from refund_worker.store.database import now as clock

ASK = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--reason", "asked", "--credits", "10")


def test_funds_command_shows_what_is_missing_and_what_is_unknown(shop: Cli, migrated_sqlite_url: str) -> None:
    assert shop("funds").out.startswith("no balance was read")
    assert shop(*ASK, "--customer", "ann", "--idempotency-key", "k1", "-o", "json").code == 0
    (fund,) = shop("funds", "-o", "json").json["data"]
    assert (fund["state"], fund["shortfall_minor"]) == ("not_read", None)
    ran = shop("funds")
    assert (ran.code, "unknown" in ran.out) == (0, True)
    needed, currency = fund["needed_minor"], fund["currency"]

    def store(connection: object) -> None:
        at = clock(connection)  # type: ignore[arg-type]
        found = {currency: funds.Fund(needed - 1, 0, at, None)}
        funds.store_reading(connection, fund["processor_account"], at, found)  # type: ignore[arg-type]

    database = Database(migrated_sqlite_url)
    database.run(store)
    database.close()
    (fund,) = shop("funds", "-o", "json").json["data"]
    assert (fund["state"], fund["shortfall_minor"]) == ("current", 1)
    assert "are missing at" in shop("funds").err
    (line,) = [line for line in shop("doctor", "-o", "json").json["data"] if line["check"] == "funds"]
    assert (line["verdict"], "are missing at" in line["found"]) == ("warn", True)
    assert "refund-worker explain funds_short" in line["do"]
    assert shop("explain", "funds_short").code == 0
