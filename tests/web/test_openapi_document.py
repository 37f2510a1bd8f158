"""/openapi.json for those who read it: names, words, open answers, headers, times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.web.client import Web, settings_for

from refund_worker.web.app import create_app
from refund_worker.web.auth import ROLES
from refund_worker.web.csv_answers import CSV
from refund_worker.web.openapi_texts import FIELDS, FIELDS_OF, OPERATIONS, TAGS

# Made once: no test changes it.
DOCUMENT: dict[str, Any] = create_app(settings_for("sqlite://")).openapi()
SCHEMAS = DOCUMENT["components"]["schemas"]
OBJECTS = {name: schema for name, schema in SCHEMAS.items() if schema.get("type") == "object"}
# Words that are not those of JSON Schema 2020-12 or OpenAPI 3.1.
SCHEMA_WORDS = {
    *("$ref", "additionalProperties", "allOf", "anyOf", "const", "default", "description", "enum", "example"),
    *("exclusiveMaximum", "exclusiveMinimum", "format", "items", "maximum", "maxItems", "maxLength", "maxProperties"),
    *("minimum", "minItems", "minLength", "oneOf", "pattern", "properties", "propertyNames", "required", "title"),
    "type",
}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, by_method in DOCUMENT["paths"].items():
        for method, operation in by_method.items():
            yield method.upper(), path, operation


def schemas(part: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all those inside it."""
    yield part
    for word in ("properties",):
        for inner in part.get(word, {}).values():
            yield from schemas(inner)
    for word in ("anyOf", "allOf", "oneOf"):
        for inner in part.get(word, []):
            yield from schemas(inner)
    for word in ("items", "additionalProperties", "propertyNames"):
        if isinstance(part.get(word), dict):
            yield from schemas(part[word])


def test_every_call_has_a_name_and_a_summary_and_no_other_has() -> None:
    described = {(method, path): (each["operationId"], each["summary"]) for method, path, each in operations()}
    webhook = {("POST", "/webhooks/stripe"): ("receive_stripe_event", "Receive an event from Stripe")}
    assert described == {**OPERATIONS, **webhook}
    hidden = {("GET", path) for path in ("/metrics", "/openapi.json", "/docs", "/docs/errors", "/webhooks/{account}")}
    assert set(ROLES) - hidden == set(described) - {("POST", "/webhooks/stripe")}
    names = [name for name, _ in described.values()]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names)
    assert {tag for _, _, each in operations() for tag in each["tags"]} == set(TAGS)


def test_every_field_and_parameter_is_described() -> None:
    missing = [f"{name}.{field}" for name, schema in OBJECTS.items() for field, each in schema["properties"].items()
               if not each.get("description")]  # fmt: skip
    missing += [f"{method} {path} {each['name']}" for method, path, operation in operations()
                for each in operation.get("parameters", []) if not each.get("description")]  # fmt: skip
    assert missing == []
    assert [name for name, schema in SCHEMAS.items() if not schema.get("description")] == []


def test_no_description_is_of_a_field_that_is_gone() -> None:
    fields = {(name, field) for name, schema in OBJECTS.items() for field in schema["properties"]}
    fields |= {("Query" if each["in"] == "query" else "Path", each["name"]) for _, _, operation in operations()
               for each in operation.get("parameters", [])}  # fmt: skip
    assert set(FIELDS_OF) - fields == set()
    assert set(FIELDS) - {field for _, field in fields} == set()


def test_answers_may_grow_and_requests_may_not() -> None:
    closed = {name for name, schema in OBJECTS.items() if schema.get("additionalProperties") is False}
    assert closed == {name for name in OBJECTS if name.endswith("Request")}
    assert len(closed) >= 9


def test_bodies_and_answers_are_named_schemas() -> None:
    for method, path, operation in operations():
        body = operation.get("requestBody", {"content": {}})
        for content in body["content"].values():
            assert set(content["schema"]) == {"$ref"}, (method, path)
        for answer in operation["responses"].values():
            for media_type, content in answer.get("content", {}).items():
                named = (
                    content["schema"] == {"type": "string"} if media_type == CSV else set(content["schema"]) == {"$ref"}
                )
                assert named, (method, path)
    assert not [
        name for name in SCHEMAS if not re.fullmatch(r"[A-Z][A-Za-z]+", name) or name.endswith(("Shape", "Body"))
    ]
    assert "HTTPValidationError" not in str(DOCUMENT)


def test_only_words_of_json_schema_are_used() -> None:
    parameters = [each["schema"] for _, _, operation in operations() for each in operation.get("parameters", [])]
    for schema in (*SCHEMAS.values(), *parameters):
        for part in schemas(schema):
            assert set(part) <= SCHEMA_WORDS, part
    (limit,) = [
        each["schema"] for each in DOCUMENT["paths"]["/v1/refunds"]["get"]["parameters"] if each["name"] == "limit"
    ]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, 500, 20)
    assert not [
        part for schema in SCHEMAS.values() for part in schemas(schema) if part.get("default", "") in (None, {})
    ]


