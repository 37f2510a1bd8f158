"""/openapi.json is right: generated requests get the described answers, and refused ones change no byte.

There are 1,000 requests; SCHEMATHESIS_REQUESTS=20000 makes more, SCHEMATHESIS_SEED=7 makes different ones. They go to a
real process over a real socket.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import closing
from copy import deepcopy
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.migrated import migrate
from tests.support.payees import KEY
from tests.support.web_process import WebProcess
from tests.web.client import AT, Web, settings_for

REQUESTS = int(os.environ.get("SCHEMATHESIS_REQUESTS", "1000"))
FIRST_SEED = int(os.environ.get("SCHEMATHESIS_SEED", "0")) * 1_000_000
# Requests for each operation in a round, with valid values and with invalid ones. A round reaches every operation.
EXAMPLES_EACH = 12
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# Refunds above this need another person's approval; generated amounts are on both sides of it.
THRESHOLD = "500"
OPTIONS = {"APPROVAL_THRESHOLD_MINOR": THRESHOLD, "DESTINATIONS_KEY": KEY}
CALLERS = (*["admin"] * 6, "requester", "viewer", "signed", "unknown", "nobody")
STRANGER = "somebody-else"
TOO_MANY = 10**9
PAYEE = {
    "payee_id": "p1",
    "processor_account": "manual",
    "currency": "EUR",
    "destination": {"kind": "manual", "text": "cash, desk 4"},
}
EARNING = {"earning_id": "e1", "payee_id": "p1", "amount_minor": 600, "currency": "EUR", "available_at": AT}
# Refunds that only one of the last checks refuses: their keys and what they change.
LAST_CHECKS: dict[str, dict[str, Any]] = {
    "too-much": {"credits": TOO_MANY},
    "of-a-stranger": {"customer_id": STRANGER},
    "known": {"credits": 2},
}
# Codes of refusals beyond syntax; each of them has to occur.
DEEP_REFUSALS = {
    "exceeds_refundable",
    "forbidden",
    "idempotency_key_reused",
    "invalid_request",
    "not_found",
    "signature_missing",
    "unauthenticated",
    "unknown_customer",
}


class Served:
    """The running server, the keys of its callers, and existing ids."""

    def __init__(self, web: Web, url: str) -> None:
        refund = web.refund("known").json()["id"]
        batch = web.call("POST", "/v1/refund-batches", {"refunds": []}).json()["batch_id"]
        assert web.call("POST", "/v1/payees", PAYEE).status_code == 201
        assert web.call("POST", "/v1/earnings", EARNING).status_code == 201
        headers = {"Idempotency-Key": "known"}
        asked = {"payee_id": "p1", "currency": "EUR", "amount_minor": 100}
        payout = web.call("POST", "/v1/payouts", asked, headers=headers).json()["id"]
        asked = {"processor_account": "manual", "currency": "EUR", "dry_run": True}
        run = web.call("POST", "/v1/payout-runs", asked, headers=headers).json()["run_id"]
        # Existing values by the name of the field, for paths, queries and bodies.
        self.known: Mapping[str, Any] = {
            "customer_id": "cust-1",
            "transaction_id": "tx-1",
            "name": "stripe",
            "refund_id": refund,
            "batch_id": batch,
            "payee_id": "p1",
            "payout_id": payout,
            "run_id": run,
            "processor_account": "manual",
            "credits": 1,
            "currency": "GBP",
            "reason": "asked",
            "kind": "withdrawal",
            "to": "source",
            "Idempotency-Key": "known",
        }
        self.keys = {
            "admin": web.admin,
            "requester": web.key("requester"),
            "viewer": web.key("viewer"),
            "signed": web.signed_key("admin")[0],
            "unknown": "rw_" + "A" * 43,
        }
        self.url = url
        self.session = requests.Session()

    def send(self, case: Case, caller: str) -> requests.Response:
        wire = requests.Request(**case.as_transport_kwargs(base_url=self.url)).prepare()
        wire.headers.pop("Authorization", None)
        if caller in self.keys:
            wire.headers["Authorization"] = f"Bearer {self.keys[caller]}"
        return self.session.send(wire, timeout=60, allow_redirects=False)


class Bytes:
    """The whole database as the bytes that SQLite would write, but for the counts of the metrics.

    The server adds those every few seconds, whatever it was asked.
    """

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path)
        self._bytes, self._rows = self._connection.serialize(), self._records()

    def changed(self) -> bool:
        """Return True if anything has changed since the last call."""
        before, self._bytes = self._bytes, self._connection.serialize()
        if before == self._bytes:
            return False
        rows, self._rows = self._rows, self._records()
        return rows != self._rows

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _records(self) -> list[str]:
        return [line for line in self._connection.iterdump() if not line.startswith('INSERT INTO "metric_values"')]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("description") / "refunds.db")


@pytest.fixture(scope="module")
def web(path: str) -> Iterator[Web]:
    migrate(f"sqlite:///{path}")
    with Web(settings_for(f"sqlite:///{path}", **OPTIONS)) as running:
        running.seed()
        yield running


@pytest.fixture(scope="module")
def served(web: Web, path: str) -> Iterator[Served]:
    with WebProcess(f"sqlite:///{path}", **OPTIONS) as server:
        yield Served(web, server.url)


@pytest.fixture
def database(web: Web, path: str) -> Iterator[Bytes]:
    with closing(Bytes(path)) as database:
        yield database


def operations(web: Web) -> list[APIOperation]:
    """Return all operations, with answers that may have no other fields: those are described for later versions."""
    document = deepcopy(web.app.openapi())
    for described in document["components"]["schemas"].values():
        if described.get("type") == "object":
            described.setdefault("additionalProperties", False)
    schema = schemathesis.openapi.from_dict(document)
    return [found.ok() for found in schema.get_all_operations()]


def cases(operation: APIOperation, known: Mapping[str, Any]) -> st.SearchStrategy[tuple[Case, str]]:
    """Yield valid and invalid requests, with made-up ids and with existing ones, each with its caller."""
    made = st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])
    # A known key is answered before the customer is checked.
    without = (set(), {"customer_id"}, {"customer_id", "Idempotency-Key"})
    names = st.sets(st.sampled_from(sorted(known))) | st.sampled_from([set(known) - names for names in without])
    # Three random letters are almost never a currency (the tests of bodies show the refusal), and few random texts
    # are a valid id: a valid one that is unknown is added.
    chosen = names.map(lambda names: {name: known[name] for name in names | {"currency"}})
    chosen |= chosen.map(lambda values: values | {"customer_id": STRANGER})
    case = st.tuples(made, chosen).map(lambda both: with_known(*both))
    return st.tuples(case, st.sampled_from(CALLERS))


def with_known(case: Case, known: Mapping[str, Any]) -> Case:
    """Return the case with these values in its fields: made-up ids alone would fail at the first check."""
    for place in (case.path_parameters, case.query, case.headers, case.body):
        if isinstance(place, MutableMapping):
            place.update({name: value for name, value in known.items() if name in place})
    return case


@pytest.mark.slow
@pytest.mark.timeout(max(300, REQUESTS))
def test_answers_match_the_description_and_refusals_store_nothing(web: Web, served: Served, database: Bytes) -> None:
    status: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    stored = 0

    def run(operation: APIOperation, round_number: int) -> None:
        @seed(round_number)
        @settings(
            max_examples=EXAMPLES_EACH,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        @given(cases(operation, served.known))
        def each(made: tuple[Case, str]) -> None:
            nonlocal stored
            case, caller = made
            answer = served.send(case, caller)
            changed = database.changed()
            status[answer.status_code // 100] += 1
            if answer.status_code >= 400:
                codes[answer.json()["code"]] += 1
                assert not changed, f"{answer.status_code} {answer.text} changed the database"
            stored += changed
            case.validate_response(answer, checks=CHECKS)

        each()

    every = operations(web)
    assert EXAMPLES_EACH * len(every) <= REQUESTS  # every operation is reached
    for round_number, operation in ((number, each) for number in itertools.count(FIRST_SEED) for each in every):
        if status.total() >= REQUESTS:
            break
        run(operation, round_number)
    # With this many operations and fields, few requests reach the last checks by chance.
    for key, fields in LAST_CHECKS.items():
        codes[web.refund(key, **fields).json()["code"]] += 1
    assert not database.changed()
    print(json.dumps({"requests": status.total(), "by status": status, "stored": stored, "codes": codes}))
    # Some were accepted and some refused: both sides were covered, and stored data changes the bytes.
    assert status[2] >= REQUESTS // 20
    assert status[4] >= REQUESTS // 20
    assert not status[5]
    assert stored >= 30
    assert set(codes) >= DEEP_REFUSALS
