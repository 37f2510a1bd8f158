"""Bodies read with a limit and parsed strictly, after the caller was let in and never before."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from fastapi import Request

from refund_worker.engine.bodies import SomeBody, parse_body
from refund_worker.errors import InvalidRequest
from refund_worker.web.problems import BodyTooLarge, NotJson
from refund_worker.web.signatures import check_body

BODY_BYTES_MAX = 1 << 20
DEPTH_MAX = 20
# The longest valid row in its most wasteful spelling is below; nearly all fit into the first bite.
ROW_CHARS, ROW_CHARS_MAX = 4 << 10, 128 << 10
_DIGITS_MAX = 30
_SPACE = re.compile(r"[ \t\n\r]*")


def json_body(model: type[SomeBody], *, may_be_empty: bool = False) -> Callable[[Request], Awaitable[SomeBody]]:
    """A dependency that gives the body as `model`. Raises `NotJson`, `BodyTooLarge`, `InvalidRequest`."""

    async def read(request: Request) -> SomeBody:
        raw = await read_limited(request, BODY_BYTES_MAX)
        if may_be_empty and not raw:
            return parse_body(model, {})
        check_is_json(request)
        return parse_body(model, parse_object(decoded(raw)))

    return read


def check_is_json(request: Request) -> None:
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.partition("charset=")[2].strip(' "').lower()
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise NotJson("send the body as application/json in UTF-8")


async def read_limited(request: Request, bytes_max: int) -> bytes:
    """The raw body, which every route gets from here alone.

    Raises `BodyTooLarge` as soon as that is known; what is said of the length counts first. Raises `SignatureInvalid`
    where another body was signed.
    """
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and int(said[:20]) > bytes_max:
        raise _too_large(bytes_max)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    body = b"".join(chunks)
    check_body(request, body)
    return body


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body may have at most {bytes_max} bytes")


def decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None


def parse_object(text: str) -> dict[str, Any]:
    """A JSON object with nothing twice, nothing that is not JSON, no endless nesting. Raises `InvalidRequest`."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _not_json(error) from None
    return _checked(value, text)


def rows_of(text: str, name: str) -> Iterator[dict[str, Any] | InvalidRequest]:
    """The rows of `{"name": [{…}, …]}`, one in memory at a time. A row that is wrong is given as what is wrong.

    Raises `InvalidRequest` where the text itself is broken: what came before is then already given.
    """
    begin = re.match(rf'\s*{{\s*"{name}"\s*:\s*\[\s*', text, re.ASCII)
    if begin is None:
        raise InvalidRequest(f'the body must be {{"{name}": [{{…}}, …]}} and nothing else', field=name)
    place, count = begin.end(), 0
    if not text.startswith("]", place):
        while True:
            value, place = _next_value(text, place, f"{name}.{count}")
            yield value
            count += 1
            place = _after_space(text, place)
            if not text.startswith(",", place):
                break
            place = _after_space(text, place + 1)
    if re.compile(r"\]\s*\}\s*\Z", re.ASCII).match(text, place) is None:
        raise InvalidRequest(f'after {count} rows: the body must end with "]}}", with nothing else in it', field=name)


def _next_value(text: str, place: int, name: str) -> tuple[dict[str, Any] | InvalidRequest, int]:
    """The row that begins here, or what is wrong with it, and where it ends."""
    for bite in (ROW_CHARS, ROW_CHARS_MAX):
        piece = text[place : place + bite]
        try:
            _, length = _SCANNER.raw_decode(piece)
        except (ValueError, RecursionError) as error:
            if place + bite < len(text) and bite < ROW_CHARS_MAX:
                continue
            raise InvalidRequest(f"{name}: {_not_json(error).message}", field=name) from None
        if length == len(piece) and place + length < len(text):
            continue  # a number may go on
        try:
            return parse_object(piece[:length]), place + length
        except InvalidRequest as wrong:
            return wrong, place + length
    raise InvalidRequest(f"{name}: a row may have at most {ROW_CHARS_MAX} characters", field=name)


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _checked(value: Any, text: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be a JSON object")
    if not _is_shallow(value):
        raise InvalidRequest(f"nested deeper than {DEPTH_MAX} levels")
    if "\\u" in text and not _is_unicode(value):
        raise InvalidRequest("half a character (a lone surrogate) is in a text")
    return value


def _is_shallow(value: Any) -> bool:
    """Whether the nesting stays within the limit; without recursion, which has a limit of its own."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        inner = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return True
    return False


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _not_json(error: Exception) -> InvalidRequest:
    if isinstance(error, json.JSONDecodeError):
        return InvalidRequest(f"not JSON: {error.msg} at character {error.pos}")
    if isinstance(error, RecursionError):
        return InvalidRequest(f"nested deeper than {DEPTH_MAX} levels")
    return InvalidRequest(f"not JSON: {error}")


def _no_name_twice(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {json.dumps(name[:60])} is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _integer(digits: str) -> int:
    # Out of every range: not even converted, which takes long for very many digits.
    if len(digits) > _DIGITS_MAX:
        raise ValueError("a number has more digits than any amount")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_no_name_twice, parse_constant=_no_constant, parse_int=_integer)
# Finds where a row ends, whatever is in it.
_SCANNER = json.JSONDecoder(parse_int=str)
