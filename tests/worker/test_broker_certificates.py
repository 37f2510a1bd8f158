"""A broker's password is sent only to the host of its URL, proved by its certificate, by every entry point."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from tests.worker.tls_server import ANOTHER, AUTHORITY, HERE, TlsServer

from refund_worker.cli import doctor
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.limiter import make_limiter
from refund_worker.worker.publisher import Publisher

PASSWORD = "topsecret"
SECONDS = 3.0
EntryPoint = Callable[[Settings], object]


def settings_for(server: TlsServer, scheme: str, query: str = "", host: str = HERE) -> Settings:
    user = "u" if scheme == "amqps" else ""
    url = f"{scheme}://{user}:{PASSWORD}@{host}:{server.port}/{'/' if scheme == 'amqps' else '0'}{query}"
    return load_settings({PREFIX + "BROKER_URL": url})


def as_a_worker(settings: Settings) -> None:
    with make_app(settings, socket_seconds=SECONDS, tries=0) as app, app.connection_for_read() as connection:
        connection.default_channel.queue_declare("refunds")


def as_a_publisher(settings: Settings) -> None:
    Publisher(settings, settings.broker_url.get_secret_value(), socket_seconds=SECONDS).publish(["rf_1"], bulk=False)


def as_a_limiter(settings: Settings) -> None:
    async def acquire() -> None:
        limiter = make_limiter(settings)
        await limiter.acquire("stripe")
        await limiter.close()

    asyncio.run(acquire())


def as_the_doctor(settings: Settings) -> None:
    doctor._broker(settings)


ENTRY_POINTS = [
    *(("amqps", entry_point) for entry_point in (as_a_worker, as_a_publisher, as_the_doctor)),
    *(("rediss", entry_point) for entry_point in (as_a_worker, as_a_publisher, as_the_doctor, as_a_limiter)),
]
all_entry_points = pytest.mark.parametrize(
    ("scheme", "entry_point"), ENTRY_POINTS, ids=lambda value: getattr(value, "__name__", value)
)


def password_arrived(server: TlsServer, entry_point: EntryPoint, settings: Settings) -> bool:
    """Return True if the password reached the server, which refuses every login in each entry point's own way."""
    with server, contextlib.suppress(Exception):
        entry_point(settings)
    assert server.clients > 0
    return PASSWORD.encode() in server.received


@all_entry_points
def test_certificate_of_another_host_gets_no_password(scheme: str, entry_point: EntryPoint) -> None:
    for host in (HERE, "127.0.0.1"):
        server = TlsServer(ANOTHER)
        assert not password_arrived(
            server, entry_point, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}", host)
        )


@all_entry_points
def test_certificate_of_an_unknown_authority_gets_no_password(scheme: str, entry_point: EntryPoint) -> None:
    server = TlsServer(HERE)
    assert not password_arrived(server, entry_point, settings_for(server, scheme))


@all_entry_points
@pytest.mark.parametrize("host", [HERE, "127.0.0.1"])
def test_right_host_gets_the_password_by_an_authority_of_the_url(
    scheme: str, entry_point: EntryPoint, host: str
) -> None:
    server = TlsServer(HERE)
    assert password_arrived(server, entry_point, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}", host))


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
def test_right_host_gets_the_password_by_an_authority_of_the_system(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    for certificate, accepted in ((HERE, True), (ANOTHER, False)):
        server = TlsServer(certificate)
        assert password_arrived(server, as_a_worker, settings_for(server, scheme)) is accepted


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=false"])
def test_check_is_skipped_only_if_the_url_says_so(scheme: str, query: str) -> None:
    server = TlsServer(ANOTHER)
    assert password_arrived(server, as_a_worker, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}&{query}"))


def test_doctor_reports_a_certificate_of_another_host() -> None:
    with TlsServer(ANOTHER) as server:
        found = doctor._broker(settings_for(server, "amqps", f"?ssl_ca_certs={AUTHORITY}"))
    assert found.verdict == "fail"
    assert "not valid for 'localhost'" in found.found


@pytest.mark.parametrize(
    "url",
    [
        "amqps://u:p@h//?ssl=false",
        "amqps://u:p@h//?ssl=",
        "amqp://u:p@h//?ssl=true",
        "rediss://:p@h/0?ssl=true",
        "amqps://u:p@h//?ssl_cert_reqs=perhaps",
        "amqps://u:p@h//?ssl_version=2",
    ],
)
def test_unsupported_tls_options_in_the_url_refuse_to_start(url: str) -> None:
    with pytest.raises(BadSettings, match=r"BROKER_URL: must (ask for TLS|have no TLS options)"):
        load_settings({PREFIX + "BROKER_URL": url})
