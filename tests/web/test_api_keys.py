"""Keys of the API: an unusable key opens no route, and a key is stored only as a hash."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text
from tests.support.deployment import wait_until
from tests.web.client import Web, is_problem
from tests.web.roles_of_routes import EXPECTED, everything, filled

from refund_worker.engine.access.api_keys import Role, create_key, list_keys, revoke_key
from refund_worker.errors import Conflict, InvalidRequest, NotFound
from refund_worker.web.auth import CACHE_SECONDS, ROLES, Open


def unusable(web: Web, role: Role) -> dict[str, list[tuple[str, str]]]:
    """Return headers with keys that exist or look right but must not open any route."""
    expires_at = time.time() + 0.3
    expired = web.key(role, expires=expires_at)
    revoked = web.key(role, name=f"{role}-who-left")
    revoke_key(web.context, f"{role}-who-left")
    wait_until(lambda: time.time() > expires_at)
    keys = {"wrong": "rw_" + "A" * 43, "expired": expired, "revoked": revoked, "not signed": web.signed_key(role)[0]}
    return {"none": []} | {name: [("Authorization", f"Bearer {key}")] for name, key in keys.items()}


@pytest.mark.parametrize("role", list(Role))
def test_no_route_opens_to_an_unusable_key_of_any_role(web: Web, role: Role) -> None:
    keys = unusable(web, role)
    before = everything(web)
    for name, headers in keys.items():
        for method, path in EXPECTED:
            answer = web.call(method, filled(path), {"reason": "let me in"}, key=None, headers=headers)
            code = "signature_missing" if name == "not signed" else "unauthenticated"
            assert is_problem(answer, 401, code), (name, method, path)
    assert everything(web) == before


def test_nothing_is_done_before_the_key_is_checked(web: Web) -> None:
    unknown = "rw_" + "A" * 43
    for (method, path), rule in ROLES.items():
        if isinstance(rule, Open):
            continue
        for key in (None, unknown, "rw_short", "x", "é", unknown + "\x7f"):
            headers = [(b"Authorization", b"Bearer " + key.encode("latin-1"))] if key else []
            # The body is invalid as well: a caller without a valid key does not learn that.
            answer = web.call(method, filled(path), key=None, headers=headers, content=b"{")  # type: ignore[arg-type]
            assert is_problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"] == "Bearer"


def test_other_schemes_and_two_keys_at_once_open_nothing(web: Web) -> None:
    for value in (f"Basic {web.admin}", web.admin, "Bearer", "Bearer ", f"Bearer {web.admin} {web.admin}"):
        answer = web.call("GET", "/v1/refunds", key=None, headers={"Authorization": value})
        assert is_problem(answer, 401, "unauthenticated")
    answer = web.call("GET", f"/v1/refunds?key={web.admin}", key=None)
    assert is_problem(answer, 401, "unauthenticated")


def test_an_expired_key_opens_nothing(web: Web) -> None:
    # Late enough for the first call on a busy machine.
    expires_at = time.time() + 5
    key = web.key("admin", expires=expires_at)
    assert web.call("GET", "/v1/refunds", key=key).status_code == 200
    wait_until(lambda: time.time() > expires_at + CACHE_SECONDS)
    assert is_problem(web.call("GET", "/v1/refunds", key=key), 401, "unauthenticated")


def test_revoked_key_stops_within_the_cache_time_and_frees_its_name(web: Web) -> None:
    key = web.key("admin", name="leaver")
    assert web.call("GET", "/v1/refunds", key=key).status_code == 200
    revoked = revoke_key(web.context, "leaver")
    assert revoked["status"] == "revoked"
    time.sleep(CACHE_SECONDS + 0.1)
    assert is_problem(web.call("GET", "/v1/refunds", key=key), 401, "unauthenticated")
    assert web.call("GET", "/v1/refunds", key=web.key("admin", name="leaver")).status_code == 200


def test_a_key_is_stored_only_as_a_hash_and_never_listed(web: Web) -> None:
    key = web.key("viewer", name="reader")
    with web.context.database.read() as connection:
        stored = str(connection.execute(text("SELECT * FROM api_keys")).all())
    assert key not in stored
    assert key[3:] not in stored
    listed = list_keys(web.context)
    assert key not in str(listed)
    assert "hash" not in str(listed)
    (reader,) = [line for line in listed if line["name"] == "reader"]
    assert (reader["client"], reader["role"], reader["status"]) == ("backend", "viewer", "active")


def test_two_keys_are_never_the_same_and_long_enough(web: Web) -> None:
    keys = {web.key("viewer") for _ in range(50)}
    assert len(keys) == 50
    assert all(key.startswith("rw_") and len(key) == 46 for key in keys)


def test_key_with_invalid_fields_is_not_created(web: Web) -> None:
    web.key("viewer", name="twice")
    with pytest.raises(Conflict):
        web.key("viewer", name="twice")
    for wrong in ({"name": "a/b"}, {"client": ""}, {"role": "root"}, {"expires_at": 1.0}):
        values = {"name": "n", "client": "c", "role": "viewer", **wrong}
        with pytest.raises(InvalidRequest) as caught:
            create_key(web.context, **values)  # type: ignore[arg-type]
        assert caught.value.field == next(iter(wrong))
    with pytest.raises(NotFound):
        revoke_key(web.context, "nobody")


def test_ambiguous_key_name_is_revoked_only_with_its_client(web: Web) -> None:
    web.key("viewer", name="same", client="one")
    web.key("viewer", name="same", client="two")
    with pytest.raises(Conflict, match="one, two"):
        revoke_key(web.context, "same")
    assert revoke_key(web.context, "same", client="one")["client"] == "one"
    assert [k["client"] for k in list_keys(web.context) if k["name"] == "same" and k["status"] == "active"] == ["two"]
