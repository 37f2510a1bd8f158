"""Users and keys: what an admin sees of both, the acts, their confirmation, their traces, and the last admin."""

from __future__ import annotations

import threading
from urllib.parse import quote

import httpx
import pytest
from tests.web.client import Web, settings_for
from tests.web.console.session import shift_times, token_of
from tests.web.console.visitor import PASSWORD, Visitor, text_of, visitor

from refund_worker.engine.access import console_users, password_attempts
from refund_worker.engine.access.api_keys import create_key, create_signed_key, list_keys, revoke_key
from refund_worker.engine.access.persons import link_person
from refund_worker.engine.audit import log
from refund_worker.engine.audit.hash_chain import Sealer, verify
from refund_worker.errors import Conflict
from refund_worker.store.tables import api_keys


@pytest.fixture
def boss(web: Web) -> Visitor:
    return visitor(web, "admin", "boss")


def user(web: Web, name: str = "anna", role: str = "support") -> str:
    console_users.create_user(web.context, name=name, role=role, password=PASSWORD)
    return name


def act(person: Visitor, name: str, what: str, **typed: str) -> httpx.Response:
    return person.post("/user", {"token": token_of(person), "name": name, "act": what, **typed})


def state(web: Web, name: str) -> tuple[str, str]:
    (found,) = (each for each in console_users.list_users(web.context) if each["name"] == name)
    return found["role"], found["status"]


def trail(web: Web, kind: str) -> list[tuple[str, dict[str, str]]]:
    with web.context.database.read() as connection:
        return [(e["who"], e["detail"]) for e in log.entries(connection, kind=kind)["data"]]


def test_every_act_changes_the_user_and_is_in_the_trail(web: Web, boss: Visitor) -> None:
    name = user(web)
    for what, typed, kind, after in (
        ("role", {"role": "operator"}, "user_role_set", ("operator", "active")),
        ("disable", {}, "user_disabled", ("operator", "disabled")),
        ("enable", {}, "user_enabled", ("operator", "active")),
        ("unlock", {}, "user_unlocked", ("operator", "active")),
    ):
        done = act(boss, name, what, **typed)
        assert done.headers["location"] == "/console/user?name=anna"
        assert state(web, name) == after
        ((who, detail),) = trail(web, kind)
        assert (who, detail["user"]) == ("console/boss", "anna")
        page = boss.follow(done)
        assert 'role="status"' in page.text
        assert f"refund-worker users {'set-role' if what == 'role' else what} anna" in text_of(page) or what in (
            "disable",
            "enable",
        )


def test_page_offers_each_act_with_its_command(web: Web, boss: Visitor) -> None:
    page = text_of(boss.get("/user", name=user(web)))
    for command in ("set-role anna ROLE", "disable anna", "unlock anna", "set-password anna", "link anna"):
        assert f"refund-worker users {command}" in page
    console_users.disable_user(web.context, "anna")
    assert "refund-worker users enable anna" in text_of(boss.get("/user", name="anna"))
    listed = text_of(boss.get("/users"))
    assert "refund-worker users create NAME --role ROLE" in listed
    assert "refund-worker keys create NAME --client CLIENT --role ROLE" in listed


def test_list_shows_sign_ins_identities_and_who_is_held_back(web: Web, boss: Visitor) -> None:
    for name in ("anna", "berta", "carla"):
        user(web, name)
    create_key(web.context, name="shop", client="backend", role="viewer")
    link_person(web.context, "anna", "key:backend/shop", by="cli:boss")
    link_person(web.context, "anna", "console/carla", by="cli:boss")
    Visitor(web).sign_in("anna")
    console_users.disable_user(web.context, "berta")
    tries = password_attempts.of_sign_in("Carla", "203.0.113.9")
    for _ in range(12):
        web.context.database.run(lambda c: password_attempts.count_wrong(c, tries, web.context.clock(c)))
    page = boss.get("/users").text
    rows = {name: page.partition(f">{name}</a>")[2].partition("</tr>")[0] for name in ("anna", "berta", "carla")}
    assert "1 open session" in rows["anna"]
    assert "backend/shop, console/carla" in rows["anna"]
    assert "console/anna" in rows["carla"], "a link holds in both directions"
    assert "disabled" in rows["berta"]
    assert "not known" in rows["berta"]
    assert [name for name in rows if "held back" in rows[name]] == ["carla"]
    assert "12 <small" in rows["carla"]
    act(boss, "carla", "unlock")
    assert "held back" not in boss.get("/users").text


