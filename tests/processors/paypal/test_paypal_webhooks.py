"""PayPal's webhooks: signatures that openssl made are accepted, and nothing else; what an event is about."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from tests.processors.paypal.conftest import needs_openssl
from tests.processors.paypal.signing import COMMON_NAME, Signer, signer

from refund_worker.processors.base import EventFault, EventHint, EventSubject, InvalidEvent
from refund_worker.processors.paypal import events, verification
from refund_worker.processors.paypal.certificates import BadCertificate, certificate_of, is_signed
from refund_worker.processors.paypal.entry import ENTRY, PayPalSettings
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.processors.paypal.sandbox.server import CERTIFICATE, PayPalServer

pytestmark = needs_openssl

DAY = 86_400.0
NOW = 1_800_000_000.0
BODY = b'{"id":"WH-1","event_type":"PAYMENT.CAPTURE.REFUNDED","resource":{"id":"R1","amount":{"value":"10.00"}}}'
BOTH = ("certificate", "postback")
MINE = WEBHOOK_ID


def account(server: PayPalServer, way: str, **change: Any) -> PayPalSettings:
    """Return the settings of an account at the local PayPal."""
    table = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "api_base": server.url,
        "webhook_id": MINE,
        "webhook_verification": way,
    }
    return PayPalSettings(**(table | change))


def verify(settings: PayPalSettings, headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> None:
    """Check an event. Raises `InvalidEvent`."""
    assert ENTRY.webhooks is not None
    ENTRY.webhooks.verify_event(settings, headers, body, now)


def fault_of(settings: PayPalSettings, headers: dict[str, str], body: bytes = BODY, now: float = NOW) -> EventFault:
    """Check that an event is refused, and return why."""
    with pytest.raises(InvalidEvent) as refused:
        verify(settings, headers, body, now)
    return refused.value.fault


# --- signatures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BOTH)
def test_event_that_openssl_signed_is_accepted(server: PayPalServer, way: str) -> None:
    verify(account(server, way), server.signed(BODY, at=NOW))
    verify(account(server, way, webhook_id=f"{'A' * 17}, {MINE}"), server.signed(BODY, at=NOW))


def _flipped(text: str, place: int) -> str:
    raw = bytearray(base64.b64decode(text))
    raw[place] ^= 1
    return base64.b64encode(bytes(raw)).decode()


CHANGES: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "first byte of the signature": lambda h: {"paypal-transmission-sig": _flipped(h["paypal-transmission-sig"], 0)},
    "last byte of the signature": lambda h: {"paypal-transmission-sig": _flipped(h["paypal-transmission-sig"], -1)},
    "short signature": lambda h: {
        "paypal-transmission-sig": base64.b64encode(base64.b64decode(h["paypal-transmission-sig"])[:-1]).decode()
    },
    "transmission": lambda h: {"paypal-transmission-id": h["paypal-transmission-id"] + "0"},
    "second": lambda h: {"paypal-transmission-time": h["paypal-transmission-time"].replace(":00Z", ":01Z")},
    "form of the time": lambda h: {"paypal-transmission-time": h["paypal-transmission-time"].replace("Z", "+00:00")},
}


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("change", CHANGES)
def test_one_changed_byte_of_the_signature_is_refused(server: PayPalServer, way: str, change: str) -> None:
    headers = server.signed(BODY, at=NOW)
    changed = headers | CHANGES[change](headers)
    assert changed != headers
    assert fault_of(account(server, way), changed) is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize("body", [BODY + b" ", BODY.replace(b"10.00", b"10.01"), BODY.replace(b":", b": ", 1)])
def test_one_changed_byte_of_the_body_is_refused(server: PayPalServer, way: str, body: bytes) -> None:
    assert fault_of(account(server, way), server.signed(BODY, at=NOW), body) is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize("way", BOTH)
def test_event_of_another_webhook_is_refused(server: PayPalServer, way: str) -> None:
    headers = server.signed(BODY, at=NOW, webhook_id="1JE4291016473214D")
    assert fault_of(account(server, way), headers) is EventFault.BAD_SIGNATURE
    assert fault_of(account(server, way, webhook_id=None), headers) is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize("way", BOTH)
def test_event_that_another_key_signed_is_refused(server: PayPalServer, way: str) -> None:
    url = server.url + CERTIFICATE
    headers = Signer().headers(BODY, webhook_id=MINE, at=NOW, certificate_url=url)
    assert fault_of(account(server, way), headers) is EventFault.BAD_SIGNATURE


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("paypal-transmission-id", ""),
        ("paypal-transmission-id", "a|b"),
        ("paypal-transmission-id", "x" * 51),
        ("paypal-transmission-time", ""),
        ("paypal-transmission-time", "yesterday"),
        ("paypal-transmission-time", "2027-01-15T08:00:00"),
        ("paypal-transmission-sig", ""),
        ("paypal-transmission-sig", "ä" * 20),
        ("paypal-transmission-sig", "A" * 3_000),
        ("paypal-cert-url", ""),
        ("paypal-cert-url", "x" * 501),
        ("paypal-auth-algo", ""),
        ("paypal-auth-algo", "SHA1withRSA"),
    ],
)
def test_missing_or_broken_header_is_refused(server: PayPalServer, way: str, header: str, value: str) -> None:
    headers = server.signed(BODY, at=NOW) | {header: value}
    assert fault_of(account(server, way), headers) is EventFault.NO_SIGNATURE
    assert server.verifications == server.token_requests == 0


def test_signature_that_is_no_base64_is_refused(server: PayPalServer) -> None:
    headers = server.signed(BODY, at=NOW) | {"paypal-transmission-sig": "!!!!"}
    assert fault_of(account(server, "certificate"), headers) is EventFault.NO_SIGNATURE


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.parametrize(
    ("seconds", "accepted"), [(3 * DAY, True), (-200, True), (3 * DAY + 7_200, False), (-400, False), (-DAY, False)]
)
def test_old_and_future_events_are_refused(server: PayPalServer, way: str, seconds: float, accepted: bool) -> None:
    """PayPal sends an event again for three days."""
    headers = server.signed(BODY, at=NOW)
    if accepted:
        verify(account(server, way), headers, now=NOW + seconds)
    else:
        assert fault_of(account(server, way), headers, now=NOW + seconds) is EventFault.NOT_RECENT


# --- certificates -----------------------------------------------------------------------------------------------------


def test_certificate_is_fetched_once(server: PayPalServer) -> None:
    for at in range(3):
        verify(account(server, "certificate"), server.signed(BODY, at=NOW + at), now=NOW)
    assert (server.certificate_requests, server.token_requests) == (1, 0)


GOOD_PATH = "/v1/notifications/certs/CERT-360caa42-fca2a594-a5cafa77"


@pytest.mark.parametrize(
    ("url", "live", "allowed"),
    [
        (f"https://api.sandbox.paypal.com{GOOD_PATH}", False, True),
        (f"https://api-m.sandbox.paypal.com{GOOD_PATH}", False, True),
        (f"https://api.paypal.com{GOOD_PATH}", True, True),
        (f"https://api-m.paypal.com{GOOD_PATH}", True, True),
        # The other mode's certificate: anybody can make events in the sandbox.
        (f"https://api.sandbox.paypal.com{GOOD_PATH}", True, False),
        (f"https://api.paypal.com{GOOD_PATH}", False, False),
        (f"http://api.paypal.com{GOOD_PATH}", True, False),
        (f"https://api.paypal.com:8443{GOOD_PATH}", True, False),
        (f"https://user@api.paypal.com{GOOD_PATH}", True, False),
        (f"https://api.paypal.com.evil.example{GOOD_PATH}", True, False),
        (f"https://evil.example{GOOD_PATH}", True, False),
        (f"https://evilpaypal.com{GOOD_PATH}", True, False),
        (f"https://www.paypal.com{GOOD_PATH}", True, False),
        (f"https://api.paypal.com\\@evil.example{GOOD_PATH}", True, False),
        (f"https://api.paypal.com{GOOD_PATH}?to=evil", True, False),
        (f"https://api.paypal.com{GOOD_PATH}#x", True, False),
        ("https://api.paypal.com/v1/notifications/certs/../../other", True, False),
        ("https://api.paypal.com/v1/notifications/certs/", True, False),
        ("https://api.paypal.com/other", True, False),
        ("file:///etc/passwd", True, False),
        ("https://[api.paypal.com", True, False),
        ("", True, False),
    ],
)
def test_certificate_comes_from_paypals_own_servers_only(url: str, live: bool, allowed: bool) -> None:
    assert verification.is_certificate_url(url, None, live=live) is allowed


def test_certificate_from_elsewhere_is_not_fetched(server: PayPalServer, serve: Callable[..., str]) -> None:
    url = serve(200, signer().certificate_pem.encode()) + GOOD_PATH
    headers = signer().headers(BODY, webhook_id=MINE, at=NOW, certificate_url=url)
    assert fault_of(account(server, "certificate"), headers) is EventFault.BAD_SIGNATURE
    assert not Answering.asked


class Answering(BaseHTTPRequestHandler):
    """A server that answers every GET in the same way."""

    status, body, to = 200, b"", ""
    asked: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(self.status)
        if self.to:
            self.send_header("Location", self.to)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server with one answer, and return its URL."""
    running: list[HTTPServer] = []

    def start(status: int, body: bytes, to: str = "") -> str:
        Answering.status, Answering.body, Answering.to = status, body, to
        Answering.asked.clear()
        server = HTTPServer(("127.0.0.1", 0), Answering)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [(302, b""), (404, b""), (500, b""), (200, b""), (200, b"x" * 100_000), (200, b"-----BEGIN CERTIFICATE-----")],
)
def test_certificate_that_cannot_be_had_refuses_the_event(
    serve: Callable[..., str], server: PayPalServer, status: int, body: bytes
) -> None:
    """A redirect is not followed, although the right certificate lies behind it."""
    base = serve(status, body, to=server.url + CERTIFICATE if status == 302 else "")
    headers = signer().headers(BODY, webhook_id=MINE, at=NOW, certificate_url=base + GOOD_PATH)
    assert fault_of(account(server, "certificate", api_base=base), headers) is EventFault.BAD_SIGNATURE
    assert Answering.asked == [GOOD_PATH]


