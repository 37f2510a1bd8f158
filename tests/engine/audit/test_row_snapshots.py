"""Snapshots put mutable rows under the chain, and no row can take a number within the sealed range."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from tests.engine.audit.test_hash_chain import findings, seal, tamper
from tests.support.engine_world import World
from tests.support.payees import add_payee, with_payouts

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.access.api_keys import create_key, revoke_key
from refund_worker.engine.access.console_users import create_user, disable_user
from refund_worker.engine.access.persons import link_person, unlink_person
from refund_worker.engine.audit.hash_chain import Finding, accept_rows, verify
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.store import snapshots
from refund_worker.store.snapshots import COVERED
from refund_worker.store.tables import metadata

STORE = Path(snapshots.__file__).parent


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield two customers with paid withdrawals, two keys, two users, two paused processors and a payee."""
    made = World(migrated_url)
    made.pay()
    made.pay(2, customer_id="d")
    for number in range(2):
        made.withdraw(10, f"k{number}")
    made.work()
    for name in ("anna", "bert"):
        create_key(made.context, name=name, client="backend", role="requester")
        create_user(made.context, name=name, role="operator", password="four words in a row")
    for name in ("stripe", "other"):
        pause_processor(made.context, name, actor="anna", reason="wrong amounts")
    with_payouts(made)
    add_payee(made)
    yield made
    made.close()


# Other values that break no rule of the database. In all other columns any other text or number is valid.
OTHERWISE = {
    "customer_id": "CASE customer_id WHEN 'c' THEN 'd' ELSE 'c' END",
    "payment_id": "(SELECT max(payment_id) FROM payments WHERE payment_id <> legs.payment_id)",
    "refund_id": "(SELECT max(refund_id) FROM refunds WHERE refund_id <> legs.refund_id)",
    "credits_taken": "credits_taken - 1",
    "money_taken": "money_taken - 1",
    "of_correction": "NOT of_correction",
    "posted": "NOT posted",
}


def otherwise(table: str, column: str) -> str:
    """Return an SQL expression for another valid value of the column."""
    if column in OTHERWISE:
        return OTHERWISE[column]
    if str(metadata.tables[table].c[column].type).startswith(("BIGINT", "DOUBLE")):
        return f'coalesce("{column}", 0) + 1'
    return f"coalesce(\"{column}\", '') || 'x'"


@pytest.mark.parametrize("table", sorted(COVERED))
def test_each_covered_column_that_another_hand_changes_is_named(world: World, table: str) -> None:
    seal(world)
    assert verify(world.context).whole
    key = next(iter(metadata.tables[table].primary_key.columns)).name
    with world.database.read() as connection:
        row_id = connection.execute(text(f"SELECT min({key}) FROM {table}")).scalar_one()
    for column in COVERED[table]:
        one = f"WHERE {key} = '{row_id}'"
        with world.database.write() as connection:
            was = connection.execute(text(f'SELECT "{column}" FROM {table} {one}')).scalar_one()
            connection.execute(text(f'UPDATE {table} SET "{column}" = {otherwise(table, column)} {one}'))
        (finding,) = findings(world)
        assert (finding.table, finding.what) == (table, f"changed: {column} of {row_id}")
        with world.database.write() as connection:
            connection.execute(text(f'UPDATE {table} SET "{column}" = :was {one}'), {"was": was})
    assert findings(world) == []


def test_a_row_that_another_hand_put_in_or_took_away_is_named(world: World) -> None:
    seal(world)
    with world.database.write() as connection:
        connection.execute(
            text("INSERT INTO console_users (name, role, password_hash, created_at) VALUES ('eve', 'admin', 'x', 0)")
        )
        connection.execute(text("DELETE FROM api_keys WHERE name = 'anna'"))
    told = [(finding.table, finding.what.split(":")[0]) for finding in findings(world)]
    assert told == [("api_keys", "deleted"), ("console_users", "added")]
    assert "eve" in findings(world)[1].what


