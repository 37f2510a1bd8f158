"""Fixtures of the tests of connections: real servers without deadlines and with short ones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.web.connections.served_api import MIB, ServedApi, serving


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> str:
    path = tmp_path_factory.mktemp("slow") / "refunds.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def api(url: str) -> Iterator[ServedApi]:
    """Give a server without deadlines and with few connections."""
    with serving(url, connections=40, head_seconds=3600, body_seconds=3600) as api:
        yield api


@pytest.fixture(scope="module")
def hurried(url: str) -> Iterator[ServedApi]:
    """Give a server with enough connections and short deadlines."""
    with serving(url, head_seconds=0.5, body_seconds=0.5, body_bytes_per_second=MIB) as api:
        yield api
