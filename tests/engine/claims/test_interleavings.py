"""The steps of our refund, a refund of others, disputes and people over one payment, in any order.

`python -m tests.engine.claims.claim_orders` plays every order.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from tests.engine.claims.claim_orders import Scenario, compare, play_all, play_one, random_scenario
from tests.engine.claims.claim_worlds import balance_of, claims_of, dispute, report, report_disputes, with_rule
from tests.support.engine_world import World

SCENARIOS, ORDERS = 8, 2
LOST = Scenario(
    own="pays",
    own_credits=20,
    outside=(),
    outside_minor=200,
    dispute=("opened", "lost"),
    dispute_minor=1_000,
    spent=40,
    rule="debt",
)


@pytest.mark.parametrize("seed", range(SCENARIOS))
def test_random_orders_keep_the_sums(seed: int, tmp_path: Path, sqlite_template: Path) -> None:
    rng = random.Random(seed)
    scenario = random_scenario(rng)
    ends = []
    for number in range(ORDERS):
        path = shutil.copyfile(sqlite_template, tmp_path / f"{number}.db")
        ends.append(play_one(path, scenario, rng))
    compare(scenario, ends)


@pytest.mark.parametrize("rule", ["debt", "person", "write_off"])
def test_rule_for_shortfalls_holds_beside_a_displaced_leg(rule: str, tmp_path: Path, sqlite_template: Path) -> None:
    scenario = replace(LOST, rule=rule)
    assert compare(scenario, play_all(tmp_path, sqlite_template, scenario)) == 6


@pytest.mark.parametrize(("rule", "balance", "shortfall"), [("write_off", 0, 10), ("person", 0, 10), ("debt", -10, 50)])
def test_credits_of_a_won_dispute_go_to_the_refund_that_lacks_them(
    world: World, rule: str, balance: int, shortfall: int
) -> None:
    with_rule(world, rule)
    world.pay()
    world.spend(credits=60)
    report_disputes(world, dispute(world, amount_minor=500))
    report(world, world.refund_in_the_dashboard(500))
    report_disputes(world, dispute(world, "won", amount_minor=500))
    outside = next(claim for claim in claims_of(world) if claim["kind"] == "outside_refund")
    assert balance_of(world) == (balance, 0)
    assert outside["credits"] - outside["taken"] + outside["debt"] == shortfall


def test_write_off_is_not_taken_of_what_a_later_dispute_held(world: World) -> None:
    world.pay()
    world.spend(credits=60)
    report(world, world.refund_in_the_dashboard(600))
    world.pay(2)
    report_disputes(world, dispute(world, amount_minor=400))
    report_disputes(world, dispute(world, "won", amount_minor=400))
    assert balance_of(world) == (100, 0), "all of the later purchase"
