"""The small changes that a source file allows, each a realistic defect. `make mutation` draws from them.

The changes are mutmut's (an argument removed, a comparison reversed, a value lost, …) and two of our own: a statement
removed, and a condition that is always true or false. Changes to the text of messages are excluded.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import libcst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, create_mutations

from tests.mutation.change import Change

# Returns the whole source with one change. This is slow, so it runs only for drawn changes.
Make = Callable[[], str]


def offered(source: str) -> dict[int, list[Make]]:
    """Return the possible changes by line."""
    found: dict[int, list[Make]] = {}
    for line, make in (*_changes_of_mutmut(source), *_changes_by_hand(source)):
        found.setdefault(line, []).append(make)
    return found


def to_change(root: Path, path: Path, changed: str) -> Change | None:
    """Return the change for display, or None if it does not change the running code or is not valid Python."""
    source = path.read_text("utf-8")
    try:
        if _what_runs(changed) == _what_runs(source):
            return None
    except SyntaxError:
        return None
    old, new = source.splitlines(), changed.splitlines()
    first = next((n for n, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]), 0)
    return Change(str(path.relative_to(root)), first + 1, old[first].strip(), new[first].strip(), changed)


def _changes_of_mutmut(source: str) -> Iterator[tuple[int, Make]]:
    module, mutations, _, _ = create_mutations("source.py", source)
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)

    def make(mutation: Mutation) -> str:
        changed = module.deep_replace(mutation.original_node, mutation.mutated_node)
        assert isinstance(changed, libcst.Module)
        return changed.code

    for mutation in mutations:
        if not _is_of_words(mutation.original_node):
            yield positions[mutation.original_node].start.line, partial(make, mutation)


def _is_of_words(node: libcst.CSTNode) -> bool:
    """Return True for a sentence, which is read and not run."""
    return isinstance(node, libcst.BaseString) and " " in libcst.Module([]).code_for_node(node)


def _changes_by_hand(source: str) -> Iterator[tuple[int, Make]]:
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Call() | ast.Await()) | ast.Raise() | ast.AugAssign():
                yield node.lineno, partial(_with, source, node, "pass")
            case ast.If(test=test):
                yield test.lineno, partial(_with, source, test, "True")
                yield test.lineno, partial(_with, source, test, "False")


def _with(source: str, node: Any, instead: str) -> str:
    lines = source.encode().splitlines(keepends=True)
    start = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
    end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
    text = source.encode()
    return (text[:start] + instead.encode() + text[end:]).decode()


class _WithoutAnnotations(ast.NodeTransformer):
    """Removes annotations, which do not run: every module begins with the future import."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> Any:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> Any:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)


def _what_runs(source: str) -> str:
    return ast.dump(_WithoutAnnotations().visit(ast.parse(source)))
