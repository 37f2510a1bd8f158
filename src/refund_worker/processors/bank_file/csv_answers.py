"""Our own CSV form of a bank's answer, for a portal whose export a person brings into it.

Its columns are those of `COLUMNS`; only `NEEDED` must be there. The file is UTF-8 and has commas, or semicolons as some
spreadsheets write.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from typing import Final

from refund_worker.domain.money import AMOUNT_MAX
from refund_worker.processors.bank_file.answer_rows import (
    BadAnswer,
    BankAnswer,
    BankAnswerRow,
    Word,
    clean_reason,
    judged,
    read_day,
)
from refund_worker.processors.bank_file.payments import is_end_to_end_id

NEEDED: Final = ("end_to_end_id", "status")
COLUMNS: Final = (*NEEDED, "reason", "date", "returned_minor", "currency")
WORDS: Final = {str(word): word for word in (Word.SENT, Word.PAID, Word.REJECTED, Word.RETURNED)}
NO_REASON: Final = "MS03"  # what a person writes if the bank gives no reason
_MINOR = re.compile(r"[1-9][0-9]{0,12}")
_CURRENCY = re.compile(r"[A-Z]{3}")


def read_csv(body: bytes) -> BankAnswer:
    """Return the rows in the order of the file, each different one once. Raises `BadAnswer` with the line."""
    try:
        text = body.decode("utf-8-sig")
    except ValueError:
        raise BadAnswer("the file is not UTF-8") from None
    first = text.partition("\n")[0]
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ",", strict=True)
    rows: dict[BankAnswerRow, None] = {}
    names: list[str] | None = None
    try:
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if names is None:
                names = _names(cells)
            else:
                rows[_row(names, cells, lines.line_num)] = None
    except csv.Error:
        raise BadAnswer(f"line {lines.line_num}: no well-formed CSV") from None
    if not rows:
        raise BadAnswer("the file has no line of a payment")
    return BankAnswer(form="csv", rows=tuple(rows))


def _names(cells: list[str]) -> list[str]:
    names = [cell.strip().lower() for cell in cells]
    if missing := [name for name in NEEDED if name not in names]:
        raise BadAnswer(f"line 1: the column {missing[0]} is missing; the columns are {', '.join(COLUMNS)}")
    if set(names) - set(COLUMNS) or len(names) != len(set(names)):
        raise BadAnswer(f"line 1: a column is unknown or there twice; the columns are {', '.join(COLUMNS)}")
    return names


def _row(names: list[str], cells: list[str], line: int) -> BankAnswerRow:
    if len(cells) != len(names):
        raise BadAnswer(f"line {line}: {len(cells)} cells, and line 1 has {len(names)}")
    found = dict.fromkeys(COLUMNS, "") | {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    ours = found["end_to_end_id"].lower()
    if not is_end_to_end_id(ours):
        raise BadAnswer(f"line {line}: end_to_end_id is no id of a payment in our files")
    word = WORDS.get(found["status"].lower())
    if word is None:
        raise BadAnswer(f"line {line}: status must be one of {', '.join(WORDS)}")
    reason = clean_reason(found["reason"]).upper()
    if word is Word.REJECTED and not reason:
        raise BadAnswer(f"line {line}: rejected needs the bank's reason, such as AC04, or {NO_REASON} if it gives none")
    day = read_day(found["date"])
    if found["date"] and (day is None or len(found["date"]) != 10):
        raise BadAnswer(f"line {line}: date must be a day such as 2026-12-01")
    verdict = judged(word, (reason,) if reason else ())
    return BankAnswerRow(
        end_to_end_id=ours,
        status=str(word),
        state=verdict.state,
        failure_code=verdict.failure_code,
        fault=verdict.fault,
        currency=found["currency"] or None,
        returned_minor=_returned(found, word, line),
        day=day,
    )


def _returned(found: Mapping[str, str], word: Word, line: int) -> int | None:
    """Return the amount that came back, or None if the line does not say."""
    if found["currency"] and not _CURRENCY.fullmatch(found["currency"]):
        raise BadAnswer(f"line {line}: currency must be three capital letters, such as EUR")
    text = found["returned_minor"]
    if not text:
        return None
    if word is not Word.RETURNED:
        raise BadAnswer(f"line {line}: returned_minor belongs to the status returned")
    if not _MINOR.fullmatch(text) or int(text) > AMOUNT_MAX:
        raise BadAnswer(f"line {line}: returned_minor must be a whole number of minor units, such as 1250")
    if not found["currency"]:
        raise BadAnswer(f"line {line}: returned_minor needs a currency")
    return int(text)
