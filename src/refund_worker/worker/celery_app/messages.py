"""The part of a message that Celery gets: a new task with the name, the id and the arguments, and nothing else.

Anyone who can write to the broker sets every header, and Celery obeys many of them before any handler runs: a time
limit that is not a number stops the worker, a start time far ahead blocks a slot for days, a stored call runs after the
task. So nothing is filtered here. The parts that our three tasks need are read, checked, and written into a message of
ours. A caller's countdown, expiry, priority, links and time limits therefore have no effect.
"""

from __future__ import annotations

import bz2
import lzma
import re
import uuid
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kombu import compression as kombu_compression
from kombu.utils import json as kombu_json

from refund_worker.strict_json import DEPTH_MAX, is_shallow
from refund_worker.worker.queues import INSTALLATION, RETRIES_MAX, TASKS

# kombu has only partial types.
compression: Any = kombu_compression
json: Any = kombu_json

# The same limit as for a refund request over HTTP; 500 ids need far less.
BODY_BYTES_MAX = 1 << 20
ID_LENGTH_MAX = 100
JSON, UTF_8 = "application/json", "utf-8"
_UNPACKED_MEMORY_MAX = 64 << 20
_INSTALLATION_ID = re.compile("inst_[0-9a-f]{32}")


class NotOurs(Exception):
    """The message is no task of ours. The text says why and quotes nothing of the message."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A message in which every header and every byte of the body was written by us."""

    headers: dict[str, Any]
    body: bytes


def cleaned(headers: object, body: object, content_type: object, content_encoding: object) -> Cleaned:
    """Return the task that a message of either Celery protocol asks for. Raises `NotOurs`.

    Protocol 2 has the task in the headers and `[args, kwargs, embed]` in the body. Protocol 1 has everything in the
    body.
    """
    fields = headers if isinstance(headers, Mapping) else {}
    content = _content(body, content_type, content_encoding)
    if isinstance(content, list):
        if len(content) != 3:
            raise NotOurs("it is no task: its body does not have the form of one")
        args, kwargs, _ = content
    elif isinstance(content, dict):
        args, kwargs = content.get("args", []), content.get("kwargs", {})
        fields = content | {name: value for name, value in fields.items() if value is not None}
    else:
        raise NotOurs("it is no task: its body does not have the form of one")
    name = fields.get("task")
    if name is None:
        raise NotOurs("it names no task")
    if not isinstance(name, str) or name not in TASKS:
        raise NotOurs("it names a task that is not ours")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise NotOurs("it is no task: its arguments are not a list and a mapping of names")
    # Celery's pool fails on nesting deeper than its recursion limit, and JSON can be nested deeper than that.
    if not is_shallow(args) or not is_shallow(kwargs):
        raise NotOurs(f"its arguments are nested deeper than {DEPTH_MAX} levels")
    return Cleaned(_headers(name, fields), _written([args, kwargs, {}]))


def names_another_task(envelope: object) -> bool:
    """Return True if the envelope of a message on Redis names a task of another application."""
    headers = envelope.get("headers") if isinstance(envelope, dict) else None
    name = headers.get("task") if isinstance(headers, dict) else None
    return isinstance(name, str) and name not in TASKS


def _headers(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    task_id, retries = fields.get("id"), fields.get("retries")
    if not isinstance(task_id, str) or not _is_plain(task_id):
        task_id = str(uuid.uuid4())
    # Celery counts retries when a task kills its process; without the count such a task would come back for ever.
    counts = isinstance(retries, int) and not isinstance(retries, bool) and retries >= 0
    owner = fields.get(INSTALLATION)
    owned = isinstance(owner, str) and _INSTALLATION_ID.fullmatch(owner)
    return {
        "lang": "py",
        "task": name,
        "id": task_id,
        "root_id": task_id,
        "retries": min(int(retries or 0), RETRIES_MAX) if counts else 0,
        "ignore_result": True,
    } | ({INSTALLATION: owner} if owned else {})


def _is_plain(task_id: str) -> bool:
    return 0 < len(task_id) <= ID_LENGTH_MAX and task_id.isascii() and task_id.isprintable()


def _content(body: object, content_type: object, content_encoding: object) -> Any:
    if content_type != JSON or str(content_encoding).lower() not in ("utf-8", "utf8"):
        raise NotOurs("it is not JSON in UTF-8")
    try:
        raw = body if isinstance(body, bytes) else str(body or "").encode(UTF_8)
        if len(raw) <= BODY_BYTES_MAX:
            return json.loads(raw.decode(UTF_8))
    except Exception as error:  # noqa: BLE001 - kombu turns typed values back into objects: anything may be raised
        raise NotOurs(f"it cannot be decoded, {type(error).__name__}") from None
    raise NotOurs(f"its body has more than {BODY_BYTES_MAX} bytes")


def _written(content: object) -> bytes:
    try:
        return bytes(json.dumps(content).encode(UTF_8))
    except Exception as error:  # noqa: BLE001 - as above, for example half a character or deep nesting
        raise NotOurs(f"it cannot be passed on, {type(error).__name__}") from None


def cleaned_envelope(envelope: object, queue: str) -> dict[str, Any]:
    """Return a new envelope, as kombu uses it on Redis, for the queue that the message came from. Raises `NotOurs`.

    Its delivery tag is ours: with another message's tag it would replace that message among those being worked on. If
    it must go back, it goes to the end of the queue that it came from.
    """
    if not isinstance(envelope, dict):
        raise NotOurs("its envelope is no object")
    headers, properties = envelope.get("headers"), envelope.get("properties")
    headers = headers if isinstance(headers, dict) else {}
    properties = properties if isinstance(properties, dict) else {}
    info = properties.get("delivery_info")
    encoding = properties.get("body_encoding")
    return {
        "body": envelope.get("body"),
        "content-type": envelope.get("content-type"),
        "content-encoding": envelope.get("content-encoding"),
        "headers": headers,
        "properties": {
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": encoding if encoding == "base64" else None,
            "delivery_mode": 2,
            "priority": 0,
            "delivery_info": {
                "exchange": "",
                "routing_key": queue,
                "redelivered": isinstance(info, dict) and info.get("redelivered") is True,
            },
        },
    }


def bound_compression() -> None:
    """Let kombu unpack compressed messages only up to the size of a body: few bytes can unpack to gigabytes."""
    for content_type in compression.encoders():
        encode, _ = compression.get_encoder(content_type)
        compression.register(encode, _UNPACKERS.get(content_type, _refuse), content_type)


def _bounded(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def unpack(packed: bytes) -> bytes:
        unpacker = make()
        unpacked: bytes = unpacker.decompress(packed, BODY_BYTES_MAX + 1)
        if len(unpacked) > BODY_BYTES_MAX or not unpacker.eof:
            raise NotOurs("it is compressed, and incomplete or too large")
        return unpacked

    return unpack


def _refuse(_packed: bytes) -> bytes:
    raise NotOurs("its compression is not supported: use gzip, bzip2 or xz")


_UNPACKERS: Mapping[str, Callable[[bytes], bytes]] = {
    "application/x-gzip": _bounded(zlib.decompressobj),
    "application/x-bz2": _bounded(bz2.BZ2Decompressor),
    "application/x-lzma": _bounded(lambda: lzma.LZMADecompressor(memlimit=_UNPACKED_MEMORY_MAX)),
}
