"""The bytes that the Python client sends and the answers that it takes, against a server of a few lines."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refund_worker_client import ApiError, AsyncClient, Calls, Client, Retries, clients

ONCE = Retries(tries=1)


class Server:
    """Answers every request with `status`, `headers` and `body`, and keeps what came."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.seen: list[tuple[str, dict[str, str]]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                server.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                with contextlib.suppress(OSError):  # a client that has read enough is gone
                    self.send_response(server.status)
                    for name, value in (server.headers | {"Content-Length": str(len(server.body))}).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(server.body)

            do_GET = do_POST = _any

            def log_message(self, *_: Any) -> None:
                return None

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Server:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def customer_of_both(server: Server, **options: Any) -> list[Any]:
    """The answers, or the errors, of both clients to the same call."""

    async def later() -> Any:
        async with AsyncClient(server.url, "rw_x", retries=ONCE, **options) as client:
            return await client.customer("ann")

    def now() -> Any:
        with Client(server.url, "rw_x", retries=ONCE, **options) as client:
            return client.customer("ann")

    found: list[Any] = []
    for ask in (now, lambda: asyncio.run(later())):
        try:
            found.append(ask())
        except ApiError as error:
            found.append(error)
    return found


ids = st.text(min_size=1, max_size=20).filter(lambda text: not {".", ".."} & set(text.split("/")))


@settings(max_examples=300)
@given(ids.filter(lambda text: text.isprintable()))
def test_httpx_sends_a_path_as_it_was_signed(text: str) -> None:
    for call in (Calls.customer(text), Calls.refunds(customer_id=text, created_gte="2026-11-01T09:00:00+01:00").page()):
        assert httpx.URL("http://x:8000" + call.path).raw_path.decode() == call.path


def test_neither_proxy_nor_password_comes_from_the_environment(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login anna password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert customer_of_both(server) == [{}, {}]
    assert {headers["authorization"] for _, headers in server.seen} == {"Bearer rw_x"}


def test_no_cookie_is_kept_and_no_redirect_followed(server: Server) -> None:
    server.headers = {"Set-Cookie": "who=anna; Path=/"}
    with Client(server.url, "rw_x") as client:
        client.customer("ann")
        client.customer("ann")
    assert [headers.get("cookie") for _, headers in server.seen] == [None, None]
    server.status, server.headers = 307, {"Location": f"{server.url}/elsewhere"}
    assert [error.status for error in customer_of_both(server)] == [307, 307]
    assert {path for path, _ in server.seen} == {"/v1/customers/ann"}


def test_a_packed_answer_is_not_asked_for(server: Server) -> None:
    assert customer_of_both(server) == [{}, {}]
    assert {headers["accept-encoding"] for _, headers in server.seen} == {"identity"}


def test_an_endless_answer_is_read_up_to_its_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "ANSWER_BYTES_MAX", 1_000)
    server.body = b'{"a": "' + b"b" * 5_000_000 + b'"}'
    assert [error.code for error in customer_of_both(server)] == ["unexpected_answer", "unexpected_answer"]


def test_a_line_break_in_a_key_is_refused_unsent(server: Server) -> None:
    with Client(server.url, "rw_x") as client, pytest.raises(ValueError, match="line break"):
        client.correct("ann", credits=1, reason="r", idempotency_key="k\r\nX-Evil: 1")
    assert server.seen == []


def test_a_closed_client_opens_again(server: Server) -> None:
    client = Client(server.url, "rw_x")
    assert client.customer("ann") == {}
    client.close()
    client.close()
    assert client.customer("ann") == {}
    client.close()


def test_the_asynchronous_client_bounds_the_whole_call() -> None:
    async def story() -> None:
        over = asyncio.Event()

        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            with contextlib.suppress(OSError):
                while not reader.at_eof():
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.05)
            writer.close()
            over.set()

        listening = await asyncio.start_server(drip, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with AsyncClient(url, "rw_x", timeout_seconds=0.3, retries=ONCE) as client:
            with pytest.raises(ApiError, match="unreachable"):
                await client.customer("ann")
        await over.wait()
        listening.close()

    asyncio.run(asyncio.wait_for(story(), 5))