@pytest.mark.parametrize("wrong", ["name", "life"])
def test_certificate_of_another_name_or_time_is_refused(
    serve: Callable[..., str], server: PayPalServer, wrong: str
) -> None:
    other = Signer(common_name="www.evil.example") if wrong == "name" else Signer(days=1)
    base = serve(200, other.certificate_pem.encode())
    headers = other.headers(BODY, webhook_id=MINE, at=NOW, certificate_url=base + GOOD_PATH)
    assert fault_of(account(server, "certificate", api_base=base), headers) is EventFault.BAD_SIGNATURE


def test_flood_of_unknown_certificates_asks_paypal_only_sometimes(
    serve: Callable[..., str], server: PayPalServer
) -> None:
    base = serve(404, b"")
    settings = account(server, "certificate", api_base=base)
    for number in range(verification.LOOK_UPS_A_MINUTE_MAX + 10):
        url = f"{base}/v1/notifications/certs/CERT-{number}"
        fault_of(settings, signer_headers(url))
    assert len(Answering.asked) == verification.LOOK_UPS_A_MINUTE_MAX


def signer_headers(url: str) -> dict[str, str]:
    """Return headers of the right form that nobody signed."""
    return {
        "paypal-transmission-id": "x",
        "paypal-transmission-time": "2027-01-15T08:00:00Z",
        "paypal-transmission-sig": base64.b64encode(b"x" * 256).decode(),
        "paypal-cert-url": url,
        "paypal-auth-algo": "SHA256withRSA",
    }


