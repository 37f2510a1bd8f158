"""The metrics: open to this machine, and elsewhere to a key."""

from __future__ import annotations

import pytest
from tests.web.client import Web, is_problem


def test_metrics_are_for_this_machine_or_for_a_key(web: Web) -> None:
    here, away = ("127.0.0.1", 50000), ("203.0.113.7", 50000)
    local = {"Host": "127.0.0.1:8000"}
    assert web.call("GET", "/metrics", key=None, client=here, headers=local).status_code == 200
    assert is_problem(web.call("GET", "/metrics", key=None, client=away), 401, "unauthenticated")
    assert web.call("GET", "/metrics", key=web.key("viewer"), client=away).status_code == 200
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        answer = web.call("GET", "/metrics", key=None, client=here, headers=local | {header: "127.0.0.1"})
        assert is_problem(answer, 401, "unauthenticated")
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert web.call("GET", path, key=None, client=away).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "127.0.0.2"])
def test_local_metrics_need_no_key_under_any_local_host_name(web: Web, host: str) -> None:
    answer = web.call("GET", "/metrics", key=None, client=("127.0.0.1", 50000), headers={"Host": host})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.5", ""]
)
def test_rebound_host_name_does_not_open_the_metrics(web: Web, host: str) -> None:
    here = ("127.0.0.1", 50000)
    answer = web.call("GET", "/metrics", key=None, client=here, headers={"Host": host})
    assert is_problem(answer, 401, "unauthenticated")
    assert web.call("GET", "/metrics", key=web.key("viewer"), client=here, headers={"Host": host}).status_code == 200
