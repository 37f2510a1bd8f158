"""A success that Adyen tells after a failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processors.adyen.book import SENT
from tests.processors.adyen.shop import Shop, open_shop
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.refunds.process import process_due

__all__ = ["migrated_sqlite_url", "sqlite_template"]


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with open_shop(migrated_sqlite_url) as opened:
        yield opened


def test_success_after_a_failure_is_shown_and_changes_nothing(shop: Shop) -> None:
    """Adyen asks its customers to believe the newest event, but nothing signed says which one that is."""
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.fail(made.psp))
    shop.work_until_status(refund_id, RefundStatus.FAILED)
    made.state = SENT
    shop.server.book.clock_offset += 86_400
    again = shop.server.book.event("REFUND", made, reason="sent again")
    assert shop.tell(again, again) == [(200, "[accepted]")] * 2
    process_due(shop.runtime.context)
    assert shop.refund(refund_id).status is RefundStatus.FAILED
    assert shop.balance() == 100
    assert len(shop.server.book.refunds) == 1, "nothing is sent again"
    with Web(shop.settings) as web:
        timeline = web.call("GET", f"/v1/refunds/{refund_id}/events").json()["data"]
    told = [event for event in timeline if event["what"] == "paid_after_failure"]
    assert [event["alarm"] for event in told] == [True]
