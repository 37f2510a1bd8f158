"""Check JSON values against the schemas of a published OpenAPI description, version 3.0 or 3.1.

The descriptions are no part of the project: they lie in a folder `shared` beside it, where it was developed. Tests
that need one are skipped elsewhere.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.support.pages import ROOT

DESCRIPTIONS = Path("shared") / "data" / "openapi"


def described(name: str) -> Description:
    """Return the description in the file of this name. Skip the test where the file is absent."""
    for folder in ROOT.parents:
        if (folder / DESCRIPTIONS / name).is_file():
            return _read(folder / DESCRIPTIONS / name)
    pytest.skip(f"the published description {name} is not here: see tests/support/openapi_check.py")


@functools.cache
def _read(path: Path) -> Description:
    return Description(json.loads(path.read_text("utf-8")))


class Description:
    """A description, and checks of values against parts of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def faults(self, value: object, schema: dict[str, Any]) -> list[str]:
        """Return what is wrong with a value, an empty list if it fits; `schema` may refer to other parts."""
        whole = {"components": self.document.get("components", {}), "allOf": [_plain(schema)]}
        # OpenAPI 3.1 takes its schemas from the draft of 2020-12, 3.0 from draft 4 with changes.
        is_new = str(self.document.get("openapi", "")).startswith("3.1")
        validator = jsonschema.Draft202012Validator if is_new else jsonschema.Draft4Validator
        found = validator(_plain(whole)).iter_errors(value)
        return sorted(f"{'/'.join(map(str, fault.absolute_path))}: {fault.message}"[:300] for fault in found)

    def schema_of(self, name: str) -> dict[str, Any]:
        """Return a reference to the schema of this name."""
        assert name in self.document["components"]["schemas"], name
        return {"$ref": f"#/components/schemas/{name}"}

    def request(self, path: str, method: str, *, within: str = "paths") -> dict[str, Any]:
        """Return the schema of the JSON body of a request. `path` is as the description writes it.

        The events that a processor sends are `within` the part "webhooks".
        """
        body = self._resolved(self.document[within][path][method.lower()]["requestBody"])
        return dict(body["content"]["application/json"]["schema"])

    def answer(self, path: str, method: str, status: int) -> dict[str, Any] | None:
        """Return the schema of the JSON body of an answer, None if the description has none for the status."""
        answers = self.document["paths"][path][method.lower()]["responses"]
        answer = answers.get(str(status))
        content = self._resolved(answer).get("content") if answer else None
        return dict(content["application/json"]["schema"]) if content else None

    def values_of(self, field: str) -> set[str]:
        """Return every value that an enumeration of this field has, anywhere in the description."""
        found: set[str] = set()

        def walk(part: object) -> None:
            if isinstance(part, dict):
                named = part.get("properties", {}).get(field) if isinstance(part.get("properties"), dict) else None
                if isinstance(named, dict):
                    found.update(value for value in named.get("enum", []) if isinstance(value, str))
                for inner in part.values():
                    walk(inner)
            elif isinstance(part, list):
                for inner in part:
                    walk(inner)

        walk(self.document)
        return found

    def _resolved(self, part: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in part:
            return part
        found: Any = self.document
        for name in part["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        return dict(found)


def _plain(schema: Any) -> Any:
    """Return an OpenAPI 3.0 schema as JSON Schema: a value that is `nullable` may be null."""
    if isinstance(schema, list):
        return [_plain(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _plain(part) for name, part in schema.items()}
    if plain.get("nullable") is True:
        rest = {name: part for name, part in plain.items() if name != "nullable"}
        return {"anyOf": [rest, {"type": "null"}]}
    return plain
