"""A PayPal-compatible server for tests, with a book of its own, a clock that moves, faults and signed webhooks.

It imports nothing from the rest of refund_worker but `local_server`, so its book is independent evidence of what the
rest did. Start it with `PayPalSandbox` (a separate process), `PayPalServer` (a thread of this process), or
`python -m refund_worker.processors.paypal.sandbox --port 0`. The book is in memory, and ends with the process, unless a
file for it is named.
"""

from __future__ import annotations

from refund_worker.processors.paypal.sandbox.book import FAULTS, LearnedCapture
from refund_worker.processors.paypal.sandbox.credentials import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID
from refund_worker.processors.paypal.sandbox.process import PayPalSandbox, PayPalSandboxError
from refund_worker.processors.paypal.sandbox.server import PayPalServer

__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "FAULTS",
    "WEBHOOK_ID",
    "LearnedCapture",
    "PayPalSandbox",
    "PayPalSandboxError",
    "PayPalServer",
]
