"""The folder that the processes of one deployment on one machine share: embedded broker, locks, heartbeats."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from refund_worker.settings import Settings


def runtime_folder(settings: Settings) -> Path:
    """Return the folder of this database, which may not exist yet.

    It is `<database file>.run` next to an SQLite file, and a folder in .refund-worker/ for another database.
    """
    return folder_of(settings.database_url.get_secret_value())


def folder_of(url: str) -> Path:
    """Return the same folder from the database's URL alone: a health check has no time to import the settings."""
    if url.startswith("sqlite"):
        # SQLAlchemy's form: three slashes before a relative path, four before an absolute one.
        name = unquote(url.partition(":///")[2].partition("?")[0])
        path = Path(name if name not in ("", ":memory:") else ".refund-worker/memory").expanduser().absolute()
        return path.with_name(path.name + ".run")
    # Remove user and password as SQLAlchemy finds them: a password may hold a character that ends the host for other
    # parsers.
    parts = urlsplit(re.sub(r"(?<=://)[^:/]*(?::[^@]*)?@", "", url, count=1))
    name = parts.path.strip("/").replace("/", "-")
    digest = hashlib.sha256(f"{parts.hostname}:{parts.port}/{name}".encode()).hexdigest()[:12]
    return Path(".refund-worker").absolute() / f"{name}-{digest}.run"


def made(folder: Path) -> Path:
    """Create the folder if needed and return it. Other users have no access: its files give access to the broker."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
