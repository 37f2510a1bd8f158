"""A refund requested inside the caller's own transaction, on an engine that the caller configured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.orm import Session
from tests.support.engine_world import World, assert_books_balance
from tests.support.payees import add_payee, with_payouts

from refund_worker import Kind, RefundRequest, Refusal, To, request_refund
from refund_worker.errors import InvalidRequest, UnknownPayee, UnsafeSavepoint
from refund_worker.settings import Settings

HIS_OWN = text("INSERT INTO orders VALUES (1)")
READ = text("SELECT number FROM orders")


@pytest.fixture
def url(migrated_url: str) -> Iterator[str]:
    """Yield the URL of a database with one payment of 100 credits; check at the end that the books balance."""
    with closing(World(migrated_url)) as world:
        world.pay()
        yield migrated_url
        assert_books_balance(world.database)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Yield the caller's engine, made by `create_engine(url)` alone, and the caller's own table."""
    made = create_engine(url)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    yield made
    made.dispose()


@pytest.fixture
def says_begin(engine: Engine) -> Engine:
    """Return the caller's engine, configured for savepoints as the SQLAlchemy page on SQLite recommends."""
    if engine.dialect.name == "sqlite":
        engine.dispose()

        @event.listens_for(engine, "connect")
        def _leave_begin_to_us(driver, _record) -> None:  # type: ignore[no-untyped-def]
            driver.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN")

    return engine


def ask(where: Session | Connection, key: str = "k", credits: int = 10) -> str:
    """Request a withdrawal in the caller's session or connection and return the refund's id."""
    request = RefundRequest(
        idempotency_key=key, kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="c", credits=credits, reason="asked"
    )
    return request_refund(where, request, settings=Settings()).refund_id


def stored(engine: Engine) -> tuple[int, int, int]:
    """Return (refunds, held credits, the caller's orders) as another engine sees them: only committed rows count."""
    with closing(World(engine.url.render_as_string(hide_password=False))) as world, world.database.read() as connection:
        count = connection.execute(text("SELECT count(*) FROM refunds")).scalar_one()
        orders = connection.execute(text("SELECT count(*) FROM orders")).scalar_one()
        return count, world.account.held, orders


NOTHING = (0, 0, 0)


def test_actor_is_stored_as_requester_and_requested_by_as_note(engine: Engine) -> None:
    request = RefundRequest(
        idempotency_key="k",
        kind=Kind.WITHDRAWAL,
        to=To.SOURCE,
        customer_id="c",
        credits=10,
        reason="asked",
        actor="backend/desk",
        requested_by="Mrs Smith",
    )
    with Session(engine) as session, session.begin():
        refund_id = request_refund(session, request, settings=Settings()).refund_id
    with closing(World(engine.url.render_as_string(hide_password=False))) as world:
        refund = world.refund(refund_id)
    assert (refund.requested_by, refund.requested_by_note) == ("backend/desk", "Mrs Smith")


def to_payee(**changes: Any) -> RefundRequest:
    """Return a withdrawal of the customer to the payee "p"."""
    values = {"idempotency_key": "k", "kind": Kind.WITHDRAWAL, "to": To.PAYOUT, "customer_id": "c", "payee_id": "p"}
    return RefundRequest(**(values | {"credits": 10, "reason": "asked"} | changes))  # type: ignore[arg-type]


