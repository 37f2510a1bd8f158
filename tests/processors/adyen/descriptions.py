"""Adyen's published descriptions, and the check of JSON values against their schemas.

They are no part of the project: where the folder `shared` is not beside it, the tests that need them are skipped.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

CHECKOUT = "adyen_CheckoutService-v72.json"
HOOKS = "adyen_Webhooks-v1.json"
REFUNDS = "/payments/{paymentPspReference}/refunds"


class Described:
    """One description. Its references point into itself."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def faults(self, value: object, schema: dict[str, Any]) -> list[str]:
        """Return what is wrong with a value, an empty list if it fits the schema."""
        whole = {**_as_json_schema(schema), "components": _as_json_schema(self.document["components"])}
        return [
            f"{list(fault.path)}: {fault.message}"
            for fault in jsonschema.Draft202012Validator(whole).iter_errors(value)
        ]

    def request(self) -> dict[str, Any]:
        """Return the schema of a request for a refund."""
        body: dict[str, Any] = self.document["paths"][REFUNDS]["post"]["requestBody"]
        return dict(body["content"]["application/json"]["schema"])

    def answer(self, status: int) -> dict[str, Any]:
        """Return the schema of an answer to it."""
        answers: dict[str, Any] = self.document["paths"][REFUNDS]["post"]["responses"]
        return dict(answers[str(status)]["content"]["application/json"]["schema"])

    def event(self, code: str) -> dict[str, Any]:
        """Return the schema of a request that brings an event."""
        body: dict[str, Any] = self.document["webhooks"][f"/{code}"]["post"]["requestBody"]
        return dict(body["content"]["application/json"]["schema"])

    def example(self, code: str) -> dict[str, Any]:
        """Return the published example of an event."""
        found: dict[str, Any] = self.document["components"]["examples"][f"post-{code}-{code.lower()}"]
        return dict(found["value"])

    def values_in_examples(self, field: str) -> set[str]:
        """Return every text of this field in the examples."""
        found: set[str] = set()
        waiting: list[Any] = [self.document["components"]["examples"]]
        while waiting:
            part = waiting.pop()
            if isinstance(part, dict):
                found |= {part[field]} if isinstance(part.get(field), str) else set()
                waiting += part.values()
            elif isinstance(part, list):
                waiting += part
        return found


def described(name: str) -> Described:
    """Return a description. Skips the test where it is absent."""
    for folder in Path(__file__).resolve().parents:
        path = folder / "shared" / "data" / "openapi" / name
        if path.is_file():
            return _read(path)
    pytest.skip(f"the published description {name} is not beside the project")


@functools.cache
def _read(path: Path) -> Described:
    return Described(json.loads(path.read_text("utf-8")))


def _as_json_schema(part: Any) -> Any:
    """Return a part of a description without `nullable`, which JSON Schema does not know."""
    if isinstance(part, list):
        return [_as_json_schema(each) for each in part]
    if not isinstance(part, dict):
        return part
    plain = {name: _as_json_schema(value) for name, value in part.items() if name != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if part.get("nullable") is True else plain
