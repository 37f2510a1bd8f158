"""A payout requested inside the caller's own transaction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session
from tests.support.payout_world import PayoutWorld

from refund_worker import PayoutRequest, request_payout
from refund_worker.errors import AboveMaximum, InsufficientEarnings, InvalidRequest, KeyReused, UnknownPayee
from refund_worker.settings import Settings


@pytest.fixture
def world(migrated_url: str) -> Iterator[PayoutWorld]:
    with closing(PayoutWorld(migrated_url)) as made:
        made.earn("e1", 5_000, at=1 - made.now)
        yield made


@pytest.fixture
def engine(world: PayoutWorld, migrated_url: str) -> Iterator[Engine]:
    made = create_engine(migrated_url)
    yield made
    made.dispose()


def ask(session: Session, settings: Settings | None = None, **fields: object) -> str:
    values = {"idempotency_key": "k", "payee_id": "p", "amount_minor": 3_000, "currency": "USD", "description": "May"}
    request = PayoutRequest(**(values | fields))  # type: ignore[arg-type]
    return request_payout(session, request, settings=settings or Settings()).payout_id


def test_commit_makes_it_and_a_rollback_does_not(world: PayoutWorld, engine: Engine) -> None:
    with Session(engine) as session:
        ask(session)
        session.rollback()
    assert world.balance().payable_minor == 5_000
    with Session(engine) as session, session.begin():
        payout_id = ask(session)
    assert world.payout(payout_id).status == "queued"
    assert world.balance().payable_minor == 2_000
    world.settle()
    assert world.payout(payout_id).status == "pending"


def test_without_an_amount_all_that_is_payable_is_paid(world: PayoutWorld, engine: Engine) -> None:
    """Amount and description may be missing, as over HTTP."""
    request = PayoutRequest(idempotency_key="k", payee_id="p", currency="USD")
    with Session(engine) as session, session.begin():
        payout_id = request_payout(session, request, settings=Settings()).payout_id
    payout = world.payout(payout_id)
    assert (payout.amount_minor, payout.description) == (5_000, "")
    assert world.balance().payable_minor == 0


def test_same_request_again_is_the_same_payout(world: PayoutWorld, engine: Engine) -> None:
    for _ in range(2):
        with Session(engine) as session, session.begin():
            payout_id = ask(session)
    with Session(engine) as session, session.begin(), pytest.raises(KeyReused):
        ask(session, amount_minor=1)
    assert world.balance().in_flight_minor == 3_000
    assert world.payout(payout_id).amount_minor == 3_000


def test_refusals_write_nothing(world: PayoutWorld, engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        for fields, refusal in (
            ({"amount_minor": 5_001}, InsufficientEarnings),
            ({"payee_id": "none"}, UnknownPayee),
            ({"currency": "dollar"}, InvalidRequest),
            ({"idempotency_key": " "}, InvalidRequest),
        ):
            with pytest.raises(refusal):
                ask(session, **fields)
        with pytest.raises(AboveMaximum):
            ask(session, Settings(payout_maximum="USD:2000"))
    assert world.balance().payable_minor == 5_000
