"""Downloads: whole lists as CSV files, read and sent in blocks, so that no file is held in memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from fastapi.responses import StreamingResponse

from refund_worker.web.console.pages import HEADERS, Page
from refund_worker.web.methods import SENT_METHOD

ROWS_AT_ONCE = 500

Rows = Sequence[Sequence[object]]


def download(page: Page, filename: str, header: Sequence[str], blocks: Iterator[Rows]) -> StreamingResponse:
    """Return the rows as a file with this header; each block is read when the one before it has been sent.

    The cells come from `csv_rows`, which makes formulas harmless. The byte order mark is for Excel.
    """
    headers = HEADERS | {"Content-Disposition": f'attachment; filename="{filename}"'}
    # HEAD has no body: its rows would be read for nothing.
    text = iter(()) if page.request.scope.get(SENT_METHOD) == "HEAD" else _text(header, blocks)
    return StreamingResponse(text, media_type="text/csv; charset=utf-8", headers=headers)


def _text(header: Sequence[str], blocks: Iterable[Rows]) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    text.write("\ufeff")
    writer.writerow(header)
    for rows in blocks:
        writer.writerows(rows)
        yield text.getvalue()
        text.seek(0)
        text.truncate()
