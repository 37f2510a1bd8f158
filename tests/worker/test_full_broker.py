"""A full broker does not fill the worker's log."""

from __future__ import annotations

import logging

import pytest
import redis
from tests.support.servers import ValkeyServer

from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app.app import make_app


def test_worker_says_once_that_its_broker_is_full(own_valkey: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    app = make_app(load_settings({PREFIX + "BROKER_URL": own_valkey.url}), own_valkey.url)
    with redis.Redis.from_url(own_valkey.url) as admin, app.connection_for_read() as connection:
        qos = connection.default_channel.qos
        admin.config_set("maxmemory", 1)
        for _ in range(12):
            qos.restore_visible(interval=3)
        admin.config_set("maxmemory", 0)
        for _ in range(12):
            qos.restore_visible(interval=3)
    lines = [record for record in caplog.records if "broker" in record.getMessage()]
    assert [(line.levelname, line.getMessage().split(":")[0]) for line in lines] == [
        ("WARNING", "the broker cannot be used (Redis is full"),
        ("INFO", "the broker can be used again"),
    ]
    assert vars(lines[0])["alarm"] == "broker_unavailable"
    assert not any(line.exc_info for line in lines)
