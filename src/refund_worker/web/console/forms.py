"""Fields of forms, read strictly; what is wrong is said in words for the person who typed it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from refund_worker.errors import InvalidRequest

_WHOLE = re.compile(r"[+\-\u2212]?[0-9]{1,15}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{16,64}")


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
