"""A condition of the database is logged once while it lasts, and again every ten minutes."""

from __future__ import annotations

import logging

import pytest

from refund_worker.alarms import Condition
from refund_worker.condition_log import ConditionLog

log = logging.getLogger("refund_worker.test")
CAUSE = "the database cannot be used: the server accepts no writes"


def test_condition_is_logged_once_for_each_episode(caplog: pytest.LogCaptureFixture) -> None:
    at = 0.0
    conditions = ConditionLog(log, lambda: at)
    for _ in range(50):  # 8 minutes
        conditions.hear(CAUSE)
        conditions.hear(CAUSE, "the sweep waits")
        at += 10
    (first,) = caplog.records
    assert (first.getMessage(), vars(first)["alarm"]) == (CAUSE, Condition.DATABASE_READ_ONLY)
    for _ in range(20):
        conditions.hear(CAUSE)
        at += 10
    assert len(caplog.records) == 2  # it lasts for more than ten minutes
    at += 60
    conditions.hear(CAUSE)
    assert len(caplog.records) == 3  # another episode
    conditions.hear("the database cannot be used: not in hot standby mode: a standby accepts no writes")
    assert vars(caplog.records[-1])["alarm"] == Condition.DATABASE_UNAVAILABLE
