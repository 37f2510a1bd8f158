"""How a row and a seal are hashed, in each form that a database may hold, and how an erased row is recognised.

Form 1 hashes every column as it stands. Form 2 hashes the texts that people wrote apart, under a salt beside them. Once
text and salt are overwritten, nobody can find the text again by guessing. The record of the erasure carries the hash of
the texts, so that the rest of the row is still held against its seal. Whoever may append a record can make one up: it
explains one mark in the place of all texts, never another text, and no line that tells of our own people.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping

from refund_worker.errors import InvalidRequest, NotFound
from refund_worker.store import audit

# The form of the seals that are made now.
FORM = 2


def digest_of(table: str, form: int, values: Sequence[Any], texts_hash: str | None = None) -> str:
    """Of a row without its number, so that a row that was moved is recognised where it is now.

    `values` are the columns of `audit.COLUMNS`, then the salt where the table has texts. `texts_hash` stands in for
    that of texts which are gone.
    """
    names = audit.COLUMNS[table]
    texts = audit.TEXTS.get(table, ())
    if form == 1 or not texts:
        return _sha256(values[: len(names)])
    plain = [value for name, value in zip(names, values, strict=False) if name not in texts]
    return _sha256([*plain, texts_hash or texts_hash_of(table, values)])


def texts_hash_of(table: str, values: Sequence[Any]) -> str:
    """The salted hash of a row's texts, as it goes into the digest of form 2."""
    texts = [value for name, value in zip(audit.COLUMNS[table], values, strict=False) if name in audit.TEXTS[table]]
    return _sha256([values[-1], *texts])


def hash_of(previous: str, seal: Mapping[str, Any]) -> str:
    """The hash of a seal, over that of the seal before it ("" for the first)."""
    names = ["seq", "table_name", "first_seq", "last_seq", "rows", "digests"]
    if seal["form"] != 1:
        names.append("form")
    return _sha256([previous, *(seal[name] for name in names)])


def _sha256(values: Sequence[Any]) -> str:
    text = json.dumps(list(values), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parsed(digests: str) -> dict[int, str]:
    """Digest by row number; a seal that was written over may hold anything, and then its hash has said so."""
    pairs = (line.partition(":") for line in digests.splitlines())
    return {int(seq): digest for seq, _, digest in pairs if seq.isascii() and seq.isdigit() and len(seq) < 19}


def erasure_of(connection: Connection, table: str, seq: int, *, actor: str, at: float) -> dict[str, Any]:
    """The record that makes up for overwriting the texts of a sealed row with `audit.ERASED`, and its salt with null.

    It goes into the transaction that overwrites them, before that happens. Raises `NotFound` for a row that is not
    there or not sealed yet, `InvalidRequest` for one that can't be erased.
    """
    rows = audit.rows_between(connection, table, seq - 1, seq, 1)
    seal = audit.seal_over(connection, table, seq)
    was = parsed(seal["digests"]).get(seq) if seal else None
    if not rows or seal is None or was is None:
        raise NotFound(f"row {seq} of {table} is not sealed: the scheduler seals new rows within a minute")
    values = rows[0][1:]
    row = dict(zip(audit.COLUMNS[table], values, strict=False))
    if not _is_erasable(table, seal["form"], row):
        raise InvalidRequest(f"row {seq} of {table} records an action of our own staff: it cannot be erased")
    return {
        "at": at,
        "actor": actor,
        "table_name": table,
        "row_seq": seq,
        "was": was,
        "texts_hash": None if seal["form"] == 1 else texts_hash_of(table, values),
        "becomes": _sha256([*(row | audit.ERASED[table]).values(), None]),
    }


def _is_erasable(table: str, form: int, row: Mapping[str, Any]) -> bool:
    """Lines of no refund are about users, their links and roles, and switches: no customer's text is in them. Of an
    approval form 1 could not say any more who gave it."""
    if table != "events":
        return True
    return row["refund_id"] is not None and (form != 1 or row["kind"] != audit.APPROVED)


def explained_by(erasure: RowMapping, table: str, form: int, was: str, values: Sequence[Any]) -> bool:
    """Whether a row differs from its sealed digest `was` only by the erasure of its texts.

    In form 2 everything but the texts is still held against the seal; in form 1 against the record of the erasure.
    """
    if erasure["was"] != was or erasure["becomes"] != _sha256(values) or values[-1] is not None:
        return False
    row = dict(zip(audit.COLUMNS[table], values, strict=False))
    if not _is_erasable(table, form, row) or row != row | audit.ERASED[table]:
        return False
    return form == 1 or digest_of(table, form, values, erasure["texts_hash"] or "") == was
