"""Request bodies: read with a limit and parsed strictly, always after the caller was authenticated."""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from refund_worker import strict_json
from refund_worker.engine.intake.schemas import SomeBody, parse_schema
from refund_worker.errors import InvalidRequest
from refund_worker.strict_json import DEPTH_MAX, MalformedJson, TooDeep, is_shallow
from refund_worker.web.problems import BodyTooLarge, Crowded, Encoded, NotJson
from refund_worker.web.request_signatures import check_body

BODY_BYTES_MAX = 1 << 20
# This much of each body needs no reservation: connections are limited, and nearly every body is smaller.
FREE_BYTES = 64 << 10
# Memory for all larger bodies of a process together: ordinary ones, and batches (two of the largest).
BODIES_BYTES_MAX, BATCHES_BYTES_MAX = 32 << 20, 128 << 20
# A parsed body can be forty times as large.
PARSED_AT_ONCE = 2
# Larger than the longest valid row in its most wasteful spelling; nearly all rows fit into the first size.
ROW_BYTES, ROW_BYTES_MAX = 4 << 10, 128 << 10
_SPACE = re.compile(rb"[ \t\n\r]*")


def json_body(model: type[SomeBody], *, may_be_empty: bool = False) -> Callable[[Request], Awaitable[SomeBody]]:
    """Return a dependency that gives the body as `model` and raises `NotJson`, `BodyTooLarge` or `InvalidRequest`."""

    async def read(request: Request) -> SomeBody:
        async with limited_body(request, BODY_BYTES_MAX) as raw:
            if may_be_empty and not raw:
                return parse_schema(model, {})
            check_is_json(request)
            if len(raw) <= FREE_BYTES:
                return _parsed(model, raw)
            # A megabyte of brackets takes half a second, which would block all other requests.
            async with body_memory_of(request).parsing:
                return await run_in_threadpool(_parsed, model, raw)

    return read


def _parsed(model: type[SomeBody], raw: bytearray) -> SomeBody:
    return parse_schema(model, parse_object(decoded(raw)))


def check_is_json(request: Request) -> None:
    """Check that the body is declared as JSON in UTF-8. Raises `NotJson`."""
    media_type, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.partition("charset=")[2].strip(' "').lower()
    if media_type.strip().lower() != "application/json" or charset not in ("", "utf-8", "utf8"):
        raise NotJson("send the body as application/json in UTF-8")


class ByteBudget:
    """Number of bytes of bodies that may be in memory at a time; used on one event loop."""

    def __init__(self, bytes_max: int) -> None:
        self._free = bytes_max

    def check(self, size: int) -> None:
        """Check that `size` bytes are free now. Raises `Crowded` otherwise."""
        if size > self._free:
            raise Crowded("too many large bodies are being processed: send this one again in a moment")

    def take(self, size: int) -> None:
        """Reserve `size` bytes. Raises `Crowded` if they are not free."""
        self.check(size)
        self._free -= size

    def give_back(self, size: int) -> None:
        """Release `size` bytes."""
        self._free += size


class BodyMemory:
    """Memory for large bodies in one process, and the number of bodies parsed at a time."""

    def __init__(self) -> None:
        self.bodies, self.batches = ByteBudget(BODIES_BYTES_MAX), ByteBudget(BATCHES_BYTES_MAX)
        self.parsing = asyncio.Semaphore(PARSED_AT_ONCE)


def body_memory_of(request: Request) -> BodyMemory:
    """Return the body memory of this process."""
    body_memory: BodyMemory = request.app.state.body_memory
    return body_memory


@asynccontextmanager
async def limited_body(request: Request, bytes_max: int) -> AsyncIterator[bytearray]:
    """Give the raw body and release its memory at the end; every route reads its body through this function.

    Raises `BodyTooLarge` as soon as that is known, by the header Content-Length first. Raises `Crowded` if there is no
    memory for it, `Encoded` if it is compressed, and `SignatureInvalid` if another body was signed.
    """
    _refuse_encoded(request)
    memory = body_memory_of(request)
    budget = memory.bodies if bytes_max <= BODY_BYTES_MAX else memory.batches
    declared = request.headers.get("content-length", "")
    length = int(declared[:20]) if declared.isascii() and declared.isdigit() else 0
    if length > bytes_max:
        raise _too_large(bytes_max)
    budget.check(max(0, length - FREE_BYTES))
    body, its_hash, taken = bytearray(), hashlib.sha256(), 0
    try:
        async for chunk in request.stream():
            size = len(body) + len(chunk)
            if size > bytes_max:
                raise _too_large(bytes_max)
            more = max(0, size - FREE_BYTES) - taken
            budget.take(more)
            taken += more
            body += chunk
            its_hash.update(chunk)
        check_body(request, its_hash.hexdigest())
        yield body
    finally:
        budget.give_back(taken)


