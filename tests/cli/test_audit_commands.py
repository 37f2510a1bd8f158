"""Commands of the audit chain."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from tests.cli.conftest import Cli

from refund_worker.engine.audit.hash_chain import Sealer
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings


def test_verify_names_changed_rows_with_exit_5(shop: Cli, migrated_sqlite_url: str, tmp_path: Path) -> None:
    assert shop("audit", "anchor", "anchor").code == 4
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        assert Sealer().seal(runtime.context) > 0
        assert shop("audit", "anchor", "anchor", "-o", "json").json["seal"] == 3
        good = shop("audit", "verify", "--anchor", "anchor", "-o", "json")
        assert (good.code, good.json["whole"], good.json["anchors"]) == (0, True, 1)
        with runtime.database.write() as connection:
            connection.execute(text("DROP TRIGGER ledger_entries_no_update"))
            connection.execute(text("UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 2"))
    bad = shop("audit", "verify", "-o", "json")
    assert bad.code == 5
    found = {"table": "ledger_entries", "first_seq": 2, "last_seq": 2, "what": "changed"}
    assert bad.json["findings"] == [found]
    assert "ledger_entries" in shop("audit", "verify").out
    (tmp_path / "anchor").write_text("x")
    assert shop("audit", "verify", "--anchor", "anchor").code == 2


def test_forged_rows_with_negative_numbers_are_named_with_exit_5(shop: Cli, migrated_sqlite_url: str) -> None:
    """Forge a correction of 1,000 credits and an approval, with numbers below the chain's first one."""
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        Sealer().seal(runtime.context)
        assert shop("audit", "verify").code == 0
        with runtime.database.write() as connection:
            for table in ("events", "ledger_transactions"):
                connection.execute(text(f"DROP TRIGGER {table}_number"))
            connection.execute(
                text(
                    "INSERT INTO ledger_transactions"
                    " (seq, transaction_id, customer_id, kind, credits, occurred_at, actor)"
                    " SELECT -5, 'forged', min(customer_id), 'correction', 1000, 0, 'boss' FROM customers"
                )
            )
            connection.execute(text("INSERT INTO events (seq, at, actor, kind) VALUES (-4, 0, 'boss', 'approved')"))
    ran = shop("audit", "verify", "-o", "json")
    assert ran.code == 5
    assert {(f["table"], f["first_seq"]) for f in ran.json["findings"]} == {("ledger_transactions", -5), ("events", -4)}


def test_verify_names_a_foreign_change_of_a_role_until_it_is_accepted(shop: Cli, migrated_sqlite_url: str) -> None:
    assert shop("users", "create", "anna", "--role", "viewer").code == 0
    settings = load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url})
    with build_runtime(settings, processors=False) as runtime, runtime.database.write() as connection:
        connection.execute(text("UPDATE console_users SET role = 'admin'"))
    assert shop("audit", "verify").code == 5
    assert "changed: role of anna" in shop("audit", "accept").out
    assert shop("audit", "verify").code == 0
    assert shop("audit", "accept", "-o", "json").json == {"accepted": []}


def test_unknown_kind_of_entry_is_refused_with_the_known_ones(shop: Cli) -> None:
    for of, known in (("timeline", "processor_paused"), ("ledger", "correction")):
        refused = shop("audit", "list", "--of", of, "--kind", "nope")
        assert refused.code == 2
        assert f"the {of} has no kind" in refused.err
        assert known in refused.err
        assert shop("audit", "list", "--of", of, "--kind", known).code == 0
