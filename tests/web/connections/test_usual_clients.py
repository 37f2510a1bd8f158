"""Clients that pipeline, wait or use other forms of a request: the limits against slow clients let them pass."""

from __future__ import annotations

import contextlib
from http.client import HTTPConnection

import pytest
from tests.web.connections.served_api import GET, HOOK, PATIENCE_SECONDS, ServedApi, rest

from refund_worker.web.server import IDLE_SECONDS


def test_pipelined_requests_are_answered_in_order(api: ServedApi) -> None:
    paths = ["/healthz", "/v1/refunds", "/nothing", "/healthz", "/readyz"] * 3
    ahead = "".join(f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n" for path in paths)
    with api.connect() as connection:
        connection.sendall(ahead.encode() + b"GET /healthz HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
        answers = rest(connection)
    told = [answer[:3] for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert told == [b"200", b"401", b"404", b"200", b"200"] * 3 + [b"200"]


def test_client_with_thousands_of_pipelined_requests_is_closed(api: ServedApi) -> None:
    with api.connect() as connection:
        with contextlib.suppress(OSError):
            connection.sendall(GET * 20_000)
        assert rest(connection).count(b"HTTP/1.1 ") < 20_000
    assert api.health() == 200


@pytest.mark.parametrize("call", ["head", "chunked", "continue"])
def test_other_forms_of_requests_are_answered(api: ServedApi, call: str) -> None:
    last = b"Connection: close\r\n"
    forms = {
        "head": b"HEAD /healthz HTTP/1.1\r\nHost: api\r\n" + last + b"\r\n",
        "chunked": HOOK + last + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-T: y\r\n\r\n",
        "continue": HOOK + last + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    }
    with api.connect() as connection:
        connection.sendall(forms[call])
        answer = rest(connection)
    status = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split()[1]
    assert status in {"head": (b"200", b"405"), "chunked": (b"400",), "continue": (b"400",)}[call]


def test_idle_connection_outlives_a_load_balancers_timeout(api: ServedApi) -> None:
    with contextlib.closing(HTTPConnection("127.0.0.1", api.process.port, timeout=PATIENCE_SECONDS)) as connection:
        places = set()
        for _ in range(3):
            connection.request("GET", "/v1/refunds")
            places.add(connection.sock.getsockname())
            answer = connection.getresponse()
            assert (answer.status, bool(answer.read())) == (401, True)
    assert len(places) == 1
    assert IDLE_SECONDS >= 65
