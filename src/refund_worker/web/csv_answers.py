"""Answers as CSV files, for requests with `format=csv` or `Accept: text/csv`."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import Request, Response

CSV = "text/csv"


def wants_csv(request: Request, wanted: str | None) -> bool:
    """Return True if the caller asks for CSV: by the parameter `format`, or without it by the header Accept."""
    return wanted == "csv" or (wanted is None and CSV in request.headers.get("accept", ""))


def attachment(name: str) -> dict[str, str]:
    """Return the header that makes the answer a file of this name, without its ending."""
    return {"Content-Disposition": f'attachment; filename="{name}.csv"'}


def csv_answer(text: str, name: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the text as a file of this name."""
    return Response(text, media_type=CSV, headers={**(headers or {}), **attachment(name)})
