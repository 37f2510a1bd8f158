"""Readers for the contract's files: CSV with a header, or JSON lines, one record at a time.

A file is read twice. The first pass, on opening, proves that the whole file is readable (UTF-8, structure, header), so
that an unusable file is refused before any row is stored. The second pass yields the rows, each parsed or with its
error. Neither pass holds more than one record in memory.
"""

from __future__ import annotations

import csv
import json
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from refund_worker import strict_json
from refund_worker.domain.payouts.earnings import EarningRecord
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.intake.payee_schemas import EarningSchema, PayoutSchema
from refund_worker.engine.intake.schemas import (
    PaymentSchema,
    RefundSchema,
    Schema,
    SpendSchema,
    Timestamp,
    parse_schema,
    read_destinations,
)
from refund_worker.errors import InvalidRequest, UnreadableFile
from refund_worker.strict_json import DIGITS_MAX, MalformedJson

T = TypeVar("T")
Cells = Mapping[str, Any]

# Far above any real record, and small enough that a file without line ends cannot fill the memory.
RECORD_BYTES_MAX = 1 << 20

PAYMENT_COLUMNS = (
    "payment_id",
    "customer_id",
    "processor",
    "processor_payment_id",
    "amount_minor",
    "currency",
    "credits",
    "captured_at",
)
CONNECT_COLUMNS = ("connect_account", "connect_reverse_transfer", "connect_refund_application_fee")
PAYMENT_COLUMNS_OPTIONAL = ("captured_minor", "refunded_minor", "processor_account", *CONNECT_COLUMNS)
EARNING_COLUMNS = ("earning_id", "payee_id", "amount_minor", "currency", "description")
EARNING_COLUMNS_OPTIONAL = ("transaction_id", "available_at")
SPEND_COLUMNS = ("transaction_id", "customer_id", "kind", "credits", "description", "occurred_at")
REFUND_COLUMNS = (
    "idempotency_key",
    "kind",
    "to",
    "customer_id",
    "transaction_id",
    "credits",
    "reason",
    "note",
    "requested_by",
    "requested_at",
)
REFUND_COLUMNS_OPTIONAL = ("currency", "instructions_email", "destinations", "payee_id")
PAYOUT_COLUMNS = ("idempotency_key", "payee_id", "amount_minor", "currency", "description")
PAYOUT_COLUMNS_OPTIONAL = ("requested_by",)
# An empty cell in these columns and in the optional ones counts as absent. In the others it is an empty text, which
# most of them refuse.
MAY_BE_EMPTY = (
    "transaction_id",
    "amount_minor",  # of a payout: all that is payable
    "credits",
    "note",
    "requested_by",
    "requested_at",
)
INTEGERS = ("amount_minor", "credits", "captured_minor", "refunded_minor")
BOOLEANS = {"true": True, "false": False}
_INTEGER = re.compile(r"-?[0-9]+")

