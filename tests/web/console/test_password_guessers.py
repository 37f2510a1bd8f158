"""Many simultaneous password guesses: the API does not wait for them, and the right password is checked too."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlencode

import httpx
import pytest
from tests.support.deployment import wait_until
from tests.web.client import Web, settings_for
from tests.web.connections.served_api import PATIENCE_SECONDS, ServedApi, serving
from tests.web.console.visitor import PASSWORD, Visitor, form_on, text_of

from refund_worker.engine.access.console_users import create_user
from refund_worker.runtime import build_runtime
from refund_worker.web.console.password_hashing import THREADS, WAITING_MAX, Hashing, SignInBusy

GUESSERS = 60


def test_full_queue_refuses_sign_ins_at_once_while_the_api_answers(web: Web) -> None:
    create_user(web.context, name="anna", role="viewer", password=PASSWORD)
    person, free = Visitor(web), threading.Event()
    page = person.get("/sign-in")
    hashing = web.app.state.hashing

    async def fill() -> list[asyncio.Task[bool]]:
        line = [asyncio.create_task(hashing.run(person.client[0], free.wait)) for _ in range(THREADS + WAITING_MAX)]
        await asyncio.sleep(0)
        return line

    line = web._runner.run(fill())
    try:
        fields = form_on(page, "/console/sign-in") | {"name": "anna", "password": PASSWORD}
        full = person.post("/sign-in", fields)
        assert (full.status_code, full.headers["retry-after"]) == (429, "1")
        assert "are signing in right now" in text_of(full)
        # As many requests at once as all routes share threads.
        answers = web.calls([("GET", "/v1/refunds", None)] * 40)
        assert {answer.status_code for answer in answers} == {200}
    finally:
        free.set()
        web._runner.run(_all_of(line))
    assert person.post("/sign-in", fields).status_code == 303


async def _all_of(line: list[asyncio.Task[bool]]) -> None:
    await asyncio.gather(*line)


@pytest.fixture
def api(migrated_sqlite_url: str) -> Iterator[ServedApi]:
    with build_runtime(settings_for(migrated_sqlite_url), processors=False) as runtime:
        create_user(runtime.context, name="anna", role="viewer", password=PASSWORD)
    with serving(migrated_sqlite_url) as api:
        yield api


def sign_in(api: ServedApi, address: str, name: str, password: str) -> int:
    """Sign in from some address of this machine's own network."""
    browser = HTTPConnection("127.0.0.1", api.process.port, timeout=PATIENCE_SECONDS, source_address=(address, 0))
    with contextlib.closing(browser):
        browser.request("GET", "/console/sign-in")
        page = browser.getresponse()
        cookie = (page.getheader("set-cookie") or "").partition(";")[0]
        fields = form_on(httpx.Response(200, text=page.read().decode()), "/console/sign-in")
        headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
        browser.request("POST", "/console/sign-in", urlencode(fields | {"name": name, "password": password}), headers)
        return browser.getresponse().status


def test_new_address_is_checked_before_guessing_addresses() -> None:
    order: list[str] = []
    busy = threading.Event()

    def begin(what: str) -> None:
        """Note the order of the beginnings: the first ones end only when each thread has one."""
        order.append(what)
        if len(order) == THREADS:
            busy.set()
        busy.wait(PATIENCE_SECONDS)

    async def come() -> list[BaseException | None]:
        hashing, free = Hashing(waiting_max=3), threading.Event()
        guesses = [asyncio.create_task(hashing.run("guesser", free.wait)) for _ in range(THREADS)]
        await asyncio.sleep(0)
        guesses += [asyncio.create_task(hashing.run("guesser", begin, "guess")) for _ in range(4)]
        await asyncio.sleep(0)
        person = asyncio.create_task(hashing.run("person", begin, "right password"))
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*guesses, person, return_exceptions=True)
        hashing.close()
        return [guess.exception() for guess in guesses]

    told = asyncio.run(come())
    # One guesser finds the queue full, another one is replaced by the person.
    assert [type(each) for each in told if each] == [SignInBusy] * 2
    assert "right password" in order[:2]
    assert len(order) == 3


@pytest.mark.parametrize("network", ["2001:db8:0:1::{}", "2002:c000:201:{}::1"])
def test_ipv6_network_counts_as_one_guesser_and_blocks_no_other_user(network: str) -> None:
    async def come() -> list[str]:
        hashing, free, order = Hashing(waiting_max=3), threading.Event(), list[str]()
        guesses = [asyncio.create_task(hashing.run(network.format(1), free.wait)) for _ in range(THREADS)]
        await asyncio.sleep(0)
        for number in range(2, 5):  # they fill the queue
            guesses.append(asyncio.create_task(hashing.run(network.format(number), order.append, "guess")))
        await asyncio.sleep(0)
        person = asyncio.create_task(hashing.run("2001:db8:0:2::1", order.append, "right password"))
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*guesses, person, return_exceptions=True)
        hashing.close()
        return order

    assert "right password" in asyncio.run(come())


def test_waiting_sign_in_keeps_its_place_against_later_equal_ones() -> None:
    order: list[str] = []

    async def come() -> list[str]:
        hashing, free = Hashing(waiting_max=2), threading.Event()
        working = [asyncio.create_task(hashing.run(f"first {n}", free.wait)) for n in range(THREADS)]
        await asyncio.sleep(0)
        names = ["waits", "waits too", "comes later"]
        tries = [asyncio.create_task(hashing.run(name, order.append, name)) for name in names]
        await asyncio.sleep(0)
        free.set()
        await asyncio.gather(*working, *tries, return_exceptions=True)
        hashing.close()
        return [name for name, each in zip(names, tries, strict=True) if isinstance(each.exception(), SignInBusy)]

    assert asyncio.run(come()) == ["comes later"]
    assert sorted(order) == ["waits", "waits too"]


def test_sixty_guessers_block_neither_the_api_nor_the_right_password(api: ServedApi) -> None:
    statuses: list[int] = []
    names, ended = itertools.count(), threading.Event()

    def guess(address: str) -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError, HTTPException):  # a person who waits behind others for a minute leaves
                statuses.append(sign_in(api, address, f"nobody-{next(names)}", "wrong wrong wrong"))

    guessers = [threading.Thread(target=guess, args=(f"127.0.1.{number}",)) for number in range(1, GUESSERS + 1)]
    for each in guessers:
        each.start()
    try:
        assert [api.listed() for _ in range(10)] == [200] * 10
        assert api.health() == 200
        assert sign_in(api, "127.0.2.1", "anna", PASSWORD) == 303
        wait_until(lambda: 403 in statuses, PATIENCE_SECONDS)
    finally:
        ended.set()
        api.process.crash()  # this ends all requests that still wait
        for each in guessers:
            each.join(PATIENCE_SECONDS)
    assert set(statuses) <= {403, 429}
