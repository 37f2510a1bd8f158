"""The hash chain over ledger and events: it shows each row that was changed, deleted, reordered or cut off.

Each seal covers the next rows of one table and the hash of the seal before it. An attacker who can rewrite the whole
database can rewrite the chain too. An anchor, the last hash stored in a file elsewhere, reveals that.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from refund_worker.engine.audit.row_snapshots import accept_current_rows, check_covered
from refund_worker.engine.audit.seals import FORM, digest_of, explained_by, hash_of, parsed
from refund_worker.engine.context import Context
from refund_worker.errors import NotFound, UnreadableFile
from refund_worker.store import audit, locks
from refund_worker.store.locks import Lock
from refund_worker.times import iso

ROWS_PER_SEAL = 500
SEALS, SNAPSHOTS, EVENTS = "audit_seals", "snapshots", "events"
ANCHOR_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """Rows of a table that differ from their seal; `what` describes the difference."""

    table: str
    first_seq: int
    last_seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """Result of a verification.

    `unsealed` rows are younger than the last seal, so they are not checked yet. `seals` counts from `first_seal`.
    """

    first_seal: int
    seals: int
    rows: int
    unsealed: int
    anchors: int
    findings: tuple[Finding, ...]

    @property
    def whole(self) -> bool:
        """Return True if nothing was found."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class _Mark:
    """State at the sealer's last run, and the number of the first transaction that started after it."""

    top_seqs: Mapping[str, int]
    following: int


class Sealer:
    """Seals rows that no running transaction can still precede. One per scheduler; parallel sealers seal nothing twice.

    On Postgres a row with a lower number can be committed after one with a higher number. So the rows visible now are
    sealed only in a later run, after every transaction that runs now has ended, however long that takes.
    """

    def __init__(self) -> None:
        self._mark: _Mark | None = None

    def seal(self, context: Context) -> int:
        """Seal all settled rows; return their number."""
        upto = self._settled(context)
        return sum(self._seal_table(context, table, upto[table]) for table in audit.COLUMNS) if upto else 0

    def _settled(self, context: Context) -> Mapping[str, int] | None:
        with context.database.read() as connection:
            # This order matters: a transaction with a row number up to these has an id below the next transaction's.
            tops = audit.top_seqs(connection)
            running = audit.running_transactions(connection)
        if running is None:
            return tops
        oldest, following = running
        before = self._mark
        if before is not None and oldest < before.following:
            return None
        self._mark = _Mark(tops, following)
        return before.top_seqs if before else None

    def _seal_table(self, context: Context, table: str, upto: int) -> int:
        total = 0
        while count := context.database.run(lambda connection: _seal_next(connection, context, table, upto)):
            total += count
        return total


def _seal_next(connection: Connection, context: Context, table: str, upto: int) -> int:
    if not locks.try_acquire(connection, Lock.SEAL):
        return 0
    after = audit.last_sealed_seqs(connection)[table]
    rows = audit.rows_between(connection, table, after, upto, ROWS_PER_SEAL)
    if not rows:
        return 0
    last = audit.last_seal(connection)
    seal = {
        "seq": last["seq"] + 1 if last else 1,
        "table_name": table,
        "first_seq": rows[0][0],
        "last_seq": rows[-1][0],
        "rows": len(rows),
        "digests": "\n".join(f"{row[0]}:{digest_of(table, FORM, row[1:])}" for row in rows),
        "form": FORM,
    }
    seal |= {"hash": hash_of(last["hash"] if last else "", seal), "sealed_at": context.clock(connection)}
    audit.insert_seal(connection, seal)
    return len(rows)


# --- verifying -------------------------------------------------------------------------------------------------------


VERIFIED, ANCHORED, ACCEPTED = "verified", "anchored", "accepted"


