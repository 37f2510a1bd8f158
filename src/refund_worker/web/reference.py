"""The reference for people, made from /openapi.json: plain pages, without scripts or anything from other hosts."""

from __future__ import annotations

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from refund_worker.errors import EXPLAINED_AT
from refund_worker.web.csv_answers import CSV
from refund_worker.web.error_codes import COMMAND_TEXTS, ERROR_TEXTS
from refund_worker.web.template_files import read_templates

router = APIRouter()

REFERENCE = "/docs"
Json = dict[str, Any]

_FOLDER = Path(__file__).parent / "templates"
_TEMPLATES = read_templates(_FOLDER)
_STYLE = (_FOLDER / "reference.css").read_text("utf-8")
# The one style of the page, and nothing else.
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
}


@router.get(REFERENCE, include_in_schema=False)
def reference(request: Request) -> HTMLResponse:
    """Return the page of all calls and objects."""
    return HTMLResponse(_reference_page(json.dumps(request.app.openapi())), headers=HEADERS)


@router.get(EXPLAINED_AT, include_in_schema=False)
def errors() -> HTMLResponse:
    """Return the page that explains every error code."""
    return HTMLResponse(_errors_page(), headers=HEADERS)


def prose(text: str) -> Markup:
    """Return a text with its `code` marked, and all else escaped."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped first


@cache
def _templates() -> Environment:
    made = Environment(
        loader=DictLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["prose"] = prose
    made.globals |= {"style": _STYLE, "version": version("refund-worker")}
    return made


@cache
def _errors_page() -> str:
    return _templates().get_template("errors.html").render(errors={**ERROR_TEXTS, **COMMAND_TEXTS})


@cache
def _reference_page(text: str) -> str:
    document: Json = json.loads(text)
    components = document["components"]
    groups = [
        {**tag, "calls": [call for call in _calls(document) if tag["name"] in call["tags"]]} for tag in document["tags"]
    ]
    headers = [
        _field(name, header["schema"], False, header["description"]) for name, header in components["headers"].items()
    ]
    objects = [
        {"name": name, "description": schema["description"], "type": _type(schema), "fields": list(_fields(schema))}
        for name, schema in components["schemas"].items()
    ]
    template = _templates().get_template("reference.html")
    about = document["info"]["description"]
    return template.render(about=about, groups=groups, headers=headers, objects=objects)


def _calls(document: Json) -> Iterator[Json]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            yield {
                "id": operation["operationId"],
                "method": method.upper(),
                "path": path,
                "tags": operation["tags"],
                "summary": operation["summary"],
                "description": operation["description"],
                "open": operation.get("security") == [],
                "parameters": [_parameter(each) for each in operation.get("parameters", ())],
                "body": _type(content["schema"]) if content else None,
                "example": json.dumps(content["example"], indent=2) if "example" in content else None,
                "answers": [_answer(status, answer) for status, answer in operation["responses"].items()],
            }


def _parameter(parameter: Json) -> Json:
    required = parameter.get("required", False)
    described = _field(parameter["name"], parameter["schema"], required, parameter.get("description", ""))
    return described | {"place": parameter["in"]}


def _field(name: str, schema: Json, required: bool, description: str) -> Json:
    return {"name": name, "place": "", "required": required, "type": _type(schema), "description": description}


def _answer(status: str, answer: Json) -> Json:
    forms = sorted(answer["content"].items(), key=lambda form: form[0] == CSV)
    kinds = [_words(CSV) if media_type == CSV else _type(content["schema"]) for media_type, content in forms]
    return {
        "status": status,
        "phrase": HTTPStatus(int(status)).phrase,
        "body": _either(kinds),
        "headers": list(answer["headers"]),
    }


def _fields(schema: Json) -> Iterator[Json]:
    for name, value in schema.get("properties", {}).items():
        yield _field(name, value, name in schema.get("required", ()), value.get("description", ""))


def _type(schema: Json) -> list[Json]:
    """Return the type of a value in words, in parts: some of them link to an object."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return [{"text": name, "link": name}]
    for word in ("anyOf", "allOf"):
        if word in schema:
            return _either([_type(kind) for kind in schema[word]])
    if "enum" in schema or "const" in schema:
        return _words(" | ".join(str(value) for value in schema.get("enum", [schema.get("const")])))
    if schema.get("type") == "array":
        return [*_words("list of "), *_type(schema["items"])]
    kind = str(schema.get("format") or schema.get("type", "any"))
    return _words(kind + _bounds(schema))


def _either(kinds: list[list[Json]]) -> list[Json]:
    return [part for number, kind in enumerate(kinds) for part in (*_words(" or ", number > 0), *kind)]


def _words(text: str, wanted: bool = True) -> list[Json]:
    return [{"text": text, "link": None}] if wanted else []


def _bounds(schema: Json) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    length = schema.get("maxLength")
    return f" of at most {length} characters" if length else ""
