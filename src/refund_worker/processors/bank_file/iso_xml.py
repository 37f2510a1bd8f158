"""Elements of an ISO 20022 document by their names, whatever the version of the message."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from refund_worker.processors.bank_file.answer_rows import BadAnswer
from refund_worker.processors.wire import Unreadable, to_minor_units
from refund_worker.processors.xml_reading import Element, read_xml

XML_BYTES_MAX: Final = 16 * 2**20
_ROOT = re.compile(r"\{urn:iso:std:iso:20022:tech:xsd:([a-z]{4}\.[0-9]{3})\.[0-9]{3}\.[0-9]{2}\}Document")
_CURRENCY = re.compile(r"[A-Z]{3}")


def read_message(body: bytes) -> tuple[str, Element]:
    """Return the kind of a message, such as `pain.002`, and its one element. Raises `BadAnswer`."""
    try:
        root = read_xml(body, XML_BYTES_MAX)
    except Unreadable as error:
        raise BadAnswer(str(error)) from None
    match = _ROOT.fullmatch(root.tag)
    if match is None or len(root) != 1:
        raise BadAnswer("the element Document: no message of ISO 20022")
    return match[1], root[0]


def name_of(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the children of this name."""
    return (each for each in element if name_of(each) == name)


def at(element: Element | None, path: str) -> Element | None:
    """Return the first element at a path of names such as `Refs/EndToEndId`, or None."""
    for name in path.split("/"):
        if element is None:
            return None
        element = next(children(element, name), None)
    return element


def text_at(element: Element | None, path: str) -> str | None:
    """Return the text at a path, or None."""
    found = at(element, path)
    return None if found is None or found.text is None else found.text.strip() or None


def needed_text(element: Element, path: str) -> str:
    """Return the text at a path. Raises `BadAnswer` without one."""
    found = text_at(element, path)
    if found is None:
        raise BadAnswer(f"the element {name_of(element)} has no {path}")
    return found


def amount_of(element: Element | None, place: str) -> tuple[int, str] | None:
    """Return an amount in minor units and its currency, or None without an element. Raises `BadAnswer`."""
    if element is None:
        return None
    currency = element.get("Ccy", "")
    if not _CURRENCY.fullmatch(currency):
        raise BadAnswer(f"the element {place}/{name_of(element)} has no currency")
    try:
        return to_minor_units((element.text or "").strip(), currency), currency
    except Unreadable as error:
        raise BadAnswer(f"the element {place}/{name_of(element)}: {error}") from None
