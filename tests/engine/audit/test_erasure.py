"""The chain holds texts as salted hashes, so texts can be erased and the chain still verifies, also an older chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import text
from tests.engine.audit.test_hash_chain import findings, seal, tamper
from tests.support.engine_world import START, World

from refund_worker.domain.decision import Event
from refund_worker.engine.access.console_users import create_user, set_role
from refund_worker.engine.access.persons import link_person
from refund_worker.engine.audit.hash_chain import Finding, verify, write_anchor
from refund_worker.engine.audit.seals import FORM, digest_of, erasure_of, parsed, texts_hash_of
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.errors import InvalidRequest, NotFound
from refund_worker.store import audit, schema, timeline

NOTE = "Vera Sommer, vera@example.org, moved away"


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a sealed spend with a description and a sealed refund event with a reason; both contain personal data."""
    made = World(migrated_url)
    made.pay()
    made.spend("t", 50, description=NOTE)
    refund_id = made.withdraw(10)
    with made.database.write() as connection:
        event = Event("note", "anna", reason=NOTE, detail={"to": "vera@example.org"})
        timeline.insert_events(connection, [(refund_id, event)], START)
    seal(made)
    yield made
    made.close()


PLACES = {"ledger_transactions": "description", "events": "reason"}


def place(world: World, table: str) -> int:
    """Return the number of the row of this table that contains `NOTE`."""
    query = text(f"SELECT seq FROM {table} WHERE {PLACES[table]} = :note")
    with world.database.read() as connection:
        return int(connection.execute(query, {"note": NOTE}).scalar_one())


def erase(world: World, table: str, seq: int, *, and_also: str = "", record: bool = True) -> None:
    """Erase a text as the program does: insert the record, then overwrite text and salt in the same transaction."""
    tamper(world)
    with world.database.write() as connection:
        if record:
            made = erasure_of(connection, table, seq, actor="cli:anna", at=START)
            audit.insert_erasure(connection, made)
        sets = ", ".join(f"{name} = '{value}'" for name, value in audit.ERASED[table].items())
        connection.execute(text(f"UPDATE {table} SET {sets}, salt = NULL{and_also} WHERE seq = {seq}"))


@pytest.mark.parametrize("table", PLACES)
def test_recorded_erasure_keeps_chain_whole_and_leaves_no_text(world: World, table: str) -> None:
    seq = place(world, table)
    erase(world, table, seq)
    assert findings(world) == []
    seal(world)
    assert verify(world.context).whole
    with world.database.read() as connection:
        for name in ("erasures", "audit_seals", "snapshots", table):
            rows = connection.execute(text(f"SELECT * FROM {name}")).all()
            assert rows
            assert "vera" not in str(rows)


@pytest.mark.parametrize("table", PLACES)
def test_a_text_overwritten_without_a_record_is_named(world: World, table: str) -> None:
    seq = place(world, table)
    erase(world, table, seq, record=False)
    assert findings(world) == [Finding(table, seq, seq, "changed")]


@pytest.mark.parametrize(
    ("table", "other"), [("ledger_transactions", "credits = credits + 1"), ("events", "actor = 'x'")]
)
def test_an_erasure_hides_no_change_of_anything_else(world: World, table: str, other: str) -> None:
    seq = place(world, table)
    erase(world, table, seq, and_also=f", {other}")
    assert findings(world) == [Finding(table, seq, seq, "changed")]


def test_not_even_a_record_made_to_fit_lets_an_amount_change(world: World) -> None:
    """The record itself states the new row, but the seal contains a hash of the original amounts."""
    seq = place(world, "ledger_transactions")
    tamper(world)
    with world.database.write() as connection:
        made = erasure_of(connection, "ledger_transactions", seq, actor="cli:eve", at=START)
        changes = "credits = credits + 1000, description = '', salt = NULL"
        connection.execute(text(f"UPDATE ledger_transactions SET {changes} WHERE seq = {seq}"))
        (row,) = audit.rows_between(connection, "ledger_transactions", seq - 1, seq, 1)
        audit.insert_erasure(connection, made | {"becomes": sha256(row[1:])})
    assert findings(world) == [Finding("ledger_transactions", seq, seq, "changed")]


def forge(world: World, table: str, seq: int, changes: dict[str, str | None]) -> None:
    """Overwrite texts of a sealed row and insert a forged erasure record that fits them."""
    tamper(world)
    with world.database.write() as connection:
        (row,) = audit.rows_between(connection, table, seq - 1, seq, 1)
        sets = "".join(f"{name} = :{name}, " for name in changes)
        connection.execute(text(f"UPDATE {table} SET {sets}salt = NULL WHERE seq = {seq}"), changes)
        (after,) = audit.rows_between(connection, table, seq - 1, seq, 1)
        seal_over = audit.seal_over(connection, table, seq)
        assert seal_over is not None
        form = seal_over["form"]
        made = {"was": parsed(seal_over["digests"])[seq], "becomes": sha256(after[1:])}
        made["texts_hash"] = None if form == 1 else texts_hash_of(table, row[1:])
        audit.insert_erasure(connection, {"at": START, "actor": "e", "table_name": table, "row_seq": seq, **made})


