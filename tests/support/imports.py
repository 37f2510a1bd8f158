"""The imports of each file of the package, for the checks of the layout."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "refund_worker"


def imported_modules(path: Path, source: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of everything that `path` imports, anywhere in the file."""
    relative = path.relative_to(source).with_suffix("")
    package = relative.parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            # `from refund_worker import store` names a part only by its alias.
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)