def verify(
    context: Context, anchor: Path | None = None, *, actor: str = "unknown", latest: int | None = None
) -> Report:
    """Check every sealed row against its seal, every seal against the one before, and the anchors against the seals.

    The check is recorded with its actor and result. `latest` limits it to this many of the last seals. Raises
    `UnreadableFile` if the anchor file is not one.
    """
    anchors = read_anchors(anchor) if anchor else {}
    with context.database.read() as connection:
        last = audit.last_seal(connection)
        skip = max(0, last["seq"] - latest) if last is not None and latest is not None else 0
        checker = _Checker(connection, skip)
        found = [*_unnumbered(connection), *checker.check(), *checker.check_held(), *checker.check_covered()]
        findings = tuple(_ranges([*found, *_check_anchors(anchors, checker.hashes)]))
        unsealed = sum(audit.count_after(connection, table, seq) for table, seq in checker.sealed_upto.items())
    report = Report(skip + 1, checker.seals, checker.rows, unsealed, len(anchors), findings)
    note: dict[str, Any] = {"first_seal": skip + 1, "last_seal": max(checker.hashes, default=0)}
    note |= {"rows": checker.rows, "findings": json.dumps([asdict(finding) for finding in findings])}
    _note(context, VERIFIED, actor, note)
    return report


def accept_rows(context: Context, *, actor: str) -> list[Finding]:
    """Accept the current values of covered rows that differ from their snapshots; return the differences.

    Use it for rows that the previous version wrote during an upgrade, or that a person repaired manually. The
    acceptance is recorded with its actor. A deleted row is still reported as missing.
    """

    def work(connection: Connection) -> list[Finding]:
        found = [Finding(table, seq, seq, what) for table, seq, what in accept_current_rows(connection)]
        note: dict[str, Any] = {"first_seal": 0, "last_seal": 0, "rows": len(found)}
        note |= {"findings": json.dumps([asdict(finding) for finding in found])}
        audit.insert_check(connection, {"at": context.clock(connection), "kind": ACCEPTED, "actor": actor, **note})
        return found

    return context.database.run(work)


def _note(context: Context, kind: str, actor: str, note: Mapping[str, Any]) -> None:
    def work(connection: Connection) -> None:
        at = context.clock(connection)
        audit.insert_check(connection, {"at": at, "kind": kind, "actor": actor, **note})

    context.database.run(work)


class _Checker:
    """Checks all seals after the first `skip`."""

    def __init__(self, connection: Connection, skip: int = 0) -> None:
        self._connection = connection
        self._skip = skip
        self.sealed_upto = audit.sealed_seqs_at(connection, skip) if skip else dict.fromkeys(audit.COLUMNS, 0)
        self._checked_from = dict(self.sealed_upto)
        self.hashes: dict[int, str] = {}
        self.seals = self.rows = 0

    def check(self) -> Iterator[Finding]:
        before = audit.seal_at(self._connection, self._skip)
        number, previous = self._skip, before["hash"] if before else ""
        while batch := audit.seals_after(self._connection, number, 20):
            for row in batch:
                seal = dict(row)
                chained = seal["seq"] == number + 1
                if not chained:
                    yield Finding(SEALS, number + 1, seal["seq"] - 1, "missing")
                elif seal["hash"] != hash_of(previous, seal):
                    yield Finding(SEALS, seal["seq"], seal["seq"], "changed")
                yield from self._check_rows(seal, chained)
                number, previous = seal["seq"], seal["hash"]
                self.hashes[number] = previous
                self.seals += 1

    def _check_rows(self, seal: Mapping[str, Any], chained: bool) -> Iterator[Finding]:
        table = seal["table_name"]
        if table not in self.sealed_upto:
            return
        # If a seal is missing, the rows before this one are unknown.
        after = self.sealed_upto[table] if chained else seal["first_seq"] - 1
        sealed = parsed(seal["digests"])
        rows = self._rows(table, after, seal["last_seq"])
        found = {seq: digest_of(table, seal["form"], values) for seq, values in rows.items()}
        places = {digest: seq for seq, digest in sealed.items()}
        for seq in sorted(sealed.keys() | found.keys()):
            was, now = sealed.get(seq), found.get(seq)
            if now is None:
                yield Finding(table, seq, seq, "deleted")
            elif was is None:
                yield Finding(table, seq, seq, "added")
            elif was != now and not self._erased(table, seal["form"], seq, was, rows[seq]):
                place = places.get(now)
                yield Finding(table, seq, seq, f"moved: sealed as row {place}" if place else "changed")
        self.sealed_upto[table] = max(self.sealed_upto[table], seal["last_seq"])
        self.rows += len(sealed)

    def _rows(self, table: str, after: int, upto: int) -> dict[int, Sequence[Any]]:
        found: dict[int, Sequence[Any]] = {}
        while rows := audit.rows_between(self._connection, table, after, upto, ROWS_PER_SEAL):
            found |= {row[0]: row[1:] for row in rows}
            after = rows[-1][0]
        return found

    def _erased(self, table: str, form: int, seq: int, was: str, values: Sequence[Any]) -> bool:
        records = audit.erasures_of(self._connection, table, seq) if table in audit.TEXTS else []
        return any(explained_by(record, table, form, was, values) for record in records)

    def check_held(self) -> Iterator[Finding]:
        """Yield sends of refunds that were on hold without a release, or that a link had marked as unapproved.

        Snapshots do not contain a status, and another program can change it; the sealed events show it.
        """
        span = self._checked_from[EVENTS], self.sealed_upto[EVENTS]
        for seq, refund_id, status in audit.sent_while_held(self._connection, *span):
            yield Finding(EVENTS, seq, seq, f"sent while {status}: {refund_id}")

    def check_covered(self) -> Iterator[Finding]:
        """Yield changeable rows that differ from their snapshots: all rows, or those that the checked seals mention."""
        upto = self.sealed_upto[SNAPSHOTS]
        span = (self._checked_from[SNAPSHOTS], upto) if self._skip else None
        for table, seq, what in check_covered(self._connection, span):
            yield Finding(table, seq, seq, what)


