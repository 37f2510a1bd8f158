"""Every error is answered as a problem, without internal details."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from sqlalchemy import text
from tests.web.client import PAYMENT, Web, is_problem, settings_for

from refund_worker import errors
from refund_worker.engine.intake.schemas import ID_SCHEMA, PATTERNS
from refund_worker.logs import JsonLines
from refund_worker.web.app import create_app
from refund_worker.web.middleware import SAFE_HEADERS
from refund_worker.web.openapi import HEADER_KEY
from refund_worker.web.problems import problem_of

INSIDE = ("Traceback", "sqlite", "SELECT", "INSERT", "/src/", ".py", "sqlalchemy", "no such table")


def classes(base: type[errors.RefundWorkerError]) -> list[type[errors.RefundWorkerError]]:
    """Return the error classes of the contract and of the HTTP API; other modules test their own."""
    below = [found for child in base.__subclasses__() for found in classes(child)]
    return [base, *below] if base.__module__ in (errors.__name__, problem_of.__module__) else below


@pytest.mark.parametrize("kind", classes(errors.RefundWorkerError), ids=lambda kind: kind.__name__)
def test_every_error_class_is_a_problem_with_its_status_and_code(kind: type[errors.RefundWorkerError]) -> None:
    error = kind("in /srv/app.py", fields=("a", "b")) if issubclass(kind, errors.KeyReused) else kind("in /srv/app.py")
    answer = problem_of(error)
    body = json.loads(bytes(answer.body))
    assert answer.media_type == "application/problem+json"
    assert body["status"] == answer.status_code
    if kind.status == 500:
        assert body["code"] == "internal"
        assert "/srv" not in body["detail"]
    else:
        assert (answer.status_code, body["code"], body["retryable"]) == (kind.status, kind.code, kind.retryable)


def test_unknown_paths_and_methods_are_problems(web: Web) -> None:
    for path in ("/v1", "/v1/nothing", "/v1/refunds/", "/docs/", "/redoc", "/v1/refunds/x/pay", "/../etc/passwd"):
        assert is_problem(web.call("GET", path), 404, "not_found")
    answer = web.call("PUT", "/v1/refunds")
    assert is_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"]
    assert is_problem(web.call("PATCH", "/v1/refunds/x"), 405, "method_not_allowed")


def test_internal_error_hides_the_stack_and_is_logged_with_its_id(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with web.context.database.write() as connection:
        connection.execute(text("ALTER TABLE refunds RENAME TO elsewhere"))
    with caplog.at_level(logging.ERROR):
        answer = web.call("GET", "/v1/refunds?customer_id=hush-7", headers={"X-Request-ID": "req-7"})
    assert is_problem(answer, 500, "internal")
    assert not any(word in answer.text for word in INSIDE)
    assert answer.headers["x-request-id"] == "req-7"
    assert set(SAFE_HEADERS) <= {name for name in SAFE_HEADERS if name in answer.headers}
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR and "req-7" in r.getMessage()]
    assert record.exc_info is not None
    assert "hush-7" not in caplog.text


def test_every_route_answers_503_without_its_database(tmp_path: Path, migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url)) as web:
        web.seed()
        assert web.call("GET", "/readyz", key=None).json() == {"status": "ok"}
        assert web.call("GET", "/v1/refunds").status_code == 200
        web.context.database.engine.dispose()
        file = tmp_path / "refunds.db"
        for each in tmp_path.glob("refunds.db*"):
            each.unlink()
        file.mkdir()
        for method, path in (("GET", "/readyz"), ("GET", "/v1/refunds"), ("GET", "/v1/customers/cust-1")):
            answer = web.call(method, path)
            assert is_problem(answer, 503, "unavailable")
            assert answer.json()["retryable"] is True
            assert int(answer.headers["retry-after"]) >= 1
        assert is_problem(web.refund("k-1"), 503, "unavailable")
        assert web.call("GET", "/healthz", key=None).status_code == 200
        assert is_problem(web.call("GET", "/v1/refunds", key="rw_" + "B" * 43), 503, "unavailable")


def test_every_answer_carries_the_safe_headers_and_a_request_id(web: Web) -> None:
    for method, path in (("GET", "/healthz"), ("GET", "/v1/refunds"), ("GET", "/nothing"), ("PUT", "/v1/refunds")):
        answer = web.call(method, path)
        for name, value in SAFE_HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers
        assert len(answer.headers["x-request-id"]) == 24
        assert "strict-transport-security" not in answer.headers


def test_a_request_id_that_could_break_a_log_is_replaced(web: Web) -> None:
    for wrong in ("a" * 65, "a b", 'a"b', "é"):
        answer = web.call("GET", "/healthz", headers={b"X-Request-ID": wrong.encode("latin-1")})  # type: ignore[dict-item]
        assert answer.headers["x-request-id"] != wrong


def test_production_asks_for_https_only(migrated_sqlite_url: str) -> None:
    with Web(settings_for(migrated_sqlite_url, ENVIRONMENT="production")) as web:
        assert web.call("GET", "/healthz").headers["strict-transport-security"].startswith("max-age=")


def test_access_log_has_the_caller_but_no_key_and_no_query(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "refund_worker.web.access"):
        key = web.key("viewer", name="anna")
        web.call("GET", "/v1/refunds?idempotency_key=hush", key=key, headers={"X-Request-ID": "req-8"})
        web.call("GET", "/v1/customers/4242424242424242", key=key)
    lines = [JsonLines("web").format(r) for r in caplog.records if r.name == "refund_worker.web.access"]
    first, second = map(json.loads, lines)
    assert first.pop("duration_ms") >= 0
    assert {name: first[name] for name in first.keys() - {"time", "logger", "pid"}} == {
        "level": "info",
        "process": "web",
        "message": "GET /v1/refunds 200",
        "method": "GET",
        "route": "/v1/refunds",
        "path": "/v1/refunds",
        "status": 200,
        "request_id": "req-8",
        "actor": "backend/anna",
        "address": "203.0.113.7",
    }
    assert second["route"] == "/v1/customers/{customer_id}"
    assert "4242" not in second["path"]
    assert all(secret not in line for line in lines for secret in (key, "hush"))


def test_every_wrong_field_is_told_at_once(web: Web) -> None:
    body = {"kind": "withdraw", "credits": 0, "metadata": {"a/b~c": 1.5}, "colour": "red"}
    answer = web.call("POST", "/v1/refunds", body, headers={"Idempotency-Key": "k-1"})
    assert is_problem(answer, 422, "invalid_request")
    told = answer.json()
    assert {(each["field"], each["pointer"]) for each in told["errors"]} == {
        ("kind", "#/kind"),
        ("to", "#/to"),
        ("customer_id", "#/customer_id"),
        ("credits", "#/credits"),
        ("reason", "#/reason"),
        ("metadata.a/b~c", "#/metadata/a~1b~0c"),
        ("colour", "#/colour"),
    }
    assert told["fields"] == [each["field"] for each in told["errors"]]
    first = told["errors"][0]
    assert (told["field"], told["detail"]) == (first["field"], f"{first['field']}: {first['detail']}")


@pytest.mark.parametrize(
    ("path", "body", "field", "wrong"),
    [
        ("payments", PAYMENT | {"refunded_minor": 2001}, "refunded_minor", "at most what was captured, which is 2000"),
        ("refunds/rf_1/resolve", {"reason": "x", "outcome": "paid_manually"}, "reference", "required"),
        ("refunds/rf_1/resolve", {"reason": "x", "outcome": "reverse", "reference": "b-1"}, "reference", "not allowed"),
        ("refunds/rf_1/cancel", {"reason": ""}, "reason", "must not be empty"),
        ("refunds/rf_1/cancel", {"reason": "x" * 1001}, "reason", "must have at most 1,000 characters"),
    ],
)
def test_refusal_of_one_value_names_its_field_in_plain_words(
    web: Web, path: str, body: dict[str, Any], field: str, wrong: str
) -> None:
    answer = web.call("POST", f"/v1/{path}", body)
    assert is_problem(answer, 422, "invalid_request")
    assert (answer.json()["field"], answer.json()["errors"][0]["pointer"]) == (field, f"#/{field}")
    assert wrong in answer.json()["detail"]


def test_every_wrong_parameter_is_told_at_once(web: Web) -> None:
    answer = web.call("GET", "/v1/refunds?limit=0&status=paid&created_gte=yesterday&colour=red")
    assert is_problem(answer, 422, "invalid_request")
    assert [each["field"] for each in answer.json()["errors"]] == ["limit", "status", "created_gte", "colour"]
    assert not any("pointer" in each for each in answer.json()["errors"])
    assert answer.json()["errors"][-1]["detail"] == "this parameter is not known"


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("search?q=%20", "q: must not be blank"),
        ("disputes?status=Lost", "status: must be a word of lower-case letters, digits and underscores"),
        ("refunds?failure_code=a-b", "failure_code: must be a word of lower-case letters, digits and underscores"),
        ("refunds?idempotency_key=%C3%BC", "idempotency_key: must have printable ASCII characters only"),
        ("reconciliations?processor_account=Stripe", "processor_account: must be the name of an account"),
    ],
)
def test_text_in_the_wrong_form_is_refused_in_plain_words(web: Web, query: str, wrong: str) -> None:
    answer = web.call("GET", f"/v1/{query}")
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["detail"].startswith(wrong)


def patterns_in(described: Any) -> Iterator[str]:
    """Yield each pattern in a part of the API's description."""
    if isinstance(described, dict):
        yield from (value for name, value in described.items() if name == "pattern" and isinstance(value, str))
    if isinstance(described, dict | list):
        for part in described.values() if isinstance(described, dict) else described:
            yield from patterns_in(part)


