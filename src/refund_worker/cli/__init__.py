"""The command line. Raises `MissingExtra` without the extra `cli`."""

from refund_worker.extras import require

require("cli")
