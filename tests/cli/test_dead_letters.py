"""`refund-worker failures refused`: requests that the Celery task refused."""

from __future__ import annotations

from tests.cli.conftest import Cli

from refund_worker.engine.intake.dead_letters import keep_refused
from refund_worker.errors import ExceedsRefundable
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings


def test_refusals_are_listed_latest_first_and_by_key(cli: Cli, migrated_sqlite_url: str) -> None:
    assert cli("failures", "refused", "-o", "json").json == {"data": [], "has_more": False}
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": migrated_sqlite_url}), processors=False) as runtime:
        for key in ("first", "second"):
            fields = {"client": "shop", "idempotency_key": key, "credits": 9}
            keep_refused(runtime.context, "celery", fields, ExceedsRefundable("3 of 9 are left"))
    listed = cli("failures", "refused", "-o", "json", "--limit", "1").json
    assert [row["idempotency_key"] for row in listed["data"]] == ["second"]
    assert listed["has_more"]
    only = cli("failures", "refused", "--idempotency-key", "first")
    assert "exceeds_refundable" in only.out
    assert "3 of 9 are left" in only.out
    assert "second" not in only.out