def test_every_pattern_of_a_field_is_told_in_words(web: Web) -> None:
    told = set(patterns_in(web.call("GET", "/openapi.json").json()))
    checked_by_us = {ID_SCHEMA["pattern"], HEADER_KEY["schema"]["pattern"]}  # type: ignore[index]
    assert told - checked_by_us <= PATTERNS.keys()


def test_a_body_of_wrong_fields_gets_a_short_answer(web: Web) -> None:
    body = {f"{number}-4242 4242 4242 4242": 1 for number in range(5000)}
    answer = web.call("POST", "/v1/refunds", body, headers={"Idempotency-Key": "k-1"})
    assert is_problem(answer, 422, "invalid_request")
    assert 5 < len(answer.json()["errors"]) <= 50
    assert "4242 4242" not in answer.text


def test_an_error_beyond_the_schema_names_its_field_in_errors_too(web: Web) -> None:
    answer = web.call("POST", "/v1/refunds", {}, headers={"Idempotency-Key": "k" * 256})
    assert is_problem(answer, 422, "invalid_request")
    assert [each["field"] for each in answer.json()["errors"]] == [answer.json()["field"]] == ["idempotency_key"]


def test_description_is_complete_with_an_example_for_every_body(web: Web) -> None:
    described = web.call("GET", "/openapi.json", key=None).json()
    assert described == create_app(settings_for("sqlite://")).openapi()
    for path, operations in described["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert {"401", "403", "503"} <= set(operation["responses"])
            places = {parameter["in"] for parameter in operation.get("parameters", [])}
            assert places <= {"path", "query", "header"}, path
            body = operation.get("requestBody")
            if body and path.startswith("/v1"):
                assert "example" in body["content"]["application/json"], path


def with_examples(part: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield (place, schema, example) of everything in the description that has both."""
    if isinstance(part, dict):
        if "example" in part and ("schema" in part or "type" in part):
            yield place, part.get("schema", part), part["example"]
        for name, inner in part.items():
            if name != "example":
                yield from with_examples(inner, f"{place}/{name}")
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from with_examples(inner, f"{place}/{number}")


def test_each_example_in_the_description_matches_its_schema(web: Web) -> None:
    described = web.app.openapi()
    found = list(with_examples(described))
    assert len(found) > 10
    for place, schema, example in found:
        whole = {key: value for key, value in schema.items() if key != "example"}
        validator = jsonschema_rs.validator_for(whole | {"components": described["components"]})
        assert [error.message for error in validator.iter_errors(example)] == [], place


def test_described_bodies_are_required_except_for_optional_ones(web: Web) -> None:
    operations = [op for path in web.app.openapi()["paths"].values() for op in path.values() if "requestBody" in op]
    optional = {op["operationId"] for op in operations if not op["requestBody"]["required"]}
    assert {name.split("_")[0] for name in optional} == {"pause", "resume"}
    assert len(operations) > 8
