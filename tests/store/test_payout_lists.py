"""Lists of payouts as one client sees them: its own and those of its runs, in one order and in pages."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.store.test_payout_round_trips import LEG, PAYEE, PAYOUT, RUN

from refund_worker.domain.payouts.payout import PayoutStatus
from refund_worker.store.database import Database
from refund_worker.store.payouts import payees, payouts, runs
from refund_worker.store.payouts.lists import PayoutFilters, find_ids, is_visible, named

RUNS = ":runs"


@pytest.fixture
def filled(database: Database) -> Database:
    """Give a database with the payouts po1 to po4 of the client "shop" (po1, po3 by its run), and po5 of another."""
    own = replace(PAYOUT, run_id=None)
    made = [replace(PAYOUT, client=RUNS), own, replace(PAYOUT, client=RUNS), own, replace(own, client="other")]
    with database.write() as connection:
        payees.insert_payee(connection, PAYEE, payees.DestinationNames("hash", PAYEE.destination_ref))
        assert runs.insert_run(connection, replace(RUN, client="shop"))
        for number, payout in enumerate(made, 1):
            leg = replace(LEG, leg_id=f"po{number}-1", payout_id=f"po{number}")
            renamed = replace(payout, payout_id=f"po{number}", idempotency_key=f"key-{number}", legs=(leg,))
            payouts.insert_payouts(connection, [(renamed, "{}")])
    return database


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (PayoutFilters(client="shop"), ["po4", "po3", "po2", "po1"]),
        (PayoutFilters(client="shop", oldest_first=True), ["po1", "po2", "po3", "po4"]),
        (PayoutFilters(client="shop", limit=1), ["po4", "po3"]),
        (PayoutFilters(client="shop", starting_after="po4", limit=2), ["po3", "po2", "po1"]),
        (PayoutFilters(client="shop", run_id="run"), ["po3", "po1"]),
        (PayoutFilters(client="shop", statuses=(PayoutStatus.PAID,)), []),
        (PayoutFilters(client="other"), ["po5"]),
        (PayoutFilters(client="third"), []),
        (PayoutFilters(), ["po5", "po4", "po3", "po2", "po1"]),
    ],
)
def test_client_sees_its_own_and_those_of_its_runs(
    filled: Database, filters: PayoutFilters, expected: list[str]
) -> None:
    with filled.read() as connection:
        assert find_ids(connection, filters) == expected


def test_one_rule_decides_about_lists_pages_and_names(filled: Database) -> None:
    with filled.read() as connection:
        for client in ("shop", "other", "third", None):
            seen = find_ids(connection, PayoutFilters(client=client))
            assert [f"po{n}" for n in range(5, 0, -1) if is_visible(connection, f"po{n}", client)] == seen
            assert [po for n in range(5, 0, -1) for po in named(connection, f"po{n}", client, 1)] == seen
