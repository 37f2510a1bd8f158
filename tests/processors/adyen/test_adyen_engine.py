"""What the engine does not do yet for Adyen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processors.adyen.book import SENT
from tests.processors.adyen.shop import Shop, open_shop
from tests.support.migrated import migrated_sqlite_url, sqlite_template

from refund_worker.domain.refund import RefundStatus

__all__ = ["migrated_sqlite_url", "sqlite_template"]


@pytest.fixture
def shop(migrated_sqlite_url: str) -> Iterator[Shop]:
    with open_shop(migrated_sqlite_url) as opened:
        yield opened


@pytest.mark.xfail(strict=True, reason="the engine does not do this yet")
def test_success_after_a_failure_is_shown_to_a_person(shop: Shop) -> None:
    """Adyen asks its customers to believe the newest event. Here the refund failed first and was paid after all.

    An object that failed stays failed: its success is dropped as an older event, although its credits were returned.
    """
    shop.pay("pay1")
    refund_id = shop.withdraw()
    (made,) = shop.accepted(refund_id)
    shop.tell(shop.server.book.fail(made.psp))
    shop.work_until_status(refund_id, RefundStatus.FAILED)
    assert shop.balance() == 100
    made.state = SENT
    shop.server.book.clock_offset += 86_400
    shop.tell(shop.server.book.event("REFUND", made, reason="sent again"))
    assert shop.refund(refund_id).status is RefundStatus.NEEDS_ATTENTION
