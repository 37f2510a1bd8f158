"""The part of `doctor` about the accounts at payment processors: credentials, server and webhooks of each."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from refund_worker.cli.doctor_findings import Finding, Verdict
from refund_worker.cli.doctor_keys import tried
from refund_worker.errors import RefundWorkerError
from refund_worker.extras import MissingExtra, require

if TYPE_CHECKING:
    from refund_worker.processors.accounts import Account
    from refund_worker.settings import Settings

CONNECT_SECONDS = 5
PORTS = {"https": 443, "http": 80, "redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}


def check_accounts(settings: Settings) -> Iterator[Finding]:
    """Check each account that is called or sends events, and yield its findings."""
    from refund_worker.processors.accounts import accounts_of

    try:
        accounts = accounts_of(settings)
    except RefundWorkerError as error:
        yield Finding("accounts", Verdict.FAIL, error.message, "correct or remove this setting")
        return
    for account in accounts.values():
        if account.entry.settings.CREDENTIALS:
            server = _server(account)
            yield _key(settings, account, server)
            yield server
        if account.entry.webhooks is not None:
            yield _webhook_secret(account)
        if account.settings.refunds == "off":
            yield Finding(account.name, Verdict.OK, "refunds are off: nothing is sent over this account")


def place_of(url: str) -> str:
    """Return host and port of a URL, without its credentials."""
    parts = urlsplit(url)
    return f"{parts.hostname or '127.0.0.1'}:{parts.port or PORTS.get(parts.scheme, '')}"


def _key(settings: Settings, account: Account, server: Finding) -> Finding:
    name = account.name
    if not account.has_access:
        fields = " and ".join(account.setting(field) for field in account.entry.settings.CREDENTIALS)
        needs = f"; it needs the permissions {account.entry.permissions}" if account.entry.permissions else ""
        found = f"not set: nothing is sent to {name}, and its refunds wait"
        return Finding(f"{name} key", Verdict.WARN, found, f"set {fields} (or …_file){needs}")
    try:
        if account.entry.extra:
            require(account.entry.extra)
    except MissingExtra as error:
        return Finding(f"{name} key", Verdict.FAIL, "set, but nothing can be sent", error.message)
    known = _kind_of_key(settings, account)
    return known if server.verdict is Verdict.FAIL else tried(account, settings.call_timeout_seconds, known)


def _kind_of_key(settings: Settings, account: Account) -> Finding:
    """Describe the credentials by themselves, without asking the processor."""
    check, live = f"{account.name} key", account.entry.live(account.settings)
    if account.settings.api_base and not live:
        return Finding(check, Verdict.OK, f"set, for the server at {place_of(account.settings.api_base)}")
    if live:
        return Finding(check, Verdict.OK, "set, live: real money")
    mode = "test mode: no real money" if live is False else "of an unknown kind"
    if settings.environment == "production":
        return Finding(check, Verdict.WARN, f"set, {mode}", "use live credentials in production")
    return Finding(check, Verdict.OK, f"set, {mode}")


def _server(account: Account) -> Finding:
    check = f"{account.name} server"
    if not account.has_access:
        return Finding(check, Verdict.WARN, "not checked without credentials")
    base = account.entry.address(account.settings)
    why = _why_not_reached(base)
    if why:
        todo = f"check the network and {account.setting('api_base')}"
        return Finding(check, Verdict.FAIL, f"{place_of(base)}: {why}", todo)
    return Finding(check, Verdict.OK, f"{place_of(base)} is reachable")


def _why_not_reached(url: str) -> str | None:
    """Return why no server accepts connections at this URL, or None if one does."""
    parts = urlsplit(url)
    try:
        address = parts.hostname or "127.0.0.1", parts.port or PORTS[parts.scheme]
        with socket.create_connection(address, timeout=CONNECT_SECONDS):
            return None
    except (OSError, ValueError, KeyError) as error:
        return getattr(error, "strerror", None) or type(error).__name__


def _webhook_secret(account: Account) -> Finding:
    check = f"{account.name} webhooks"
    subscribe = f"subscribe the endpoint /webhooks/{account.name} to {account.entry.events}"
    field = account.entry.settings.WEBHOOK_SETTING
    what = "secret" if field == "webhook_secret" else field
    if accepted := account.settings.webhook_secrets:
        return Finding(check, Verdict.OK, f"{len(accepted)} {what}(s) set", subscribe)
    later = "until then polling finds changes, later" if account.capabilities.reads_refunds else "no outcome is heard"
    todo = f"set {account.setting(field)}; {later}. {subscribe}"
    return Finding(check, Verdict.WARN, f"no {what} set: the webhooks of {account.name} are rejected", todo)
