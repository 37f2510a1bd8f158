"""The hash chain: every change to a sealed row that avoids the triggers is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.support.engine_world import START, Died, World

from refund_worker.domain.decision import Event
from refund_worker.engine.audit.hash_chain import ROWS_PER_SEAL, Finding, Report, Sealer, verify, write_anchor
from refund_worker.engine.audit.log import entries, status
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.errors import InvalidRequest, NotFound, UnreadableFile
from refund_worker.store import audit, timeline
from refund_worker.store.database import Database
from refund_worker.store.tables import APPEND_ONLY, metadata


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a customer with three paid withdrawals."""
    made = World(migrated_url)
    made.pay()
    for number in range(3):
        made.withdraw(10, f"k{number}")
    made.work()
    yield made
    made.close()


def seal(world: World) -> int:
    """Run the sealer twice and return the number of rows sealed.

    On Postgres the first run only marks how far to go.
    """
    sealer = Sealer()
    return sealer.seal(world.context) + sealer.seal(world.context)


def tamper(world: World, *statements: str) -> None:
    """Run statements as the owner of the database could: drop the triggers first, and do not restore them."""
    with world.database.write() as connection:
        for table in APPEND_ONLY:
            if world.database.is_sqlite:
                for act in ("no_update", "no_delete", "number"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS {table.name}_{act}"))
            else:
                for act in ("no_change", "no_update", "number"):
                    connection.execute(text(f"DROP TRIGGER IF EXISTS {table.name}_{act} ON {table.name}"))
        for statement in statements:
            connection.execute(text(statement))


def note_something(world: World) -> None:
    """Append an event to the oldest refund."""
    with world.database.write() as connection:
        refund_id = connection.execute(text("SELECT min(refund_id) FROM refunds")).scalar_one()
        timeline.insert_events(connection, [(refund_id, Event("note", "me"))], START)


def findings(world: World, anchor: Path | None = None) -> list[Finding]:
    """Verify the chain and return what does not agree."""
    return list(verify(world.context, anchor).findings)


def end_after_kills(world: World, act: Callable[[], object], most: int) -> int:
    """Let the act die after its 1st, 4th, … transaction, below `most`, until it ends; return the last number.

    The chain must verify after each death.
    """
    for number in range(1, most, 3):
        world.database.dies_after = number
        try:
            act()
        except Died:
            assert findings(world) == [], f"after transaction {number}"
        else:
            world.database.dies_after = 0
            return number
    raise AssertionError(f"it still died after transaction {number}")


def count(world: World, table: str) -> int:
    """Return the number of rows of the table."""
    with world.database.read() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_every_row_is_sealed_once_and_the_chain_is_whole(world: World) -> None:
    rows = sum(count(world, table) for table in audit.COLUMNS)
    assert seal(world) == rows > 10
    assert seal(world) == 0, "nothing is sealed twice"
    assert verify(world.context) == Report(first_seal=1, seals=4, rows=rows, unsealed=0, anchors=0, findings=())
    world.withdraw(10, "later")
    assert verify(world.context).unsealed == 4, "the line that it was accepted; snapshots of refund, leg and payment"
    assert seal(world) == 4
    assert verify(world.context).whole


def test_a_row_that_was_changed_is_named(world: World) -> None:
    seal(world)
    tamper(world, "UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 3")
    assert findings(world) == [Finding("ledger_entries", 3, 3, "changed")]


EDITS = [
    ("events", "reason = 'because'"),
    ("events", "actor = 'somebody'"),
    ("events", "at = at + 0.001"),
    ("events", "detail = '{}x'"),
    ("events", "alarm = NOT alarm"),
    ("events", "from_status = 'x'"),
    ("ledger_transactions", "description = 'x'"),
    ("ledger_transactions", "credits = credits + 1"),
    ("ledger_transactions", "occurred_at = occurred_at + 0.001"),
    ("ledger_transactions", "refund_id = 'x'"),
    ("ledger_entries", "account = 'x'"),
    ("ledger_entries", "unit = 'x'"),
]


@pytest.mark.parametrize(("table", "edit"), EDITS)
def test_no_column_can_be_changed_unseen(world: World, table: str, edit: str) -> None:
    seal(world)
    tamper(world, f"UPDATE {table} SET {edit} WHERE seq = 2")
    assert findings(world) == [Finding(table, 2, 2, "changed")]


def test_the_digests_cover_every_column_but_the_number() -> None:
    for name, columns in audit.COLUMNS.items():
        salt = {"salt"} if name in audit.TEXTS else set()
        assert {"seq", *columns} | salt == {column.name for column in metadata.tables[name].columns}


def test_a_row_that_was_deleted_is_named(world: World) -> None:
    seal(world)
    tamper(world, "DELETE FROM events WHERE seq = 2")
    assert findings(world) == [Finding("events", 2, 2, "deleted")]


def test_rows_that_changed_places_are_named_with_their_old_ones(world: World) -> None:
    seal(world)
    tamper(
        world,
        "UPDATE events SET seq = -1 WHERE seq = 2",
        "UPDATE events SET seq = 2 WHERE seq = 3",
        "UPDATE events SET seq = 3 WHERE seq = -1",
    )
    assert findings(world) == [
        Finding("events", 2, 2, "moved: sealed as row 3"),
        Finding("events", 3, 3, "moved: sealed as row 2"),
    ]


def test_rows_cut_off_at_the_end_are_named_as_one_range(world: World) -> None:
    seal(world)
    last = count(world, "events")
    tamper(world, f"DELETE FROM events WHERE seq > {last - 4}")
    assert findings(world) == [Finding("events", last - 3, last, "deleted")]


def test_a_table_that_was_emptied_is_named(world: World) -> None:
    seal(world)
    last = count(world, "ledger_entries")
    tamper(world, "DELETE FROM ledger_entries")
    assert findings(world) == [Finding("ledger_entries", 1, last, "deleted")]


def test_a_row_put_in_later_with_a_low_number_is_named(world: World) -> None:
    tamper(world, "UPDATE events SET seq = seq + 100 WHERE seq > 4")
    seal(world)
    columns = ", ".join(audit.COLUMNS["events"])
    tamper(world, f"INSERT INTO events (seq, {columns}) SELECT 50, {columns} FROM events WHERE seq = 1")
    assert findings(world) == [Finding("events", 50, 50, "added")]


def test_rows_before_the_first_seal_can_not_be_put_in_either(world: World) -> None:
    tamper(world, "UPDATE events SET seq = seq + 100")
    seal(world)
    columns = ", ".join(audit.COLUMNS["events"])
    tamper(world, f"INSERT INTO events (seq, {columns}) SELECT 1, {columns} FROM events WHERE seq = 101")
    assert findings(world) == [Finding("events", 1, 1, "added")]


def test_a_seal_written_to_fit_the_changed_row_breaks_the_chain(world: World) -> None:
    seal(world)
    tamper(world, "UPDATE audit_seals SET digests = replace(digests, 'a', 'b') WHERE seq = 2")
    assert Finding("audit_seals", 2, 2, "changed") in findings(world)


def test_a_seal_that_was_deleted_is_named(world: World) -> None:
    seal(world)
    tamper(world, "DELETE FROM audit_seals WHERE seq = 2")
    assert findings(world) == [Finding("audit_seals", 2, 2, "missing")]


def test_rows_and_seals_cut_off_together_are_found_by_anchor(world: World, tmp_path: Path) -> None:
    seal(world)
    before = count(world, "events")
    note_something(world)
    seal(world)
    anchor = tmp_path / "anchor"
    write_anchor(world.context, anchor)
    assert findings(world, anchor) == []
    tamper(world, f"DELETE FROM events WHERE seq > {before}", "DELETE FROM audit_seals WHERE seq > 4")
    assert findings(world) == [], "without an anchor nothing remembers them"
    assert findings(world, anchor) == [Finding("audit_seals", 5, 5, "missing, but in the anchor file")]


def test_chain_rebuilt_over_changed_rows_is_found_by_anchor(world: World, tmp_path: Path) -> None:
    seal(world)
    anchor = tmp_path / "anchor"
    write_anchor(world.context, anchor)
    tamper(world, "UPDATE ledger_entries SET amount = amount + 1 WHERE seq = 3", "DELETE FROM audit_seals")
    seal(world)
    assert findings(world) == []
    assert findings(world, anchor) == [Finding("audit_seals", 4, 4, "differs from the anchor file")]


def test_an_anchor_file_grows_by_a_line_and_what_is_none_is_refused(world: World, tmp_path: Path) -> None:
    anchor = tmp_path / "anchor"
    with pytest.raises(NotFound):
        write_anchor(world.context, anchor)
    assert not anchor.exists()
    seal(world)
    for _ in range(2):
        write_anchor(world.context, anchor)
    assert [json.loads(line)["seal"] for line in anchor.read_text().splitlines()] == [4, 4]
    for content in ("", "x", "[]", '{"seal": 1}'):
        anchor.write_text(content)
        with pytest.raises(UnreadableFile):
            verify(world.context, anchor)
    with pytest.raises(UnreadableFile):
        write_anchor(world.context, tmp_path / "no" / "such")


def test_a_table_longer_than_a_seal_is_sealed_in_parts(world: World) -> None:
    with world.database.write() as connection:
        refund_id = connection.execute(text("SELECT min(refund_id) FROM refunds")).scalar_one()
        line = [(refund_id, Event("note", "me"))] * (2 * ROWS_PER_SEAL)
        timeline.insert_events(connection, line, START)
    seal(world)
    report = verify(world.context)
    assert report.whole
    assert report.seals == 6
    tamper(world, f"DELETE FROM events WHERE seq = {ROWS_PER_SEAL + 7}")
    assert findings(world) == [Finding("events", ROWS_PER_SEAL + 7, ROWS_PER_SEAL + 7, "deleted")]


def test_a_seal_can_be_neither_changed_nor_deleted_through_the_guards(world: World) -> None:
    seal(world)
    for statement in ("UPDATE audit_seals SET hash = ''", "DELETE FROM audit_seals"):
        with pytest.raises(Exception, match="append-only"), world.database.write() as connection:
            connection.execute(text(statement))
    assert findings(world) == []


@pytest.mark.parametrize("migrated_url", ["postgres"], indirect=True)  # SQLite has one writer at a time
def test_a_row_committed_late_with_a_low_number_is_waited_for(world: World, migrated_url: str) -> None:
    seal(world)
    slow = Database(migrated_url)
    sealer = Sealer()
    with slow.engine.connect() as connection:
        transaction = connection.begin()
        refund_id = connection.execute(text("SELECT min(refund_id) FROM refunds")).scalar_one()
        timeline.insert_events(connection, [(refund_id, Event("slow", "me"))], START)
        world.withdraw(10, "overtakes")
        for _ in range(4):
            assert sealer.seal(world.context) == 0, "a transaction that was there at the first look still runs"
        transaction.commit()
    slow.close()
    assert sealer.seal(world.context) + sealer.seal(world.context) == 5
    assert verify(world.context).whole
    assert verify(world.context).unsealed == 0


def test_verify_of_latest_seals_sees_only_changes_they_cover(world: World) -> None:
    seal(world)
    for number in range(3, 6):
        world.withdraw(10, f"k{number}")
    world.work()
    seal(world)
    assert verify(world.context, latest=4).whole
    tamper(world, "UPDATE events SET actor = 'nobody' WHERE seq = 1")
    assert verify(world.context, latest=4).whole, "row 1 is under the first seals"
    last = "SELECT max(last_seq) FROM audit_seals WHERE table_name = 'events'"
    tamper(world, f"UPDATE events SET actor = 'nobody' WHERE seq = ({last})")
    late = verify(world.context, latest=4)
    assert [finding.what for finding in late.findings] == ["changed"]
    assert late.first_seal == late.seals + 1 == 5


def test_who_verified_and_anchored_is_kept_with_what_came_of_it(world: World, tmp_path: Path) -> None:
    assert status_of(world)["verified_all"] is None
    seal(world)
    verify(world.context, actor="cli:anna")
    write_anchor(world.context, tmp_path / "anchor", actor="cli:omar")
    told = status_of(world)
    assert told["sealed"]["seal"] == told["verified_all"]["last_seal"] == told["anchored"]["last_seal"] == 4
    assert (told["verified_all"]["actor"], told["anchored"]["actor"]) == ("cli:anna", "cli:omar")
    tamper(world, "UPDATE events SET actor = 'nobody' WHERE seq = 1")
    verify(world.context, actor="cli:anna", latest=1)
    assert status_of(world)["verified_all"]["findings"] == [], "the last look at all of it, not at a part"
    verify(world.context, actor="cli:anna")
    (finding,) = status_of(world)["verified_all"]["findings"]
    assert (finding["table"], finding["first_seq"], finding["what"]) == ("events", 1, "changed")


def test_audit_entries_are_filtered_and_wrong_filter_is_refused(world: World) -> None:
    first = world.withdraw(10, "by-hand")
    with world.database.read() as connection:
        assert [e["refund_id"] for e in entries(connection, refund_id=first)["data"]] == [first]
        paid = entries(connection, kind="leg_paid", limit=2)
        assert len(paid["data"]) == 2
        assert paid["has_more"]
        rest = entries(connection, kind="leg_paid", before=paid["looked_back_to"])
        assert len(rest["data"]) == 1
        assert not rest["has_more"]
        assert entries(connection, actor="nobody")["data"] == []
        assert {e["customer_id"] for e in entries(connection, "ledger", kind="withdrawal")["data"]} == {"c"}
        with pytest.raises(InvalidRequest):
            entries(connection, "ledger", alarm=True)


def status_of(world: World) -> dict[str, Any]:
    """Return the status of the chain as operators see it."""
    with world.database.read() as connection:
        return status(connection)


def test_pause_and_resume_are_logged_with_actor_and_reason(world: World) -> None:
    pause_processor(world.context, "stripe", actor="anna", reason="refunds fail there")
    assert resume_processor(world.context, "stripe", actor="bert", reason="they work again")
    assert not resume_processor(world.context, "stripe", actor="bert", reason="again")
    with world.database.read() as connection:
        found = entries(connection)["data"][:2]
    told = [(e["what"], e["who"], e["why"], e["refund_id"], e["detail"]) for e in found]
    assert told == [
        ("processor_resumed", "bert", "they work again", None, {"processor": "stripe"}),
        ("processor_paused", "anna", "refunds fail there", None, {"processor": "stripe"}),
    ]
    seal(world)
    assert verify(world.context).whole
