"""A used database of the first version, its chain begun: after the upgrade it verifies and works on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, MetaData, text
from tests.engine.audit.test_hash_chain import findings, seal
from tests.support.engine_world import World, assert_books_balance, credit_refund

from refund_worker.engine.access.api_keys import authenticate, create_key, create_signed_key, revoke_key
from refund_worker.engine.access.console_users import (
    create_user,
    disable_user,
    list_users,
    set_password,
    set_role,
    sign_in,
)
from refund_worker.engine.access.persons import link_person
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.audit.hash_chain import verify
from refund_worker.engine.audit.seals import digest_of, hash_of
from refund_worker.engine.processor_sync.pause import pause_processor, resume_processor
from refund_worker.store import schema
from refund_worker.store.audit import COLUMNS
from refund_worker.store.database import Database
from refund_worker.store.namespace import VERSION_TABLE
from refund_worker.store.refunds import Filters, find_ids

VERSION = "0002"
PASSWORD = "four words in a row"
SEALED = ("ledger_transactions", "ledger_entries", "events")
# Rows that earlier versions wrote and today's entry points refuse.
OF_BEFORE = (
    "UPDATE console_users SET role = 'requester' WHERE name = 'rita'",
    "UPDATE refunds SET idempotency_key = 'padded  ' WHERE idempotency_key = 'padded'",
    "UPDATE keyed_acts SET idempotency_key = ' correction ' WHERE idempotency_key = 'correction'",
    "INSERT INTO console_tries (subject, tries, last_at) VALUES ('address:127.0.0.1', 33, 1)",
)
# The last rows of each table are sealed only after the upgrade, in today's form.
UNSEALED = 2


@pytest.fixture
def made(tmp_path: Path, sqlite_template: Path) -> Iterator[World]:
    """The world that supplies the rows: finished and unfinished refunds, corrections, keys, users and switches."""
    shutil.copyfile(sqlite_template, tmp_path / "made.db")
    world = World(f"sqlite:///{tmp_path}/made.db")
    for number in (1, 2, 3):
        world.pay(number)
    world.spend()
    world.request(credit_refund(20, "to-balance"))
    world.withdraw(100, "paid")
    world.processor.script("ch_2", "failed")
    world.withdraw(50, "padded")
    world.work_for(100_000)
    world.processor.script("ch_1", *["pending"] * 3)
    world.withdraw(10, "waits")
    world.work()
    world.withdraw(10, "queued")
    for credits, key in ((5, "correction"), (-3, "taken off")):
        correct(
            world.context, customer_id="c", credits=credits, reason="why", client="backend", idempotency_key=key,
            actor="backend/anna",
        )  # fmt: skip
    create_signed_key(world.context, name="signed", client="backend", role="requester")
    create_key(world.context, name="old", client="backend", role="admin", expires_at=world.now + 9)
    revoke_key(world.context, "old", client="backend")
    for name, role in (("rita", "support"), ("omar", "operator"), ("gone", "approver")):
        create_user(world.context, name=name, role=role, password=PASSWORD)
    disable_user(world.context, "gone")
    for name in ("stripe", "other"):
        pause_processor(world.context, name, actor="console/omar", reason="amounts")
    resume_processor(world.context, "other", actor="console/omar", reason="right again")
    yield world
    world.close()


@pytest.fixture
def upgraded(database_url: str, made: World) -> Iterator[tuple[World, str]]:
    """The world of a database of version 0002 after its upgrade, and an API key from before it."""
    key = create_key(made.context, name="anna", client="backend", role="requester")
    world = World(database_url)
    with world.database.write() as connection:
        command.upgrade(schema.alembic_config(connection), VERSION)
        assert connection.execute(text("SELECT version_num FROM refund_worker_version")).scalar_one() == VERSION
    with world.database.write() as connection:
        _fill(connection, _rows(made.database))
        for statement in OF_BEFORE:
            assert connection.execute(text(statement)).rowcount == 1
        _seal_in_the_first_form(connection)
    world.processor, world.now = made.processor, made.now
    world.context.processors["stripe"] = made.processor  # type: ignore[index]
    schema.upgrade(world.database)
    yield world, key
    world.close()


def _rows(database: Database) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    tables = MetaData()
    tables.reflect(database.engine)
    with database.read() as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(table.select().order_by(*table.primary_key)).mappings()
            ]
            for table in tables.sorted_tables
        }


def _fill(connection: Connection, rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Insert the rows without the columns that the old schema lacks; the database assigns its own numbers."""
    tables = MetaData()
    tables.reflect(connection)
    connection.execute(tables.tables["installation"].delete())
    for table in tables.sorted_tables:
        if table.name in (VERSION_TABLE, "audit_seals", "audit_checks"):
            continue
        names = {column.name for column in table.columns if column.name != "seq"}
        for row in rows[table.name]:
            connection.execute(table.insert().values({name: value for name, value in row.items() if name in names}))


