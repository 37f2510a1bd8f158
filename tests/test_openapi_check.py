"""The check of JSON values against a published OpenAPI description finds what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.openapi_check import Description

DOCUMENT: dict[str, Any] = {
    "components": {
        "schemas": {
            "money": {
                "type": "object",
                "required": ["value"],
                "properties": {"value": {"type": "string", "pattern": "^[0-9.]+$", "maxLength": 5}},
            },
            "refund": {
                "allOf": [
                    {"properties": {"status": {"type": "string", "enum": ["DONE", "OPEN"]}}},
                    {"properties": {"amount": {"$ref": "#/components/schemas/money"}}},
                ]
            },
            "note": {"type": "object", "properties": {"text": {"type": "string", "nullable": True}}},
        },
        "requestBodies": {"order": {"content": {"application/json": {"schema": {"type": "object"}}}}},
        "responses": {"empty": {"description": "nothing"}},
    },
    "paths": {
        "/refunds": {
            "post": {
                "requestBody": {"$ref": "#/components/requestBodies/order"},
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/refund"}}}},
                    "204": {"$ref": "#/components/responses/empty"},
                },
            }
        }
    },
}
PUBLISHED = Description(DOCUMENT)


@pytest.mark.parametrize(
    "refund",
    [{}, {"status": "DONE", "amount": {"value": "12.50"}}, {"unknown": 1}],
)
def test_value_that_fits_has_no_faults(refund: object) -> None:
    assert PUBLISHED.faults(refund, PUBLISHED.schema_of("refund")) == []


@pytest.mark.parametrize(
    ("refund", "fault"),
    [
        ({"status": "GONE"}, "status: 'GONE' is not one of ['DONE', 'OPEN']"),
        ({"status": 1}, "status: 1 is not of type 'string'"),
        ({"amount": {}}, "amount: 'value' is a required property"),
        ({"amount": {"value": "1x"}}, "amount/value: '1x' does not match '^[0-9.]+$'"),
        ({"amount": {"value": "123456"}}, "amount/value: '123456' is too long"),
    ],
)
def test_each_kind_of_fault_is_found(refund: object, fault: str) -> None:
    assert fault in PUBLISHED.faults(refund, PUBLISHED.schema_of("refund"))


def test_null_is_taken_only_where_the_description_says_so() -> None:
    assert PUBLISHED.faults({"text": None}, PUBLISHED.schema_of("note")) == []
    assert PUBLISHED.faults({"status": None}, PUBLISHED.schema_of("refund")) != []


def test_schemas_of_requests_and_answers_are_found() -> None:
    assert PUBLISHED.request("/refunds", "POST") == {"type": "object"}
    assert PUBLISHED.answer("/refunds", "POST", 201) == PUBLISHED.schema_of("refund")
    assert PUBLISHED.answer("/refunds", "POST", 204) is None
    assert PUBLISHED.answer("/refunds", "POST", 500) is None
    assert PUBLISHED.values_of("status") == {"DONE", "OPEN"}
