"""The HTTP client under the service's own package name; its code is the distribution `refund-worker-client`.

Install that distribution alone, or use the extra `refund-worker[client]`.
"""

from __future__ import annotations

from refund_worker.extras import require

try:
    from refund_worker_client import *  # noqa: F403
    from refund_worker_client import __all__  # noqa: F401
except ImportError:
    require("client")
    raise