def _seal_in_the_first_form(connection: Connection) -> None:
    number, previous = 0, ""
    for table in SEALED:
        columns = ", ".join(COLUMNS[table])
        found = connection.execute(text(f"SELECT seq, {columns} FROM {table} ORDER BY seq")).all()[:-UNSEALED]
        assert found, table
        digests = []
        for seq, *values in found:
            plain = [bool(v) if name == "alarm" else v for name, v in zip(COLUMNS[table], values, strict=True)]
            digests.append(f"{seq}:{digest_of(table, 1, plain)}")
        seal = {"seq": (number := number + 1), "table_name": table, "first_seq": found[0][0], "form": 1}
        seal |= {"last_seq": found[-1][0], "rows": len(found), "digests": "\n".join(digests)}
        previous = hash_of(previous, seal)
        connection.execute(
            text(
                "INSERT INTO audit_seals (seq, table_name, first_seq, last_seq, rows, digests, hash, sealed_at) "
                "VALUES (:seq, :table_name, :first_seq, :last_seq, :rows, :digests, :hash, 0)"
            ),
            {name: value for name, value in seal.items() if name != "form"} | {"hash": previous},
        )


def test_chain_verifies_after_the_upgrade_and_during_later_work(upgraded: tuple[World, str]) -> None:
    world, key = upgraded
    assert findings(world) == []
    assert seal(world) > UNSEALED * len(SEALED)
    assert_books_balance(world.database)
    with world.database.read() as connection:
        identity = authenticate(connection, key)
        waiting, queued = (find_ids(connection, Filters(idempotency_key=key))[0] for key in ("waits", "queued"))
    assert identity is not None
    assert identity.actor == "backend/anna"
    assert resume_processor(world.context, "stripe", actor="console/omar", reason="looked at")
    for refund_object in [*world.processor.objects.values()]:
        if refund_object.status == "pending":
            world.processor.become(refund_object.processor_refund_id, "failed")
    world.work_for(200_000)
    assert [world.refund(id).status for id in (waiting, queued)] == ["succeeded", "succeeded"]
    world.withdraw(5, "later")
    world.work_for(1_000)
    assert world.refund(world.withdraw(5, "later")).status == "succeeded"
    set_role(world.context, "rita", "operator", actor="cli:root")
    set_password(world.context, "omar", password=PASSWORD + "!", actor="cli:root")
    link_person(world.context, "rita", "key:backend/anna", by="cli:root")
    revoke_key(world.context, "anna", client="backend")
    assert_books_balance(world.database)
    assert findings(world) == []
    seal(world)
    report = verify(world.context)
    assert (report.whole, report.unsealed) == (True, 0)
    assert report.seals > len(SEALED)


def test_users_and_idempotency_keys_survive_the_upgrade(upgraded: tuple[World, str]) -> None:
    world, _ = upgraded
    assert {user["name"]: (user["role"], user["status"]) for user in list_users(world.context)} == {
        "gone": ("approver", "disabled"),
        "omar": ("operator", "active"),
        "rita": ("support", "active"),
    }
    assert sign_in(world.context, name="rita", password=PASSWORD, address="127.0.0.1")
    before = world.account
    with world.database.read() as connection:
        count = "SELECT count(*) FROM refunds"
        refunds = connection.execute(text(count)).scalar_one()
    world.withdraw(50, "padded")
    correct(
        world.context, customer_id="c", credits=5, reason="why", client="backend", idempotency_key="correction",
        actor="backend/anna",
    )  # fmt: skip
    assert world.account == before
    with world.database.read() as connection:
        assert connection.execute(text(count)).scalar_one() == refunds
