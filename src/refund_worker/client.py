"""The HTTP client under its name of the service: all of it is the distribution `refund-worker-client`.

Installed by itself, or by `pip install 'refund-worker[client]'`.
"""

from __future__ import annotations

from refund_worker_client import *  # noqa: F403
from refund_worker_client import __all__  # noqa: F401
