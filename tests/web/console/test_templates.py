"""The names that the console's templates read: each exists, since no type checker sees a template."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import Environment, nodes
from jinja2.runtime import LoopContext

import refund_worker

ROOT = Path(refund_worker.__file__).parent
TEMPLATES = sorted((ROOT / "web" / "console" / "templates").rglob("*.html"))
# The columns of a leg have older names than its fields: a template that reads a leg by a column's name is wrong.
COLUMNS = [ROOT / "store" / "tables.py", ROOT / "store" / "refunds.py", *(ROOT / "store" / "migrations").rglob("*.py")]
BUILT_IN = {*dir(str), *dir(list), *dir(dict), "timestamp", *dir(LoopContext)}


def defined(path: Path) -> Iterator[str]:
    """The functions, classes and typed fields of one file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def given(path: Path) -> Iterator[str]:
    """The keys and keyword arguments with which one file fills a page or a JSON object."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.fixture(scope="module")
def names() -> set[str]:
    parsed = [Environment().parse(path.read_text()) for path in TEMPLATES]
    macros = {macro.name for page in parsed for macro in page.find_all(nodes.Macro)}
    files = [path for path in ROOT.rglob("*.py") if path not in COLUMNS]
    return BUILT_IN | macros | {name for path in files for name in (*defined(path), *given(path))}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_every_attribute_a_template_reads_exists(template: Path, names: set[str]) -> None:
    page = Environment().parse(template.read_text())
    read = {(found.lineno, found.attr) for found in page.find_all(nodes.Getattr)}
    assert not sorted((line, name) for line, name in read if name not in names)