# Common files that are not text, recognised by their first bytes.
MISTAKEN = (
    (b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (b"PK\x03\x04", "it is a ZIP archive or a spreadsheet: save it as {format} first"),
    (b"\xff\xfe", "it is UTF-16: save it as {format} first"),
    (b"\xfe\xff", "it is UTF-16: save it as {format} first"),
)
OLD_LINE_ENDS = "its lines end in CR alone, as on very old machines: save it with LF or CRLF line ends"
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Rows(Generic[T]):
    """The records of a readable file: `count` of them; each iteration reads them again.

    An item is (number of the line where the record begins, the record or its error). Iterating raises `UnreadableFile`
    if the file changed since it was checked.
    """

    path: Path
    count: int
    _records: Callable[[], Iterator[tuple[int, T | InvalidRequest]]] = field(repr=False)

    def __iter__(self) -> Iterator[tuple[int, T | InvalidRequest]]:
        return self._records()


class _Asked(Schema):
    """Fields of a row in addition to the request body: its idempotency key and its time."""

    idempotency_key: str
    requested_at: Timestamp | None = None


def read_payments(path: Path) -> Rows[PaymentRecord]:
    """Read the payments of a CSV file. Raises `UnreadableFile` saying where and what to do."""
    return _csv_rows(
        path,
        PAYMENT_COLUMNS,
        PAYMENT_COLUMNS_OPTIONAL,
        lambda cells: parse_schema(PaymentSchema, _with_connect(cells)).record(),
    )


def _with_connect(cells: Cells) -> Cells:
    """Return the cells with those of the connected account as one object, as the body of a request has them."""
    connect = {name.removeprefix("connect_"): cells[name] for name in CONNECT_COLUMNS if cells.get(name) is not None}
    for name in ("reverse_transfer", "refund_application_fee"):
        if name in connect:
            connect[name] = BOOLEANS.get(connect[name], connect[name])
    others = {name: value for name, value in cells.items() if name not in CONNECT_COLUMNS}
    return others | {"connect": connect} if connect else others


def read_spends(path: Path) -> Rows[SpendRecord]:
    """Read the spends of a CSV file of transactions; any other kind is an error of its row. Raises `UnreadableFile`."""
    return _csv_rows(path, SPEND_COLUMNS, (), lambda cells: parse_schema(SpendSchema, cells).record())


def read_earnings(path: Path) -> Rows[EarningRecord]:
    """Read the earnings of a CSV file. Raises `UnreadableFile` saying where and what to do."""
    return _csv_rows(
        path,
        EARNING_COLUMNS,
        EARNING_COLUMNS_OPTIONAL,
        lambda cells: parse_schema(EarningSchema, cells).record(),
    )


def read_refund_requests(path: Path, *, client: str, actor: str) -> Rows[RefundRequest]:
    """Read the requests of a `.csv` or `.jsonl` file, all of them bulk. `actor` submits them, also if a row names a
    requester.

    Raises `UnreadableFile`.
    """

    def request(cells: Cells) -> RefundRequest:
        own = {name: cells[name] for name in _Asked.model_fields if name in cells}
        asked = parse_schema(_Asked, own)
        body = parse_schema(RefundSchema, {name: value for name, value in cells.items() if name not in own})
        return body.request(
            idempotency_key=asked.idempotency_key,
            client=client,
            actor=actor,
            bulk=True,
            requested_at=asked.requested_at,
        )

    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv_rows(path, REFUND_COLUMNS, REFUND_COLUMNS_OPTIONAL, request)
    if suffix == ".jsonl":
        return _json_rows(path, request)
    raise UnreadableFile(f"{path}: the name must end in .csv or .jsonl, which says how to read it")


def read_payout_requests(path: Path, *, client: str, actor: str) -> Rows[PayoutRequest]:
    """Read the requests for payouts of a `.csv` or `.jsonl` file, all of them bulk; an empty amount is all that is
    payable. Raises `UnreadableFile`.
    """

    def request(cells: Cells) -> PayoutRequest:
        key = parse_schema(_Asked, {name: cells[name] for name in ("idempotency_key",) if name in cells})
        body = parse_schema(PayoutSchema, {name: value for name, value in cells.items() if name != "idempotency_key"})
        return body.request(idempotency_key=key.idempotency_key, client=client, actor=actor, bulk=True)

    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _csv_rows(path, PAYOUT_COLUMNS, PAYOUT_COLUMNS_OPTIONAL, request)
    if suffix == ".jsonl":
        return _json_rows(path, request)
    raise UnreadableFile(f"{path}: the name must end in .csv or .jsonl, which says how to read it")


# --- lines -----------------------------------------------------------------------------------------------------------


def _open(path: Path) -> IO[bytes]:
    """Open a regular, non-empty file that may be text. Raises `UnreadableFile`."""
    try:
        # Check the file type first: opening a pipe would wait for its writer.
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            raise UnreadableFile(f"{path}: it is a directory, name a file in it")
        if not stat.S_ISREG(kind):
            raise UnreadableFile(f"{path}: it is not a regular file, and must be read twice: save it to one first")
        file = path.open("rb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "no such path"
        raise UnreadableFile(f"{path}: {why}: check the name and your rights") from None
    beginning = file.read(4)
    file.seek(0)
    mistaken = next((why for magic, why in MISTAKEN if beginning.startswith(magic)), None)
    if mistaken or not beginning:
        file.close()
        why = (mistaken or "it is empty: nothing to do").format(format=_format(path))
        raise UnreadableFile(f"{path}: {why}")
    return file


def _format(path: Path) -> str:
    return "JSON lines (UTF-8)" if path.suffix.lower() == ".jsonl" else "CSV (UTF-8)"


@dataclass(slots=True)
class LineReader:
    """The lines of an open file as text. The record parser calls `record_begins` at the end of each record."""

    path: Path
    file: IO[bytes]
    number: int = 0
    _bytes_of_record: int = 0

    def record_begins(self) -> int:
        """Start a record; return the number of its first line."""
        self._bytes_of_record = 0
        return self.number + 1

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(RECORD_BYTES_MAX + 1)
        if not line:
            raise StopIteration
        self.number += 1
        self._bytes_of_record += len(line)
        if self._bytes_of_record > RECORD_BYTES_MAX:
            raise self.unreadable(f"the record is longer than {RECORD_BYTES_MAX} bytes: {self._why_so_long(line)}")
        if b"\0" in line:
            raise self.unreadable(f"there is a NUL byte, so this is not text: save the file as {_format(self.path)}")
        try:
            return (line.removeprefix(BOM) if self.number == 1 else line).decode("utf-8")
        except UnicodeDecodeError:
            raise self.unreadable(f"this is not UTF-8: save the file as {_format(self.path)}") from None

    def _why_so_long(self, line: bytes) -> str:
        if b"\r" in line.removesuffix(b"\r\n"):
            return OLD_LINE_ENDS
        return "is a quote never closed?" if self.path.suffix.lower() == ".csv" else "is a line end missing?"

    def unreadable(self, what: str, line: int | None = None) -> UnreadableFile:
        """Return the error for a line (the current one unless given); `what` says what is wrong."""
        return UnreadableFile(f"{self.path}, line {self.number if line is None else line}: {what}")


def _read_in_two_passes(
    path: Path,
    records: Callable[[LineReader], Iterator[tuple[int, Any]]],
    parse: Callable[[Any], T],
) -> Rows[T]:
    """The first pass, and how to make the second. `records` gives (line, raw record) and raises `UnreadableFile`."""
    with _open(path) as file:
        seen = _identity(file)
        count = sum(1 for _ in records(LineReader(path, file)))

    def again() -> Iterator[tuple[int, T | InvalidRequest]]:
        with _open(path) as file:
            if _identity(file) != seen:
                raise UnreadableFile(f"{path}: it was changed while it was read: wait until it is complete")
            for line, raw in records(LineReader(path, file)):
                try:
                    yield line, parse(raw)
                except InvalidRequest as wrong:
                    yield line, wrong

    return Rows(path, count, again)


def _identity(file: IO[bytes]) -> tuple[int, ...]:
    status = os.fstat(file.fileno())
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


# --- CSV -------------------------------------------------------------------------------------------------------------


def _csv_rows(path: Path, required: tuple[str, ...], optional: tuple[str, ...], parse: Callable[[Cells], T]) -> Rows[T]:
    def records(lines: LineReader) -> Iterator[tuple[int, tuple[list[str], list[str]]]]:
        found = _csv_records(lines)
        columns = _checked_header(lines, next(found, (1, []))[1], required, optional)
        return ((line, (columns, cells)) for line, cells in found)

    may_be_empty = {*MAY_BE_EMPTY, *optional}

    def row(raw: tuple[list[str], list[str]]) -> T:
        columns, cells = raw
        surplus = cells[len(columns) :]
        if len(cells) < len(columns) or any(cell.strip() for cell in surplus):
            raise InvalidRequest(f"{len(cells)} fields where the header has {len(columns)}")
        named = [(name, text) for name, text in zip(columns, cells, strict=False) if name]
        if nameless := [text for name, text in zip(columns, cells, strict=False) if not name and text.strip()]:
            raise InvalidRequest(f"{len(nameless)} values in columns that have no name in the header")
        return parse({name: _cell(name, text) if text or name not in may_be_empty else None for name, text in named})

    return _read_in_two_passes(path, records, row)


def _csv_records(lines: LineReader) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of its first line, fields) for each record with something in it.

    A spreadsheet writes the empty rows below its table as lines of commas.
    """
    reader = csv.reader(lines, strict=True)
    while True:
        line = lines.record_begins()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "new-line character" in str(error):
                raise lines.unreadable(OLD_LINE_ENDS, line) from None
            raise lines.unreadable(
                f"broken CSV ({error}): look for a quote that is not closed or doubled", line
            ) from None
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _checked_header(
    lines: LineReader, columns: list[str], required: tuple[str, ...], optional: tuple[str, ...]
) -> list[str]:
    """Return the columns: each is known and named once, and none is missing. Raises `UnreadableFile` otherwise.

    Blanks around a name and capital letters do not count. A column without a name has the name "".
    """
    expected, known = f"the columns are {','.join(required)}", required + optional
    if len(columns) == 1 and any(other in columns[0] for other in ";\t|"):
        raise lines.unreadable(f"the fields are not separated by commas: {expected}")
    named = [name.strip().lower() for name in columns]
    for problem, names in (
        ("unknown", [written for written, name in zip(columns, named, strict=True) if name not in ("", *known)]),
        ("repeated", [name for place, name in enumerate(named) if name and name in named[:place]]),
        ("missing", [name for name in required if name not in named]),
    ):
        if names:
            shown = ", ".join(json.dumps(name[:60], ensure_ascii=False) for name in names[:5])
            raise lines.unreadable(f"{problem} column {shown} in the header: {expected}")
    while not named[-1]:  # columns without a name at the end: not every program writes their cells in every row
        named.pop()
    return named


def _cell(name: str, text: str) -> str | int | list[str]:
    if name == "destinations":
        return read_destinations(text)
    if name not in INTEGERS:
        return text
    return strict_integer(text, name)


def strict_integer(text: str, name: str) -> int:
    """Return the integer in `text`: ASCII digits after an optional minus. Raises `InvalidRequest` naming the field."""
    if not _INTEGER.fullmatch(text):
        raise InvalidRequest(f"{name}: must be an integer in digits only", field=name)
    if len(text) > DIGITS_MAX:
        raise InvalidRequest(f"{name}: has more digits than any amount", field=name)
    return int(text)


# --- JSON lines ------------------------------------------------------------------------------------------------------


def _json_rows(path: Path, parse: Callable[[Cells], T]) -> Rows[T]:
    return _read_in_two_passes(path, _json_records, lambda text: parse(_object(text)))


def _json_records(lines: LineReader) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) for each line that is not empty; the first must begin like an object."""
    first = True
    while True:
        line = lines.record_begins()
        text = next(lines, None)
        if text is None:
            return
        if not (text := text.strip()):
            continue
        if first and not text.startswith("{"):
            raise lines.unreadable("this is not JSON lines: each line must be one object {…}")
        if "\r" in text:  # JSON escapes a CR inside a text
            raise lines.unreadable(OLD_LINE_ENDS)
        first = False
        yield line, text


def _object(text: str) -> Cells:
    try:
        value = strict_json.decode(text)
    except MalformedJson as error:
        raise InvalidRequest(f"not a JSON object: {error.reason}") from None
    if not isinstance(value, dict):
        raise InvalidRequest("not a JSON object")
    return value
