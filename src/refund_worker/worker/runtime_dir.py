"""The folder where the processes of one deployment on one machine meet: embedded broker, locks, heartbeats."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from refund_worker.settings import Settings


def runtime_folder(settings: Settings) -> Path:
    """`<database file>.run` beside an SQLite file, else one in .refund-worker/ for each database; not yet made."""
    return folder_of(settings.database_url.get_secret_value())


def folder_of(url: str) -> Path:
    """The same by the database's URL alone: a health check has no time to import the settings."""
    if url.startswith("sqlite"):
        # SQLAlchemy's form: three slashes and a relative path, or four and an absolute one.
        name = unquote(url.partition(":///")[2].partition("?")[0])
        path = Path(name if name not in ("", ":memory:") else ".refund-worker/memory").expanduser().absolute()
        return path.with_name(path.name + ".run")
    # Without user and password, as SQLAlchemy finds them: a password may hold what ends a host elsewhere.
    parts = urlsplit(re.sub(r"(?<=://)[^:/]*(?::[^@]*)?@", "", url, count=1))
    name = parts.path.strip("/").replace("/", "-")
    digest = hashlib.sha256(f"{parts.hostname}:{parts.port}/{name}".encode()).hexdigest()[:12]
    return Path(".refund-worker").absolute() / f"{name}-{digest}.run"


def made(folder: Path) -> Path:
    """The folder, made if needed, closed to other users of the machine: what lies in it opens the broker."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