def _unnumbered(connection: Connection) -> Iterator[Finding]:
    for table, seq in audit.numbers_below_one(connection):
        yield Finding(table, seq, seq, "added: the database does not assign this number")


def _check_anchors(anchors: Mapping[int, str], hashes: Mapping[int, str]) -> Iterator[Finding]:
    for number, anchored in sorted(anchors.items()):
        if number not in hashes:
            yield Finding(SEALS, number, number, "missing, but in the anchor file")
        elif hashes[number] != anchored:
            yield Finding(SEALS, number, number, "differs from the anchor file")


def _ranges(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Merge findings of one kind about consecutive rows."""
    open_one: Finding | None = None
    for finding in findings:
        if open_one is not None:
            same = (open_one.table, open_one.what) == (finding.table, finding.what)
            if same and finding.first_seq == open_one.last_seq + 1:
                open_one = Finding(finding.table, open_one.first_seq, finding.last_seq, finding.what)
                continue
            yield open_one
        open_one = finding
    if open_one is not None:
        yield open_one


# --- the anchor outside ----------------------------------------------------------------------------------------------


def write_anchor(context: Context, path: Path, *, actor: str = "unknown") -> dict[str, Any]:
    """Append the number and hash of the last seal to the file; return them.

    Raises `NotFound` while nothing is sealed, `UnreadableFile` if the file cannot be written.
    """
    with context.database.read() as connection:
        last = audit.last_seal(connection)
    if last is None:
        raise NotFound("nothing is sealed yet: the scheduler seals new rows within a minute")
    line = {"seal": last["seq"], "hash": last["hash"], "sealed_at": iso(last["sealed_at"])}
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UnreadableFile(f"{path.name} cannot be written ({error.strerror})") from None
    _note(context, ANCHORED, actor, {"first_seal": last["seq"], "last_seal": last["seq"], "rows": 0})
    return line


def read_anchors(path: Path) -> dict[int, str]:
    """Return the hash by seal number. Raises `UnreadableFile` naming the line."""
    found: dict[int, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            lines = file.read(ANCHOR_BYTES_MAX).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{path.name} cannot be read ({type(error).__name__})") from None
    for number, line in enumerate(lines, 1):
        try:
            anchor = json.loads(line)
            found[int(anchor["seal"])] = str(anchor["hash"])
        except (ValueError, KeyError, TypeError):
            raise UnreadableFile(f"{path.name} line {number} is not an anchor") from None
    if not found:
        raise UnreadableFile(f"{path.name} contains no anchor")
    return found
