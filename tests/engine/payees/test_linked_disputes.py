"""A lost dispute takes the payee's share back only once a person links it to the spend, and only while it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.engine_world import World, credit_refund
from tests.support.outside_objects import dispute, hear
from tests.support.payees import (
    add_payee,
    assert_payees_balance,
    balance_of,
    earn,
    earning_of,
    events_about,
    with_payouts,
)

from refund_worker.domain.claims.claim import Claim, ClaimKind
from refund_worker.domain.refund import To
from refund_worker.engine.claims.link_dispute import link_dispute
from refund_worker.errors import ActionNotAllowed, NotFound, UnknownTransaction
from refund_worker.store import claims


@pytest.fixture
def shop(world: World) -> Iterator[World]:
    """A customer who bought 100 credits for 10.00 USD and spent 50 in a chat, of which the payee earned 5.00 USD."""
    with_payouts(world)
    world.pay()
    world.spend()
    add_payee(world)
    earn(world)
    yield world
    with world.database.read() as connection:
        assert_payees_balance(connection)


def lose(shop: World, amount_minor: int = 1_000, status: str = "lost", object_id: str = "du_1") -> Claim:
    hear(shop.context, dispute(object_id, amount_minor, status=status, currency="USD"))
    with shop.database.read() as connection:
        return claims.claims_of_objects(connection, "stripe", ClaimKind.DISPUTE, [object_id])[object_id]


def link(shop: World, claim: Claim, transaction_id: str = "t") -> Claim:
    return link_dispute(
        shop.context, claim.claim_id, transaction_id=transaction_id, actor="op", reason="the same evening"
    )


def test_lost_dispute_takes_nothing_before_it_is_linked(shop: World) -> None:
    claim = lose(shop)
    assert earning_of(shop).clawed_back_minor == 0
    assert link(shop, claim).transaction_id == "t"
    assert balance_of(shop).net_minor == 0
    link(shop, claim)
    assert events_about(shop) == ["payee_recorded", "earning_clawed_back"]


def test_partly_disputed_payment_takes_its_part(shop: World) -> None:
    link(shop, lose(shop, 200))  # 20 of the 50 credits
    assert earning_of(shop).clawed_back_minor == 200


def test_dispute_and_refund_take_no_more_than_the_spend(shop: World) -> None:
    link(shop, lose(shop, 300))
    shop.request(credit_refund(40, "k", To.BALANCE))
    shop.work()
    assert earning_of(shop).clawed_back_minor == 500


def test_reinstated_dispute_gives_the_share_again(shop: World) -> None:
    claim = lose(shop)
    link(shop, claim)
    lose(shop, status="won")
    assert earning_of(shop).clawed_back_minor == 0
    assert events_about(shop)[-1] == "clawback_undone"
    assert lose(shop).transaction_id == "t"
    assert earning_of(shop).clawed_back_minor == 500


def test_money_that_is_reinstated_after_a_loss_gives_the_share_again(shop: World) -> None:
    link(shop, lose(shop))
    hear(shop.context, replace(dispute("du_1", 1_000, status="lost", currency="USD"), money_returned=True))
    assert earning_of(shop).clawed_back_minor == 0


def test_earning_recorded_after_the_link_is_clawed_back(shop: World) -> None:
    link(shop, lose(shop))
    assert earn(shop, "e2", 80).earning.clawed_back_minor == 80


def test_unusable_links_are_refused(shop: World) -> None:
    claim = lose(shop, status="needs_response")
    with pytest.raises(ActionNotAllowed, match="not lost"):
        link(shop, claim)
    claim = lose(shop)
    for other in ("none", "purchase-pay1"):
        with pytest.raises(UnknownTransaction):
            link(shop, claim, other)
    shop.pay(2, customer_id="d")
    shop.spend("of-d", 5, customer_id="d")
    with pytest.raises(UnknownTransaction):
        link(shop, claim, "of-d")
    link(shop, claim)
    with pytest.raises(ActionNotAllowed, match="is linked to t"):
        link(shop, claim, "t2")
    with pytest.raises(NotFound):
        link(shop, replace(claim, claim_id="cl_none"))
