"""Logs of the long-running processes: one JSON object per line on stderr, without secrets."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from refund_worker.redaction import to_redacted

# At INFO, Celery logs every message that comes and goes, with its arguments.
QUIET_LOGGERS = {
    "alembic": logging.WARNING,
    "celery": logging.WARNING,
    "kombu": logging.WARNING,
    "amqp": logging.WARNING,
}


class JsonLines(logging.Formatter):
    """Formats a record as JSON: `time`, `level`, `logger`, `process`, `message`, and `error` for an exception.

    An alarm also has its fields `alarm` and `runbook`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, with secrets redacted."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": to_redacted(record.getMessage()),
        }
        line |= {name: getattr(record, name) for name in ("alarm", "runbook") if hasattr(record, name)}
        if record.exc_info:
            line["error"] = to_redacted(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr() -> None:
    """Set up the root logger, unless it has handlers already."""
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
