"""The Celery workers, the scheduler and the brokers. Raises `MissingExtra` without the extra `worker`."""

from refund_worker.extras import require

require("worker")
