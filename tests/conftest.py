"""Fixtures for every test: databases and brokers that are real, started only when a test asks for one.

`database_url` runs a test on SQLite and on Postgres; `postgres_url` and `redis_url` are empty for each test; a test
that crashes or freezes a server takes `own_postgres` or `own_valkey`. Each test process has its own servers, unless
TEST_DATABASE_URL (a user who may create databases) and TEST_BROKER_URL name others.
"""

from __future__ import annotations

import gc
import os
import signal
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from hypothesis import settings as hypothesis_settings

from tests.support.memory_folder import use_memory_folder
from tests.support.password_hashes import use_cheap_hashes, use_costly_hashes
from tests.support.servers import PostgresDatabases, PostgresServer, ValkeyServer
from tests.support.skipped import THIRD_PARTY, leave_out, summarise
from tests.support.stripe_mock import ThirdPartyMissing, ThirdPartyStripe

# Far from UTC, not by whole hours: code that takes local time for UTC fails here and not at the customer's.
ODD_TIME_ZONE = "Asia/Kathmandu"

hypothesis_settings.register_profile("dev", deadline=None)
# No surprises in CI: the same examples for the same code; a developer's runs look for new ones.
hypothesis_settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
hypothesis_settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def pytest_configure() -> None:
    use_memory_folder()
    # Under nohup, what the tests start would ignore hang-ups too: only a handler is not inherited.
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)
    if "TZ" not in os.environ and ODD_TIME_ZONE in zoneinfo.available_timezones():
        os.environ["TZ"] = ODD_TIME_ZONE
        time.tzset()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Name the group in the ids of grouped tests, so that one process runs them all.

    pytest-xdist 3.8 means to do it, but it sets an attribute that pytest 9.2 does not read any more.
    """
    if not config.getoption("loadgroup", default=False):
        return
    for item in items:
        if (group := _group_of(item)) and "@" not in item.nodeid.rpartition("]")[2]:
            item._id = type(item.id).parse(f"{item.nodeid}@{group}")


def _group_of(item: pytest.Item) -> str | None:
    """Return the group that a test names, or its module if it shares a fixture of its module with other tests.

    Each process would set up such a fixture again, and many start servers.
    """
    marker = item.get_closest_marker("xdist_group")
    if marker:
        return str(marker.args[0])
    module = getattr(item, "module", None)
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values() if module else ()  # noqa: B009 - pytest's own
    shared = any(found[-1].scope == "module" and found[-1].func.__module__ == module.__name__ for found in definitions)
    return str(module.__name__) if shared else None


def pytest_collection_finish() -> None:
    """Freeze the loaded modules and tests, because collecting them again and again takes a good part of a slow test."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    summarise(terminalreporter)


@pytest.fixture(scope="session", autouse=True)
def cheap_password_hashes() -> None:
    use_cheap_hashes()


@pytest.fixture
def costly_password_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Password checks take as long as for users, for a test of requests that arrive during a check."""
    use_costly_hashes(monkeypatch)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresDatabases]:
    """Where databases can be made: `create(prepare=None) -> url`, `drop(url)`."""
    external = os.environ.get("TEST_DATABASE_URL")
    if external:
        databases = PostgresDatabases(external)
        yield databases
        databases.drop_templates()
        return
    with PostgresServer() as server:
        yield server.databases


@pytest.fixture
def postgres_url(postgres_server: PostgresDatabases) -> Iterator[str]:
    """The URL of an empty database on a real Postgres, this test's alone."""
    url = postgres_server.create()
    yield url
    postgres_server.drop(url)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A Postgres of this test's own, to crash, freeze and restart."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, this test's alone: once an SQLite file, once a real Postgres."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'refunds.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[str]:
    """The URL of a real server that speaks Redis' protocol; tests take `redis_url`."""
    external = os.environ.get("TEST_BROKER_URL")
    if external:
        # Test processes that share a server keep to a database of their own.
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        yield f"{external.rstrip('/').removesuffix('/0')}/{worker}"
        return
    with ValkeyServer() as server:
        yield server.url


@pytest.fixture
def redis_url(valkey_server: str) -> str:
    """The URL of an empty database on a real Valkey."""
    with redis.from_url(valkey_server, socket_timeout=5) as client:
        client.flushdb()
    return valkey_server


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey of this test's own, to crash, freeze and restart; it forgets everything when it ends."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def third_party_stripe() -> Iterator[ThirdPartyStripe]:
    """A third party's imitation of Stripe: `base_url`, `api_key`, `create_charge(amount_minor, currency) -> "ch_…"`.

    The one thing that may be missing (Node, npm, a network): then its tests are skipped, and that is said loudly.
    """
    try:
        server = ThirdPartyStripe()
    except ThirdPartyMissing as missing:
        leave_out(THIRD_PARTY, missing)
    with server:
        yield server
