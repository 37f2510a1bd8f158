"""XML that others wrote is read within limits: no declared types or entities, bounded size and depth. Pure."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Final

from refund_worker.processors.wire import Unreadable

DEPTH_MAX: Final = 60
# They alone can make a small document large, or read other files.
_DECLARATION = re.compile(r"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
_ENCODING = re.compile(r"""<\?xml[^>]{0,200}?\sencoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")

Element = ET.Element


def read_xml(body: bytes, bytes_max: int) -> Element:
    """Return the root of a document. Raises `Unreadable` unless it is a well-formed one in UTF-8, without declarations
    of types or entities, of at most `bytes_max` bytes, and of limited depth.
    """
    if len(body) > bytes_max:
        raise Unreadable(f"an XML document of more than {bytes_max} bytes")
    try:
        text = body.decode("utf-8-sig")
    except ValueError:
        raise Unreadable("an XML document that is not UTF-8") from None
    # In UTF-16 the same declarations would be other bytes.
    declared = _ENCODING.match(text)
    if "\0" in text or (declared and declared[1].upper().replace("_", "-") not in ("UTF-8", "US-ASCII")):
        raise Unreadable("an XML document in another encoding than UTF-8")
    if _DECLARATION.search(text):
        raise Unreadable("an XML document that declares a type or an entity")
    try:
        root = ET.fromstring(text)  # noqa: S314 -- it declares no types and no entities, and its size is limited
    except ET.ParseError:
        raise Unreadable("no well-formed XML") from None
    level = [root]
    for _ in range(DEPTH_MAX):
        level = [inner for element in level for inner in element]
    if level:
        raise Unreadable("an XML document that is nested too deeply")
    return root