def test_withdrawal_to_a_payee_is_accepted(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with closing(World(url)) as world:
        with_payouts(world)
        add_payee(world, "p", customer_id="c")
        add_payee(world, "q")
    with Session(engine) as session, session.begin():
        accepted = request_refund(session, to_payee(), settings=Settings())
        for wrong, refusal in (
            ({"payee_id": "q"}, UnknownPayee),
            ({"payee_id": None}, InvalidRequest),
            ({"to": To.SOURCE}, InvalidRequest),
        ):
            with pytest.raises(refusal):
                request_refund(session, to_payee(idempotency_key="k2", **wrong), settings=Settings())
        assert request_refund(session, to_payee(), settings=Settings()).replayed
    with closing(World(url)) as world:
        refund = world.refund(accepted.refund_id)
    assert (refund.to, refund.payee_id) == (To.SOURCE, "p")


@pytest.mark.parametrize("destinations", ["payments,manual", ["payments", "manual"]])
def test_destinations_are_a_text_or_a_list(engine: Engine, destinations: Any) -> None:
    request = to_payee(to=To.SOURCE, payee_id=None, destinations=destinations)
    with Session(engine) as session, session.begin():
        refund_id = request_refund(session, request, settings=Settings()).refund_id
        with pytest.raises(InvalidRequest, match="destinations"):
            request_refund(session, replace(request, destinations="bank"), settings=Settings())
    with closing(World(engine.url.render_as_string(hide_password=False))) as world:
        assert world.refund(refund_id).destinations == "payments,manual"


def test_a_rollback_leaves_no_refund(engine: Engine) -> None:
    with Session(engine) as session:
        ask(session)
        session.rollback()
    assert stored(engine) == NOTHING


def test_a_caller_that_breaks_leaves_no_refund(engine: Engine) -> None:
    def break_off() -> None:
        with Session(engine) as session, session.begin():
            ask(session)
            raise LookupError("something of the caller's")

    with pytest.raises(LookupError):
        break_off()
    assert stored(engine) == NOTHING


def test_a_session_closed_without_a_commit_leaves_no_refund(engine: Engine) -> None:
    with Session(engine) as session:
        ask(session)
    assert stored(engine) == NOTHING


def test_rollback_leaves_no_refund_if_caller_read_and_wrote(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(READ).all()
        ask(session)
        session.execute(HIS_OWN)
        session.rollback()
    assert stored(engine) == NOTHING


def test_a_rollback_takes_back_the_callers_own_row_and_two_refunds(engine: Engine) -> None:
    with Session(engine) as session:
        session.execute(HIS_OWN)
        ask(session, "k1")
        ask(session, "k2")
        session.rollback()
    assert stored(engine) == NOTHING


def test_a_commit_stores_the_callers_own_row_and_two_refunds(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        first = ask(session, "k1")
        session.execute(HIS_OWN)
        second = ask(session, "k2")
        assert ask(session, "k1") == first != second
    assert stored(engine) == (2, 20, 1)


def test_refusal_keeps_callers_work_and_stores_nothing_else(engine: Engine) -> None:
    with Session(engine) as session:
        ask(session, "k1")
        session.execute(HIS_OWN)
        with pytest.raises(Refusal):
            ask(session, "k2", credits=1_000)
        session.commit()
        with pytest.raises(Refusal):
            ask(session, "k3", credits=1_000)
        session.rollback()
    assert stored(engine) == (1, 10, 1)


def test_session_reused_after_rollback_stores_only_its_commit(engine: Engine) -> None:
    with Session(engine) as session:
        ask(session, "k1")
        session.rollback()
        ask(session, "k2")
        session.commit()
        ask(session, "k3")
        session.rollback()
    assert stored(engine) == (1, 10, 0)


@pytest.mark.parametrize("commits", [False, True])
def test_plain_connection_commits_or_rolls_back_its_request(engine: Engine, commits: bool) -> None:
    with engine.connect() as connection:
        ask(connection)
        if commits:
            connection.commit()
    assert stored(engine) == ((1, 10, 0) if commits else NOTHING)


@pytest.mark.parametrize("commits", [False, True])
def test_joined_session_commits_or_rolls_back_with_connection(engine: Engine, commits: bool) -> None:
    with engine.connect() as connection, connection.begin() as outer:
        with Session(connection, join_transaction_mode="create_savepoint") as session:
            ask(session, "k1")
            ask(session, "k2")
            session.commit()
        if not commits:
            outer.rollback()
    assert stored(engine) == ((2, 20, 0) if commits else NOTHING)


def test_savepoint_after_first_request_can_be_rolled_back(engine: Engine) -> None:
    with Session(engine) as session:
        ask(session, "k1")
        with session.begin_nested() as savepoint:
            ask(session, "k2")
            savepoint.rollback()
        with session.begin_nested():
            ask(session, "k3")
        session.commit()
    assert stored(engine) == (2, 20, 0)


def test_released_savepoints_do_not_outlive_a_rollback(says_begin: Engine) -> None:
    with Session(says_begin) as session:
        with session.begin_nested():
            session.execute(HIS_OWN)
            ask(session)
        session.rollback()
    assert stored(says_begin) == NOTHING


def test_released_savepoints_are_committed_with_the_rest(says_begin: Engine) -> None:
    with Session(says_begin) as session, session.begin():
        with session.begin_nested():
            session.execute(HIS_OWN)
            ask(session, "k1")
        with session.begin_nested() as savepoint:
            ask(session, "k2")
            savepoint.rollback()
    assert stored(says_begin) == (1, 10, 1)


def test_unsafe_outer_savepoint_is_refused_and_stores_nothing(engine: Engine) -> None:
    with Session(engine) as session:
        if engine.dialect.name == "sqlite":
            with pytest.raises(UnsafeSavepoint, match="say BEGIN itself"), session.begin_nested():
                ask(session)
        else:
            with session.begin_nested():
                ask(session)
        session.rollback()
    assert stored(engine) == NOTHING
