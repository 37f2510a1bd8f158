"""Tests of one group run in one process: they share results that take minutes, or a deployment."""

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
CONFTEST = """
import pathlib
import pytest
from tests.conftest import pytest_collection_modifyitems

@pytest.fixture
def record():
    def write(pid):
        with pathlib.Path(__file__).with_name("pids").open("a") as file:
            file.write(f"{pid}\\n")
    return write
"""
ROOT = Path(__file__).parent.parent


def test_grouped_tests_run_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "test_grouped.py").write_text(GROUPED)
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
    assert "6 passed" in done.stdout, done.stdout + done.stderr
    assert len(set((tmp_path / "pids").read_text().split())) == 1
