"""Read the tables of documentation pages, and check that the tests they name exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
# A longer cell cannot be read in an editor or on a phone.
CELL_LETTERS_MAX = 200


def tables_of(text: str) -> list[list[list[str]]]:
    """Return each table of a page as its rows of cells, without the head."""
    tables: list[list[list[str]]] = []
    before = ""
    for line in text.splitlines():
        if line.startswith("|"):
            if not before.startswith("|"):
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        before = line
    return [table[2:] for table in tables]


def sections_of(text: str, level: int) -> dict[str, str]:
    """Return {title: text below it} for the headings of this level, each up to the next heading of it or above it."""
    sections: dict[str, str] = {}
    parts = re.split(r"^(#+) (.+)\n", text, flags=re.MULTILINE)[1:]
    title = None
    for marks, heading, body in zip(parts[0::3], parts[1::3], parts[2::3], strict=True):
        if len(marks) == level:
            assert heading not in sections, f"two sections are called {heading}"
            title, sections[heading] = heading, body
        elif len(marks) < level:
            title = None
        elif title is not None:
            sections[title] += f"{marks} {heading}\n{body}"
    return sections


def missing_tests(text: str) -> list[str]:
    """Return the tests that a cell names as `tests/…::name` and that do not exist."""
    named = named_tests(text)
    assert len(named) == text.count("::"), "a test is written in another form"
    return [f"{file}::{name}" for file, name in named if name not in _functions_in(file)]


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return file and name of each test in a cell."""
    return re.findall(r"`(tests/[^`:]+)::([^`]+)`", text)


@cache
def _functions_in(file: str) -> frozenset[str]:
    if not (ROOT / file).exists():
        return frozenset()
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
