"""A success that Adyen tells after a failure or a refusal, under the same event code and pspReference."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import select
from tests.processors.adyen.book import SENT
from tests.processors.adyen.shop import Shop, open_shop
from tests.support.migrated import migrated_sqlite_url, sqlite_template
from tests.web.client import Web

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.refunds.process import process_due
from refund_worker.store.tables import inbox

__all__ = ["migrated_sqlite_url", "sqlite_template"]


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with open_shop(migrated_sqlite_url) as opened:
        yield opened


def alarms(shop: Shop, refund_id: str) -> list[str]:
    """Return the alarms about a success in the timeline of a refund."""
    with Web(shop.settings) as web:
        timeline = web.call("GET", f"/v1/refunds/{refund_id}/events").json()["data"]
    return [event["what"] for event in timeline if event["alarm"] and event["what"].startswith("paid_")]


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
    assert alarms(shop, refund_id) == ["paid_after_failure"]


def test_success_under_the_code_of_its_refusal_is_heard_once(shop: Shop) -> None:
    """Both are REFUND events of one pspReference: only `success` tells them apart, and a repeat has another time."""
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.process(made.psp, reason="Other"))
    shop.work_until_status(refund_id, RefundStatus.NEEDS_ATTENTION)
    made.state = SENT
    for _ in range(2):
        shop.server.book.clock_offset += 3_600
        assert shop.tell(shop.server.book.event("REFUND", made)) == [(200, "[accepted]")]
        process_due(shop.runtime.context)
    with shop.runtime.context.database.read() as connection:
        stored = connection.execute(select(inbox.c.event_id).order_by(inbox.c.received_at)).scalars().all()
    assert list(stored) == [f"REFUND:false:{made.psp}", f"REFUND:true:{made.psp}"]
    assert alarms(shop, refund_id) == ["paid_after_failure"]
    assert shop.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
    assert shop.balance() == 0, "no credits go back"
