"""The caller's address and scheme, from the connected peer and the forwarding headers."""

from __future__ import annotations

import logging
from ipaddress import ip_network

import pytest
from tests.web.client import Web, settings_for

from refund_worker.web.proxies import HOPS_MAX, caller_of

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("192.0.2.7"), ip_network("fd00::/8"), ip_network("::1")]
FOR, PROTO = "X-Forwarded-For", "X-Forwarded-Proto"


def seen(peer: str, *headers: tuple[str, str]) -> tuple[str, str | None]:
    return caller_of(peer, [(name.lower().encode(), value.encode("latin-1")) for name, value in headers], NETWORKS)


@pytest.mark.parametrize(
    ("peer", "forwarded", "caller"),
    [
        # Headers of an untrusted peer are ignored.
        ("203.0.113.5", ["198.51.100.1"], "203.0.113.5"),
        ("203.0.113.5", ["10.0.0.1"], "203.0.113.5"),
        ("2001:db8::5", ["198.51.100.1"], "2001:db8::5"),
        ("192.0.2.8", ["198.51.100.1"], "192.0.2.8"),
        # Headers of a trusted proxy are read.
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.7", ["198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["198.51.100.1"], "198.51.100.1"),
        ("::1", ["2001:db8::9"], "2001:db8::9"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        # The list is read from its end, past trusted proxies; the caller wrote everything before that.
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["10.9.9.9, 198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1, 10.0.0.2, 192.0.2.7"], "198.51.100.1"),
        ("10.1.2.3", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        # Several lines form one list.
        ("10.1.2.3", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1", "10.0.0.2"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1", "10.0.0.2, 10.0.0.3"], "198.51.100.1"),
        # Blanks, ports, brackets, zones, empty members.
        ("10.1.2.3", ["  198.51.100.1  "], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1 ,\t198.51.100.1 "], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1,"], "198.51.100.1"),
        ("10.1.2.3", [",, ,"], "10.1.2.3"),
        ("10.1.2.3", ["2001:db8::9"], "2001:db8::9"),
        ("10.1.2.3", ["[2001:db8::9]"], "2001:db8::9"),
        ("10.1.2.3", ["[2001:db8::9]:4711"], "2001:db8::9"),
        ("10.1.2.3", ['"[2001:db8::9]:4711"'], "2001:db8::9"),
        ("10.1.2.3", ["2001:0DB8:0::9"], "2001:db8::9"),
        ("10.1.2.3", ["fe80::9%eth0"], "fe80::9"),
        ("10.1.2.3", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1, ::ffff:10.0.0.2"], "198.51.100.1"),
        # The proxy does not know the address: then the proxy is the last known one.
        ("10.1.2.3", ["unknown"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1, _hidden, 10.0.0.2"], "10.0.0.2"),
        ("10.1.2.3", ["198.51.100.1.2"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.001"], "10.1.2.3"),
        ("10.1.2.3", ["\xb9\xb2.0.0.1"], "10.1.2.3"),
        ("10.1.2.3", ["[2001:db8::9"], "10.1.2.3"),
        ("unknown", ["198.51.100.1"], "unknown"),
    ],
)
def test_caller_is_the_right_most_address_that_is_not_a_trusted_proxy(
    peer: str, forwarded: list[str], caller: str
) -> None:
    assert seen(peer, *((FOR, value) for value in forwarded))[0] == caller


@pytest.mark.parametrize(
    ("peer", "forwarded", "proto", "scheme"),
    [
        ("203.0.113.5", "198.51.100.1", ["https"], None),
        ("10.1.2.3", "198.51.100.1", ["https"], "https"),
        ("10.1.2.3", "198.51.100.1", ["HTTPS "], "https"),
        ("10.1.2.3", "198.51.100.1", ["http"], "http"),
        ("10.1.2.3", None, ["https"], "https"),
        ("10.1.2.3", "198.51.100.1", [], None),
        ("10.1.2.3", "198.51.100.1", ["gopher"], None),
        ("10.1.2.3", "198.51.100.1", ["https,http"], "http"),  # the caller's value, then the proxy's
        ("10.1.2.3", "198.51.100.1", ["https", "http"], "http"),
        ("10.1.2.3", "198.51.100.1, 10.0.0.2", ["https, http"], "https"),  # https up to the first proxy
        ("10.1.2.3", "198.51.100.1, 10.0.0.2", ["https"], "https"),
        ("10.1.2.3", "unknown", ["https"], "https"),
    ],
)
def test_scheme_comes_from_the_proxy_next_to_the_caller(
    peer: str, forwarded: str | None, proto: list[str], scheme: str | None
) -> None:
    headers = [(FOR, forwarded)] if forwarded else []
    assert seen(peer, *headers, *((PROTO, value) for value in proto))[1] == scheme


def test_only_the_end_of_a_very_long_address_list_is_read() -> None:
    forged = ", ".join(["198.51.100.1"] + ["10.0.0.2"] * 5_000)
    assert seen("10.1.2.3", (FOR, forged))[0] == "10.0.0.2"
    assert seen("10.1.2.3", (FOR, ", ".join(["198.51.100.1"] + ["10.0.0.2"] * (HOPS_MAX - 1))))[0] == "198.51.100.1"


def test_the_log_names_the_callers_address(migrated_sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    told = {FOR: "1.1.1.1, 198.51.100.1"}
    with (
        caplog.at_level(logging.DEBUG, "refund_worker.web.access"),
        Web(settings_for(migrated_sqlite_url, TRUSTED_PROXIES="10.0.0.0/8")) as web,
    ):
        web.call("GET", "/healthz", key=None, client=("10.0.0.5", 80), headers=told)
        web.call("GET", "/healthz", key=None, client=("203.0.113.5", 80), headers=told)
    lines = [vars(r) for r in caplog.records if r.name == "refund_worker.web.access"]
    assert [line["address"] for line in lines] == ["198.51.100.1", "203.0.113.5"]


def test_forwarding_headers_are_ignored_without_the_setting(
    migrated_sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.DEBUG, "refund_worker.web.access"),
        Web(settings_for(migrated_sqlite_url)) as web,
    ):
        web.call("GET", "/healthz", key=None, client=("127.0.0.1", 80), headers={FOR: "198.51.100.1"})
    (line,) = [vars(r) for r in caplog.records if r.name == "refund_worker.web.access"]
    assert line["address"] == "127.0.0.1"


def test_metrics_need_a_key_behind_a_proxy_on_this_machine(migrated_sqlite_url: str) -> None:
    here, local = ("127.0.0.1", 80), {"Host": "127.0.0.1:8000"}
    with Web(settings_for(migrated_sqlite_url, TRUSTED_PROXIES="127.0.0.1")) as web:
        assert web.call("GET", "/metrics", key=None, client=here, headers=local).status_code == 200
        for forged in ("198.51.100.1", "127.0.0.1", "127.0.0.1, 198.51.100.1"):
            answer = web.call("GET", "/metrics", key=None, client=here, headers=local | {FOR: forged})
            assert answer.status_code == 401, forged
