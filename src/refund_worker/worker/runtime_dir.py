"""The folder that the processes of one deployment on one machine share: embedded broker, locks, heartbeats."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from refund_worker.settings import Settings


SCHEMA_DEFAULT = "public"
FOLDER_DEFAULT = ".refund-worker"


def runtime_folder(settings: Settings) -> Path:
    """Return the folder of this deployment, which may not exist yet.

    It is in `RUNTIME_DIR`. Without that setting it is `<database file>.run` next to an SQLite file, and a folder in
    .refund-worker/ for another database.
    """
    return folder_of(settings.database_url.get_secret_value(), settings.database_schema, settings.runtime_dir)


def folder_of(url: str, schema: str = SCHEMA_DEFAULT, runtime_dir: str | None = None) -> Path:
    """Return the same folder from these settings alone: a health check has no time to import all of them.

    Two deployments with one `runtime_dir` have different folders in it.
    """
    parent = Path(runtime_dir or FOLDER_DEFAULT).expanduser().absolute()
    if url.startswith("sqlite"):
        # SQLAlchemy's form: three slashes before a relative path, four before an absolute one.
        name = unquote(url.partition(":///")[2].partition("?")[0])
        path = Path(name if name not in ("", ":memory:") else f"{FOLDER_DEFAULT}/memory").expanduser().absolute()
        return _named(parent, path.name, str(path)) if runtime_dir else path.with_name(path.name + ".run")
    # Remove user and password as SQLAlchemy finds them: a password may hold a character that ends the host for other
    # parsers.
    parts = urlsplit(re.sub(r"(?<=://)[^:/]*(?::[^@]*)?@", "", url, count=1))
    name = parts.path.strip("/").replace("/", "-")
    # Several hosts, `h1:5432,h2:5432`, have no single port.
    host = parts.netloc if "," in parts.netloc else f"{parts.hostname}:{parts.port}"
    place = f"{host}/{name}" + (f"?{schema}" if schema != SCHEMA_DEFAULT else "")
    return _named(parent, name, place)


def _named(parent: Path, name: str, place: str) -> Path:
    return parent / f"{name}-{hashlib.sha256(place.encode()).hexdigest()[:12]}.run"


def made(folder: Path) -> Path:
    """Create the folder if needed and return it. Other users have no access: its files give access to the broker."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