def test_certificate_of_openssl_is_read() -> None:
    certificate = certificate_of("text before\n" + signer().certificate_pem + "\nbehind")
    assert certificate.common_name == "messageverificationcerts.sandbox.paypal.com"
    assert certificate.key.key_size == 2_048
    assert certificate.not_before <= time.time() + 60 < certificate.not_after
    assert certificate.not_after - certificate.not_before == 3_650 * DAY


def test_certificate_with_two_names_has_none() -> None:
    both = certificate_of(Signer(common_name=f"another.example/CN={COMMON_NAME}").certificate_pem)
    assert both.common_name == ""


@pytest.mark.parametrize("bits", [3_072, 4_096])
def test_signatures_of_larger_keys_are_checked(bits: int) -> None:
    large = Signer(bits=bits)
    certificate, signature = certificate_of(large.certificate_pem), large.sign(b"text")
    assert is_signed(certificate, signature, b"text")
    assert not is_signed(certificate, signature, b"texts")
    assert not is_signed(certificate, b"\x00" + signature, b"text")
    assert not is_signed(certificate, b"", b"text")


def test_key_that_is_too_small_is_refused() -> None:
    with pytest.raises(BadCertificate):
        certificate_of(Signer(bits=1_024).certificate_pem)


def test_signature_as_large_as_the_modulus_is_refused() -> None:
    certificate = certificate_of(signer().certificate_pem)
    modulus = certificate.key.public_numbers().n
    value = int.from_bytes(signer().sign(b"text"), "big") + modulus
    for changed in (value, modulus, 0, 1, modulus - 1):
        if changed.bit_length() <= 2_048:
            assert not is_signed(certificate, changed.to_bytes(256, "big"), b"text")


