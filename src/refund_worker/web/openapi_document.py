"""/openapi.json as a whole: what the framework generates, with names and words of our own.

Objects of answers are open: a later version may add a field, and a client that refuses it would break. Bodies of
requests are closed, because an unknown field is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from refund_worker.engine.intake.schemas import ID_SCHEMA
from refund_worker.request_signing import HEADER
from refund_worker.web.openapi import HEADERS, PROBLEM_SCHEMA, WRONG_FIELD_SCHEMA
from refund_worker.web.openapi_texts import OBJECTS, TAGS, describe, is_time, name_of

Json = dict[str, Any]

SIGNATURE = (
    "Required with keys created with --signed: t=SECONDS,sha256=BODY_HASH,v1=SIGNATURE. It is HMAC-SHA256 in "
    "hexadecimal, under the signing secret's text, of six lines joined by a line feed: the seconds since the epoch, "
    "the method, the path with its query as sent, Idempotency-Key, If-Match (each empty where it is not sent), and the "
    "SHA-256 of the body in hexadecimal."
)
_OF_FASTAPI = "#/components/schemas/HTTPValidationError"
_REF = "#/components/schemas/"


def finished(document: Json) -> Json:
    """Return the framework's description with our names, descriptions, headers and security. It is changed in place."""
    components = document.setdefault("components", {})
    schemas: Json = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)  # for the framework's own 422, which no route of ours answers
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _finish_operation(operation, *name_of(method.upper(), path))
            _name_body(schemas, operation)
    _rename_pages(document)
    schemas |= {"Problem": deepcopy(PROBLEM_SCHEMA), "WrongField": deepcopy(WRONG_FIELD_SCHEMA)}
    for name, schema in schemas.items():
        _finish_object(name, schema)
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = HEADERS
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key: Authorization: Bearer KEY."},
        "signature": {"type": "apiKey", "in": "header", "name": HEADER, "description": SIGNATURE},
    }
    document["security"] = [{"key": []}, {"key": [], "signature": []}]
    document["servers"] = [{"url": "/", "description": "This server."}]
    document["tags"] = [{"name": name, "description": text} for name, text in TAGS.items()]
    return document


def _finish_operation(operation: Json, operation_id: str, summary: str) -> None:
    operation |= {"operationId": operation_id, "summary": summary}
    responses = operation["responses"]
    for status in [status for status, answer in responses.items() if _OF_FASTAPI in str(answer)]:
        del responses[status]
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", ()):
        schema = parameter["schema"]
        schema.pop("title", None)
        _drop_null(schema)
        if "description" not in parameter:
            text = describe("Query" if parameter["in"] == "query" else "", parameter["name"])
            if text:
                parameter["description"] = text


def _name_body(schemas: Json, operation: Json) -> None:
    """Move the schema of a request's body, and those within it that have a name, to the named schemas."""
    for content in operation.get("requestBody", {}).get("content", {}).values():
        body = deepcopy(content["schema"])
        for items in [value["items"] for value in body.get("properties", {}).values() if "items" in value]:
            if "properties" in items:
                _move(schemas, items)
        _move(schemas, body)
        content["schema"] = body


def _move(schemas: Json, schema: Json) -> None:
    name = schema["title"]
    moved = dict(schema)
    for value in moved["properties"].values():
        if value.get("default", "") in (None, {}):
            del value["default"]  # generators of clients stumble over them, and they say no more than "not required"
    schemas[name] = moved
    schema.clear()
    schema["$ref"] = _REF + name


def _drop_null(schema: Json) -> None:
    """Make a parameter that may be left out one of its type: no query can carry a null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema |= kinds[0]
    elif kinds:
        schema["anyOf"] = kinds


def _rename_pages(document: Json) -> None:
    """Give `Page[Refund]`, which the framework calls `Page_Refund_`, the name RefundPage."""
    schemas = document["components"]["schemas"]
    names = {name: f"{name.split('_')[1]}Page" for name in schemas if name.startswith("Page_")}
    for name, new in names.items():
        schemas[new] = schemas.pop(name) | {"title": new}
    for part in _parts(document):
        old = str(part.get("$ref", "")).removeprefix(_REF)
        if old in names:
            part["$ref"] = _REF + names[old]


def _parts(value: Any) -> Iterator[Json]:
    """Yield every object in the document."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _parts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _parts(inner)


def _finish_object(name: str, schema: Json) -> None:
    schema.setdefault("description", OBJECTS.get(name, ""))
    for field, value in schema.get("properties", {}).items():
        value.pop("title", None)
        if is_time(field):
            _mark_time(value)
        text = describe(name, field)
        if text is None or (name.endswith("Event") and "description" in value):
            continue
        if value.get("pattern") == ID_SCHEMA["pattern"]:
            text = f"{text.rstrip('.')}: {value['description']}"
        if "$ref" in value:
            value |= {"allOf": [{"$ref": value.pop("$ref")}]}
        value["description"] = text


def _mark_time(value: Json) -> None:
    for kind in (value, *value.get("anyOf", ())):
        if kind.get("type") == "string":
            kind["format"] = "date-time"
