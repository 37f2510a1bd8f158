"""The console user and the API key of `refund-worker dev`: kept for the next start in the same folder."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from refund_worker.cli.dev_login import FILE, login
from refund_worker.engine.access.api_keys import authenticate, revoke_key
from refund_worker.engine.access.console_users import disable_user, list_users, set_password, sign_in
from refund_worker.engine.context import Context
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings


@pytest.fixture
def context(migrated_url: str) -> Iterator[Context]:
    with build_runtime(load_settings({"REFUND_WORKER_DATABASE_URL": migrated_url}), processors=False) as runtime:
        yield runtime.context


def test_second_start_gives_the_login_of_the_first(context: Context, tmp_path: Path) -> None:
    first = login(context, tmp_path)
    assert login(context, tmp_path) == first
    assert sign_in(context, name=first.user, password=first.password, address="127.0.0.1")
    with context.database.read() as connection:
        identity = authenticate(connection, first.key)
    assert identity is not None
    assert (identity.client, identity.role, identity.expires_at is not None) == ("dev", "admin", True)
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


def test_checking_the_login_leaves_no_open_session(context: Context, tmp_path: Path) -> None:
    for _ in range(3):
        login(context, tmp_path)
    with context.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM console_sessions").scalar() == 0


def test_revoked_key_alone_is_replaced(context: Context, tmp_path: Path) -> None:
    first = login(context, tmp_path)
    with context.database.read() as connection:
        identity = authenticate(connection, first.key)
    assert identity is not None
    revoke_key(context, identity.key_id)
    second = login(context, tmp_path)
    assert second[:2] == first[:2]
    assert second.key != first.key


@pytest.mark.parametrize("change", ["disabled", "password", "file lost", "file broken", "other database"])
def test_login_that_works_no_longer_is_replaced(context: Context, tmp_path: Path, change: str) -> None:
    first = login(context, tmp_path)
    file = tmp_path / FILE
    if change == "disabled":
        disable_user(context, first.user)
    elif change == "password":
        set_password(context, first.user, actor="cli:test")
    elif change == "file lost":
        file.unlink()
    elif change == "file broken":
        file.write_text('{"user": 1}')
    else:
        file.write_text(json.dumps(first._asdict() | {"user": "dev-elsewhere"}))
    second = login(context, tmp_path)
    assert second.user != first.user
    assert login(context, tmp_path) == second
    active = [user["name"] for user in list_users(context) if not user["disabled_at"]]
    assert active == [second.user]