def test_no_broken_certificate_breaks_the_reading() -> None:
    """Every cut and every changed byte of a certificate is read as some certificate, or is refused."""
    lines = signer().certificate_pem.strip().splitlines()
    der = base64.b64decode("".join(lines[1:-1]))

    def pem(raw: bytes) -> str:
        return f"{lines[0]}\n{base64.encodebytes(raw).decode()}{lines[-1]}\n"

    assert certificate_of(pem(der)).key.public_numbers().e == 65_537
    for place in range(len(der)):
        for raw in (der[:place], der[:place] + bytes([der[place] ^ 0x80]) + der[place + 1 :]):
            try:
                certificate_of(pem(raw))
            except BadCertificate:
                continue
    with pytest.raises(BadCertificate):
        certificate_of("")


# --- asking PayPal ----------------------------------------------------------------------------------------------------


def test_token_of_the_postback_is_kept_and_renewed(server: PayPalServer) -> None:
    settings = account(server, "postback")
    for _ in range(3):
        verify(settings, server.signed(BODY, at=NOW))
    assert (server.token_requests, server.verifications) == (1, 3)
    server.revoke_tokens()
    verify(settings, server.signed(BODY, at=NOW))
    assert server.token_requests == 2


@pytest.mark.parametrize("fault", ["error500", "html"])
def test_event_that_paypal_cannot_check_is_refused(server: PayPalServer, fault: str) -> None:
    server.verify_fault = fault
    with pytest.raises(InvalidEvent, match="PayPal sends it again"):
        verify(account(server, "postback"), server.signed(BODY, at=NOW))
    server.verify_fault = ""
    verify(account(server, "postback"), server.signed(BODY, at=NOW))


@pytest.mark.parametrize("fault", ["error500", "html", "429"])
def test_event_without_a_token_is_refused(server: PayPalServer, fault: str) -> None:
    server.token_fault = fault
    with pytest.raises(InvalidEvent, match="no access token"):
        verify(account(server, "postback"), server.signed(BODY, at=NOW))


def test_wrong_or_missing_credentials_refuse_every_event(server: PayPalServer) -> None:
    headers = server.signed(BODY, at=NOW)
    with pytest.raises(InvalidEvent, match="invalid_client") as refused:
        verify(account(server, "postback", client_secret="wrong_secret_value"), headers)
    assert "wrong_secret_value" not in str(refused.value)
    with pytest.raises(InvalidEvent, match="no client_id"):
        verify(account(server, "postback", client_id=None, client_secret=None), headers)
    verify(account(server, "certificate", client_id=None, client_secret=None), headers)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"id": 1}, "webhook_id": "x"', b'{"id": 1}}', b"\xff{}", b"[" * 100_000]
)
def test_body_that_is_no_object_is_never_passed_on(server: PayPalServer, body: bytes) -> None:
    """It stands in the question to PayPal as it is, so it must not be able to end its place there."""
    assert fault_of(account(server, "postback"), server.signed(body, at=NOW), body) is EventFault.NO_EVENT
    assert server.token_requests == 0


