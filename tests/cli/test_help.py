"""Help texts, the list of commands, and usage errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from tests.cli.conftest import Cli

from refund_worker.cli.app import app


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names of each command below a group, such as ("refunds", "list")."""
    for name, inner in getattr(group, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from commands(inner, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")  # help works even if a setting is wrong
    ran = cli(*path, "--help")
    assert ran.code == 0
    assert f"Example: refund-worker {' '.join(path)}" in " ".join(ran.out.split())


def test_promised_commands_exist() -> None:
    promised = {
        "refunds": "submit create preview list show events wait retry cancel approve reject resolve export",
        "keys": "create list revoke",
        "users": "create list set-password set-role enable disable unlock",
        "import": "payments transactions",
        "processors": "pause resume status",
        "db": "upgrade current",
    }
    names = {" ".join(path) for path in ALL}
    assert {f"{group} {name}" for group, inner in promised.items() for name in inner.split()} <= names
    assert {"demo", "dev", "doctor", "worker", "scheduler", "web", "sandbox", "reconcile", "config show"} <= names


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from refund_worker.cli.app import run_command; run_command(['--help']);"
        "print(sorted({'sqlalchemy', 'stripe', 'celery', 'pydantic', 'rich', 'babel', 'alembic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("command", [("refunds", "show"), ("import", "payments"), ("customers", "show")])
def test_usage_error_is_punctuated_once(cli: Cli, command: tuple[str, ...]) -> None:
    error = cli(*command).err
    assert error.startswith("error: Missing argument '")
    assert ".:" not in error