def test_directly_edited_person_link_is_named_until_corrected(world: World) -> None:
    for name, identity in (("anna", "key:backend/anna"), ("bert", "cli:bert"), ("bert", "key:backend/bert")):
        link_person(world.context, name, identity, by="cli:root")
    unlink_person(world.context, "bert", "cli:bert", by="cli:root")
    seal(world)
    assert findings(world) == []
    with world.database.write() as connection:
        connection.execute(text("DELETE FROM person_links WHERE identity = 'backend/anna'"))
        connection.execute(text("INSERT INTO person_links VALUES ('console/anna', 'cli:bert', 0, 'cli:root')"))
    found = [(finding.table, finding.what) for finding in verify(world.context, latest=1).findings]
    assert found == [
        ("person_links", "deleted: console/anna and backend/anna"),
        ("person_links", "added: console/anna and cli:bert, by none of our programs"),
    ]
    link_person(world.context, "anna", "key:backend/anna", by="cli:root")
    unlink_person(world.context, "anna", "cli:bert", by="cli:root")
    assert findings(world) == []


def test_what_our_own_programs_change_is_no_finding(world: World) -> None:
    disable_user(world.context, "bert")
    revoke_key(world.context, "bert", client="backend")
    resume_processor(world.context, "stripe", actor="anna", reason="right again")
    failing = world.withdraw(10, "fails")
    world.processor.script("ch_1", "failed")
    world.work_for(100_000)
    assert world.refund(failing).status in set(RefundStatus)
    assert findings(world) == []
    seal(world)
    assert findings(world) == []


def test_direct_change_is_seen_if_only_latest_seals_are_verified(world: World) -> None:
    seal(world)
    world.withdraw(10, "later")
    seal(world)
    assert verify(world.context, latest=2).whole
    with world.database.write() as connection:
        connection.execute(text("UPDATE console_users SET role = 'admin' WHERE name = 'anna'"))
        connection.execute(text("UPDATE refunds SET credits = 1 WHERE idempotency_key = 'later'"))
    told = [finding.table for finding in verify(world.context, latest=2).findings]
    assert told == ["refunds", "console_users"]


def test_a_person_can_take_rows_for_right_and_it_stays_noted_who_did(world: World) -> None:
    seal(world)
    with world.database.write() as connection:
        connection.execute(text("UPDATE payments SET money_taken = money_taken - 1 WHERE payment_id = 'pay1'"))
        connection.execute(text("UPDATE console_users SET role = 'admin' WHERE name = 'anna'"))
    differed = [finding.table for finding in findings(world)]
    assert [finding.table for finding in accept_rows(world.context, actor="cli:omar")] == differed
    assert differed == ["payments", "console_users"]
    assert findings(world) == []
    assert accept_rows(world.context, actor="cli:omar") == []
    with world.database.read() as connection:
        noted = connection.execute(
            text("SELECT actor, rows, findings FROM audit_checks WHERE kind = 'accepted' ORDER BY seq LIMIT 1")
        ).one()
    assert noted[:2] == ("cli:omar", 2)
    assert "money_taken of pay1" in noted[2]


def test_a_snapshot_holds_no_text_of_people_and_no_password(world: World) -> None:
    with world.database.read() as connection:
        states = "".join(connection.execute(text("SELECT state FROM snapshots")).scalars())
    assert "anna" in states
    for secret in ("$argon2", "wrong amounts", "asked"):
        assert secret not in states


