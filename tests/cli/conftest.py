"""Fixtures that run the command line in this process, with a database file for each test."""

from __future__ import annotations

import json
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.support.migrated import migrated_sqlite_url, migrated_url, sqlite_template

from refund_worker.cli.app import run_command

__all__ = ["become", "cli", "migrated_sqlite_url", "migrated_url", "shop", "sqlite_template"]

PAYMENTS = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
TRANSACTIONS = "transaction_id,customer_id,kind,credits,description,occurred_at\n"
REQUESTS = "idempotency_key,kind,to,customer_id,transaction_id,credits,reason,note,requested_by,requested_at\n"


@dataclass(frozen=True)
class Ran:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        """The JSON problem, which is the last line of stderr."""
        return json.loads(self.err.splitlines()[-1])


Cli = Callable[..., Ran]
Become = Callable[[str], None]


@pytest.fixture
def cli(
    migrated_sqlite_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Return a function that runs a command: `cli("refunds", "list", "-o", "json")`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", migrated_sqlite_url)
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "memory://")
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run_command(arguments)
        printed = capsys.readouterr()
        return Ran(code, printed.out, printed.err)

    return run


@pytest.fixture
def become(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function: after `become("anna")` the operating system names anna as the user of this process."""

    def run_as(name: str) -> None:
        monkeypatch.setattr(pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name=name, pw_uid=uid))

    return run_as


@pytest.fixture
def shop(cli: Cli, tmp_path: Path) -> Cli:
    """Return `cli` after recording two customers.

    ann bought 1,000 credits for 20.00 GBP and spent 400 as t1. bob has payments in two currencies.
    """
    (tmp_path / "payments.csv").write_text(
        PAYMENTS
        + "p1,ann,stripe,ch_1,2000,GBP,1000,2026-01-01T00:00:00Z\n"
        + "p2,bob,stripe,ch_2,500,GBP,500,2026-01-01T00:00:00Z\n"
        + "p3,bob,stripe,ch_3,500,JPY,500,2026-01-02T00:00:00Z\n"
    )
    (tmp_path / "transactions.csv").write_text(TRANSACTIONS + "t1,ann,spend,400,Private chat,2026-01-03T00:00:00Z\n")
    assert cli("import", "payments", "payments.csv").code == 0
    assert cli("import", "transactions", "transactions.csv").code == 0
    return cli
