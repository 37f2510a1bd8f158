"""`doctor` does at a real Redis what a worker does, says in words what a worker would fail at, and leaves nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from tests.support.brokers import RedisServer
from tests.support.processes import free_port

from refund_worker.cli import doctor
from refund_worker.cli.doctor import Finding
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.celery_app.app import make_app

# As docs/operations.md says.
RIGHTS = "+@read +@write +@connection +@transaction +@scripting +@blocking +time"
KEYS = "~refunds* ~bulk* ~unacked* ~_kombu* ~refund-worker:*"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as started:
        yield started


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url, socket_timeout=5) as made:
        made.flushall()
        yield made


def settings_of(url: str, **more: str) -> Settings:
    return load_settings({PREFIX + name: value for name, value in ({"BROKER_URL": url} | more).items()})


def finding(url: str, **more: str) -> Finding:
    return doctor._broker(settings_of(url, **more))


def finding_of_user(client: redis.Redis, server: RedisServer, *rules: str, **more: str) -> Finding:
    """Let a user with these rules, besides a password, ask the doctor."""
    client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">password", *rules)
    return finding(f"redis://limited:password@127.0.0.1:{server.port}/0", **more)


def own_keys(client: redis.Redis) -> set[bytes]:
    """Return the keys that every worker makes as well: the bindings of its queues. The limiter's key expires."""
    return {key for key in client.scan_iter() if b"_kombu.binding" not in key and b"turn:doctor" not in key}


def test_check_works_as_a_worker_and_leaves_nothing(client: redis.Redis, server: RedisServer) -> None:
    found = finding(server.url)
    assert (found.verdict, found.do) == ("ok", "")
    assert own_keys(client) == set()
    assert not [key for key in client.scan_iter() if b"doctor-" in key]


def test_check_keeps_to_the_prefix(client: redis.Redis, server: RedisServer) -> None:
    rules = ("~staging:*", "&*", *RIGHTS.split())
    assert finding_of_user(client, server, *rules, BROKER_PREFIX="staging:").verdict == "ok"
    assert all(key.startswith(b"staging:") for key in client.scan_iter())
    assert finding_of_user(client, server, *rules).verdict == "fail", "without the prefix it may do nothing"


def test_documented_rights_are_enough(client: redis.Redis, server: RedisServer) -> None:
    found = finding_of_user(client, server, *KEYS.split(), *RIGHTS.split())
    assert found.verdict == "ok", found


@pytest.mark.parametrize(
    ("missing", "rules"),
    [
        ("~unacked*", (*KEYS.replace("~unacked* ", "").split(), *RIGHTS.split())),
        ("~_kombu*", (*KEYS.replace("~_kombu* ", "").split(), *RIGHTS.split())),
        ("~refund-worker:*", (*KEYS.replace(" ~refund-worker:*", "").split(), *RIGHTS.split())),
        ("scripts", (*KEYS.split(), *RIGHTS.split(), "-eval", "-evalsha")),
        ("brpop", (*KEYS.split(), *RIGHTS.split(), "-brpop")),
        ("everything but ping", (*KEYS.split(), "+ping")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_right_is_a_fault(
    client: redis.Redis, server: RedisServer, missing: str, rules: tuple[str, ...]
) -> None:
    found = finding_of_user(client, server, *rules)
    assert (found.verdict, "rights" in found.do) == ("fail", True), (missing, found)
    assert "password" not in found.found


def test_full_or_crowded_redis_is_a_fault_that_is_named(client: redis.Redis, server: RedisServer) -> None:
    client.config_set("maxmemory", 1)
    full = finding(server.url)
    assert "Redis is full" in full.found
    assert "explain broker_unavailable" in full.do
    client.config_set("maxmemory", 0)
    before = client.config_get("maxclients")["maxclients"]
    client.config_set("maxclients", 1)
    try:
        assert "max number of clients" in finding(server.url).found
    finally:
        client.config_set("maxclients", before)
    assert finding(server.url).verdict == "ok"


def test_other_applications_in_the_database_are_a_warning(client: redis.Redis, server: RedisServer) -> None:
    client.sadd("_kombu.binding.celery", "celery\x06\x16\x06\x16celery")
    client.sadd("_kombu.binding.refunds", "refunds\x06\x16\x06\x16refunds")  # a backend that sends us requests
    found = finding(server.url)
    assert (found.verdict, "celery" in found.found, "BROKER_PREFIX" in found.do) == ("warn", True, True)
    assert "refunds" not in found.found
    assert finding(server.url, BROKER_PREFIX="ours:").verdict == "ok"
    client.lpush("ours:bulk.not-ours", "x", "y")
    assert "2 tasks of another application" in finding(server.url, BROKER_PREFIX="ours:").found


def test_redis_cluster_is_refused_in_words() -> None:
    with RedisServer("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as cluster:
        found = finding(cluster.url)
    assert (found.verdict, "Redis Cluster" in found.found, "no cluster" in found.do) == ("fail", True, True)


def test_full_redis_is_one_line_of_a_worker_and_its_return_another(
    client: redis.Redis, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    app = make_app(load_settings({PREFIX + "BROKER_URL": server.url}), socket_seconds=5, tries=0)
    with app, app.connection_for_write() as connection:
        qos = connection.default_channel.qos
        client.config_set("maxmemory", 1)
        try:
            for _ in range(3):
                qos.restore_visible(interval=1)
        finally:
            client.config_set("maxmemory", 0)
        for _ in range(2):
            qos.restore_visible(interval=1)
    lines = [line for line in caplog.records if "the broker can" in line.getMessage()]
    assert ["maxmemory" in line.getMessage() for line in lines] == [True, False]
    assert (vars(lines[0])["alarm"], lines[0].exc_info) == ("broker_unavailable", None)
    assert lines[1].getMessage() == "the broker can be used again"
