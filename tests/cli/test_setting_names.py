"""Messages name a setting as people set it, with its prefix, and config show has real values in JSON."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

import refund_worker
from refund_worker.settings import PREFIX, Settings

SOURCE = Path(str(refund_worker.__file__)).parent
NAMES = "|".join(sorted((name.upper() for name in Settings.model_fields if "_" in name), key=len, reverse=True))
# A value that is put in before the name is the prefix. Texts that the pages in docs/ repeat mark the name instead.
BARE = re.compile(rf"(?<![`A-Z_\x00])(?<!%s)(?:{NAMES})(?![A-Z_])")
# It adds the prefix to its messages when they are shown.
WITH_PREFIX_LATER = {"settings.py"}
# Not a message: the source of a figure of a processor, for developers.
NO_MESSAGE = {f"processors/{adapter}/entry.py" for adapter in ("stripe", "paypal", "braintree")} | {
    "processors/stripe/payout_facts.py"
}


def messages(source: str) -> list[str]:
    """Return the texts of a module, without docstrings and without texts that are a name alone."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = [
        "".join(part.value if isinstance(part, ast.Constant) else "\x00" for part in node.values)
        if isinstance(node, ast.JoinedStr)
        else node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr | ast.Constant) and id(node) not in docstrings | parts
    ]
    return [text for text in found if isinstance(text, str) and " " in text]


def test_every_message_names_settings_with_their_prefix() -> None:
    bare = {}
    for path in SOURCE.rglob("*.py"):
        name = path.relative_to(SOURCE).as_posix()
        texts = [text for text in messages(path.read_text("utf-8")) if BARE.search(text)]
        if texts and name not in WITH_PREFIX_LATER | NO_MESSAGE:
            bare[name] = texts
    assert bare == {}


def test_settings_in_json_have_their_types(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "STRIPE_API_KEY": "sk_test_donotshow",
        "APPROVAL_THRESHOLD_MINOR": "500",
        "RETRY_BASE_SECONDS": "0.5",
        "LEASE_SECONDS": "60",
    }.items():
        monkeypatch.setenv(PREFIX + name, value)
    ran = cli("config", "show", "-o", "json")
    shown = {name.removeprefix(PREFIX): value for name, value in ran.json.items()}
    assert set(shown) == {name.upper() for name in Settings.model_fields}
    assert shown["APPROVAL_THRESHOLD_MINOR"] == 500
    assert shown["RETRY_BASE_SECONDS"] == 0.5
    assert shown["LEASE_SECONDS"] == 60
    assert isinstance(shown["LEASE_SECONDS"], int)
    assert shown["VELOCITY_COUNT"] is None
    assert shown["STRIPE_API_KEY"] == "(set, hidden)"
    assert shown["STRIPE_WEBHOOK_SECRET"] is None
    assert "donotshow" not in ran.out
    table = cli("config", "show").out
    assert "(not set)" in table
    assert "donotshow" not in table
