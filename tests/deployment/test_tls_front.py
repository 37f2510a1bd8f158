"""The proxy of docker-compose.yml: a real Caddy with its Caddyfile in front of a real web process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import httpx
import pytest
from tests.support.debian import program
from tests.support.deployment import wait_until
from tests.support.migrated import migrate
from tests.support.pages import ROOT
from tests.support.processes import ServerProcess, free_port
from tests.support.web_process import WebProcess
from tests.web.console.visitor import form_on

from refund_worker.engine.access.console_users import create_user
from refund_worker.runtime import build_runtime
from refund_worker.settings import PREFIX, load_settings

PASSWORD = "correct horse battery"
FORGED = {"X-Forwarded-For": "198.51.100.9", "X-Forwarded-Proto": "http"}


class Caddy(ServerProcess):
    """Caddy on loopback, for the name localhost, with a certificate of its own."""

    def __init__(self, upstream: int) -> None:
        program("caddy")
        super().__init__("caddy")
        self.plain_port, self._upstream = free_port(), upstream
        text = (ROOT / "deploy" / "compose" / "Caddyfile").read_text("utf-8")
        # In its container it listens on all addresses.
        (self.folder / "Caddyfile").write_text(text.replace("admin off", "admin off\n\tdefault_bind 127.0.0.1", 1))

    def command(self) -> Sequence[str]:
        """Return the command that serves on our ports."""
        return [str(program("caddy")), "run", "--config", str(self.folder / "Caddyfile"), "--adapter", "caddyfile"]

    def environment(self) -> Mapping[str, str]:
        """Return the variables of the service, and folders for its certificate."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "HTTP_PORT": str(self.plain_port),
            "HTTPS_PORT": str(self.port),
            "UPSTREAM": f"127.0.0.1:{self._upstream}",
        }

    def answers(self) -> bool:
        """Return True if it serves the web process over TLS."""
        try:
            return httpx.get(f"https://localhost:{self.port}/healthz", verify=False, timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    url = f"sqlite:///{tmp_path_factory.mktemp('front')}/refunds.db"
    migrate(url)
    with build_runtime(load_settings({PREFIX + "DATABASE_URL": url}), processors=False) as runtime:
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
    with WebProcess(url, ENVIRONMENT="production", TRUSTED_PROXIES="127.0.0.1") as running:
        yield running


@pytest.fixture(scope="module")
def caddy(web: WebProcess) -> Iterator[Caddy]:
    with Caddy(web.port) as running:
        yield running


@pytest.fixture
def browser(caddy: Caddy) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"https://localhost:{caddy.port}", verify=False, timeout=20) as client:
        yield client


def test_plain_http_is_led_to_https(caddy: Caddy) -> None:
    answer = httpx.get(f"http://localhost:{caddy.plain_port}/console/")
    assert answer.status_code == 308
    assert answer.headers["location"].startswith("https://localhost")


def test_person_signs_in_through_tls_with_a_cookie_for_https_only(browser: httpx.Client) -> None:
    form = form_on(browser.get("/console/sign-in"), "/console/sign-in")
    signed_in = browser.post("/console/sign-in", data=form | {"name": "anna", "password": PASSWORD})
    assert signed_in.status_code == 303, signed_in.text
    cookies = signed_in.headers.get_list("set-cookie")
    assert any(cookie.startswith("__Host-") and "Secure" in cookie for cookie in cookies)
    overview = browser.get("/console/")
    assert overview.status_code == 200
    assert "anna" in overview.text
    assert overview.headers["strict-transport-security"].startswith("max-age=")


def test_metrics_are_not_shown_outside(browser: httpx.Client) -> None:
    for path in ("/metrics", "/metrics?x=1"):
        answer = browser.get(path, headers={"Host": "localhost"})
        assert (answer.status_code, answer.text) == (404, "")
    assert browser.get("/healthz").status_code == 200


def test_addresses_that_a_caller_forges_are_not_believed(browser: httpx.Client, web: WebProcess) -> None:
    assert browser.get("/openapi.json", headers=FORGED).status_code == 200
    wait_until(lambda: '"/openapi.json"' in web.log)  # the line comes after the answer
    lines = [json.loads(line) for line in web.log.splitlines() if '"/openapi.json"' in line]
    assert [line["address"] for line in lines] == ["127.0.0.1"]
    assert "198.51.100.9" not in web.log


class CaddyAlone(Caddy):
    """Caddy in front of a web process that has stopped."""

    def answers(self) -> bool:
        """Return True if it serves at all."""
        try:
            return httpx.get(f"https://localhost:{self.port}/healthz", verify=False, timeout=2).status_code == 502
        except httpx.TransportError:
            return False


@pytest.mark.parametrize("answers", [True, False])
def test_proxy_logs_no_query_and_no_header_of_a_caller(answers: bool, caddy: Caddy, web: WebProcess) -> None:
    with ExitStack() as stack:
        front = caddy if answers else stack.enter_context(CaddyAlone(free_port()))
        browser = stack.enter_context(httpx.Client(base_url=f"https://localhost:{front.port}", verify=False))
        headers = {"Idempotency-Key": "ticket-of-jane-7", "Referer": "https://localhost/?q=jane"}
        found = browser.get("/console/search?q=jane.doe@example.com", headers=headers)
        listed = browser.get("/v1/refunds?customer_id=jane.doe", headers=headers)
        assert (found.status_code, listed.status_code) == ((303, 401) if answers else (502, 502))
        wait_until(lambda: '"/v1/refunds' in (web.log if answers else front.log))
        assert "jane" not in front.log
        assert "jane" not in web.log
