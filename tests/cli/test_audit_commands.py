"""The audit chain on the command line."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text
from tests.cli.conftest import Cli

from refund_worker.engine.audit import Sealer
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings


def test_what_was_changed_is_named_with_exit_5_and_a_whole_chain_ends_well(
    shop: Cli, migrated_sqlite_url: str, tmp_path: Path
) -> None:
    assert shop("audit", "anchor", "anchor").code == 4
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        assert Sealer().seal(runtime.context) > 0
        assert shop("audit", "anchor", "anchor", "-o", "json").json["seal"] == 2
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
