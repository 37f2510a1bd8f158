"""Logs of the long-running processes: one JSON object a line on stderr, secrets taken out."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from refund_worker.redaction import to_redacted

# Celery tells at INFO of every message that comes and goes, with its arguments.
QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "celery": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
}


class JsonLines(logging.Formatter):
    """`time`, `level`, `logger`, `message`, and `error` where there was one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": to_redacted(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = to_redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr() -> None:
    """Set the root logger up, unless somebody has already done so."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    for name, level in QUIET_LOGGERS.items():
        logging.getLogger(name).setLevel(level)
