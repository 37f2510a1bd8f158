"""The configuration that the supervisor passes to its worker through a pipe.

It is JSON: the settings, the queues, the number of processes, the pipe for heartbeats and the supervisor's process id.
"""

from __future__ import annotations

import json
import os

from pydantic import SecretStr

from refund_worker.settings import PREFIX, Settings


def order(settings: Settings, url: str, queues: list[str], concurrency: int, pipe: int | None = None) -> bytes:
    """Return the child's configuration as JSON bytes, with the broker's URL instead of "embedded" in the settings.

    `pipe` is the file descriptor for the child's heartbeats, if its parent counts them.
    """
    values = {PREFIX + name.upper(): plain for name, value in settings if (plain := _plain(value)) is not None} | {
        PREFIX + "BROKER_URL": url
    }
    return json.dumps(
        {"settings": values, "queues": queues, "concurrency": concurrency, "pipe": pipe, "parent": os.getpid()}
    ).encode()


def _plain(value: object) -> str | None:
    if value is None:
        return None
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
