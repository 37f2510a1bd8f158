"""What the supervisor tells its worker, as JSON: settings, queues, number of processes. It goes through a pipe."""

from __future__ import annotations

import json
import os

from pydantic import SecretStr

from refund_worker.settings import PREFIX, Settings


def order(settings: Settings, url: str, queues: list[str], concurrency: int) -> bytes:
    """What the child reads: the settings, with the broker's URL in the place of "embedded"."""
    values = {PREFIX + name.upper(): plain for name, value in settings if (plain := _plain(value)) is not None} | {
        PREFIX + "BROKER_URL": url
    }
    return json.dumps(
        {"settings": values, "queues": queues, "concurrency": concurrency, "parent": os.getpid()}
    ).encode()


def _plain(value: object) -> str | None:
    if value is None:
        return None
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
