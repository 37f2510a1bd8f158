"""A bench for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.processors.adyen.bench import Bench
from tests.processors.adyen.server import AdyenServer


@pytest.fixture
def adyen() -> Iterator[Bench]:
    """A bench with a server of its own."""
    with AdyenServer() as server:
        bench = Bench(server)
        yield bench
        bench.close()
        assert server.state.violations == []
