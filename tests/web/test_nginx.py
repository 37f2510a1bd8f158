"""The real nginx in front of the web process, as docs/operations.md advises."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import psutil
import pytest
from tests.support import debian
from tests.support.deployment import wait_until
from tests.support.processes import ServerProcess
from tests.support.web_process import WebProcess

# Longer than Uvicorn itself keeps an idle connection.
IDLE_SECONDS = 6.0
CONFIGURATION = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ }}
http {{
  access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s;
  upstream web {{ server 127.0.0.1:{web}; keepalive 4; keepalive_timeout 60s; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto https;
    }}
  }}
}}
"""


class Nginx(ServerProcess):
    """An nginx that forwards to `web`."""

    def __init__(self, web: WebProcess) -> None:
        super().__init__("nginx")
        self._program = debian.program("nginx")
        (self.folder / "nginx.conf").write_text(CONFIGURATION.format(web=web.port, port=self.port))

    def command(self) -> Sequence[str]:
        return [str(self._program), "-p", str(self.folder), "-c", "nginx.conf"]

    def answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz", timeout=2).status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[WebProcess]:
    path = tmp_path_factory.mktemp("nginx") / "refunds.db"
    path.write_bytes(sqlite_template.read_bytes())
    with WebProcess(f"sqlite:///{path}", TRUSTED_PROXIES="127.0.0.1") as process:
        yield process


@pytest.fixture(scope="module")
def nginx(web: WebProcess) -> Iterator[Nginx]:
    with Nginx(web) as server:
        yield server


def connections(web: WebProcess) -> set[int]:
    """Return the other ends' ports of the connections that the web process holds."""
    found = psutil.Process(web.pid).net_connections("tcp")
    return {c.raddr.port for c in found if c.status == psutil.CONN_ESTABLISHED and c.laddr.port == web.port}


def test_idle_connection_of_the_proxy_is_used_again(web: WebProcess, nginx: Nginx) -> None:
    def post() -> int:
        return httpx.post(f"http://127.0.0.1:{nginx.port}/v1/refunds", json={}, timeout=10).status_code

    assert post() == 401
    kept = connections(web)
    assert kept
    time.sleep(IDLE_SECONDS)
    assert connections(web) == kept, "closed before the proxy's own limit: its next POST may meet a closed connection"
    assert post() == 401
    assert connections(web) <= kept


def test_slow_clients_wait_at_the_proxy(web: WebProcess, nginx: Nginx) -> None:
    assert httpx.get(f"http://127.0.0.1:{nginx.port}/healthz", timeout=10).status_code == 200
    before = connections(web)
    slow = [socket.create_connection(("127.0.0.1", nginx.port)) for _ in range(50)]
    try:
        for client in slow:
            client.sendall(b"POST /webhooks/stripe HTTP/1.1\r\nHost: api\r\nContent-Length: 1000\r\n\r\nhalf")
        assert httpx.get(f"http://127.0.0.1:{nginx.port}/healthz", timeout=10).status_code == 200
        assert len(connections(web)) <= len(before) + 1
    finally:
        for client in slow:
            client.close()


def test_log_names_the_clients_address_and_not_the_proxys(web: WebProcess, nginx: Nginx) -> None:
    transport = httpx.HTTPTransport(local_address="127.0.0.9")
    with httpx.Client(base_url=f"http://127.0.0.1:{nginx.port}", transport=transport, timeout=10) as client:
        assert client.get("/v1/refunds/rf_none", headers={"X-Forwarded-For": "198.51.100.1"}).status_code == 401

    def addresses() -> list[str]:
        lines = [json.loads(line) for line in web.log.splitlines() if line.startswith("{")]
        return [line["address"] for line in lines if "rf_none" in json.dumps(line)]

    assert wait_until(addresses) == ["127.0.0.9"]
