"""Help texts, the list of commands, and usage errors."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

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


def groups(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names of the program itself, which are none, and of each group of commands."""
    yield path
    for name, inner in getattr(group, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from groups(inner, (*path, name))


GROUPS = list(groups(typer.main.get_command(app)))


@pytest.mark.parametrize("path", GROUPS, ids=lambda path: " ".join(path) or "alone")
def test_a_group_alone_prints_its_help_and_exits_with_2(path: tuple[str, ...], cli: Cli) -> None:
    alone, asked = cli(*path), cli(*path, "--help")
    assert (alone.code, asked.code) == (2, 0)
    assert alone.out == asked.out
    assert alone.err == ""
    assert alone.out.startswith(f"Usage: {' '.join(('refund-worker', *path))} [OPTIONS] COMMAND [ARGS]...\n")
    assert "\nCommands:\n" in alone.out


def options(path: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the spellings of each option of a command, such as ("--payee", "--payee-id")."""
    found: Any = typer.main.get_command(app)
    for name in path:
        found = found.commands[name]
    return [tuple(parameter.opts) for parameter in found.params if parameter.param_type_name == "option"]


# The same option has the same spellings in all commands.
SPELLINGS = {
    **{f"--{name}": f"--{name}-id" for name in ("customer", "payee", "refund", "run", "transaction")},
    "--amount-minor": "--amount",
    "--key": "--idempotency-key",
    "--seconds": "--timeout",
    "--account": "--processor-account",
}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_an_option_has_its_spellings_in_every_command(path: tuple[str, ...]) -> None:
    if path == ("adapters", "check"):
        return  # its --seconds are the time of one call
    pairs = [*SPELLINGS.items(), *((long, short) for short, long in SPELLINGS.items() if long.endswith("-id"))]
    needed = [(spelled, other) for spelled in options(path) for one, other in pairs if one in spelled]
    assert [spelled for spelled, other in needed if other not in spelled] == []


def test_version_is_that_of_the_package(cli: Cli) -> None:
    ran = cli("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"refund-worker {version('refund-worker')}\n", "")


def test_the_installed_program_alone_prints_help(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "refund_worker"]
    ran = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (2, "")
    assert ran.stdout.startswith("Usage: refund-worker [OPTIONS]")


def test_every_wrong_field_is_told_in_one_line(shop: Cli) -> None:
    ran = shop(
        "refunds", "create", "--kind", "withdrawal", "--to", "source", "--customer", " ann", "--reason", "\u200b"
    )
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 2, ran.err
    assert "customer_id: " in ran.err
    assert "reason: " in ran.err


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
