"""Links between names: stored, shown, recorded in the audit log and applied to approvals, also of older refunds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.support.engine_world import World, withdrawal

from refund_worker.domain.limits import Limits
from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.api_keys import create_key, revoke_key
from refund_worker.engine.access.console_users import create_user, disable_user
from refund_worker.engine.access.persons import link_person, list_links, unlink_person
from refund_worker.engine.audit import log
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.errors import ActionNotAllowed, Conflict, InvalidRequest, NotFound
from refund_worker.store import locks
from refund_worker.store.access import console_users as store
from refund_worker.store.locks import Lock

BY = "cli:root"


@pytest.fixture
def world(migrated_url: str) -> Iterator[World]:
    """Yield a world with a customer, an approval threshold of 0.10 and three approvers; `boss` also has an API key."""
    made = World(migrated_url, limits=Limits(approval_threshold_minor=10))
    made.pay(amount_minor=10_000, credits=1_000)
    for name in ("boss", "anna", "anna2"):
        create_user(made.context, name=name, role="approver", password="correct horse battery")
    create_key(made.context, name="boss", client="backend", role="requester")
    yield made
    made.close()


def waiting(world: World, actor: str) -> str:
    """Request a refund above the threshold as `actor` and return its id."""
    return world.request(replace(withdrawal(10, actor), actor=actor)).refund_id


def approve(world: World, refund_id: str, actor: str) -> str:
    """Approve the refund as `actor` and return its new status."""
    return perform_action(world.context, refund_id, Action.APPROVE, actor=actor, reason="fine").status


def trail(world: World, kind: str) -> list[tuple[str, object]]:
    """Return (actor, detail) of the audit log entries of this kind."""
    with world.database.read() as connection:
        return [(line["who"], line["detail"]) for line in log.entries(connection, kind=kind)["data"]]


@pytest.mark.parametrize("client", ["celery", "celery:shop"])
def test_link_to_celery_stays_when_its_clients_are_declared(world: World, client: str) -> None:
    """Until `CELERY_CLIENTS` is set, the Celery task is one requester for all clients; then each client is its own."""
    refund_id = waiting(world, client)
    link_person(world.context, "boss", "actor:celery", by=BY)
    with pytest.raises(ActionNotAllowed, match="linked to the same person"):
        approve(world, refund_id, "console/boss")
    assert approve(world, refund_id, "console/anna") == "queued"


def test_user_linked_to_one_celery_client_approves_for_others(world: World) -> None:
    link_person(world.context, "boss", "actor:celery:shop", by=BY)
    with pytest.raises(ActionNotAllowed, match="linked to the same person"):
        approve(world, waiting(world, "celery:shop"), "console/boss")
    assert approve(world, waiting(world, "celery:games"), "console/boss") == "queued"


def test_later_link_also_prevents_approval_of_earlier_request(world: World) -> None:
    first, second = waiting(world, "backend/boss"), waiting(world, "backend/boss-2")
    link_person(world.context, "boss", "key:backend/boss", by=BY)
    with pytest.raises(ActionNotAllowed, match="backend/boss asked for this refund, and is linked to the same person"):
        approve(world, first, "console/boss")
    assert world.refund(first).status == "awaiting_approval"
    assert world.events(first) == ["accepted"]
    assert approve(world, second, "console/boss") == "queued", "another key is another person until it is linked"
    assert approve(world, first, "console/anna") == "queued"


@pytest.mark.parametrize("client", ["console", "Console", "CONSOLE"])
def test_no_key_acts_under_a_name_that_reads_as_a_console_users(world: World, client: str) -> None:
    with pytest.raises(InvalidRequest, match="the console's own"):
        create_key(world.context, name="boss", client=client, role="approver")


def test_removed_link_counts_no_more_and_both_changes_are_logged(world: World) -> None:
    refund_id = waiting(world, "backend/boss")
    assert link_person(world.context, "boss", "backend/boss", by=BY)["linked"] is True
    assert link_person(world.context, "boss", "key:backend/boss", by=BY)["linked"] is False
    assert [(line["user"], line["identity"], line["linked_by"]) for line in list_links(world.context)] == [
        ("console/boss", "backend/boss", BY)
    ]
    unlink_person(world.context, "boss", "backend/boss", by="cli:olga")
    assert list_links(world.context) == []
    assert approve(world, refund_id, "console/boss") == "queued"
    names = {"user": "console/boss", "identity": "backend/boss"}
    assert trail(world, "person_linked") == [(BY, names)]
    assert trail(world, "person_unlinked") == [("cli:olga", names)]
    with pytest.raises(NotFound, match="not linked"):
        unlink_person(world.context, "boss", "backend/boss", by=BY)


@pytest.mark.parametrize("spelling", ["console/anna", "console:anna", "user:anna", "anna"])
def test_a_forgotten_password_and_a_new_name_make_no_second_person(world: World, spelling: str) -> None:
    link_person(world.context, "anna", "cli:anna", by=BY)
    disable_user(world.context, "anna")
    link_person(world.context, "anna2", spelling, by=BY)
    for asked in ("console/anna", "cli:anna"):
        with pytest.raises(ActionNotAllowed):
            approve(world, waiting(world, asked), "console/anna2")


def test_what_a_revoked_key_asked_for_is_still_its_persons(world: World) -> None:
    refund_id = waiting(world, "backend/boss")
    revoke_key(world.context, "boss", client="backend")
    link_person(world.context, "boss", "key:backend/boss", by=BY)
    with pytest.raises(ActionNotAllowed):
        approve(world, refund_id, "console/boss")


def test_what_trusted_code_gave_as_its_actor_can_be_linked(world: World) -> None:
    link_person(world.context, "anna", "actor:support/anna: desk 3", by=BY)
    with pytest.raises(ActionNotAllowed):
        approve(world, waiting(world, "support/anna: desk 3"), "console/anna")


@pytest.mark.parametrize(
    ("name", "identity", "error"),
    [
        ("nobody", "cli:anna", NotFound),
        ("anna", "key:backend/nobody", NotFound),
        ("anna", "key:other/boss", NotFound),
        ("anna", "console/nobody", NotFound),
        ("anna", "anna", InvalidRequest),
        ("anna", "cli:", InvalidRequest),
        ("anna", "cli:a b", InvalidRequest),
        ("anna", "", InvalidRequest),
        ("anna", "a/b/c", InvalidRequest),
        ("anna", "actor:a\nb", InvalidRequest),
        ("anna", "actor:a\u202eb", InvalidRequest),
        ("anna", "cli:" + "x" * 300, InvalidRequest),
    ],
)
def test_a_slip_links_nobody(world: World, name: str, identity: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        link_person(world.context, name, identity, by=BY)
    assert list_links(world.context) == []
    assert trail(world, "person_linked") == []


def test_a_key_that_does_not_exist_is_named_with_where_keys_are_shown(world: World) -> None:
    with pytest.raises(NotFound, match=r"backend has no key named nobody: refund-worker keys list shows all keys"):
        link_person(world.context, "anna", "key:backend/nobody", by=BY)


@pytest.mark.parametrize("role", ["emperor", "", "ADMIN", "admin "])
def test_a_key_has_one_of_the_roles_whoever_makes_it(world: World, role: str) -> None:
    with pytest.raises(InvalidRequest, match="role must be one of viewer, requester") as refused:
        create_key(world.context, name="k", client="backend", role=role)
    assert refused.value.field == "role"


def test_two_spellings_of_one_name_at_the_same_moment_make_one_user(world: World) -> None:
    """No table constraint prevents the second spelling. A lock lets only one caller at a time add a user."""
    told: list[str] = []

    def make() -> None:
        try:
            create_user(world.context, name="ZOE", role="viewer", password="correct horse battery")
        except Conflict as refused:
            told.append(refused.message)

    other = threading.Thread(target=make)
    with world.database.write() as connection:
        locks.acquire(connection, Lock.ADD_USERS)
        store.insert_user(connection, name="zoe", role="viewer", password_hash="h", now=1.0)
        other.start()
        other.join(0.5)
        assert other.is_alive()
    other.join(30)
    assert told == ["there is a user named zoe: a name stands for one person, whatever its capitals"]


def test_a_link_is_one_whatever_the_capitals_of_the_names(world: World) -> None:
    assert link_person(world.context, "BOSS", "key:backend/boss", by=BY)["user"] == "console/boss"
    assert link_person(world.context, "boss", "key:backend/boss", by=BY)["linked"] is False
    assert link_person(world.context, "anna", "console/Anna2", by=BY)["identity"] == "console/anna2"
    unlink_person(world.context, "Boss", "key:backend/boss", by=BY)
    unlink_person(world.context, "ANNA", "ANNA2", by=BY)
    assert list_links(world.context) == []
