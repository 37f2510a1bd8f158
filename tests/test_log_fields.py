"""Log lines have fields: each name that the program gives to a line is one that the formatters write."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from refund_worker.logs import FIELDS
from tests.support.pages import ROOT

SOURCE = ROOT / "src" / "refund_worker"
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
BY_NAME = {"raise_alarm", "warn_of", "log_fields"}
NO_FIELDS = {"error"}  # the parameter of `raise_alarm` that adds a traceback


def names_of(value: ast.expr, function: ast.AST) -> Iterator[str]:
    """Yield the keys of a dictionary that an expression in `function` makes.

    Those of a parameter are yielded where it is given.
    """
    if isinstance(value, ast.Dict):
        for key, inner in zip(value.keys, value.values, strict=True):
            if key is None:
                yield from names_of(inner, function)
            else:
                yield ast.literal_eval(key)
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.BitOr):
        yield from names_of(value.left, function)
        yield from names_of(value.right, function)
    elif isinstance(value, ast.Name):
        assigned = [
            node.value
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == value.id
        ]
        for each in assigned:
            yield from names_of(each, function)
        parameters = function.args if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) else None
        known = [] if parameters is None else [*parameters.args, *parameters.kwonlyargs, parameters.kwarg]
        assert assigned or value.id in [each.arg for each in known if each], f"{value.id} has unknown names"
    else:
        raise AssertionError(f"unknown names: {ast.unparse(value)}")


def names_given(function: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield (line, name) for each field that a function gives to log lines."""
    for call in ast.walk(function):
        if not isinstance(call, ast.Call):
            continue
        called = call.func
        is_line = isinstance(called, ast.Attribute) and called.attr in METHODS and ast.unparse(called.value) == "log"
        if is_line:
            for given in (each.value for each in call.keywords if each.arg == "extra"):
                yield from ((call.lineno, name) for name in names_of(given, function))
        elif ast.unparse(called) in BY_NAME:
            for each in call.keywords:
                if each.arg is None:
                    yield from ((call.lineno, name) for name in names_of(each.value, function))
                elif each.arg not in NO_FIELDS:
                    yield call.lineno, each.arg
        elif ast.unparse(called) == "add_log_field":
            yield call.lineno, ast.literal_eval(call.args[0])


def given_by_the_program() -> Iterator[tuple[str, str]]:
    """Yield (place, name) for each field that the program gives to log lines."""
    for path in sorted(SOURCE.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for line, name in names_given(function):
                    yield f"{path.relative_to(SOURCE)}:{line}", name


def test_no_field_that_a_line_is_given_is_left_out() -> None:
    given = list(given_by_the_program())
    assert len({name for _, name in given}) > 15, "the calls are not found any more"
    assert [(place, name) for place, name in given if name not in FIELDS] == []


def test_lines_about_payouts_say_which() -> None:
    assert {"payout_id", "run_id", "payee_id"} <= {*FIELDS}
