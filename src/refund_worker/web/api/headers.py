"""Values that requests carry in headers and paths."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BeforeValidator

from refund_worker.engine.intake.schemas import KnownId, checked_key
from refund_worker.errors import StaleVersion
from refund_worker.web.paths import decoded
from refund_worker.web.problems import KeyMissing

# A path segment that is not a valid id is answered 404. Ids of the backend may have slashes, sent as %2F.
PathId = Annotated[KnownId, BeforeValidator(decoded), Path()]

_VERSION = re.compile(r'(?:W/)?"([0-9]{1,9})"|([0-9]{1,9})')


async def _idempotency_key(request: Request) -> str:
    """Return the idempotency key. Raises `KeyMissing`, or `InvalidRequest` for an unusable one."""
    values = set(request.headers.getlist("idempotency-key"))
    if len(values) != 1 or not (key := values.pop()):
        raise KeyMissing("send the header Idempotency-Key, one for each intent", field="idempotency_key")
    return checked_key(key)


async def _version(request: Request) -> int | None:
    """Return the version in If-Match, or None without one. Raises `StaleVersion` if it is not a version of ours."""
    text = request.headers.get("if-match", "")
    if text in ("", "*"):
        return None
    found = _VERSION.fullmatch(text)
    if found is None:
        raise StaleVersion('If-Match is not a version of this refund: send its ETag, such as "3"')
    return int(found[1] or found[2])


IdempotencyKey = Annotated[str, Depends(_idempotency_key)]
Version = Annotated[int | None, Depends(_version)]


def etag(version: int) -> dict[str, str]:
    """Return the ETag header of a refund's version."""
    return {"ETag": f'"{version}"'}
