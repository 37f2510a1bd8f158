"""Hashes of rows and seals, in each form that a database may contain, and the check of an erased row.

Form 1 hashes every column as it is. Form 2 hashes the texts that people wrote separately, with a salt stored in the
row. Once text and salt are overwritten, the text cannot be found by guessing. The record of the erasure contains the
hash of the texts, so that the rest of the row is still checked against its seal. An attacker who can append a record
can forge one. A forged record explains only the erasure mark in all texts, never another text, and never a line about
our own staff.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, RowMapping

from refund_worker.errors import InvalidRequest, NotFound
from refund_worker.store import audit

# The form of new seals.
FORM = 2


def digest_of(table: str, form: int, values: Sequence[Any], texts_hash: str | None = None) -> str:
    """Return the digest of a row without its number, so that a moved row is recognised at its new place.

    `values` are the columns of `audit.COLUMNS`, then the salt if the table has texts. `texts_hash` replaces the hash of
    texts that were erased.
    """
    names = audit.COLUMNS[table]
    texts = audit.TEXTS.get(table, ())
    if form == 1 or not texts:
        return _sha256(values[: len(names)])
    plain = [value for name, value in zip(names, values, strict=False) if name not in texts]
    return _sha256([*plain, texts_hash or texts_hash_of(table, values)])


def texts_hash_of(table: str, values: Sequence[Any]) -> str:
    """Return the salted hash of a row's texts, as the digest of form 2 contains it."""
    texts = [value for name, value in zip(audit.COLUMNS[table], values, strict=False) if name in audit.TEXTS[table]]
    return _sha256([values[-1], *texts])


def hash_of(previous: str, seal: Mapping[str, Any]) -> str:
    """Return the hash of a seal, which covers the hash of the seal before it ("" for the first)."""
    names = ["seq", "table_name", "first_seq", "last_seq", "rows", "digests"]
    if seal["form"] != 1:
        names.append("form")
    return _sha256([previous, *(seal[name] for name in names)])


def _sha256(values: Sequence[Any]) -> str:
    text = json.dumps(list(values), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def parsed(digests: str) -> dict[int, str]:
    """Return the digest by row number. An overwritten seal may contain anything; its wrong hash reports that."""
    pairs = (line.partition(":") for line in digests.splitlines())
    return {int(seq): digest for seq, _, digest in pairs if seq.isascii() and seq.isdigit() and len(seq) < 19}


def erasure_of(connection: Connection, table: str, seq: int, *, actor: str, at: float) -> dict[str, Any]:
    """Return the erasure record for a sealed row whose texts become `audit.ERASED` and whose salt becomes null.

    Store it in the transaction that overwrites the texts, before they are overwritten. Raises `NotFound` for a row that
    does not exist or is not sealed yet, `InvalidRequest` for a row that cannot be erased.
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
    """Return True if the row's texts may be erased.

    Lines without a refund are about customers, payees and payouts, or about users, their links and roles, and switches.
    The latter contain no text of a customer. In form 1, an erased approval would no longer show who gave it.
    """
    if table != "events":
        return True
    if row["refund_id"] is None:
        if audit.is_about_payees(row["kind"]):
            return form != 1
        return form != 1 and row["kind"] in audit.ABOUT_CUSTOMERS
    return bool(form != 1 or row["kind"] != audit.APPROVED)


def explained_by(erasure: RowMapping, table: str, form: int, was: str, values: Sequence[Any]) -> bool:
    """Return True if a row differs from its sealed digest `was` only by the erasure of its texts.

    In form 2, everything but the texts is still checked against the seal; in form 1, against the record of the erasure.
    """
    if erasure["was"] != was or erasure["becomes"] != _sha256(values) or values[-1] is not None:
        return False
    row = dict(zip(audit.COLUMNS[table], values, strict=False))
    if not _is_erasable(table, form, row) or row != row | audit.ERASED[table]:
        return False
    return form == 1 or digest_of(table, form, values, erasure["texts_hash"] or "") == was
