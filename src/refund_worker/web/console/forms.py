"""Fields of forms, read strictly; what is wrong is said in words for the person who typed it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from refund_worker.engine.intake.schemas import Schema, Text
from refund_worker.errors import InvalidRequest, KeyReused, RefundWorkerError

_WHOLE = re.compile(r"[+\-\u2212]?[0-9]{1,15}")
# What fields are called on the pages, where the API has another name for them.
_LABELS = {"credits": "Amount", "created_gte": "Accepted since", "customer_id": "Customer"}
# Pydantic's own words, for programs, and ours for people.
_PROGRAM_TALK: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r"String should have at most ([0-9]+) characters"),
        lambda found: f"at most {int(found[1]):,} characters",
    ),
    (re.compile(r"String should match pattern .*"), lambda _: "not written as it should be"),
    (re.compile(r"Input should be greater than 0"), lambda _: "1 or more"),
    (re.compile(r"Input should be less than or equal to ([0-9]+)"), lambda found: f"at most {int(found[1]):,}"),
    (re.compile(r"Input should be .*"), lambda _: "choose one of those that are there"),
)
_FIRST_WORD = re.compile(r"[a-z]+(?= |:|$)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


class Why(Schema):
    """The reason of an act, as strictly read as the API's."""

    reason: Text


def whole(values: Mapping[str, str], name: str, label: str) -> int:
    """A whole number, perhaps with a sign. Raises `InvalidRequest`."""
    text = values.get(name, "").strip()
    if not _WHOLE.fullmatch(text):
        raise InvalidRequest(f"{label}: write a whole number, such as 25", field=name)
    return int(text.replace("\N{MINUS SIGN}", "-"))


def words(values: Mapping[str, str], name: str, label: str) -> str:
    """Text that must be there. Raises `InvalidRequest`."""
    text = values.get(name, "").strip()
    if not text:
        raise InvalidRequest(f"{label}: say why in a few words; it is kept with what you do", field=name)
    return text


def key_of(values: Mapping[str, str]) -> str:
    """The idempotency key that the form's own id stands for. Raises `InvalidRequest`."""
    request_id = values.get("request_id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest("the form has lost its id: open the page again")
    return f"console-{request_id}"


def said(error: RefundWorkerError) -> str:
    """What an error says, for a person: labels instead of names of fields, and whole sentences."""
    if isinstance(error, KeyReused):
        return "This form was sent before, with something else in it: see what came of that first."
    text = error.message
    if error.field and text.startswith(f"{error.field}: "):
        text = text.removeprefix(f"{error.field}: ")
        for pattern, words in _PROGRAM_TALK:
            text = pattern.sub(words, text)
        text = f"{_LABELS.get(error.field, error.field.replace('_', ' '))}: {text}"
    return sentence(text)


def sentence(text: str) -> str:
    """Begun with a capital, unless it begins with an id."""
    return text[:1].upper() + text[1:] if _FIRST_WORD.match(text) else text
