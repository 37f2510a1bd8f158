"""What adapters share: amounts as decimal texts, and HTTP calls whose every end is a reply."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import pytest

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.domain.processor_replies import NotSent, Unanswered
from refund_worker.processors import wire
from refund_worker.processors.wire import HttpAnswer, HttpClient, Unreadable, to_decimal_text, to_minor_units

NONE = {"JPY": 0, "HUF": 0}


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (1250, "GBP", "12.50"),
        (1, "EUR", "0.01"),
        (0, "EUR", "0.00"),
        (600, "JPY", "600"),
        (120_000, "HUF", "1200"),
        (AMOUNT_MAX, "USD", "10000000000.00"),
    ],
)
def test_minor_units_and_decimal_texts_are_one_amount(minor: int, currency: str, text: str) -> None:
    assert to_decimal_text(minor, currency, NONE) == text
    assert to_minor_units(text, currency) == minor


def test_three_decimals_need_a_processor_that_has_them() -> None:
    assert to_decimal_text(1230, "KWD", {"KWD": 3}) == "1.230"
    assert to_decimal_text(1230, "KWD", {}) == "1.23"
    with pytest.raises(ValueError, match="KWD has 2 decimals"):
        to_decimal_text(1235, "KWD", {})


def test_part_of_a_unit_that_the_processor_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="HUF has 0 decimals"):
        to_decimal_text(120_050, "HUF", NONE)


@pytest.mark.parametrize(
    "text", ["12.345", "", "-1.00", "1e3", "1,000.00", " 1.00", "٣.00", "1.", ".50", "NaN", 12.5, None, True]
)
def test_text_that_is_no_amount_is_unreadable(text: object) -> None:
    with pytest.raises(Unreadable):
        to_minor_units(text, "EUR")


def test_amount_above_the_books_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        to_minor_units("10000000000.01", "USD")


Answerer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def asked(answer: Answerer, *, timeout_seconds: float = 5) -> tuple[HttpAnswer | NotSent | Unanswered, bytes]:
    """Return what the client makes of a server that answers so, and the request that reached it."""
    seen, ended = bytearray(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.readuntil(b"\r\n\r\n"))
        try:
            with contextlib.suppress(ConnectionError):
                await answer(reader, writer)
        finally:
            writer.close()
            ended.set()

    async def run() -> HttpAnswer | NotSent | Unanswered:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            client = HttpClient(timeout_seconds)
            try:
                return await client.request("POST", f"http://127.0.0.1:{port}/x", headers={"X-Key": "k"}, body=b"{}")
            finally:
                await client.close()
                await client.close()
                await ended.wait()

    return asyncio.run(run()), bytes(seen)


def writes(data: bytes) -> Answerer:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()

    return answer


def test_answer_is_read_to_its_end() -> None:
    got, request = asked(writes(b'HTTP/1.1 201 Created\r\nX-Trace: 7\r\nContent-Length: 7\r\n\r\n{"a":1}'))
    assert isinstance(got, HttpAnswer)
    assert (got.status, got.headers["x-trace"], got.json()) == (201, "7", {"a": 1})
    assert b"X-Key: k" in request


def test_credential_that_an_answer_repeats_is_hidden() -> None:
    async def run() -> HttpAnswer:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b'HTTP/1.1 401 No\r\nX-Key: ke_y1\r\nContent-Length: 25\r\n\r\n{"a":"ke_y1, not ke_y12"}')
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            client = HttpClient(5, hide=["ke_y1", "", "ke_y12"])
            try:
                got = await client.request("GET", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
            finally:
                await client.close()
        assert isinstance(got, HttpAnswer)
        return got

    got = asyncio.run(run())
    assert (got.headers["x-key"], got.json()) == ("***", {"a": "***, not ***"})


def test_cookie_of_a_server_is_not_sent_back() -> None:
    """It could make one account's calls those of another session."""
    heads: list[bytes] = []

    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(serve, "localhost", 0, family=socket.AF_INET) as server:
            client = HttpClient(5)
            for _ in range(2):
                await client.request("GET", f"http://localhost:{server.sockets[0].getsockname()[1]}/")
            await client.close()

    asyncio.run(run())
    assert [b"cookie" in head.lower() for head in heads] == [False, False]


def test_redirect_is_not_followed() -> None:
    got, _ = asked(writes(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"))
    assert isinstance(got, HttpAnswer)
    assert got.status == 302


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", b"nonsense\r\n\r\n"])
def test_broken_answer_is_no_outcome(data: bytes) -> None:
    got, _ = asked(writes(data))
    assert isinstance(got, Unanswered)


def test_slow_answer_is_no_outcome() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n")
        for _ in range(900):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.05)

    got, _ = asked(drip, timeout_seconds=0.4)
    assert got == Unanswered("no complete answer within the time allowed")


def test_endless_answer_is_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BODY_BYTES_MAX", 1_000)
    got, _ = asked(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + b" " * 5_000))
    assert isinstance(got, Unanswered)
    assert "larger than 1000 bytes" in got.reason


def test_refused_connection_was_never_sent() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]

        async def run() -> HttpAnswer | NotSent | Unanswered:
            client = HttpClient(5)
            try:
                return await client.request("GET", f"http://127.0.0.1:{port}/")
            finally:
                await client.close()

        assert isinstance(asyncio.run(run()), NotSent)


def test_answer_that_is_no_json_is_unreadable() -> None:
    with pytest.raises(Unreadable):
        HttpAnswer(200, {}, b"<html>").json()


def test_call_whose_connection_breaks_is_made_once() -> None:
    """The second call uses the connection of the first, and the server ends it without an answer."""
    requests: list[bytes] = []
    good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                requests.append(await reader.readuntil(b"\r\n\r\n"))
                if len(requests) != 1:
                    break
                writer.write(good)
                await writer.drain()
        writer.close()

    async def run() -> list[HttpAnswer | NotSent | Unanswered]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            client = HttpClient(5)
            try:
                return [await client.request(method, url) for method in ("GET", "PUT")]
            finally:
                await client.close()

    first, second = asyncio.run(run())
    assert isinstance(first, HttpAnswer)
    assert isinstance(second, Unanswered)
    assert len(requests) == 2
