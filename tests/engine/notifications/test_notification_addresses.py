"""Notifications are never sent to an internal address, whatever its spelling."""

from __future__ import annotations

import asyncio
import re
import socket

import pytest
from aiohttp.abc import ResolveResult
from tests.support.engine_world import World
from tests.support.notifications import deliver, settings, stored
from tests.support.receiver import Receiver

from refund_worker.engine.notifications.delivery import Deliverer
from refund_worker.engine.notifications.http_post import Poster, is_allowed

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.88.99.1",
    "198.18.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "239.1.1.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "2002:a00:1::",
    "2001:0:a00:1::",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "2001:db8::1",
    "not an address",
    "",
]


@pytest.mark.parametrize("address", INSIDE)
def test_an_address_of_the_inside_is_refused(address: str) -> None:
    assert not is_allowed(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14"])
def test_a_public_address_is_allowed(address: str) -> None:
    assert is_allowed(address)


@pytest.mark.parametrize("address", INSIDE)
def test_development_allows_only_loopback_of_internal_addresses(address: str) -> None:
    here = address in ("127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1")
    assert is_allowed(address, loopback=True) == here


@pytest.mark.parametrize("how", ["written", "by name", "in other words", "among good ones"])
def test_in_production_nothing_is_sent_to_this_machine(world: World, receiver: Receiver, how: str) -> None:
    world.withdraw(10)
    hosts = {"written": "127.0.0.1", "by name": "localhost", "in other words": "2130706433"}
    url = f"http://{hosts.get(how, 'receiver.example')}:{receiver.port}/"

    async def lookup(host: str, port: int) -> list[str]:
        return ["93.184.215.14", "127.0.0.1"] if how == "among good ones" else ["127.0.0.1"]

    options = {} if how != "among good ones" else {"lookup": lookup}
    deliverer = Deliverer(settings(url, ENVIRONMENT="production"), seconds_max=2, **options)  # type: ignore[arg-type]
    assert deliverer.deliver(world.context) == 0
    assert receiver.received == []
    # Some versions of aiohttp do not even accept a number instead of a host as a URL.
    said = r"not public|not reached \(InvalidUrlClientError\)" if how == "in other words" else "not public"
    assert re.search(said, stored(world)[0]["last_error"])


# Spellings of this machine's address, or of another internal one, that a library may accept. The port is appended.
SPELLINGS = [
    "１２７.0.0.1",
    "127。0.0.1",
    "127．0．0．1",
    "127｡0.0.1",
    "①②⑦.0.0.1",
    "𝟏𝟐𝟕.0.0.1",
    "127.0.0.1.",
    "127.0.0.1。",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0x7f000001",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "127.000.000.001",
    "2130706433",
    "０x7f.1",
    "0",
    "0.0.0.0",
    "%31%32%37.0.0.1",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::127.0.0.1]",
    "[2002:7f00:1::]",
    "[::1%25lo]",
    "[::1%lo]",
    "[fe80::1%25lo]",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ｌｏｃａｌｈｏｓｔ",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "good.example@127.0.0.1",
    "good.example:80@127.0.0.1",
    "good.example%2f@127.0.0.1",
    "good.example\\@127.0.0.1",
    "127.0.0.1#@good.example",
    "127.0.0.1\\.good.example",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_no_spelling_of_an_address_leads_to_this_machine(receiver: Receiver, host: str) -> None:
    async def post() -> str | None:
        async with Poster(f"http://{host}:{receiver.port}/", seconds_max=5, lookup=only_what_is_here) as poster:
            return await poster.post(b"{}", {})

    assert asyncio.run(post())
    assert receiver.received == []


async def only_what_is_here(host: str, port: int) -> list[str]:
    """Resolve as the system does, including all spellings of numbers, but look up no external name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise OSError("no such name") from error
    return [str(info[4][0]) for info in found]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "//127.0.0.1/", "http:127.0.0.1", "http:///x", "", "http://[::1"])
def test_what_is_no_url_of_a_server_is_refused_in_words(url: str) -> None:
    async def post() -> str | None:
        async with Poster(url, seconds_max=5) as poster:
            return await poster.post(b"{}", {})

    assert asyncio.run(post())


def test_socket_address_is_checked_if_name_check_is_bypassed(receiver: Receiver) -> None:
    """The check also holds if the check of the name is bypassed, for example by a spelling that we did not expect."""

    async def post() -> str | None:
        async with Poster(f"http://receiver.example:{receiver.port}/", seconds_max=5) as poster:
            here = ResolveResult(
                hostname="x", host="127.0.0.1", port=receiver.port, family=socket.AF_INET, proto=0, flags=0
            )

            async def resolve(*_: object, **__: object) -> list[ResolveResult]:
                return [here]

            poster._session.connector._resolver.resolve = resolve  # type: ignore[union-attr]
            return await poster.post(b"{}", {})

    assert asyncio.run(post())
    assert receiver.received == []


def test_host_name_is_resolved_once_a_round_and_result_is_used(world: World, receiver: Receiver) -> None:
    looked_up = []

    async def lookup(host: str, port: int) -> list[str]:
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.0.0.1"]

    for number in range(3):
        world.withdraw(1, f"k{number}")
    url = f"http://receiver.example:{receiver.port}/hooks"
    assert deliver(world, url, lookup=lookup) == 3
    assert looked_up == ["receiver.example"]
    assert {received.headers["host"] for received in receiver.received} == {f"receiver.example:{receiver.port}"}
    world.withdraw(1, "k3")
    assert deliver(world, url, lookup=lookup) == 0, "the next round looks again, and what it finds is refused"
    assert len(receiver.received) == 3
