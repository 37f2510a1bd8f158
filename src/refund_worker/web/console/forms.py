"""Strict reading of form fields, with error messages written for the person at the form."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from refund_worker.domain.money import decimal_places
from refund_worker.engine.intake.schemas import Reason, Schema
from refund_worker.engine.views.money_format import money
from refund_worker.engine.views.search import amount_of
from refund_worker.errors import InvalidRequest, KeyReused, RefundWorkerError

# Thousands may be separated as the pages show them, or by the spaces that other programs use.
_WHOLE = re.compile(
    r"[+\-\u2212]?(?:[0-9]{1,15}|[0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,3}(?:[ \u00a0\u202f][0-9]{3}){1,4})"
)
_SEPARATORS = re.compile(r"[, \u00a0\u202f]")
# Labels of fields on the pages, where they differ from the API's names.
_LABELS = {
    "credits": "Amount",
    "created_gte": "Accepted since",
    "created_lte": "Accepted until",
    "customer_id": "Customer",
}
# Pydantic's messages, which are written for programs, and their replacements for people.
_PROGRAM_TALK: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (
        re.compile(r"String should have at most ([0-9]+) characters"),
        lambda found: f"at most {int(found[1]):,} characters",
    ),
    (re.compile(r"Input should be greater than 0"), lambda _: "1 or more"),
    (re.compile(r"Input should be less than or equal to ([0-9]+)"), lambda found: f"at most {int(found[1]):,}"),
    (re.compile(r"Input should be .*"), lambda _: "choose one of the options shown"),
)
_FIRST_WORD = re.compile(r"[a-z]+(?= |:|$)")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


class Why(Schema):
    """The reason of an action, validated like the API's."""

    reason: Reason


def whole(values: Mapping[str, str], name: str, label: str) -> int:
    """Return the field as a whole number, with an optional sign and separated thousands. Raises `InvalidRequest`."""
    text = values.get(name, "").strip()
    if not _WHOLE.fullmatch(text):
        raise InvalidRequest(f"{label}: enter a whole number, such as 25", field=name)
    return int(_SEPARATORS.sub("", text).replace("\N{MINUS SIGN}", "-"))


def minor_units(values: Mapping[str, str], name: str, label: str, currency: str) -> int:
    """Return the field, an amount such as 12.50 or 12.50 EUR, in minor units of `currency`. Raises `InvalidRequest`."""
    wanted = InvalidRequest(f"{label}: enter an amount such as {money(1250, currency)}", field=name)
    try:
        number, named = amount_of(values.get(name, ""))
    except InvalidRequest:
        raise wanted from None
    minor = number.scaleb(decimal_places(currency))
    if named not in (None, currency) or minor != int(minor) or minor < 1:
        raise wanted
    return int(minor)


def required_text(values: Mapping[str, str], name: str, label: str) -> str:
    """Return the required text of the field. Raises `InvalidRequest` if it is empty."""
    text = values.get(name, "").strip()
    if not text:
        raise InvalidRequest(f"{label}: say why in a few words; it is stored with your action", field=name)
    return text


def key_of(values: Mapping[str, str]) -> str:
    """Return the idempotency key made from the form's id. Raises `InvalidRequest` without a valid id."""
    request_id = values.get("request_id", "")
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidRequest("the form has no valid id: open the page again")
    return f"console-{request_id}"


def error_message(error: RefundWorkerError) -> str:
    """Return an error's message for a person: with labels instead of field names, as a sentence."""
    if isinstance(error, KeyReused):
        return "This form was already sent with other values: check the result of that request first."
    text = error.message
    if error.field and text.startswith(f"{error.field}: "):
        text = text.removeprefix(f"{error.field}: ")
        for pattern, replacement in _PROGRAM_TALK:
            text = pattern.sub(replacement, text)
        text = f"{_LABELS.get(error.field, error.field.replace('_', ' '))}: {text}"
    return sentence(text)


def sentence(text: str) -> str:
    """Return `text` with a capital first letter, unless it begins with an id."""
    return text[:1].upper() + text[1:] if _FIRST_WORD.match(text) else text
