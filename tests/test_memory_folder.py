"""Where the tests' temporary files are: in memory, if there is room for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.support import memory_folder
from tests.support.memory_folder import use_memory_folder


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder is chosen yet; after the test everything is as before."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", "")


@pytest.mark.usefixtures("chosen")
def test_temporary_files_go_to_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_folder, "FREE_BYTES_MIN", 0)
    assert use_memory_folder(tmp_path)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmp_path)


@pytest.mark.usefixtures("chosen")
def test_small_or_missing_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not use_memory_folder(tmp_path / "missing")
    monkeypatch.setattr(memory_folder, "FREE_BYTES_MIN", 2**62)
    assert not use_memory_folder(tmp_path)
    assert not os.environ["TMPDIR"]


def test_folder_that_a_person_names_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert not use_memory_folder(tmp_path)
