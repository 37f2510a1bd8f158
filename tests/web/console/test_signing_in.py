"""Strangers cannot lock users out, right passwords are never throttled, and guessing is slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, func, select
from tests.web.client import Web, settings_for
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of, visitor

from refund_worker.engine.access import console_users, password_attempts
from refund_worker.store.tables import console_sessions, console_tries

WRONG = "wrong wrong wrong"
FREE = password_attempts.FREE_TRIES


class Clock:
    """A clock that stands still, so that no wait ends because the machine is slow."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self, connection: Connection) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def web(web: Web, clock: Clock) -> Web:
    web.use_clock(clock)
    return web


def at(web: Web, address: str) -> Visitor:
    person = Visitor(web)
    person.client = (address, 5000)
    return person


def user(web: Web, name: str = "ivy", role: str = "support") -> None:
    console_users.create_user(web.context, name=name, role=role, password=PASSWORD)


def guess(web: Web, address: str, name: str = "ivy", times: int = FREE) -> None:
    """Count wrong passwords from this address; only the last one is really sent, since each takes long."""
    tries = password_attempts.of_sign_in(name, address)
    for _ in range(times - 1):
        web.context.database.run(lambda c: password_attempts.count_wrong(c, tries, web.context.clock(c)))
    assert at(web, address).sign_in(name, WRONG).status_code == 403


def tries_counted(web: Web) -> int:
    with web.context.database.read() as connection:
        return connection.execute(select(func.coalesce(func.sum(console_tries.c.tries), 0))).scalar_one()


def confirm(web: Web, person: Visitor, password: str) -> str:
    """Do an act that moves money after the password has expired. Return "done", or the page's message."""
    form = form_on(person.get("/add-credits", customer="cust-1"), "/console/add-credits")
    old = console_sessions.update().values(confirmed_at=0.0)
    web.context.database.run(lambda connection: connection.execute(old))
    answer = person.post("/add-credits", form | {"credits": "1", "reason": "x", "password": password})
    return "done" if answer.status_code == 303 else text_of(answer)


def test_right_passwords_from_one_address_are_never_throttled(web: Web) -> None:
    for name in ("ivy", "omar", "anna", "paul"):
        user(web, name)
    for turn in range(32):
        name = ("ivy", "omar", "anna", "paul")[turn % 4]
        assert at(web, "192.0.2.1").sign_in(name).status_code == 303, turn
    assert tries_counted(web) == 0


@pytest.mark.usefixtures("costly_password_hashes")
def test_simultaneous_right_passwords_all_succeed(web: Web) -> None:
    user(web)

    def come_in(n: int) -> str:
        return console_users.sign_in(web.context, name="ivy", password=PASSWORD, address="192.0.2.1")

    with ThreadPoolExecutor(10) as pool:
        assert len(set(pool.map(come_in, range(10)))) == 10


@pytest.mark.usefixtures("costly_password_hashes")
def test_simultaneous_guesses_are_throttled_after_the_free_ones(web: Web) -> None:
    user(web)

    def try_one(n: int) -> str:
        try:
            return console_users.sign_in(web.context, name="ivy", password=WRONG, address="192.0.2.1")
        except console_users.WrongPassword:
            return "looked at"
        except console_users.TooManyTries:
            return "held back"

    with ThreadPoolExecutor(12) as pool:
        came_of = list(pool.map(try_one, range(12)))
    # Two are checked at the same time: one of them may have begun before the fifth was counted.
    assert FREE <= came_of.count("looked at") <= FREE + 1
    assert tries_counted(web) == 2 * came_of.count("looked at"), (
        "once for the name at this address, and once for the name"
    )


def test_guesses_from_elsewhere_do_not_block_the_owner(web: Web) -> None:
    owner = visitor(web, "support", "ivy")
    guess(web, "203.0.113.66")
    held = at(web, "203.0.113.66").sign_in("ivy", PASSWORD)
    assert held.status_code == 429
    assert at(web, "192.0.2.1").sign_in("ivy").status_code == 303
    assert at(web, "192.0.2.1").sign_in("IVY").status_code == 303
    assert confirm(web, owner, PASSWORD) == "done"


def test_guesses_from_the_owners_address_do_not_block_a_live_session(web: Web) -> None:
    owner = visitor(web, "support", "ivy")
    guess(web, owner.client[0])
    assert Visitor(web).sign_in("ivy", PASSWORD).status_code == 429
    assert confirm(web, owner, PASSWORD) == "done"
    user(web, "omar")
    assert Visitor(web).sign_in("omar").status_code == 303, "nor are other users at that address"


def test_right_password_is_accepted_after_the_announced_wait(web: Web, clock: Clock) -> None:
    user(web)
    for _ in range(FREE):
        assert Visitor(web).sign_in("ivy", WRONG).status_code == 403
    for _ in range(3):
        held = Visitor(web).sign_in("ivy", PASSWORD)
        assert held.status_code == 429
        assert 1 <= int(held.headers["retry-after"]) <= password_attempts.WAIT_SECONDS_MAX
        assert "try again in 1 s" in text_of(held)
    clock.now += 1
    assert Visitor(web).sign_in("ivy", PASSWORD).status_code == 303, "unchecked passwords do not count"
    guess(web, "203.0.113.7", times=FREE - 1)
    assert Visitor(web).sign_in("ivy", PASSWORD).status_code == 303, "the right password reset the count"


