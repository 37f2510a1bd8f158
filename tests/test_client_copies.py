"""The client's distribution imports nothing of the service: two leaves of it are copied, and only copied.

`python -m tests.test_client_copies` makes the copies again.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import refund_worker
import refund_worker_client

SERVICE, CLIENT = (Path(str(package.__file__)).parent for package in (refund_worker, refund_worker_client))
COPIED = ("api_schema.py", "request_signing.py")


@pytest.mark.parametrize("name", COPIED)
def test_a_copied_file_is_the_services_own(name: str) -> None:
    assert (CLIENT / name).read_bytes() == (SERVICE / name).read_bytes()


def test_the_client_imports_httpx_and_the_standard_library_only() -> None:
    allowed = {*sys.stdlib_module_names, "refund_worker_client", "httpx"}
    for file in sorted(CLIENT.glob("*.py")):
        found = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
        # `typing_extensions` is taken where it is there, for the service's sake, and done without elsewhere.
        assert found - allowed <= {"typing_extensions"}, file.name


def copy() -> None:
    """Write both copies again."""
    for name in COPIED:
        (CLIENT / name).write_bytes((SERVICE / name).read_bytes())


if __name__ == "__main__":
    copy()
