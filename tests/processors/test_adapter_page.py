"""docs/adding-a-processor.md names all that an adapter can have, and its example imports from one place."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from tests.processors.contract import Subject
from tests.support.pages import DOCS

from refund_worker.domain.money import (
    STRIPE_STEP,
    STRIPE_THREE_DECIMAL,
    STRIPE_ZERO_DECIMAL,
    decimal_places,
    smallest_step,
)
from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import RefundDetails, RefundObject
from refund_worker.engine.views.failure_codes import FAILURE_CODES
from refund_worker.engine.views.sending_codes import SENDING_CODES
from refund_worker.processors import adapter_api
from refund_worker.processors.base import (
    AccountSettings,
    Capabilities,
    EventFault,
    Processor,
    ProcessorEntry,
    Webhooks,
)

PAGE = (DOCS / "adding-a-processor.md").read_text("utf-8")
# Every name in code, such as `make` in `make(name, settings, timeout_seconds)`.
NAMED = {name for code in re.findall(r"`([^`\n]+)`", PAGE) for name in re.findall(r"[A-Za-z_]\w*", code)}
EXAMPLE = sorted((Path(__file__).parent / "second" / "acmepay").glob("*.py"))
# Aliases of replies, which the members' types name.
NOT_EXPLAINED = {name for name in adapter_api.__all__ if name.endswith("Reply")}


@pytest.mark.parametrize("described", [Capabilities, ProcessorEntry, Webhooks, RefundInstruction, RefundObject])
def test_page_names_every_field(described: type) -> None:
    assert {field.name for field in fields(described)} - NAMED == set()


def test_page_names_every_detail_and_setting() -> None:
    assert {field.name for field in fields(RefundDetails)} - NAMED == set()
    assert {*AccountSettings.model_fields, "CREDENTIALS", "WEBHOOK_SETTING"} - NAMED == set()
    assert {fault.name for fault in EventFault} - NAMED == set()


def test_page_names_every_member_of_an_adapter() -> None:
    members = {name for name in vars(Processor) if not name.startswith("_")} | set(Processor.__annotations__)
    assert members - NAMED == set()


def test_page_names_every_attribute_of_a_subject() -> None:
    assert {name for name in Subject.__annotations__ if not name.startswith("_")} - NAMED == set()


def test_page_names_every_type_of_the_one_import_place() -> None:
    assert set(adapter_api.__all__) - NOT_EXPLAINED - NAMED == set()


def test_codes_of_the_page_exist() -> None:
    section = PAGE.partition("## Codes of ours")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    codes = {code for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)}
    assert len(codes) > 20
    assert codes <= FAILURE_CODES.keys() | SENDING_CODES.keys()


def test_page_shows_the_minor_units_of_our_books() -> None:
    section = PAGE.partition("### Minor units of our books")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (.+) \| ([0-9]) \| ([0-9]+) \|$", section, re.MULTILINE)
    shown = {name: (int(places), int(step)) for names, places, step in rows for name in re.findall(r"[A-Z]{3}", names)}
    assert shown == {name: (decimal_places(name), smallest_step(name)) for name in shown}
    assert {*STRIPE_ZERO_DECIMAL, *STRIPE_THREE_DECIMAL, *STRIPE_STEP} <= shown.keys()


@pytest.mark.parametrize("file", EXAMPLE, ids=lambda file: file.name)
def test_example_imports_this_program_from_one_place(file: Path) -> None:
    imported = {
        node.module
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level == 0 and (node.module or "").startswith(("refund", "tests"))
    }
    assert imported <= {"refund_worker.processors.adapter_api"}


def test_commands_of_the_page_run_the_tests_of_a_copy(tmp_path: Path) -> None:
    """The page's commands, with the folder of the test for `../mine`."""
    commands = re.findall(r"^.*PYTHONPATH=\.\./mine.*$", PAGE, re.MULTILINE)
    assert len(commands) == 3
    source, target = re.findall(r"^cp -r (\S+) \.\./mine/(\S+)$", PAGE, re.MULTILINE)[0]
    shutil.copytree(DOCS.parent / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
    renaming = re.findall(r"^(?:mv|perl) .*$", PAGE, re.MULTILINE)
    assert len(renaming) == 4
    passed = []
    for command in (*commands[:2], *renaming, commands[2]):
        there = command.replace("PYTHONPATH=../mine", f"PYTHONPATH={tmp_path}{os.pathsep}$PYTHONPATH")
        shown = there.replace("../mine", str(tmp_path)).replace(
            ".venv/bin/pytest", f"{sys.executable} -m pytest -p no:cacheprovider"
        )
        ran = subprocess.run(
            ["bash", "-c", shown], cwd=DOCS.parent, capture_output=True, text=True, timeout=200, check=False
        )
        assert ran.returncode == 0, (command, ran.stdout[-2_000:], ran.stderr)
        passed += [int(number) for number in re.findall(r"(\d+) passed", ran.stdout)]
    assert passed[0] > 100, "the contract, for the example of the project and for its copy"
    assert passed[1] >= 50, "the tests of the copy"
    assert passed[2] == passed[0] / 2, "the contract, for the renamed copy alone"
    left = [text for file in tmp_path.rglob("*.py") for text in re.findall("(?i)acmepay", file.read_text("utf-8"))]
    assert left == []
