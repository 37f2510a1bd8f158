"""No spreadsheet of any locale calculates a cell of our CSV files, and harmless cells stay unchanged."""

from __future__ import annotations

import csv
import io
import re

import pytest

from refund_worker.domain.spreadsheet_cells import harmless

FORMULAS = [
    "=1+1", "+1", "-1", "@SUM(A1)", "  =1+1", "\t=1", "\r=1", "\n=1",
    # Full-width, small and other forms of the same signs.
    "＝1+1", "＋1", "－1", "＠SUM(A1)", "﹦1", "﹢1", "﹣1", "﹫A", "\u22121",
    # Blanks and invisible characters in front.
    '"=1', '""=HYPERLINK(1)', ' "\u200b"=1',
    "\u00a0=1", "\u3000=1", "\u200b=1", "\ufeff=1", "\u2060=1", "\u00ad=1", "\x01=1", "\x00=1", "\u200b\u00a0 ＝1",
]  # fmt: skip


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_in_any_spelling_gets_an_apostrophe(text: str) -> None:
    assert str(harmless(text)).startswith("'")


@pytest.mark.parametrize("separator", [";", ",", "|", "\t", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("text", FORMULAS)
def test_so_does_each_part_that_another_separator_makes_a_cell(text: str, separator: str) -> None:
    told = str(harmless(f"x{separator}{text}{separator}y"))
    parts = re.split(r"[;,|\t\r\n]", told)
    visible = [
        re.sub(r"^[\s\x00-\x1f\u200b\ufeff\u2060\u00ad\u3164\u034f\ufe0f\u180b\u2800\u115f]+", "", part)
        for part in parts
    ]
    assert not any(part.startswith(tuple("=+-@＝＋－＠﹦﹢﹣﹫\u2212")) for part in visible), told


@pytest.mark.parametrize(
    "text", ["", "asked", "a-b", "x; y", "1+1", "anna@example.org", "2026-11-01T00:00:00Z", "Käse, 3 = 4", "'=1"]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert harmless(text) == text


@pytest.mark.parametrize("separator", [";", "|", "\t"])
@pytest.mark.parametrize("text", FORMULAS)
def test_written_file_has_no_formula_cell_under_any_separator(text: str, separator: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow(["a", harmless(f'x{separator}{text}{separator}"y"'), "b"])
    for row in csv.reader(io.StringIO(file.getvalue(), newline=""), delimiter=separator):
        for cell in row:
            visible = re.sub(r'^[\s\x00-\x1f"\u200b\ufeff\u2060\u00ad]+', "", cell)
            assert not visible.startswith(tuple("=+-@＝＋－＠﹦﹢﹣﹫\u2212")), cell


def test_figures_stay_figures_and_nothing_is_an_empty_cell() -> None:
    assert (harmless(-5), harmless(0), harmless(None)) == (-5, 0, "")