@pytest.mark.parametrize(
    ("table", "changes"),
    [
        ("ledger_transactions", {"description": "as agreed"}),
        ("events", {"reason": "as agreed", "detail": "{}"}),
        ("events", {"reason": "", "detail": '{"credits": 1}'}),
        ("events", {"reason": "", "detail": "{ }"}),
        ("events", {"reason": None, "detail": "{}"}),
        ("events", {"reason": ""}),
    ],
)
def test_erasure_record_does_not_explain_replacement_text(
    world: World, tmp_path: Path, table: str, changes: dict[str, str | None]
) -> None:
    seq = place(world, table)
    write_anchor(world.context, tmp_path / "anchor")
    forge(world, table, seq, changes)
    seal(world)
    assert findings(world, tmp_path / "anchor") == [Finding(table, seq, seq, "changed")]


def line_of(world: World, kind: str) -> int:
    """Return the number of the only event of this kind."""
    with world.database.read() as connection:
        return int(connection.execute(text(f"SELECT seq FROM events WHERE kind = '{kind}'")).scalar_one())


def test_a_link_between_persons_is_never_rewritten_as_an_erasure(world: World, tmp_path: Path) -> None:
    create_user(world.context, name="anna", role="approver", password="four words in a row")
    link_person(world.context, "anna", "cli:anna", by="cli:root")
    seal(world)
    write_anchor(world.context, tmp_path / "anchor")
    seq = line_of(world, "person_linked")
    forge(world, "events", seq, {"detail": '{"identity": "cli:mallory", "user": "console/anna"}'})
    with world.database.write() as connection:
        connection.execute(text("UPDATE person_links SET identity = 'cli:mallory'"))
    seal(world)
    assert findings(world, tmp_path / "anchor") == [Finding("events", seq, seq, "changed")]


def test_events_about_users_links_and_pauses_can_not_be_erased(world: World) -> None:
    create_user(world.context, name="anna", role="approver", password="four words in a row", actor="cli:root")
    set_role(world.context, "anna", role="viewer", actor="cli:root")
    link_person(world.context, "anna", "cli:anna", by="cli:root")
    pause_processor(world.context, "stripe", actor="anna", reason="wrong amounts")
    seal(world)
    kinds = ("user_created", "user_role_set", "person_linked", "processor_paused")
    seqs = [line_of(world, kind) for kind in kinds]
    for seq in seqs:
        with pytest.raises(InvalidRequest), world.database.read() as connection:
            erasure_of(connection, "events", seq, actor="cli:eve", at=START)
        forge(world, "events", seq, {"reason": "", "detail": "{}"})
    assert Finding("events", seqs[0], seqs[-1], "changed") in findings(world)


def test_an_erased_text_can_not_be_changed_again_unseen(world: World) -> None:
    seq = place(world, "events")
    erase(world, "events", seq)
    tamper(world, f"UPDATE events SET reason = 'as agreed' WHERE seq = {seq}")
    assert findings(world) == [Finding("events", seq, seq, "changed")]


def test_a_record_that_is_taken_away_or_changed_is_missed(world: World) -> None:
    seq = place(world, "events")
    erase(world, "events", seq)
    seal(world)
    tamper(world, "UPDATE erasures SET actor = 'nobody'")
    assert findings(world) == [Finding("erasures", 1, 1, "changed")]
    tamper(world, "DELETE FROM erasures")
    assert findings(world) == [Finding("events", seq, seq, "changed"), Finding("erasures", 1, 1, "deleted")]


def test_a_row_that_is_not_sealed_has_nothing_to_make_up_for(world: World) -> None:
    world.spend("later", 1)
    with world.database.read() as connection:
        last = connection.execute(text("SELECT max(seq) FROM ledger_transactions")).scalar_one()
        with pytest.raises(NotFound):
            erasure_of(connection, "ledger_transactions", last, actor="x", at=START)


def test_what_is_sealed_of_a_text_can_not_be_found_by_guessing_it(world: World) -> None:
    seq = place(world, "events")
    with world.database.read() as connection:
        (row,) = audit.rows_between(connection, "events", seq - 1, seq, 1)
        seals = str(connection.execute(text("SELECT digests FROM audit_seals")).scalars().all())
        salts = connection.execute(text("SELECT salt FROM events")).scalars().all()
    assert digest_of("events", FORM, row[1:]) in seals
    assert digest_of("events", FORM, [*row[1:-1], None]) not in seals
    assert sha256(row[1:-1]) not in seals
    assert len(set(salts)) == len(salts)
    assert all(len(salt) == 32 for salt in salts)


# --- a chain of the previous version, in its own format


