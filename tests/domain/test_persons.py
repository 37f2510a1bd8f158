"""Names that belong to one person: they cannot approve each other's refunds."""

from __future__ import annotations

from itertools import permutations

import pytest

from refund_worker.domain.persons import Link, why_not_approve

ANNA, BOB = "console/anna", "console/bob"


def may_approve(actor: str, requested_by: str, *links: tuple[str, str]) -> bool:
    """Return True if `actor` may approve. Both directions are checked: they must agree."""
    declared = [Link(*link) for link in links]
    one = why_not_approve(actor, requested_by, declared) is None
    assert one == (why_not_approve(requested_by, actor, declared) is None)
    return one


@pytest.mark.parametrize("other", [BOB, "backend/anna", "cli:anna", "celery", "unknown"])
def test_unlinked_name_is_another_person(other: str) -> None:
    assert may_approve(other, ANNA)
    assert may_approve(other, ANNA, (BOB, "backend/ops"))


@pytest.mark.parametrize("name", [ANNA, "backend/anna", "cli:anna", "celery:shop"])
def test_no_person_is_their_own_second_person(name: str) -> None:
    assert not may_approve(name, name)
    assert not may_approve(name, name, (ANNA, name), (BOB, name))


@pytest.mark.parametrize(
    ("one", "other"),
    [("console/Ivy", "console/ivy"), ("backend/STRASSE", "backend/straße"), ("cli:ｉｖｙ", "cli:ivy")],
)
def test_names_that_look_the_same_are_one(one: str, other: str) -> None:
    assert not may_approve(one, other)
    assert not may_approve(other, ANNA, (ANNA, one))


def test_linked_names_are_one_person_in_both_directions() -> None:
    links = ((ANNA, "backend/boss"), (ANNA, "cli:anna"))
    for actor, asked in permutations((ANNA, "backend/boss", "cli:anna"), 2):
        assert not may_approve(actor, asked, *links)
    assert may_approve(BOB, "backend/boss", *links)


def test_shared_key_belongs_to_both_users_who_stay_two_persons() -> None:
    links = ((ANNA, "backend/ops"), (BOB, "backend/ops"))
    assert not may_approve(ANNA, "backend/ops", *links)
    assert not may_approve(BOB, "backend/ops", *links)
    assert may_approve(BOB, ANNA, *links)
    assert may_approve("console/carl", "backend/ops", *links)


def test_new_name_of_a_console_user_inherits_the_links() -> None:
    links = ((ANNA, "cli:anna"), ("console/anna2", ANNA), ("console/anna3", "console/anna2"))
    for actor, asked in permutations(("console/anna3", ANNA, "cli:anna", "console/anna2"), 2):
        assert not may_approve(actor, asked, *links)
    assert may_approve(BOB, "cli:anna", *links)


@pytest.mark.parametrize(
    "links", [((ANNA, "console/a"), (BOB, "console/a")), (("console/a", ANNA), ("console/a", BOB))]
)
def test_console_users_linked_through_a_third_are_one_person(
    links: tuple[tuple[str, str], ...],
) -> None:
    assert not may_approve(ANNA, BOB, *links)
    assert may_approve("console/carl", BOB, *links)


def test_reason_names_the_requester_and_the_shared_person() -> None:
    why = why_not_approve(ANNA, "backend/boss", [Link(ANNA, "backend/boss")])
    assert why is not None
    assert why.startswith("backend/boss asked for this refund")
    assert ANNA in why
