from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from fakeredis import FakeAsyncRedis, FakeServer, TcpFakeServer
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template  # noqa: F401

from refund_worker.worker import limiter


@pytest.fixture
def fake_redis(monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL that the limiter finds a Redis of this process behind, with Lua: for tests of its slots alone."""
    server = FakeServer(server_type="redis")
    opens = SimpleNamespace(from_url=lambda url, **options: FakeAsyncRedis(server=server))
    monkeypatch.setattr(limiter, "Redis", opens)
    return "redis://127.0.0.1:9/0"


@pytest.fixture
def fake_redis_server() -> Iterator[str]:
    """The URL of a Redis in this process that Celery can reach: for tests of its messages, not of a server's faults."""
    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="fake-redis")
    thread.start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()
    thread.join(5)
