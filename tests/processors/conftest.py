"""Fixtures: a sandbox for Stripe's subjects, a client of the subject that a test names, and a bench for the adapter."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processors.contract import Client
from tests.processors.scripted_stripe import Bench
from tests.processors.stripe_subjects import ClockedSandbox


@pytest.fixture(scope="module")
def sandbox() -> Iterator[ClockedSandbox]:
    """A sandbox that a module's tests share."""
    with ClockedSandbox() as sandbox:
        assert isinstance(sandbox, ClockedSandbox)
        yield sandbox


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the subject class that the test is parametrised with (`indirect`)."""
    client = Client(request.param(request))
    yield client
    client.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench that is stopped at the end of the test."""
    bench = Bench()
    yield bench
    bench.run(bench.stop())
    bench.loop.close()
