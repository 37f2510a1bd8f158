"""A Stripe-compatible server for tests, with its own book of records on disk and scripted faults.

The sandbox imports nothing from the rest of refund_worker but `local_server`, so its book is independent evidence of
what the rest did. Start it with `Sandbox` (a separate process, for tests), `serve` (in this process), or
`python -m refund_worker.processors.sandbox --port 0 --book FILE`.
"""

from __future__ import annotations

from refund_worker.processors.local_server.journal import BookError
from refund_worker.processors.sandbox.actions import FaultFileError
from refund_worker.processors.sandbox.control import PaymentError
from refund_worker.processors.sandbox.process import Sandbox, SandboxError
from refund_worker.processors.sandbox.server import serve

__all__ = ["BookError", "FaultFileError", "PaymentError", "Sandbox", "SandboxError", "serve"]
