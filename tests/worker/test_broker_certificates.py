"""A broker's password is told to the host of its URL, proved by its certificate, and to nobody else; by every door."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest
from tests.support.tls_server import ANOTHER, AUTHORITY, HERE, TlsServer

from refund_worker.cli import doctor
from refund_worker.errors import BadSettings
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.limiter import make_limiter
from refund_worker.worker.publisher import Publisher

PASSWORD = "topsecret"
SECONDS = 3.0
Door = Callable[[Settings], object]


def settings_for(server: TlsServer, scheme: str, query: str = "", host: str = HERE) -> Settings:
    user = "u" if scheme == "amqps" else ""
    url = f"{scheme}://{user}:{PASSWORD}@{host}:{server.port}/{'/' if scheme == 'amqps' else '0'}{query}"
    return load_settings({PREFIX + "BROKER_URL": url})


def as_a_worker(settings: Settings) -> None:
    with make_app(settings, socket_seconds=SECONDS, tries=0) as app, app.connection_for_read() as connection:
        connection.default_channel.queue_declare("refunds")


def as_a_door(settings: Settings) -> None:
    Publisher(settings, settings.broker_url.get_secret_value(), socket_seconds=SECONDS).publish(["rf_1"], bulk=False)


def as_a_limiter(settings: Settings) -> None:
    async def turn() -> None:
        limiter = make_limiter(settings)
        await limiter.acquire("stripe")
        await limiter.close()

    asyncio.run(turn())


def as_the_doctor(settings: Settings) -> None:
    doctor._broker(settings)


DOORS = [
    *(("amqps", door) for door in (as_a_worker, as_a_door, as_the_doctor)),
    *(("rediss", door) for door in (as_a_worker, as_a_door, as_the_doctor, as_a_limiter)),
]
all_doors = pytest.mark.parametrize(("scheme", "door"), DOORS, ids=lambda value: getattr(value, "__name__", value))


def heard(server: TlsServer, door: Door, settings: Settings) -> bool:
    """Whether the password came through. Nobody is let in, so each door fails in its own way."""
    with server, contextlib.suppress(Exception):
        door(settings)
    assert server.clients > 0
    return PASSWORD.encode() in server.heard


@all_doors
def test_a_server_with_another_hosts_certificate_is_not_told_the_password(scheme: str, door: Door) -> None:
    for host in (HERE, "127.0.0.1"):
        server = TlsServer(ANOTHER)
        assert not heard(server, door, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}", host))


@all_doors
def test_a_certificate_of_an_unknown_authority_is_not_enough(scheme: str, door: Door) -> None:
    server = TlsServer(HERE)
    assert not heard(server, door, settings_for(server, scheme))


@all_doors
@pytest.mark.parametrize("host", [HERE, "127.0.0.1"])
def test_the_host_itself_is_told_it_by_an_authority_of_the_url(scheme: str, door: Door, host: str) -> None:
    server = TlsServer(HERE)
    assert heard(server, door, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}", host))


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
def test_so_is_it_by_an_authority_of_the_system_and_another_host_is_not(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY))
    for certificate, told in ((HERE, True), (ANOTHER, False)):
        server = TlsServer(certificate)
        assert heard(server, as_a_worker, settings_for(server, scheme)) is told


@pytest.mark.parametrize("scheme", ["amqps", "rediss"])
@pytest.mark.parametrize("query", ["ssl_cert_reqs=none", "ssl_cert_reqs=CERT_NONE", "ssl_check_hostname=false"])
def test_only_who_says_so_does_without_the_check(scheme: str, query: str) -> None:
    server = TlsServer(ANOTHER)
    assert heard(server, as_a_worker, settings_for(server, scheme, f"?ssl_ca_certs={AUTHORITY}&{query}"))


def test_the_doctor_says_that_a_certificate_is_another_hosts() -> None:
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
def test_what_a_url_can_not_say_of_tls_does_not_start(url: str) -> None:
    with pytest.raises(BadSettings, match="BROKER_URL: must say"):
        load_settings({PREFIX + "BROKER_URL": url})