def test_only_some_events_are_checked_at_once(server: PayPalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "WAIT_SECONDS_MAX", 0.05)
    for _ in range(verification.AT_ONCE_MAX):
        verification._slots.acquire()
    try:
        with pytest.raises(InvalidEvent, match="too many"):
            verify(account(server, "postback"), server.signed(BODY, at=NOW))
    finally:
        for _ in range(verification.AT_ONCE_MAX):
            verification._slots.release()
    verify(account(server, "postback"), server.signed(BODY, at=NOW))


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field",
    [
        {"webhook_id": ""},
        {"webhook_id": "https://shop.example/webhooks/paypal"},
        {"webhook_id": "A,B,C,D"},
        {"webhook_secret": "whsec_1"},
        {"webhook_verification": "none"},
        {"environment": "production"},
        {"client_id": "a:b"},
        {"client_id": "a b"},
        {"client_secret": "a\nb"},
        {"client_secret": ""},
        {"unknown": 1},
    ],
)
def test_wrong_setting_is_refused_without_its_value(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w") as refused:
        PayPalSettings(**field)
    assert "whsec_1" not in str(refused.value)


def test_environment_decides_server_and_mode() -> None:
    live = PayPalSettings(client_id="a", client_secret="b", environment="live")
    assert (ENTRY.address(live), ENTRY.live(live)) == ("https://api-m.paypal.com", True)
    assert ENTRY.address(PayPalSettings()) == "https://api-m.sandbox.paypal.com"
    assert ENTRY.live(PayPalSettings()) is False
    assert ENTRY.make("paypal:eu", live, 5).name == "paypal:eu"
    assert "'b'" not in repr(live)


# --- what events are about --------------------------------------------------------------------------------------------

OURS = "rw1,rf_1-1,1,inst_1"
UP = [{"rel": "up", "href": "https://api.paypal.com/v2/payments/captures/CAP1"}]


def event(kind: str, resource: Any) -> tuple[str, str]:
    """Return a kind and the body of an event."""
    return kind, json.dumps({"id": "WH-1", "event_type": kind, "resource": resource})


@pytest.mark.parametrize("kind", sorted(events.REFUND_KINDS))
def test_event_about_a_refund_names_it_and_our_leg(kind: str) -> None:
    told = event(kind, {"id": "R1", "custom_id": OURS, "links": UP})
    assert events.event_hint(*told) == EventHint("R1", "rf_1-1")
    assert events.event_subject(*told) == EventSubject("refund", "R1", ("CAP1",))


def test_event_without_our_text_names_no_leg() -> None:
    assert events.event_hint(*event("PAYMENT.REFUND.FAILED", {"id": "R1"})) == EventHint("R1", None)
    foreign = event("PAYMENT.CAPTURE.REFUNDED", {"id": "R1", "custom_id": "shop-1"})
    assert events.event_hint(*foreign) == EventHint("R1", None)


def test_event_about_a_capture_or_dispute_is_no_refund() -> None:
    captured = event("PAYMENT.CAPTURE.COMPLETED", {"id": "CAP1"})
    assert events.event_hint(*captured) is None
    assert events.event_subject(*captured) == EventSubject("payment", "CAP1", ("CAP1",), is_new_payment=True)
    pending = event("PAYMENT.CAPTURE.PENDING", {"id": "CAP1"})
    assert events.event_subject(*pending) == EventSubject("payment", "CAP1", ("CAP1",))
    transactions = [{"seller_transaction_id": "CAP1"}, {"seller_transaction_id": 5}, "x"]
    opened = event("CUSTOMER.DISPUTE.CREATED", {"dispute_id": "PP-D-1", "disputed_transactions": transactions})
    assert events.event_subject(*opened) == EventSubject("dispute", "PP-D-1", ("CAP1",))
    assert events.event_hint(*opened) is None


@pytest.mark.parametrize(
    "kind", [*sorted(events.REFUND_KINDS), "PAYMENT.CAPTURE.COMPLETED", "CUSTOMER.DISPUTE.CREATED"]
)
@pytest.mark.parametrize("resource", [None, 5, [], {}, {"id": 5}, {"id": "../x"}, {"dispute_id": {}}, {"id": "re_1"}])
def test_event_of_another_form_is_about_nothing(kind: str, resource: Any) -> None:
    told = event(kind, resource)
    assert events.event_hint(*told) is None
    assert events.event_subject(*told) is None


@pytest.mark.parametrize("body", ["", "[]", "null", "5", "[" * 100_000, '{"resource": 1'])
def test_broken_event_is_about_nothing(body: str) -> None:
    assert events.event_hint("PAYMENT.CAPTURE.REFUNDED", body) is None
    assert events.event_subject("PAYMENT.CAPTURE.REFUNDED", body) is None
