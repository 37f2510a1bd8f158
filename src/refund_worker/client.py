"""The HTTP client under its name of the service: all of it is the distribution `refund-worker-client`.

That is installed by itself, or with the extra `refund-worker[client]`.
"""

from __future__ import annotations

from refund_worker.extras import require

try:
    from refund_worker_client import *  # noqa: F403
    from refund_worker_client import __all__  # noqa: F401
except ImportError:
    require("client")
    raise
