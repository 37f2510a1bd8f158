"""Tests of one group, or with a fixture of their module, run in one process: they share what takes long to make."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

GROUPED = """
import os
import pytest

@pytest.mark.parametrize("n", [pytest.param(n, marks=pytest.mark.xdist_group("one")) for n in range(6)])
def test_grouped(n, record):
    record(os.getpid())
"""
SHARING = """
import os
import pytest

@pytest.fixture(scope="module")
def server():
    return os.getpid()

@pytest.mark.parametrize("n", range(60))
def test_sharing(n, server, record):
    record(server)
"""
CONFTEST = """
import pytest
from tests.conftest import pytest_collection_modifyitems

@pytest.fixture
def record(request):
    def write(pid):
        with request.path.with_suffix(".pids").open("a") as file:
            file.write(f"{pid}\\n")
    return write
"""
ROOT = Path(__file__).parent.parent


def test_grouped_tests_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_named_group.py").write_text(GROUPED)
    (tmp_path / "test_fixture_of_the_module.py").write_text(SHARING)
    (tmp_path / "conftest.py").write_text(CONFTEST)
    options = ["-n", "2", "--dist", "loadgroup", "-q", "-p", "no:valkey", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", "--rootdir", str(tmp_path), *options, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "66 passed" in done.stdout, done.stdout + done.stderr
    assert [len(set(pids.read_text().split())) for pids in tmp_path.glob("*.pids")] == [1, 1]
