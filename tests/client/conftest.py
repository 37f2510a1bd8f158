"""Fixtures of the client's tests: a worker in this process, its HTTP API, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.client.lossy_line import QUICK

from refund_worker.client import Client
from refund_worker.testing import RefundWorker, ServedApi


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RefundWorker]:
    with RefundWorker(tmp_path_factory.mktemp("worker"), APPROVAL_THRESHOLD_MINOR="100000") as running:
        yield running


@pytest.fixture(scope="module")
def api(worker: RefundWorker) -> Iterator[ServedApi]:
    with worker.http() as served:
        yield served


@pytest.fixture
def client(api: ServedApi) -> Iterator[Client]:
    with Client(api.url, api.key, retries=QUICK) as opened:
        yield opened
