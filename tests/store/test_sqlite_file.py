"""The SQLite file: customers' data are readable for its owner alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sqlalchemy import text

from refund_worker.store.database import Database


def test_new_sqlite_file_and_its_log_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = Database(f"sqlite:///{tmp_path}/new/refunds.db")
        with database.write() as connection:
            connection.execute(text("CREATE TABLE kept (id INTEGER)"))
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "new").iterdir()}
        assert set(files) == {"refunds.db", "refunds.db-wal", "refunds.db-shm"}
        assert set(files.values()) == {0o600}
        database.close()
    finally:
        os.umask(before)


def test_rights_of_an_existing_sqlite_file_are_kept(tmp_path: Path) -> None:
    (tmp_path / "refunds.db").touch(0o640)
    (tmp_path / "refunds.db").chmod(0o640)
    database = Database(f"sqlite:///{tmp_path}/refunds.db")
    with database.write() as connection:
        connection.execute(text("CREATE TABLE kept (id INTEGER)"))
    assert stat.S_IMODE((tmp_path / "refunds.db").stat().st_mode) == 0o640
    database.close()