def test_wait_after_hours_of_guessing_stays_at_half_a_minute(web: Web, clock: Clock) -> None:
    user(web)
    tries = password_attempts.of_sign_in("ivy", "203.0.113.7")
    for _ in range(60):
        web.context.database.run(lambda c: password_attempts.count_wrong(c, tries, web.context.clock(c)))
    held = Visitor(web).sign_in("ivy", PASSWORD)
    assert 29 <= int(held.headers["retry-after"]) <= 30
    clock.now += 30
    assert Visitor(web).sign_in("ivy", PASSWORD).status_code == 303


def test_wrong_confirmations_throttle_only_their_own_session(web: Web, clock: Clock) -> None:
    one = visitor(web, "support", "ivy")
    other = Visitor(web)
    assert other.sign_in("ivy").status_code == 303
    for _ in range(FREE):
        assert "The password is wrong." in confirm(web, one, WRONG)
    assert "Too many wrong passwords: try again in" in confirm(web, one, PASSWORD)
    assert confirm(web, other, PASSWORD) == "done"
    assert Visitor(web).sign_in("ivy").status_code == 303
    clock.now += 1
    assert confirm(web, one, PASSWORD) == "done"


def test_mapped_ipv4_addresses_are_counted_separately(web: Web) -> None:
    user(web)
    guess(web, "::ffff:203.0.113.66")
    assert at(web, "203.0.113.66").sign_in("ivy").status_code == 429
    assert at(web, "::ffff:192.0.2.1").sign_in("ivy").status_code == 303


def test_unknown_name_is_throttled_like_an_existing_one(web: Web) -> None:
    user(web)
    console_users.create_user(web.context, name="gone", role="viewer", password=PASSWORD)
    console_users.disable_user(web.context, "gone")
    told = []
    for name in ("ivy", "nobody", "gone"):
        guess(web, "203.0.113.7", name)
        held = Visitor(web).sign_in(name, PASSWORD)
        told.append((held.status_code, held.headers["retry-after"], text_of(held)))
    assert len(set(told)) == 1


def test_password_after_unlock_is_checked_at_once(web: Web) -> None:
    owner = visitor(web, "support", "ivy")
    guess(web, owner.client[0])
    for _ in range(FREE):
        confirm(web, owner, WRONG)
    console_users.unlock_user(web.context, "Ivy", actor="cli:boss")
    assert Visitor(web).sign_in("ivy").status_code == 303
    assert confirm(web, owner, PASSWORD) == "done"


@pytest.fixture
def proxied(migrated_sqlite_url: str, clock: Clock) -> Iterator[Web]:
    with Web(settings_for(migrated_sqlite_url, TRUSTED_PROXIES="10.0.0.0/8")) as web:
        web.use_clock(clock)
        yield web


class Behind(Visitor):
    """A visitor who comes through a proxy."""

    def __init__(self, web: Web, address: str, proxy: str = "10.1.2.3") -> None:
        super().__init__(web)
        self.client = (proxy, 4000)
        self.headers = {"X-Forwarded-For": address, "X-Forwarded-Proto": "https"}

    def _call(self, method, path, body=None, headers=None):  # type: ignore[no-untyped-def]
        return super()._call(method, path, body, self.headers | dict(headers or {}))


def test_users_behind_a_trusted_proxy_are_counted_separately(proxied: Web) -> None:
    user(proxied)
    for _ in range(FREE):
        assert Behind(proxied, "203.0.113.66").sign_in("ivy", WRONG).status_code == 403
    for forged in ("203.0.113.66", "192.0.2.200, 203.0.113.66", "10.9.9.9, 203.0.113.66"):
        assert Behind(proxied, forged).sign_in("ivy", PASSWORD).status_code == 429, forged
    assert Behind(proxied, "192.0.2.1").sign_in("ivy", PASSWORD).status_code == 303


def test_untrusted_client_cannot_forge_its_address(proxied: Web) -> None:
    user(proxied)
    for n in range(FREE):
        stranger = Behind(proxied, f"198.51.100.{n}", proxy="203.0.113.66")
        assert stranger.sign_in("ivy", WRONG).status_code == 403
    assert Behind(proxied, "198.51.100.99", proxy="203.0.113.66").sign_in("ivy", PASSWORD).status_code == 429


def test_https_at_a_trusted_proxy_makes_cookies_secure(proxied: Web) -> None:
    user(proxied)
    person = Behind(proxied, "192.0.2.1")
    cookies = person.sign_in("ivy").headers.get_list("set-cookie")
    assert any(cookie.startswith("__Host-refund_worker=") and "Secure" in cookie for cookie in cookies)
    assert person.get("/").status_code == 200
    forged = Behind(proxied, "192.0.2.1", proxy="203.0.113.66")
    assert not any("Secure" in cookie for cookie in forged.sign_in("ivy").headers.get_list("set-cookie"))
