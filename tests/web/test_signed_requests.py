"""Keys whose requests must be signed: someone who captures a request with its key cannot send another one."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import Any

import httpx
import pytest
from sqlalchemy import text
from tests.web.client import Web, is_problem
from tests.web.roles_of_routes import EXPECTED, filled

from refund_worker.engine.access.api_keys import Identity, Role, list_keys
from refund_worker.engine.access.permissions import Act, may
from refund_worker.request_signing import HEADER
from refund_worker.web.auth import ROLES, Open
from refund_worker.web.request_signatures import TOLERANCE_SECONDS

REFUND = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
BODY = json.dumps(REFUND).encode()


def signed(
    secret: str, method: str, target: str, body: bytes = b"", *, key: str = "", match: str = "", late: float = 0
) -> str:
    """Return the header as a backend in another language makes it from docs/api.md alone."""
    at = int(time.time() - late)
    digest = hashlib.sha256(body).hexdigest()
    lines = f"{at}\n{method}\n{target}\n{key}\n{match}\n{digest}"
    return f"t={at},sha256={digest},v1={hmac.new(secret.encode(), lines.encode(), hashlib.sha256).hexdigest()}"


class Sender:
    """Client with a signed key that can send another request than the signed one."""

    def __init__(self, web: Web, role: str = "admin") -> None:
        self.web = web
        self.key, self.secret = web.signed_key(role)

    def send(self, method: str, path: str, body: bytes = b"", *signatures: str, **headers: str) -> httpx.Response:
        every = [(name.replace("_", "-"), value) for name, value in headers.items()]
        every += [(HEADER, signature) for signature in signatures]
        if body:
            every.append(("Content-Type", "application/json"))
        return self.web.call(method, path, key=self.key, headers=every, content=body)

    def ask(self, signature: str, *, key: str = "k-1", body: bytes = BODY) -> httpx.Response:
        return self.send("POST", "/v1/refunds", body, signature, Idempotency_Key=key)


@pytest.fixture
def sender(web: Web) -> Sender:
    return Sender(web)


def count(web: Web) -> int:
    return len(web.call("GET", "/v1/refunds").json()["data"])


def test_replayed_signed_request_does_nothing_new(sender: Sender) -> None:
    signature = signed(sender.secret, "POST", "/v1/refunds", BODY, key="k-1")
    first, again = sender.ask(signature), sender.ask(signature)
    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["id"] == again.json()["id"]
    assert count(sender.web) == 1


def test_the_key_alone_opens_no_route(sender: Sender) -> None:
    for (method, path), rule in ROLES.items():
        if isinstance(rule, Open):
            continue
        answer = sender.send(method, filled(path), b"{" if method == "POST" else b"")
        assert is_problem(answer, 401, "signature_missing"), (method, path)


@pytest.mark.parametrize("role", list(Role))
def test_signature_opens_exactly_the_routes_of_its_role(web: Web, role: Role) -> None:
    sender = Sender(web, role)
    for method, path in EXPECTED:
        target = filled(path)
        answer = sender.send(method, target, b"", signed(sender.secret, method, target))
        act = ROLES[method, path]
        allowed = isinstance(act, Act) and may(role, act)
        assert (answer.status_code == 403) is not allowed, (method, path)
        assert answer.status_code != 401, (method, path)


def test_unsigned_body_is_refused_on_every_route_with_a_body(sender: Sender) -> None:
    for method, path in EXPECTED:
        target = filled(path)
        if method != "POST":
            continue
        signature = signed(sender.secret, method, target, b"{}", key="k-1")
        answer = sender.send(method, target, b'{"credits": 10}', signature, Idempotency_Key="k-1")
        assert is_problem(answer, 401, "signature_invalid"), path


def test_signed_request_cannot_be_changed_in_any_part(sender: Sender) -> None:
    """The idempotency key matters most: the same refund with a new key would be paid twice."""
    good = signed(sender.secret, "POST", "/v1/refunds", BODY, key="k-1")
    more = json.dumps(REFUND | {"credits": 100}).encode()
    assert is_problem(sender.ask(good, key="k-2"), 401, "signature_invalid")
    assert is_problem(sender.ask(good, body=more), 401, "signature_invalid")
    swapped = good.replace(hashlib.sha256(BODY).hexdigest(), hashlib.sha256(more).hexdigest())
    assert is_problem(sender.ask(swapped, body=more), 401, "signature_invalid")
    other_path = sender.send("POST", "/v1/refunds/preview", BODY, good, Idempotency_Key="k-1")
    assert is_problem(other_path, 401, "signature_invalid")
    with_query = sender.send("POST", "/v1/refunds?x=1", BODY, good, Idempotency_Key="k-1")
    assert is_problem(with_query, 401, "signature_invalid")
    listed = signed(sender.secret, "GET", "/v1/refunds?limit=1")
    assert sender.send("GET", "/v1/refunds?limit=1", b"", listed).status_code == 200
    assert is_problem(sender.send("GET", "/v1/refunds?limit=2", b"", listed), 401, "signature_invalid")
    get = signed(sender.secret, "GET", "/v1/transactions/tx-1")
    assert is_problem(sender.send("DELETE", "/v1/transactions/tx-1", b"", get), 401, "signature_invalid")
    assert count(sender.web) == 0


def test_a_version_can_be_neither_changed_nor_left_out(sender: Sender) -> None:
    refund = sender.web.refund("k").json()
    target, body = f"/v1/refunds/{refund['id']}/cancel", b'{"reason": "mistake"}'
    signature = signed(sender.secret, "POST", target, body, match='"7"')
    assert is_problem(sender.send("POST", target, body, signature), 401, "signature_invalid")
    assert is_problem(sender.send("POST", target, body, signature, If_Match='"1"'), 401, "signature_invalid")
    assert is_problem(sender.send("POST", target, body, signature, If_Match='"7"'), 412, "stale_version")


@pytest.mark.parametrize("late", [TOLERANCE_SECONDS + 30, -TOLERANCE_SECONDS - 30])
def test_signature_is_valid_for_minutes_in_both_directions(sender: Sender, late: float) -> None:
    within = late * 0.8
    stale = signed(sender.secret, "POST", "/v1/refunds", BODY, key="k-1", late=late)
    assert is_problem(sender.ask(stale), 401, "signature_stale")
    assert count(sender.web) == 0
    assert sender.ask(signed(sender.secret, "POST", "/v1/refunds", BODY, key="k-1", late=within)).status_code == 202


def test_the_secret_of_another_key_and_the_key_itself_sign_nothing(sender: Sender) -> None:
    another = Sender(sender.web)
    for secret in (another.secret, sender.key, "", sender.secret.removeprefix("rws_")):
        wrong = signed(secret, "POST", "/v1/refunds", BODY, key="k-1")
        assert is_problem(sender.ask(wrong), 401, "signature_invalid")
    assert count(sender.web) == 0


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "v1=",
        "t=1",
        "t=,sha256=,v1=",
        "t=1,sha256=a,v1=b,v1=c",
        "t=x,sha256=a,v1=b",
        "t=-1,sha256=a,v1=b",
        "t=" + "9" * 400 + ",sha256=a,v1=b",
        "t=١,sha256=a,v1=b",
        "t=1,sha256=a,v1=é",
        ",,,",
        "=,=,=",
    ],
)
def test_a_broken_signature_is_refused_and_breaks_nothing(sender: Sender, broken: str) -> None:
    headers: Any = [(HEADER.encode(), broken.encode())]
    answer = sender.web.call("GET", "/v1/refunds", key=sender.key, headers=headers)
    assert is_problem(answer, 401, "signature_invalid")


def test_two_signatures_or_two_keys_in_one_request_are_refused(sender: Sender) -> None:
    good = signed(sender.secret, "POST", "/v1/refunds", BODY, key="k-1")
    assert is_problem(
        sender.send("POST", "/v1/refunds", BODY, good, good, Idempotency_Key="k-1"), 401, "signature_invalid"
    )
    headers = [(HEADER, good), ("Idempotency-Key", "k-1"), ("Idempotency-Key", "k-1")]
    answer = sender.web.call("POST", "/v1/refunds", key=sender.key, headers=headers, content=BODY)
    assert is_problem(answer, 401, "signature_invalid")
    assert count(sender.web) == 0


def test_paths_and_queries_are_signed_as_they_are_sent(sender: Sender) -> None:
    for target in ("/v1/customers/cust%2D1", "/v1/refunds?customer_id=cust%2D1&limit=3", "/v1/refunds?limit=1&"):
        answer = sender.send("GET", target, b"", signed(sender.secret, "GET", target))
        assert answer.status_code == 200, target
        decoded = target.replace("%2D", "-").rstrip("&")
        wrong = sender.send("GET", target, b"", signed(sender.secret, "GET", decoded))
        assert is_problem(wrong, 401, "signature_invalid"), target


def test_wrong_key_is_reported_before_its_signature(sender: Sender) -> None:
    answer = sender.web.call("GET", "/v1/refunds", key="rw_" + "A" * 43, headers={HEADER: "x"})
    assert is_problem(answer, 401, "unauthenticated")


def test_signing_secret_is_in_no_database_listing_or_repr(sender: Sender) -> None:
    with sender.web.context.database.read() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_keys")).all())
    sender.send("GET", "/v1/refunds", b"", signed(sender.secret, "GET", "/v1/refunds"))
    listed: list[dict[str, Any]] = list_keys(sender.web.context)
    kept = str(sender.web.app.state.keys.__dict__) + repr(Identity("k", "n", "c", Role.ADMIN, None, sender.secret))
    for shown in (stored, str(listed), kept):
        assert sender.secret not in shown
        assert sender.secret.removeprefix("rws_") not in shown
    assert [line["signed"] for line in listed] == [True, False]
    assert sender.secret.startswith("rws_")
    assert "rws_" not in kept
    assert len({sender.secret, Sender(sender.web).secret, sender.key}) == 3
