"""Events from Stripe: only events that Stripe signed recently are stored, each once."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import text
from tests.web.client import Web, is_problem, settings_for

from refund_worker.metrics import COUNTS, WEBHOOKS_REFUSED
from refund_worker.processors.base import EventFault, InvalidEvent
from refund_worker.processors.stripe.events import verify_event

OLD, NEW = "whsec_old", "whsec_new"
EVENT = json.dumps({"id": "evt_1", "type": "refund.updated", "data": {"object": {"object": "refund"}}}).encode()


def signed(body: bytes, *, secret: str = NEW, at: float | None = None, scheme: str = "v1") -> str:
    second = int(time.time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{second}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={second},{scheme}={digest}"


@pytest.fixture
def web(migrated_sqlite_url: str) -> Iterator[Web]:
    with Web(settings_for(migrated_sqlite_url, STRIPE_WEBHOOK_SECRET=f"{OLD},{NEW}")) as running:
        yield running


def deliver(web: Web, body: bytes, signature: str | None) -> httpx.Response:
    headers = {"Stripe-Signature": signature} if signature is not None else {}
    return web.call("POST", "/webhooks/stripe", key=None, headers=headers, content=body)


def stored(web: Web) -> list[tuple[str, str, str, str]]:
    with web.context.database.read() as connection:
        rows = connection.execute(text("SELECT processor, event_id, kind, body FROM inbox")).all()
    return [tuple(row) for row in rows]


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_an_event_signed_with_either_secret_is_stored_as_it_came(web: Web, secret: str) -> None:
    answer = deliver(web, EVENT, signed(EVENT, secret=secret))
    assert answer.status_code == 200
    assert stored(web) == [("stripe", "evt_1", "refund.updated", EVENT.decode())]


def test_signature_that_is_sent_twice_counts_for_nothing(web: Web) -> None:
    """It is not clear which of the two a proxy has checked."""
    for signatures in ([signed(EVENT), "t=1,v1=00"], ["t=1,v1=00", signed(EVENT)], [signed(EVENT)] * 2):
        headers = [("Stripe-Signature", each) for each in signatures]
        assert web.call("POST", "/webhooks/stripe", key=None, headers=headers, content=EVENT).status_code == 400
    assert stored(web) == []


def test_the_same_event_three_times_is_stored_once(web: Web) -> None:
    for _ in range(3):
        assert deliver(web, EVENT, signed(EVENT)).status_code == 200
    assert len(stored(web)) == 1


def test_one_good_signature_among_several_is_enough(web: Web) -> None:
    header = signed(EVENT, secret="whsec_other") + "," + signed(EVENT).partition(",")[2] + ",v0=beef"
    assert deliver(web, EVENT, header).status_code == 200


@pytest.mark.parametrize("sent", [EVENT + b"\n", b" " + EVENT, EVENT.replace(b": ", b":")])
def test_the_signature_covers_every_byte_as_it_came(web: Web, sent: bytes) -> None:
    assert is_problem(deliver(web, sent, signed(EVENT)), 400, "invalid_signature")
    assert stored(web) == []


NOW = 1_800_000_000
# Signed when they are used: an old signature would be refused for its age.
BAD_HEADERS: dict[str, Callable[[], str | None]] = {
    "none": lambda: None,
    "empty": lambda: "",
    "no time": lambda: signed(EVENT).partition(",")[2],
    "no signature": lambda: f"t={int(time.time())}",
    "another scheme only": lambda: signed(EVENT, scheme="v0"),
    "a wrong secret": lambda: signed(EVENT, secret="whsec_wrong"),
    "an empty secret": lambda: signed(EVENT, secret=""),
    "another body": lambda: signed(EVENT + b" "),
    "a time that is none": lambda: "t=now,v1=00",
    "a time of other digits": lambda: "t=١,v1=00",
    "a negative time": lambda: "t=-1,v1=00",
    "two times": lambda: signed(EVENT) + ",t=1",
    "not hex": lambda: f"t={int(time.time())},v1=é",
    "a very long time": lambda: "t=" + "9" * 400 + ",v1=00",
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_wrongly_signed_event_is_400_and_leaves_no_row(web: Web, name: str) -> None:
    header = BAD_HEADERS[name]()
    headers = {} if header is None else {b"Stripe-Signature": header.encode("utf-8")}
    answer = web.call("POST", "/webhooks/stripe", key=None, headers=headers, content=EVENT)  # type: ignore[arg-type]
    assert is_problem(answer, 400, "invalid_signature")
    assert stored(web) == []


@pytest.mark.parametrize(
    ("signature", "body", "fault"),
    [
        (lambda: None, EVENT, EventFault.NO_SIGNATURE),
        (lambda: signed(EVENT, secret="whsec_wrong"), EVENT, EventFault.BAD_SIGNATURE),
        (lambda: signed(EVENT, at=time.time() - 400), EVENT, EventFault.NOT_RECENT),
        (lambda: signed(b"{}"), b"{}", EventFault.NO_EVENT),
        (lambda: signed(b'{"id": "", "type": "x"}'), b'{"id": "", "type": "x"}', EventFault.NO_EVENT),
    ],
)
def test_refused_event_is_counted_by_its_reason(
    web: Web, signature: Callable[[], str | None], body: bytes, fault: EventFault
) -> None:
    COUNTS.forget()
    assert deliver(web, body, signature()).status_code == 400
    refused = [labels for name, labels, _ in COUNTS.take() if name == WEBHOOKS_REFUSED.name]
    assert refused == [("stripe", fault)]


@pytest.mark.parametrize(("seconds", "good"), [(-301, False), (-299, True), (299, True), (301, False)])
def test_the_signatures_age_is_bounded_in_both_directions(seconds: int, good: bool) -> None:
    headers = {"stripe-signature": signed(EVENT, at=NOW + seconds)}
    if good:
        verify_event(headers, EVENT, (OLD, NEW), NOW)
    else:
        with pytest.raises(InvalidEvent, match="just now"):
            verify_event(headers, EVENT, (OLD, NEW), NOW)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"id": "evt_1"}',
        b'{"id": 1, "type": "x"}',
        b'{"id": "", "type": "x"}',
        b"\xff",
        b'{"id": "evt\\u0000", "type": "x"}',
        b'{"id": "\\ud800", "type": "x"}',
        b"[" * 100000,
    ],
)
def test_signed_body_that_is_not_an_event_leaves_no_row(web: Web, body: bytes) -> None:
    answer = deliver(web, body, signed(body))
    assert is_problem(answer, 400, "invalid_signature")
    assert answer.json()["detail"] == "the body is not an event"
    assert stored(web) == []


def test_without_a_secret_every_event_is_refused(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url)) as web:
        for secret in ("", NEW):
            assert is_problem(deliver(web, EVENT, signed(EVENT, secret=secret)), 400, "invalid_signature")
        assert stored(web) == []
