"""Read Stripe's form encoding: `name=value` pairs, one level of `name[key]=value`, strict UTF-8."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import parse_qsl

from refund_worker.processors.sandbox.answers import StripeError

Params = dict[str, "str | dict[str, str]"]

# Far more than a refund needs (metadata has at most 50 keys). Limits the work that a hostile body can cause.
FIELDS_MAX = 500
NAME = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?\Z")
INTEGER = re.compile(r"[+-]?[0-9]{1,18}\Z", re.ASCII)


def parse_form(raw: bytes) -> Params:
    """Return the parameters in `raw`. Raise `StripeError` (400, not executed) if `raw` is not such a form."""
    params: Params = {}
    for name, value in _pairs(raw):
        parts = NAME.match(name)
        if parts is None:
            raise StripeError(400, "A parameter name could not be understood.", "parameter_unknown")
        outer, inner = parts.groups()
        if inner is None:
            if isinstance(params.get(outer), dict):
                raise StripeError(400, f"{outer} is given both as a value and as a hash.", param=outer)
            params[outer] = value
            continue
        group = params.setdefault(outer, {})
        if not isinstance(group, dict):
            raise StripeError(400, f"{outer} is given both as a value and as a hash.", param=outer)
        group[inner] = value
    return params


def _pairs(raw: bytes) -> list[tuple[str, str]]:
    if not raw:
        return []
    try:
        text = raw.decode("utf-8")
        return parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError as wrong:  # UnicodeDecodeError is a ValueError too
        raise StripeError(400, "The request body or query is not a UTF-8 form.") from wrong


def refuse_unknown(params: Params, known: Collection[str]) -> None:
    """Raise `StripeError` (400 parameter_unknown) for the first parameter that is not in `known`."""
    for name in params:
        if name not in known:
            raise StripeError(400, f"Received unknown parameter: {name}", "parameter_unknown", name)


def text_of(params: Params, name: str) -> str | None:
    """Return the parameter as text, or None if it was not sent. Raise `StripeError` (400) if it is empty or a hash."""
    value = params.get(name)
    if value is None:
        return None
    if isinstance(value, dict):
        raise StripeError(400, f"Invalid string: {name} is a hash", param=name)
    if value == "":
        raise StripeError(400, f"{name} was sent empty.", "parameter_invalid_empty", name)
    return value


def integer_of(value: str, name: str, least: int = 0) -> int:
    """Return `value` as an integer. Raise `StripeError` (400 parameter_invalid_integer) if it is below `least`."""
    if not INTEGER.match(value):
        raise StripeError(400, f"Invalid integer: {value[:40]}", "parameter_invalid_integer", name)
    number = int(value)
    if number < least:
        raise StripeError(400, f"{name} must be at least {least}.", "parameter_invalid_integer", name)
    return number


def boolean_of(params: Params, name: str) -> bool:
    """Return the parameter, False if it was not sent. Raise `StripeError` (400) unless it is true or false."""
    value = text_of(params, name)
    if value not in (None, "true", "false"):
        raise StripeError(400, f"Invalid boolean: {value[:40]}", param=name)
    return value == "true"


def metadata_of(params: Params) -> dict[str, str] | None:
    """Return the metadata hash: {} for an explicit empty value, or None if it was not sent.

    Raises `StripeError` (400) beyond Stripe's limits: 50 keys, 40 characters a key, 500 characters a value.
    """
    value = params.get("metadata")
    if value is None:
        return None
    if isinstance(value, str):
        if value:
            raise StripeError(400, "Invalid hash: metadata", param="metadata")
        return {}
    if len(value) > 50:
        raise StripeError(400, "Metadata can have at most 50 keys.", param="metadata")
    for key, text in value.items():
        if not 1 <= len(key) <= 40:
            raise StripeError(400, "A metadata key has 1 to 40 characters.", param="metadata")
        if len(text) > 500:
            raise StripeError(400, "A metadata value has at most 500 characters.", param=f"metadata[{key}]")
    return value
