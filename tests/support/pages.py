"""Read the tables of documentation pages, and check that the tests they name exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def tables_of(page: Path) -> list[list[list[str]]]:
    """Return each table of a page as its rows of cells, without the head."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [table[2:] for table in tables]


def missing_tests(cell: str) -> list[str]:
    """Return the tests that a cell names as `tests/…::name` and that do not exist."""
    named = named_tests(cell)
    assert len(named) == cell.count("::"), "a test is written in another form"
    return [f"{file}::{name}" for file, name in named if name not in _functions_in(file)]


def named_tests(cell: str) -> list[tuple[str, str]]:
    """Return file and name of each test in a cell."""
    return re.findall(r"`(tests/[^`:]+)::([^`]+)`", cell)


@cache
def _functions_in(file: str) -> frozenset[str]:
    if not (ROOT / file).exists():
        return frozenset()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