def _refuse_encoded(request: Request) -> None:
    """Refuse a compressed body. Raises `Encoded`: one of a few bytes can unfold to gigabytes."""
    codings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if {coding.strip() for coding in codings} - {"", "identity"}:
        raise Encoded("send the body as it is, without a Content-Encoding such as gzip")


def _too_large(bytes_max: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body may have at most {bytes_max} bytes")


def decoded(raw: bytes | bytearray) -> str:
    """Return the body as text, without a byte order mark (RFC 8259 lets a reader ignore it). Raises `InvalidRequest`
    if it is not UTF-8.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None


def parse_object(text: str) -> dict[str, Any]:
    """Parse JSON strictly: an object, no repeated names, no extensions, limited nesting. Raises `InvalidRequest`."""
    try:
        value = strict_json.decode(text)
    except MalformedJson as error:
        raise _not_json(error) from None
    return _checked(value, text)


def rows_of(raw: bytes | bytearray, name: str) -> Iterator[dict[str, Any] | InvalidRequest]:
    """Yield the rows of `{"name": [{…}, …]}` in UTF-8 one by one: all as text could be four times as large.

    A wrong row is yielded as its error. Raises `InvalidRequest` if the bytes themselves are broken; the rows before
    them have been yielded by then.
    """
    begin = re.match(rb'(?:\xef\xbb\xbf)?\s*{\s*"%s"\s*:\s*\[\s*' % name.encode("ascii"), raw)
    if begin is None:
        raise InvalidRequest(f'the body must be {{"{name}": [{{…}}, …]}} and nothing else', field=name)
    place, count = begin.end(), 0
    if not raw.startswith(b"]", place):
        while True:
            value, place = _next_value(raw, place, f"{name}.{count}")
            yield value
            count += 1
            place = _after_space(raw, place)
            if not raw.startswith(b",", place):
                break
            place = _after_space(raw, place + 1)
    if re.compile(rb"\]\s*\}\s*\Z").match(raw, place) is None:
        raise InvalidRequest(f'after {count} rows: the body must end with "]}}", with nothing else in it', field=name)


def _next_value(raw: bytes | bytearray, place: int, name: str) -> tuple[dict[str, Any] | InvalidRequest, int]:
    """Return (the row that begins at `place`, or its error; the position after it)."""
    for bite in (ROW_BYTES, ROW_BYTES_MAX):
        is_last = place + bite >= len(raw)
        try:
            # The end of the piece may cut a character of several bytes in two.
            piece, _ = codecs.utf_8_decode(bytes(raw[place : place + bite]), "strict", is_last)
        except UnicodeDecodeError:
            raise InvalidRequest("the body is not UTF-8") from None
        try:
            length = strict_json.end_of_value(piece)
        except MalformedJson as error:
            if not is_last and bite < ROW_BYTES_MAX:
                continue
            raise InvalidRequest(f"{name}: {_not_json(error).message}", field=name) from None
        if length == len(piece) and not is_last:
            continue  # a number may continue after the piece
        end = place + len(piece[:length].encode("utf-8"))
        try:
            return parse_object(piece[:length]), end
        except InvalidRequest as wrong:
            return wrong, end
    raise InvalidRequest(f"{name}: a row may have at most {ROW_BYTES_MAX} bytes", field=name)


def _after_space(raw: bytes | bytearray, place: int) -> int:
    found = _SPACE.match(raw, place)
    return found.end() if found else place


def _checked(value: Any, text: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest("must be a JSON object")
    if not is_shallow(value):
        raise InvalidRequest(f"nested deeper than {DEPTH_MAX} levels")
    if "\\u" in text and not _is_unicode(value):
        raise InvalidRequest("a text contains half a character (a lone surrogate)")
    return value


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _not_json(error: MalformedJson) -> InvalidRequest:
    if isinstance(error, TooDeep):
        return InvalidRequest(f"nested deeper than {DEPTH_MAX} levels")
    at = "" if error.position is None else f" at character {error.position}"
    return InvalidRequest(f"not JSON: {error.reason}{at}")
