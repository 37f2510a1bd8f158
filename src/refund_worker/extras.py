"""The extras of the distribution: which packages each part needs beyond the base install, and the error without them.

The base install (`pip install refund-worker`) holds what `request_refund` needs. Every other part has an extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from refund_worker.errors import RefundWorkerError

# The packages that a part imports, by extra. A test compares this with pyproject.toml and with the imports.
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "web": ("alembic", "argon2", "fastapi", "httptools", "jinja2", "prometheus_client", "uvicorn"),
    "worker": ("aiohttp", "alembic", "celery", "redis", "standardwebhooks"),
    "cli": ("alembic", "argon2", "rich", "typer"),
    "stripe": ("aiohttp", "stripe"),
    "paypal": ("cryptography",),
    "bank": ("sepaxml",),
    "payouts": ("cryptography",),
    "sandbox": ("aiohttp", "httptools"),
    "otel": ("opentelemetry",),
    "testing": ("aiohttp", "alembic", "httptools", "standardwebhooks", "stripe"),
    "client": ("refund_worker_client",),
}


class MissingExtra(RefundWorkerError, ImportError):
    """A part of refund-worker is used whose packages are not installed."""

    code, exit_code = "missing_extra", 2


def require(*extras: str) -> None:
    """Check that the packages of these extras are installed. Raises `MissingExtra`, which says what to install."""
    for extra in extras:
        missing = [name for name in PACKAGES[extra] if not _is_installed(name)]
        if missing:
            raise MissingExtra(
                f"{' and '.join(missing)} not installed: install the extra refund-worker[{','.join(extras)}]"
            )


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ImportError:
        return False
