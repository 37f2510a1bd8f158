"""A bench for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processors.braintree.bench import Bench
from tests.processors.braintree.server import BraintreeServer


@pytest.fixture
def braintree() -> Iterator[Bench]:
    """A bench with a server of its own."""
    with BraintreeServer() as server:
        bench = Bench(server)
        yield bench
        bench.close()
