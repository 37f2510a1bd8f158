"""RateLimit and RateLimit-Policy tell of the velocity limits, in the form of the IETF's draft."""

from __future__ import annotations

import re

from tests.web.client import PAYMENT, Web, is_problem, settings_for

ITEM = re.compile(r'"(refunds|amount)"((?:;[a-z]+=(?:[0-9]+|"[a-z-]+"))+)')


def parsed(header: str) -> dict[str, dict[str, int | str]]:
    """Return the members of a structured list of strings with parameters."""
    members = header.split(", ")
    found = {}
    for member in members:
        match = ITEM.fullmatch(member)
        assert match is not None, header
        pairs = dict(pair.split("=") for pair in match[2][1:].split(";"))
        found[match[1]] = {name: value.strip('"') if '"' in value else int(value) for name, value in pairs.items()}
    assert len(found) == len(members)
    return found


def test_each_refund_says_what_is_left_until_none_is(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url, VELOCITY_COUNT="2", VELOCITY_WINDOW_SECONDS="7200")) as web:
        web.seed()
        policy = {"refunds": {"q": 2, "w": 7200}}
        for key, left in (("k-1", 1), ("k-2", 0)):
            answer = web.refund(key)
            assert parsed(answer.headers["RateLimit-Policy"]) == policy
            told = parsed(answer.headers["RateLimit"])["refunds"]
            assert told["r"] == left
            assert 7_000 < int(told["t"]) <= 7_200
        refused = web.refund("k-3")
        assert is_problem(refused, 429, "velocity_exceeded")
        assert parsed(refused.headers["RateLimit-Policy"]) == policy
        assert parsed(refused.headers["RateLimit"]) == {"refunds": {"r": 0, "t": int(refused.headers["Retry-After"])}}
        again = web.refund("k-1")
        assert (again.status_code, parsed(again.headers["RateLimit-Policy"])) == (200, policy)
        assert "RateLimit" not in again.headers


def test_the_least_of_actor_customer_and_payment_is_told(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url, VELOCITY_COUNT="9", VELOCITY_AMOUNT_MINOR="1000")) as web:
        web.seed()
        other = {"payment_id": "pay-2", "processor_payment_id": "ch_2", "customer_id": "cust-2"}
        assert web.call("POST", "/v1/payments", PAYMENT | other).status_code == 201
        first = web.refund("k-1", credits=60)
        assert parsed(first.headers["RateLimit-Policy"]) == {
            "refunds": {"q": 9, "w": 86_400},
            "amount": {"q": 1000, "w": 86_400, "qu": "minor-units"},
        }
        assert [parsed(first.headers["RateLimit"])[name]["r"] for name in ("refunds", "amount")] == [8, 400]
        # Another customer, but the same key: the actor has the least left.
        second = web.refund("k-2", customer_id="cust-2", credits=10)
        assert [parsed(second.headers["RateLimit"])[name]["r"] for name in ("refunds", "amount")] == [7, 300]
        refused = web.refund("k-3", credits=31)
        assert is_problem(refused, 429, "velocity_exceeded")
        assert parsed(refused.headers["RateLimit"])["amount"]["r"] == 300


def test_without_a_limit_no_header_tells_of_one(web: Web) -> None:
    for answer in (web.refund("k-1"), web.refund("k-1"), web.refund("k-2", credits=10_000)):
        assert not {"ratelimit", "ratelimit-policy"} & set(answer.headers)