def test_store_functions_writing_covered_table_append_snapshots() -> None:
    """A function that changes none of the covered columns is listed here by name."""
    harmless = {
        *("put_off", "requeue_waiting_for", "requeue_written_after", "_requeue_refunds"),
        *("store_readings", "read_again", "mark_refunded_elsewhere"),  # what the processor reports about a payment
        "insert_session",  # when a user last signed in
        "forget_listing",  # when the processor's refunds were last listed
        "record_alarm",  # when people were alerted of a circuit
        "erase_ended_before",  # addresses of customers
        "mark_closed",  # which has a ledger entry
        "write_room",  # sums of claims, which have ledger entries
        *("write_verdict", "claim_refreshes", "plan_refresh", "refresh_destinations"),  # the processor's word
    }
    found = set()
    for path in sorted(STORE.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        statements = {
            target.id
            for node in tree.body
            if isinstance(node, ast.Assign) and writes(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for function in [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]:
            names = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
            if writes(function) or names & statements:
                found.add(function.name)
                assert "snapshots" in names or function.name in harmless, f"{path.name}: {function.name}"
    assert found > harmless | {"insert_refunds", "write_refunds", "pause", "insert_key", "change_payments"}


def writes(tree: ast.AST) -> bool:
    """Return True if the code contains a write to a covered table."""
    return any(is_write(node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def is_write(call: ast.Call) -> bool:
    """Return True for calls such as `table.insert()` or `update(table)` on a covered table."""
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("insert", "update", "delete"):
        return isinstance(function.value, ast.Name) and function.value.id in COVERED
    called = isinstance(function, ast.Name) and function.id in ("update", "delete", "insert_into")
    return called and any(isinstance(argument, ast.Name) and argument.id in COVERED for argument in call.args)


# --- row numbers


FORGED = {
    "events": "INSERT INTO events (seq, refund_id, at, actor, kind, to_status)"
    " SELECT {seq}, min(refund_id), 0, 'boss', 'approved', 'queued' FROM refunds",
    "ledger_transactions": "INSERT INTO ledger_transactions"
    " (seq, transaction_id, customer_id, kind, credits, occurred_at, actor)"
    " VALUES ({seq}, 'tx_forged', 'c', 'correction', 1000, 0, 'boss')",
    "ledger_entries": "INSERT INTO ledger_entries (seq, transaction_id, account, unit, amount)"
    " SELECT {seq}, min(transaction_id), 'customer:c', 'credits', 1000 FROM ledger_transactions",
    "audit_seals": "INSERT INTO audit_seals (seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at)"
    " VALUES ({seq}, 'events', {seq}, {seq}, 1, '', '', 0)",
    "audit_checks": "INSERT INTO audit_checks (seq, at, kind, actor, first_seal, last_seal, rows)"
    " VALUES ({seq}, 0, 'verified', 'boss', 1, 1, 1)",
    "snapshots": "INSERT INTO snapshots (seq, table_name, row_id, form, state)"
    " VALUES ({seq}, 'payments', 'p', 1, '[]')",
    "erasures": "INSERT INTO erasures (seq, at, actor, table_name, row_seq, was, becomes)"
    " VALUES ({seq}, 0, 'boss', 'events', 1, 'a', 'b')",
}


@pytest.mark.parametrize("table", FORGED)
def test_the_database_takes_no_number_below_one(world: World, table: str) -> None:
    for seq in (-5, -1, 0):
        with pytest.raises(DBAPIError, match="append-only"), world.database.write() as connection:
            connection.execute(text(FORGED[table].format(seq=seq)))
    seal(world)
    assert findings(world) == []


@pytest.mark.parametrize("table", ["events", "ledger_transactions", "ledger_entries", "snapshots"])
def test_the_database_takes_no_number_in_a_gap_among_what_is_sealed(world: World, table: str) -> None:
    with world.database.write() as connection:
        last = connection.execute(text(f"SELECT max(seq) FROM {table}")).scalar_one()
        connection.execute(text(FORGED[table].format(seq=last + 5).replace("tx_forged", "tx_honest")))
    seal(world)
    for seq in (last + 1, last + 4):
        with pytest.raises(DBAPIError, match="append-only"), world.database.write() as connection:
            connection.execute(text(FORGED[table].format(seq=seq)))


def test_rows_forged_below_one_with_the_guards_off_are_named(world: World) -> None:
    seal(world)
    tamper(world, *(FORGED[table].format(seq=seq) for table, seq in (("events", -5), ("ledger_transactions", -4))))
    tamper(world, FORGED["audit_seals"].format(seq=-3))
    told = [
        Finding(t, s, s, "added: the database does not assign this number") for t, s in (("ledger_transactions", -4),)
    ]
    found = findings(world)
    assert told[0] in found
    assert {(f.table, f.first_seq) for f in found} == {("ledger_transactions", -4), ("events", -5), ("audit_seals", -3)}
    assert not verify(world.context, latest=1).whole