def sha256(values: Any) -> str:
    """Return the SHA-256 of the values as canonical JSON, in hexadecimal."""
    return hashlib.sha256(
        json.dumps(list(values), ensure_ascii=True, separators=(",", ":"), allow_nan=False).encode()
    ).hexdigest()


OLD_EVENTS = "refund_id, at, actor, kind, leg_id, from_status, to_status, reason, detail, alarm"
OLD_ROWS = (
    "INSERT INTO customers (customer_id, created_at) VALUES ('c', 0)",
    'INSERT INTO refunds (refund_id, client, idempotency_key, body, kind, "to", customer_id, credits, reason, status,'
    " version, created_at, updated_at, requested_by) VALUES"
    " ('r', 'x', 'k', '{}', 'withdrawal', 'source', 'c', 1, 'asked', 'queued', 1, 0, 0, 'me')",
    f"INSERT INTO events ({OLD_EVENTS}) VALUES ('r', 1.5, 'me', 'accepted', NULL, NULL, 'queued', NULL, '{{}}', false)",
    f"INSERT INTO events ({OLD_EVENTS}) VALUES ('r', 2, 'anna', 'note', NULL, NULL, NULL, '{NOTE}', '{{}}', true)",
    f"INSERT INTO events ({OLD_EVENTS}) VALUES ('r', 3, 'anna', 'note', NULL, NULL, NULL, 'not sealed', '{{}}', true)",
)


@pytest.fixture
def old(database_url: str) -> Iterator[World]:
    """Yield a database of the previous version, upgraded, in which a seal covers two of three events."""
    world = World(database_url)
    with world.database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "0002")
    with world.database.write() as connection:
        for row in OLD_ROWS:
            connection.execute(text(row))
        rows = [list(row) for row in connection.execute(text(f"SELECT {OLD_EVENTS} FROM events WHERE seq <= 2"))]
        digests = "\n".join(f"{n}:{sha256([*row[:-1], bool(row[-1])])}" for n, row in enumerate(rows, 1))
        connection.execute(
            text("INSERT INTO audit_seals VALUES (1, 'events', 1, 2, 2, :digests, :hash, 0)"),
            {"digests": digests, "hash": sha256(["", 1, "events", 1, 2, 2, digests])},
        )
    schema.upgrade(world.database)
    yield world
    world.close()


def test_old_chain_still_verifies_and_continues_in_new_form(old: World) -> None:
    assert verify(old.context).whole
    assert seal(old) == 2, "the event that was not sealed, and the snapshot of the refund that the upgrade took"
    assert verify(old.context).whole
    with old.database.read() as connection:
        forms = connection.execute(text("SELECT form FROM audit_seals ORDER BY seq")).scalars().all()
        salts = connection.execute(text("SELECT salt FROM events ORDER BY seq")).scalars().all()
    assert forms == [1, FORM, FORM]
    assert [salt is not None and len(salt) for salt in salts] == [False, False, 32]
    with pytest.raises(Exception, match="append-only"), old.database.write() as connection:
        connection.execute(text("UPDATE events SET reason = 'x'"))


def test_a_row_of_the_old_form_that_was_changed_is_still_named(old: World) -> None:
    seal(old)
    tamper(old, "UPDATE events SET reason = 'because' WHERE seq = 2")
    assert findings(old) == [Finding("events", 2, 2, "changed")]


def test_a_seal_can_not_be_passed_off_as_one_of_the_other_form(old: World) -> None:
    seal(old)
    tamper(old, "UPDATE audit_seals SET form = 1 WHERE seq = 2")
    assert Finding("audit_seals", 2, 2, "changed") in findings(old)
    tamper(old, "UPDATE audit_seals SET form = 2")
    assert Finding("audit_seals", 1, 1, "changed") in findings(old)


def test_old_form_row_is_verified_by_its_erasure_record(old: World) -> None:
    erase(old, "events", 2)
    assert findings(old) == []
    seal(old)
    assert findings(old) == []
    tamper(old, "UPDATE events SET actor = 'nobody' WHERE seq = 2")
    assert findings(old) == [Finding("events", 2, 2, "changed")]


def test_old_form_event_can_not_become_approval_by_erasure(old: World) -> None:
    forge(old, "events", 2, {"kind": "refund_approved", "actor": "boss", "reason": "", "detail": "{}"})
    assert findings(old) == [Finding("events", 2, 2, "changed")]


def test_row_forged_below_one_does_not_stop_upgrade_and_is_named(database_url: str) -> None:
    world = World(database_url)
    with world.database.write() as connection:
        command.upgrade(schema.alembic_config(connection), "0002")
        for row in OLD_ROWS:
            connection.execute(text(row))
        connection.execute(
            text("INSERT INTO events (seq, refund_id, at, actor, kind) VALUES (-5, 'r', 0, 'boss', 'approved')")
        )
    schema.upgrade(world.database)
    assert findings(world) == [Finding("events", -5, -5, "added: the database does not assign this number")]
    world.close()
