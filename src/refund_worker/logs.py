"""Logs of all processes: one line per event on stderr, as JSON or for people, without secrets and customers' texts.

Ids are fields of a line, never parts of its message, so that messages are few and can be searched for. Fields come from
`extra`, or from `log_fields` for everything that happens in its block.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from refund_worker.redaction import to_redacted

# The only fields that a line can have besides those of every line. Other libraries put whole messages into `extra`.
FIELDS = (
    "alarm",
    "runbook",
    "request_id",
    "refund_id",
    "payout_id",
    "run_id",
    "payee_id",
    "claim_id",
    "fraud_warning_id",
    "leg_id",
    "attempt",
    "event_id",
    "actor",
    "client",
    "processor",
    "call",
    "outcome",
    "code",
    "status",
    "count",
    "currency",
    "period",
    "method",
    "route",
    "path",
    "duration_ms",
    "address",
    "job",
    "trace_id",
    "span_id",
)
TEXT_LENGTH_MAX = 20_000
OURS = "refund_worker"
QUIETEST = logging.WARNING

_bound: ContextVar[Mapping[str, Any]] = ContextVar("log_fields")

# The errors of a database, by their names: no driver is imported to log.
_DATABASE_ERRORS = frozenset({"sqlalchemy.exc.StatementError", "psycopg.Error", "sqlite3.Error"})
_DIAGNOSIS = ("sqlstate", "constraint_name", "table_name", "column_name")
# The first quotation mark of any language: Postgres speaks that of its server.
_QUOTE = re.compile("['\"`\u00ab\u00bb\u2018-\u201f\u2039\u203a]")
# Other errors repeat a database's message. Its rows and statements may have many lines, so the rest is cut.
_OF_A_DATABASE = re.compile(r"^(?:DETAIL|CONTEXT|HINT|LINE \d+):.*|\[(?:SQL|parameters): .*", re.M | re.DOTALL)
# The input that pydantic quotes.
_INPUT = re.compile(r"input_value=.*?(?=, input_type=|\])", re.M)
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

log = logging.getLogger(__name__)


@contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Add fields to every line that is logged in this block, also by the coroutines that it awaits."""
    token = _bound.set({**_bound.get({}), **fields})
    try:
        yield
    finally:
        # A coroutine that was interrupted is closed by the garbage collector, in another context than it ran in.
        with suppress(ValueError):
            _bound.reset(token)


def add_log_field(name: str, value: Any) -> None:
    """Add a field that becomes known inside a block of `log_fields`, up to the end of that block."""
    fields = _bound.get(None)
    if isinstance(fields, dict):
        fields[name] = value


class JsonLines(logging.Formatter):
    """Formats a record as JSON: `time`, `level`, `logger`, `process`, `pid`, `message` and its fields.

    `error` is the traceback of an exception.
    """

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON, with secrets redacted."""
        return json.dumps(_parts(record, self._process), default=str)


class TextLines(logging.Formatter):
    """Formats a record for people: time, level, process, message, `name=value` for each field, and the traceback."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, and a traceback in lines of its own."""
        parts = _parts(record, self._process)
        error = parts.pop("error", "")
        head = f"{parts.pop('time')} {parts.pop('level'):<7} {parts.pop('process')}[{parts.pop('pid')}]"
        message = parts.pop("message")
        logger = parts.pop("logger")
        fields = "".join(f" {name}={value}" for name, value in parts.items())
        return _CONTROL.sub(" ", f"{head} {message}{fields} ({logger})") + (f"\n{error}" if error else "")


def set_up_logging(level: str, form: str, process: str) -> None:
    """Set up the root logger of this process, unless it has handlers already.

    `level` is the level of our own lines; other libraries log from `warning` on, as their lower levels quote messages
    and bodies. `form` is `json` or `text`. `process` is the kind of process, such as `web`.
    """
    root = logging.getLogger()
    if root.handlers:
        return
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextLines(process) if form == "text" else JsonLines(process))
    root.addHandler(handler)
    own_level = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(own_level, QUIETEST))
    logging.getLogger(OURS).setLevel(own_level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda failed: _log_uncaught(failed.exc_type, failed.exc_value, failed.exc_traceback)


def error_text(error: BaseException) -> str:
    """Return the traceback of an exception and its causes, without secrets and without the values that it quotes."""
    return to_redacted("\n".join(_tracebacks(error, set()))[-TEXT_LENGTH_MAX:])


def _parts(record: logging.LogRecord, process: str) -> dict[str, Any]:
    parts: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "process": process,
        "pid": record.process,
        "message": to_redacted(_message(record)[:TEXT_LENGTH_MAX]),
    }
    known = {**_bound.get({}), **{name: value for name, value in vars(record).items() if value is not None}}
    parts |= {name: _safe(known[name]) for name in FIELDS if known.get(name) is not None}
    if record.exc_info and record.exc_info[1] is not None:
        parts["error"] = error_text(record.exc_info[1])
    return parts


def _message(record: logging.LogRecord) -> str:
    """Return the message; Celery's about a failed task quotes the exception, which `error` has without values."""
    if record.exc_info and record.name.startswith("celery"):
        return "a task raised an exception"
    return record.getMessage()


def _safe(value: Any) -> Any:
    return to_redacted(value[:TEXT_LENGTH_MAX]) if isinstance(value, str) else value


def _tracebacks(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _tracebacks(cause, seen)
        why = "was the direct cause of" if error.__cause__ is not None else "was being handled during"
        yield f"\nThe exception above {why} this one:\n"
    yield "Traceback (most recent call last):"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_error_message(error)}".removeprefix("builtins.")
    for inner in getattr(error, "exceptions", ()):
        if isinstance(inner, BaseException) and id(inner) not in seen:
            yield "\nOne of its exceptions:\n"
            yield from _tracebacks(inner, seen)


def _error_message(error: BaseException) -> str:
    """Return the error's text without the values that databases, validators and conversions quote in it."""
    try:
        if any(f"{kind.__module__}.{kind.__qualname__}" in _DATABASE_ERRORS for kind in type(error).__mro__):
            return _database_message(error)
        text = _INPUT.sub("(values left out)", str(error))
    except Exception as broken:  # noqa: BLE001 - an error without a text must not hide itself
        return f"(its text cannot be read: {type(broken).__name__})"
    if _OF_A_DATABASE.search(text):
        return _up_to_a_quote(_OF_A_DATABASE.sub("", text)) + " (values left out)"
    return _QUOTED.sub("'…'", text) if isinstance(error, (ValueError, LookupError)) else text


def _database_message(error: BaseException) -> str:
    """Return the driver's error with its SQLSTATE, constraint, table and column, and its message up to a quote."""
    own = getattr(error, "orig", None) or error
    diagnosis = getattr(own, "diag", None)
    known = {name: getattr(diagnosis, name, None) for name in _DIAGNOSIS}
    if known["sqlstate"] is None:
        # SQLite, or no connection: the server's address is worth reading, and no statement was sent to quote from.
        message = str(own) if type(own).__name__ == "OperationalError" and diagnosis else _up_to_a_quote(str(own))
    else:
        message = _up_to_a_quote(getattr(diagnosis, "message_primary", None) or "")
    facts = "".join(f" {name}={value}" for name, value in known.items() if value is not None)
    return f"({type(own).__module__}.{type(own).__qualname__}) {message}{facts}"


def _up_to_a_quote(text: str) -> str:
    found = _QUOTE.search(text)
    return text.rstrip() if found is None else text[: found.start()] + "'…'"


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is None or issubclass(kind, SystemExit):
        return
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    log.log(logging.CRITICAL, "an exception was not caught", exc_info=error)
