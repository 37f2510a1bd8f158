"""A real server's answers to bytes that no client library would send."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, settings_for

from refund_worker.engine.access.api_keys import create_key
from refund_worker.runtime import build_runtime


class Wire:
    """A real web process; `ask` writes one request byte by byte as it is given and returns (status, body)."""

    def __init__(self, port: int, key: str) -> None:
        self.port, self.key = port, key

    def ask(self, method: str, path: str, body: object = None, *headers: bytes) -> tuple[int, dict[str, object]]:
        payload = b"" if body is None else json.dumps(body).encode()
        head = [f"{method} {path} HTTP/1.1".encode(), b"Host: x", b"Connection: close", *headers]
        head += [f"Authorization: Bearer {self.key} \t".encode(), f"Content-Length: {len(payload)}".encode()]
        if payload:
            head.append(b"Content-Type: application/json")
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as wire:
            wire.sendall(b"\r\n".join([*head, b"", b""]) + payload)
            answer = b""
            while piece := wire.recv(65536):
                answer += piece
        first, _, content = answer.partition(b"\r\n\r\n")
        return int(first.split()[1]), json.loads(content or b"{}")


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    url = f"sqlite:///{tmp_path_factory.mktemp('raw') / 'refunds.db'}"
    with build_runtime(settings_for(url), processors=False) as runtime:
        key = create_key(runtime.context, name="admin", client="backend", role="admin")
    with WebProcess(url) as server:
        made = Wire(server.port, key)
        assert made.ask("POST", "/v1/payments", PAYMENT)[0] == 201
        yield made


WITHDRAWAL = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 1, "reason": "asked"}


@pytest.mark.parametrize("blanks", [b" ", b"  ", b"\t", b" \t "])
def test_blanks_after_a_key_make_no_second_refund(wire: Wire, blanks: bytes) -> None:
    made = [
        wire.ask("POST", "/v1/refunds", WITHDRAWAL, b"Idempotency-Key:" + before + b"ticket-99" + behind)
        for before, behind in ((b" ", b""), (b" ", blanks), (blanks, blanks), (b"", blanks))
    ]
    assert {status for status, _ in made[1:]} == {200}
    assert len({body["id"] for _, body in made}) == 1
    status, found = wire.ask("GET", "/v1/refunds?idempotency_key=ticket-99")
    assert isinstance(found["data"], list)
    assert (status, len(found["data"])) == (200, 1)


def test_key_of_blanks_counts_as_missing(wire: Wire) -> None:
    status, body = wire.ask("POST", "/v1/refunds", WITHDRAWAL, b"Idempotency-Key:  \t ")
    assert (status, body["code"]) == (400, "idempotency_key_missing")


@pytest.mark.parametrize(
    "path",
    ["a/../cust-1", "./cust-1", "a/%2e%2e/cust-1", "%2E%2E%2Fcust-1", "a%2f..%2fcust-1", "a\\..\\cust-1", "cust-1/."],
)
def test_dot_segments_in_a_path_are_not_found(wire: Wire, path: str) -> None:
    status, body = wire.ask("GET", f"/v1/customers/{path}")
    assert (status, body["code"]) == (404, "not_found")


DISGUISED = ["/%761", "/v%31", "/%76%31", "//%761", "/v1%2F", "/%2Fv1", "/%252Fv1"]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("prefix", DISGUISED)
def test_path_with_an_encoded_prefix_is_not_found(wire: Wire, method: str, prefix: str) -> None:
    for path in ("/customers/cust-1", "/customers/cust-1%252Ftransactions", "/transactions/purchase-pay-1", "/refunds"):
        status, body = wire.ask(method, prefix + path, {})
        assert (status, body.get("code", method)) == (404, "HEAD" if method == "HEAD" else "not_found")


@pytest.mark.parametrize("path", ["/%63onsole/sign-in", "/console%2Fsign-in", "/%68ealthz", "/%6Detrics"])
def test_encoded_prefix_is_not_found_on_every_route(wire: Wire, path: str) -> None:
    assert wire.ask("GET", path)[1]["code"] == "not_found"


def test_one_path_names_one_customer(wire: Wire) -> None:
    for number, customer in enumerate(("a/b", "a%2Fb")):
        odd = {"payment_id": f"odd-{number}", "processor_payment_id": f"ch_odd{number}", "customer_id": customer}
        assert wire.ask("POST", "/v1/payments", PAYMENT | odd)[0] == 201
    assert wire.ask("GET", "/v1/customers/a%2Fb")[1]["customer_id"] == "a/b"
    assert wire.ask("GET", "/v1/customers/a%252Fb")[1]["customer_id"] == "a%2Fb"
    assert wire.ask("GET", "/%761/customers/a%252Fb")[0] == 404


def test_a_customer_whose_id_is_that_of_another_route_is_reached(wire: Wire) -> None:
    odd = {"payment_id": "p/2", "processor_payment_id": "ch_2", "customer_id": "cust-1/transactions"}
    assert wire.ask("POST", "/v1/payments", PAYMENT | odd)[0] == 201
    assert wire.ask("GET", "/v1/customers/cust-1%2Ftransactions")[1]["customer_id"] == "cust-1/transactions"
    assert "data" in wire.ask("GET", "/v1/customers/cust-1/transactions")[1]
