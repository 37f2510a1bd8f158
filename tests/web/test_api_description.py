"""What /openapi.json says is so: requests made from it are answered as described, and a refused one changes no byte.

1,000 requests; SCHEMATHESIS_REQUESTS=20000 makes more, SCHEMATHESIS_SEED=7 makes others. They go to a real process over
a real socket.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
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
from tests.support.web_process import WebProcess
from tests.web.client import Web, settings_for

REQUESTS = int(os.environ.get("SCHEMATHESIS_REQUESTS", "1000"))
FIRST_SEED = int(os.environ.get("SCHEMATHESIS_SEED", "0")) * 1_000_000
# For each operation in a round, with values that fit the description and with such that do not.
EXAMPLES_EACH = 20
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# Above this nobody but another person may let a refund go: both ways are met.
THRESHOLD = "500"
CALLERS = (*["admin"] * 6, "requester", "viewer", "signed", "unknown", "nobody")
STRANGER = "somebody-else"
# What a request must meet to be refused by more than its syntax; each of these codes has to come up.
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
    """The running server, the keys of its callers, and ids that exist."""

    def __init__(self, web: Web, url: str) -> None:
        refund = web.refund("known").json()["id"]
        batch = web.call("POST", "/v1/refund-batches", {"refunds": []}).json()["batch_id"]
        # By the name of the field, in paths, queries and bodies.
        self.known: Mapping[str, Any] = {
            "customer_id": "cust-1",
            "transaction_id": "tx-1",
            "name": "stripe",
            "refund_id": refund,
            "batch_id": batch,
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
    """The whole database as the bytes that SQLite would write of it."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path)
        self.last = self._connection.serialize()

    def changed(self) -> bool:
        """Whether anything in it is other than when last asked."""
        before, self.last = self.last, self._connection.serialize()
        return before != self.last


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("description") / "refunds.db")


@pytest.fixture(scope="module")
def web(path: str) -> Iterator[Web]:
    migrate(f"sqlite:///{path}")
    with Web(settings_for(f"sqlite:///{path}", APPROVAL_THRESHOLD_MINOR=THRESHOLD)) as running:
        running.seed()
        yield running


@pytest.fixture(scope="module")
def served(web: Web, path: str) -> Iterator[Served]:
    with WebProcess(f"sqlite:///{path}", APPROVAL_THRESHOLD_MINOR=THRESHOLD) as server:
        yield Served(web, server.url)


def operations(web: Web) -> list[APIOperation]:
    schema = schemathesis.openapi.from_dict(web.app.openapi())
    return [found.ok() for found in schema.get_all_operations()]


def cases(operation: APIOperation, known: Mapping[str, Any]) -> st.SearchStrategy[tuple[Case, str]]:
    """Requests that fit and that do not, to ids that are made up and to ones that exist, and who sends them."""
    made = st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode])
    # A known key is answered before anybody looks at the customer.
    without = (set(), {"customer_id"}, {"customer_id", "Idempotency-Key"})
    names = st.sets(st.sampled_from(sorted(known))) | st.sampled_from([set(known) - names for names in without])
    # Three letters made up are almost never a currency, which the body's own tests show to be refused; and few texts
    # made up are an id: somebody whom nobody knows has one.
    chosen = names.map(lambda names: {name: known[name] for name in names | {"currency"}})
    chosen |= chosen.map(lambda values: values | {"customer_id": STRANGER})
    case = st.tuples(made, chosen).map(lambda both: with_known(*both))
    return st.tuples(case, st.sampled_from(CALLERS))


def with_known(case: Case, known: Mapping[str, Any]) -> Case:
    """The case with these values where it has such fields: made-up ids alone would be refused at the first check."""
    for place in (case.path_parameters, case.query, case.headers, case.body):
        if isinstance(place, MutableMapping):
            place.update({name: value for name, value in known.items() if name in place})
    return case


@pytest.mark.slow
@pytest.mark.timeout(max(300, REQUESTS))
def test_answers_match_the_description_and_refusals_store_nothing(web: Web, served: Served, path: str) -> None:
    status: Counter[int] = Counter()
    codes: Counter[str] = Counter()
    stored = 0
    database = Bytes(path)

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
    for round_number, operation in ((number, each) for number in itertools.count(FIRST_SEED) for each in every):
        if status.total() >= REQUESTS:
            break
        run(operation, round_number)
    print(json.dumps({"requests": status.total(), "by status": status, "stored": stored, "codes": codes}))
    # Neither all refused nor all let through: both sides of the description were met, and storing shows in the bytes.
    assert status[2] >= REQUESTS // 20
    assert status[4] >= REQUESTS // 20
    assert not status[5]
    assert stored >= 30
    assert set(codes) >= DEEP_REFUSALS
