"""Braintree's XML: documents are written for requests, and read from answers and events within limits. Pure.

Its elements are named with hyphens or underscores, lists carry `type="array"`, and an empty value `nil="true"`
(braintree_python 4.45.0, util/parser.py and util/generator.py, read 2026-11).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from typing import Final

from refund_worker.processors.xml_reading import Element, read_xml

XML_BYTES_MAX: Final = 4 * 2**20  # a page of 50 transactions with all their fields is far below
Value = str | bool | tuple[str, ...] | Mapping[str, "Value"]


def parse_xml(body: bytes) -> Element:
    """Return the root of a document, as `read_xml` does. Raises `Unreadable`."""
    return read_xml(body, XML_BYTES_MAX)


def name_of(element: Element) -> str:
    """Return an element's name with underscores, as the documentation writes it."""
    return element.tag.replace("-", "_") if isinstance(element.tag, str) else ""


def child(element: Element, name: str) -> Element | None:
    """Return the first child of this name (written with underscores), or None."""
    return next((each for each in element if name_of(each) == name), None)


def children(element: Element, name: str) -> Iterator[Element]:
    """Yield the children of this name."""
    return (each for each in element if name_of(each) == name)


def text_of(element: Element, name: str) -> str | None:
    """Return the text of the child `name`, or None if it is missing, empty or nil."""
    found = child(element, name)
    if found is None or found.get("nil") == "true" or found.text is None:
        return None
    return found.text.strip() or None


def texts_of(element: Element, name: str) -> tuple[str, ...] | None:
    """Return the items of the list `name`, or None if there is no such list."""
    found = child(element, name)
    if found is None:
        return None
    return tuple((item.text or "").strip() for item in found)


def to_xml(root: str, fields: Mapping[str, Value]) -> bytes:
    """Return the document of a request in UTF-8. Raises ValueError for a text with characters that XML cannot hold."""
    element = Element(root)
    _fill(element, fields)
    document: bytes = ET.tostring(element, encoding="utf-8", xml_declaration=True)
    return document


def _fill(element: Element, fields: Mapping[str, Value]) -> None:
    for name, value in fields.items():
        inner = ET.SubElement(element, name)
        match value:
            case bool():
                inner.set("type", "boolean")
                inner.text = str(value).lower()
            case str():
                inner.text = _printable(value)
            case tuple():
                inner.set("type", "array")
                for item in value:
                    ET.SubElement(inner, "item").text = _printable(item)
            case _:
                _fill(inner, value)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a text for Braintree has only printable characters")
    return text