def test_wrong_confirmations_of_an_open_session_are_shown_too(web: Web, boss: Visitor) -> None:
    anna = visitor(web, "support", "anna")
    shift_times(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
    token = token_of(anna)
    for _ in range(7):
        anna.post("/add-credits", {"token": token, "password": "not it, not it"})
    (line,) = (line for line in boss.get("/users").text.split("<tr>") if ">anna</a>" in line)
    assert "5 <small" in line, "attempts during the wait are not counted"


def test_acts_ask_for_the_password_again_after_a_while(web: Web, boss: Visitor) -> None:
    user(web)
    key_id = _key(web)
    shift_times(web, "confirmed_at", -console_users.CONFIRMED_SECONDS - 1)
    asked = act(boss, "anna", "role", role="admin")
    assert asked.status_code == 403
    assert "This changes who may do what, so please enter your password again" in text_of(asked)
    assert state(web, "anna") == ("support", "active")
    assert boss.post("/key", {"token": token_of(boss), "id": key_id}).status_code == 403
    assert act(boss, "anna", "role", role="admin", password="not it, not it").status_code == 403
    assert state(web, "anna") == ("support", "active")
    assert act(boss, "anna", "role", role="admin", password=PASSWORD).status_code == 303
    assert state(web, "anna") == ("admin", "active")


def test_form_without_the_sessions_token_changes_nothing(web: Web, boss: Visitor) -> None:
    user(web)
    for token in ({}, {"token": "0" * 64}):
        assert boss.post("/user", {"name": "anna", "act": "disable", **token}).status_code == 403
    assert state(web, "anna") == ("support", "active")


@pytest.mark.parametrize(("what", "typed"), [("disable", {}), ("role", {"role": "viewer"})])
def test_last_admin_is_locked_out_by_nobody(web: Web, boss: Visitor, what: str, typed: dict[str, str]) -> None:
    user(web, "former", "admin")
    console_users.disable_user(web.context, "former")
    page = boss.get("/user", name="boss")
    assert "You are the only admin who can sign in" in text_of(page)
    assert page.text.count('disabled aria-describedby="last-admin"') == 2
    refused = act(boss, "boss", what, **typed)
    assert refused.status_code == 409
    assert "The only admin who can sign in is boss" in text_of(refused)
    assert state(web, "boss") == ("admin", "active")
    assert trail(web, "user_disabled") == [("unknown", {"user": "former"})]
    user(web, "second", "admin")
    done = act(boss, "boss", what, **typed)
    assert done.headers["location"] == "/console/"
    assert boss.get("/users").status_code in (303, 403)


def test_two_admins_cannot_remove_each_other_at_once(migrated_url: str) -> None:
    """Try it on both databases: Postgres has two writers at once."""
    with Web(settings_for(migrated_url)) as web:
        _remove_each_other(web)


def _remove_each_other(web: Web) -> None:
    names = [user(web, name, "admin") for name in ("anna", "berta")]
    start, refused = threading.Barrier(2), list[str]()

    def disable(name: str) -> None:
        start.wait(10)
        try:
            console_users.disable_user(web.context, name, actor="console/other", keep_an_admin=True)
        except Conflict:
            refused.append(name)

    workers = [threading.Thread(target=disable, args=(name,)) for name in names]
    for each in workers:
        each.start()
    for each in workers:
        each.join(20)
    assert len(refused) == 1
    assert state(web, refused[0]) == ("admin", "active")


def test_command_line_may_disable_the_last_admin(web: Web) -> None:
    user(web, "boss", "admin")
    assert console_users.disable_user(web.context, "boss", actor="cli:root")["status"] == "disabled"


@pytest.mark.parametrize("role", ["requester", "owner", ""])
def test_unknown_role_is_refused_on_the_users_page(web: Web, boss: Visitor, role: str) -> None:
    user(web)
    refused = act(boss, "anna", "role", role=role)
    assert refused.status_code == 422
    assert "This was not done" in text_of(refused)
    assert "Users and keys" in text_of(refused)
    assert act(boss, "anna", "promote").status_code == 422
    assert act(boss, "nobody", "disable").status_code == 404
    assert state(web, "anna") == ("support", "active")


def test_revoked_key_is_refused_and_its_line_names_the_actor(web: Web, boss: Visitor) -> None:
    text = create_key(web.context, name="leaks", client="backend", role="viewer")
    key_id = list_keys(web.context)[0]["key_id"]
    page = boss.get("/key", id=key_id)
    assert f"refund-worker keys revoke {key_id}" in text_of(page)
    done = boss.submit(page, "/key")
    assert "Revoked: requests with this key are refused" in text_of(boss.follow(done))
    assert web.call("GET", "/v1/refunds", key=text).status_code == 401
    assert trail(web, "key_revoked") == [("console/boss", {"key": "backend/leaks", "key_id": key_id})]
    assert boss.submit(page, "/key").status_code == 303, "the second press finds it revoked"
    assert len(trail(web, "key_revoked")) == 1
    assert "revoked" in text_of(boss.get("/users"))


def test_key_whose_name_is_another_keys_id_hides_nothing(web: Web) -> None:
    key_id = _key(web)
    create_key(web.context, name=key_id, client="other", role="viewer")
    assert revoke_key(web.context, key_id)["client"] == "backend"


def test_no_page_shows_a_secret_of_a_key_or_a_user(web: Web, boss: Visitor) -> None:
    user(web)
    key, signing_secret = create_signed_key(web.context, name="signed", client="backend", role="viewer")
    with web.context.database.read() as connection:
        row = connection.execute(api_keys.select().where(api_keys.c.name == "signed")).mappings().one()
    pages = [boss.get("/users"), boss.get("/user", name="anna"), boss.get("/key", id=row["key_id"]), boss.get("/audit")]
    secrets = [key, signing_secret, row["key_hash"], row["signing_box"], "argon2", PASSWORD]
    for page in pages:
        assert page.status_code == 200
        assert not [secret for secret in secrets if secret in page.text]


def test_old_keys_are_counted_and_working_ones_all_listed(
    web: Web, boss: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from refund_worker.web.console import people

    monkeypatch.setattr(people, "KEYS", 2)
    for number in range(4):
        create_key(web.context, name=f"old-{number}", client="backend", role="viewer")
        revoke_key(web.context, f"old-{number}")
    for number in range(3):
        create_key(web.context, name=f"new-{number}", client="backend", role="viewer")
    page = text_of(boss.get("/users"))
    assert all(f"new-{number}" in page for number in range(3))
    assert "4 older keys that do not work any more are not shown" in page


def test_changes_leave_the_audit_chain_whole(web: Web, boss: Visitor) -> None:
    user(web)
    Sealer().seal(web.context)
    act(boss, "anna", "role", role="viewer")
    boss.post("/key", {"token": token_of(boss), "id": _key(web)})
    Visitor(web).sign_in("anna")
    Sealer().seal(web.context)
    assert verify(web.context, actor="cli:test").findings == ()


def test_user_names_with_signs_work_in_addresses(web: Web, boss: Visitor) -> None:
    name = user(web, "carla+k@shop.example")
    assert f'href="/console/user?name={quote(name, safe="")}"' in boss.get("/users").text
    assert act(boss, name, "disable").status_code == 303
    assert state(web, name)[1] == "disabled"


def _key(web: Web) -> str:
    create_key(web.context, name="shop", client="backend", role="viewer")
    return str(list_keys(web.context)[0]["key_id"])
