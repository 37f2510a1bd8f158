"""Real servers from Debian packages: PgBouncer, nginx, redis-server and RabbitMQ, beside those of the wheels.

`.ci/run` installs them where it is root. A test that needs one calls `program`, which skips loudly where it is missing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.skipped import leave_out

# Programs by name, with the package of each. Servers are in /usr/sbin, which is not on everybody's PATH.
PACKAGES = {
    "pgbouncer": "pgbouncer",
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    "rabbitmq-server": "rabbitmq-server",
    "promtool": "prometheus",
    "debootstrap": "debootstrap",
    "systemd-analyze": "systemd",
    "caddy": "caddy",
}
FOLDERS = ("/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin")


def find(name: str) -> Path | None:
    """Return the program of this name, or None if it is not installed."""
    found = shutil.which(name) or next(
        (f"{folder}/{name}" for folder in FOLDERS if shutil.which(f"{folder}/{name}")), None
    )
    return Path(found) if found else None


def program(name: str) -> Path:
    """Return the program, or skip the test and report which Debian package is missing."""
    found = find(name)
    if found is None:
        leave_out(f"the real {name} is not installed: ", f"apt-get install {PACKAGES[name]}")
    return found
