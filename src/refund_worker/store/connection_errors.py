"""The cause of a database error in words, with what to do about it. Nothing here shows a password or a row's values.

libpq reports the errors of connecting as text only, without a code. Its text is English whatever the server's language
is, except for the server's own part. A text that is not recognised is shown as it is.
"""

from __future__ import annotations

import re

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError

LENGTH_MAX = 400
_URL = "REFUND_WORKER_DATABASE_URL"
# (pattern of the text, what to do). The first that fits is taken.
_ADVICE = tuple(
    (re.compile(pattern, re.IGNORECASE), todo)
    for pattern, todo in (
        ("password authentication failed|no password supplied", f"correct user and password in {_URL}"),
        ('role ".*" does not exist', f"correct the user in {_URL}, or make the role (CREATE ROLE … LOGIN PASSWORD …)"),
        ("is not permitted to log in", "give the role the right to log in (ALTER ROLE … LOGIN)"),
        ('database ".*" does not exist', f"correct the name in {_URL}, or make it (CREATE DATABASE …)"),
        (
            "too many (clients|connections)|connection slots|no more connections allowed|query_wait_timeout",
            "raise max_connections or the role's limit, or put a pooler in between",
        ),
        ("does not support SSL|SSL is not enabled", f"correct sslmode in {_URL}, or switch TLS on at the server"),
        ("certificate|SSL error|SSL connection has", f"correct sslmode, sslrootcert and the host's name in {_URL}"),
        ("no pg_hba.conf entry|pg_hba.conf rejects", "allow this user and address in pg_hba.conf, or use TLS"),
        ("invalid \\w+ value|for parameter|configuration parameter", f"correct this parameter in {_URL}"),
        (
            "unsupported startup parameter",
            f"remove the parameter from {_URL}, or let the pooler ignore it (ignore_startup_parameters)",
        ),
        (
            "failed to resolve host|could not translate host name|Name or service not known",
            f"correct the host in {_URL}, or the name service",
        ),
        (
            "Connection refused|No such file or directory|No route to host|Network is unreachable",
            f"start the server, or correct host and port in {_URL}",
        ),
        ("timeout expired|timed out", f"check host, port and firewall: {_URL}"),
        ("transaction blocks not allowed", "set the pooler's pool_mode to transaction or session"),
        ("is disabled|not currently accepting connections", "let the database accept connections again"),
        ("due to transaction timeout", "remove the server's transaction_timeout for this role, or raise it above 60 s"),
        ("not in hot standby mode", f"remove target_session_attrs from {_URL}: a standby accepts no writes"),
        ("starting up|shutting down|administrator command|server closed the connection", "wait until it is up again"),
        (
            "accepts no writes|read-only|read only",
            "point its name at the primary, or allow writes again (a full disk can be the reason)",
        ),
    )
)
# The statement, and libpq's guesses, which are no causes.
_GUESSES = ("LINE ", "^", "Is the server running", "This probably means the server", "before or while processing")
_SCHEMA = re.compile(r"permission denied for schema (\w+)")
_PERMISSION = "42501"
_TEXTS = {
    "53100": "the server's disk is full: make room",
    "53200": "the server has no memory left",
    "55P03": "a lock was not free within the time allowed",
    "25P03": "a transaction was idle for longer than allowed",
}


def cause_of(error: DBAPIError, url: URL) -> str:
    """Return why the database refused, in one line, and what to do about it."""
    state = getattr(error.orig, "sqlstate", None)
    if state == _PERMISSION:
        return _permission(str(error.orig), url)
    if state in _TEXTS:
        return _TEXTS[state]
    # The server's message alone: what it adds may quote rows. libpq's texts and our own errors have no such parts.
    diagnosis = getattr(error.orig, "diag", None)
    text = _one_line(getattr(diagnosis, "message_primary", None) or str(error.orig), url)
    for pattern, todo in _ADVICE:
        if pattern.search(text):
            return f"{text}: {todo}"
    return text


def is_permission_denied(error: DBAPIError) -> bool:
    """Return True if our role lacks a right."""
    return getattr(error.orig, "sqlstate", None) == _PERMISSION


def _permission(text: str, url: URL) -> str:
    line = text.partition("\n")[0]
    role = url.username or "ROLE"
    schema = _SCHEMA.search(line)
    if schema is not None:
        name = schema.group(1)
        return (
            f"{line}: as its owner, GRANT USAGE, CREATE ON SCHEMA {name} TO {role} before `refund-worker db upgrade`; "
            f"for a role that only runs the application, `refund-worker db grant {role}`"
        )
    if "for database" in line:
        return f"{line}: as its owner, GRANT CREATE ON DATABASE {url.database} TO {role}, or make the schema for it"
    return f"{line}: as the owner of the tables, run `refund-worker db grant {role}`"


def _one_line(text: str, url: URL) -> str:
    """Return libpq's text in one line, without the statement it may quote and without the password."""
    lines = dict.fromkeys(line.strip() for line in text.splitlines() if line.strip())
    joined = "; ".join(line for line in lines if not line.startswith(_GUESSES))
    joined = joined.removeprefix("connection failed: ").removeprefix("connection is bad: ").replace("  ", " ")
    if url.password:
        joined = joined.replace(str(url.password), "***")
    return joined if len(joined) <= LENGTH_MAX else joined[: LENGTH_MAX - 1] + "…"
