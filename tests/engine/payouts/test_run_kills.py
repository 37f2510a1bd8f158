"""A payout run in real processes that are killed pays each payee once; `python -m tests.payout_run_kills` does more."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.payout_run_kills import run_with_kills


@pytest.mark.slow
def test_killed_run_pays_each_payee_once(migrated_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIECE", "20")
    result = run_with_kills(migrated_url, tmp_path / "book.jsonl", count=300, kills=3)
    assert (result.kills, result.transfers) == (3, 270)
    assert result.is_right, result
