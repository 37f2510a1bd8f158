"""HEAD wherever there is GET, the header Allow with every method of a path, and OPTIONS."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator

import pytest
from starlette.types import Message
from tests.support.migrated import migrate
from tests.support.web_process import WebProcess
from tests.web.client import Web, is_problem
from tests.web.test_signed_requests import signed

from refund_worker.request_signing import HEADER
from refund_worker.web.auth import ROLES
from refund_worker.web.console.app import ROUTERS
from refund_worker.web.console.pages import PREFIX

GETS = sorted(path for method, path in ROLES if method == "GET")
FILLED = {
    "{customer_id}": "cust-1",
    "{payment_id}": "pay-1",
    "{refund_id}": "rf_none",
    "{payee_id}": "payee-1",
    "{earning_id}": "earn-1",
    "{payout_id}": "po_none",
    "{run_id}": "run_none",
    "{batch_id}": "batch_none",
    "{dispute_id}": "cl_none",
    "{outside_refund_id}": "cl_none",
    "{reconciliation_id}": "rec_none",
    "{code}": "not_found",
    "{account}": "nobody",
}
PAGES = ("/", "/console", "/console/", "/console/sign-in", "/console/customers", "/console/static/console.css")


def filled(path: str) -> str:
    for name, value in FILLED.items():
        path = path.replace(name, value)
    assert "{" not in path
    return path


@pytest.mark.parametrize("path", [*GETS, *PAGES])
def test_head_answers_as_get_does_without_the_body(web: Web, path: str) -> None:
    here = ("127.0.0.1", 50000)
    asked, head = (web.call(method, filled(path), client=here) for method in ("GET", "HEAD"))
    assert head.status_code == asked.status_code
    assert head.content == b""
    for name in ("content-type", "content-length", "etag", "location"):
        assert head.headers.get(name) == asked.headers.get(name) or path == "/metrics"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/refunds", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/v1/payments/pay-1", "GET, HEAD, OPTIONS"),
        ("GET", "/v1/transactions/tx-1", "DELETE, OPTIONS"),
        ("HEAD", "/v1/refunds/rf_1/approve", "OPTIONS, POST"),
        ("PUT", "/webhooks/stripe", "GET, HEAD, OPTIONS, POST"),
        ("DELETE", "/healthz", "GET, HEAD, OPTIONS"),
        ("PATCH", "/v1/customers/shop%2F7/corrections", "OPTIONS, POST"),
        ("PUT", "/console/sign-in", "GET, HEAD, OPTIONS, POST"),
        ("POST", "/console/static/console.css", "GET, HEAD, OPTIONS"),
        ("POST", "/console", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_wrong_method_is_told_every_right_one(web: Web, method: str, path: str, allowed: str) -> None:
    answer = web.call(method, path)
    assert answer.status_code == 405
    assert answer.headers.get_list("allow") == [allowed]
    if not path.startswith(PREFIX) and method != "HEAD":
        assert is_problem(answer, 405, "method_not_allowed")
    asked = web.call("OPTIONS", path, key=None)
    assert (asked.status_code, asked.content, asked.headers["allow"]) == (204, b"", allowed)
    assert not any(name.startswith("access-control") for name in asked.headers)


def test_each_page_of_the_console_is_known_by_its_methods(web: Web) -> None:
    for router in ROUTERS:
        for route in router.routes:
            path = PREFIX + route.path.replace("{", "").replace("}", "")  # type: ignore[attr-defined]
            assert route.methods <= set(web.call("OPTIONS", path).headers["allow"].split(", "))  # type: ignore[attr-defined]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT"])
def test_where_nothing_is_no_method_is_allowed(web: Web, method: str) -> None:
    for path in ("/v1/nothing", "/v1/refunds/", "/console/nothing", "/%761/refunds"):
        answer = web.call(method, path)
        assert answer.status_code == 404
        assert "allow" not in answer.headers


def test_head_needs_a_key_and_is_signed_as_head(web: Web) -> None:
    assert web.call("HEAD", "/v1/refunds", key=None).status_code == 401
    key, secret = web.signed_key("viewer")
    for method, status in (("HEAD", 200), ("GET", 401)):
        header = signed(secret, method, "/v1/refunds")
        assert web.call("HEAD", "/v1/refunds", key=key, headers={HEADER: header}).status_code == status


def test_no_byte_of_a_body_leaves_the_application(web: Web) -> None:
    """Servers drop the body of an answer to HEAD, and clients ignore it: only the messages show it."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "HEAD", "path": "/healthz", "raw_path": b"/healthz", "query_string": b"",
             "headers": [], "client": None, "scheme": "http", "server": None, "root_path": ""}  # fmt: skip
    asyncio.run(web.app(scope, receive, send))
    assert [message.get("status") for message in sent if message["type"] == "http.response.start"] == [200]
    assert b"".join(message.get("body", b"") for message in sent) == b""


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    url = f"sqlite:///{tmp_path_factory.mktemp('methods') / 'refunds.db'}"
    migrate(url)
    with WebProcess(url) as server:
        yield server.port


def test_a_monitor_may_ask_head_on_a_kept_connection(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for path in ("/healthz", "/readyz", "/openapi.json", "/console/sign-in", "/console/static/icon.svg"):
        connection.request("HEAD", path)
        head = connection.getresponse()
        assert (head.status, head.read()) == (200, b"")
        connection.request("GET", path)  # the same connection: no byte of a body is left in it
        answer = connection.getresponse()
        assert (answer.status, len(answer.read())) == (200, int(head.headers["Content-Length"]))
    connection.close()