def format_of(schema: dict[str, Any]) -> set[str]:
    return {part["format"] for part in schemas(schema) if "format" in part}


def times(value: Any, schema: dict[str, Any], place: str = "") -> Iterator[tuple[str, set[str]]]:
    """Yield (place, formats of its schema) of every text in the answer that is a time."""
    for part in schemas(schema):
        if "$ref" in part:
            yield from times(value, SCHEMAS[part["$ref"].rpartition("/")[2]], place)
        elif isinstance(value, dict):
            for name, inner in part.get("properties", {}).items():
                yield from times(value.get(name), inner, f"{place}.{name}")
        elif isinstance(value, list) and "items" in part:
            for inner in value:
                yield from times(inner, part["items"], f"{place}[]")
    if isinstance(value, str) and TIME.fullmatch(value) and "$ref" not in schema:
        yield place, format_of(schema)


def test_every_time_of_an_answer_is_a_date_time(web: Web) -> None:
    refund = web.refund("k-1").json()
    web.call(
        "POST", "/v1/customers/cust-1/corrections", {"credits": 5, "reason": "x"}, headers={"Idempotency-Key": "c"}
    )
    batch = web.call("POST", "/v1/refund-batches", {"refunds": []}).json()
    answers = [
        (web.call("GET", "/v1/payments/pay-1").json(), "PaymentRead"),
        (web.call("GET", "/v1/customers/cust-1").json(), "Customer"),
        (web.call("GET", "/v1/customers/cust-1/transactions").json(), "TransactionPage"),
        (refund, "Refund"),
        (web.call("GET", f"/v1/refunds/{refund['id']}/events").json(), "EventPage"),
        (web.call("GET", f"/v1/refunds/{refund['id']}/waits").json(), "WaitPage"),
        (batch, "Batch"),
        (web.call("POST", "/v1/processors/stripe/pause", {}).json(), "Switch"),
    ]
    found = {f"{name}{place}": formats for answer, name in answers for place, formats in times(answer, SCHEMAS[name])}
    assert len(found) >= 8, found
    assert {place for place, formats in found.items() if formats != {"date-time"}} == set()


@pytest.mark.parametrize(
    ("call", "status", "headers"),
    [
        (("post", "/v1/refunds"), "202", {"ETag", "Location", "RateLimit", "RateLimit-Policy"}),
        (("post", "/v1/refunds"), "200", {"ETag", "Location", "Idempotent-Replayed", "RateLimit-Policy"}),
        (("post", "/v1/refunds"), "429", {"Retry-After", "RateLimit", "RateLimit-Policy"}),
        (("get", "/v1/refunds/{refund_id}"), "200", {"ETag"}),
        (("get", "/v1/refunds/{refund_id}"), "401", {"WWW-Authenticate"}),
        (("get", "/v1/refunds"), "503", {"Retry-After"}),
        (("post", "/v1/refunds/{refund_id}/retry"), "200", {"ETag"}),
        (("post", "/v1/refund-batches"), "202", {"Location"}),
        (("post", "/v1/customers/{customer_id}/corrections"), "200", {"Idempotent-Replayed"}),
        (("post", "/v1/payments"), "415", {"Accept-Encoding"}),
    ],
)
def test_the_headers_of_answers_are_described(call: tuple[str, str], status: str, headers: set[str]) -> None:
    method, path = call
    described = DOCUMENT["paths"][path][method]["responses"][status]["headers"]
    assert set(described) == headers | {"X-Request-ID"}
    for reference in described.values():
        assert DOCUMENT["components"]["headers"][reference["$ref"].rpartition("/")[2]]["description"]


def test_every_header_that_is_sent_is_described(web: Web) -> None:
    """For answers of each kind; headers of HTTP itself and of browsers' safety are known to everybody."""
    known = {"content-type", "content-length", "cache-control", "referrer-policy", "content-security-policy"}
    known |= {"x-content-type-options", "x-frame-options", "cross-origin-resource-policy"}
    body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 1, "reason": "asked"}
    for key, headers in (("admin", {"Idempotency-Key": "k"}), ("admin", {"Idempotency-Key": "k"}), (None, {})):
        answer = web.call("POST", "/v1/refunds", body, key=key, headers=headers)
        described = DOCUMENT["paths"]["/v1/refunds"]["post"]["responses"][str(answer.status_code)]["headers"]
        assert set(answer.headers) - known <= {name.lower() for name in described}


def test_the_document_says_where_and_how() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert [server["url"] for server in DOCUMENT["servers"]] == ["/"]
    assert DOCUMENT["security"] == [{"key": []}, {"key": [], "signature": []}]
