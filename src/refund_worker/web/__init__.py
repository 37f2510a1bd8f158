"""The HTTP API, the webhooks and the console. Raises `MissingExtra` without the extra `web`."""

from refund_worker.extras import require

require("web")
