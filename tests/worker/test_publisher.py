"""Published wake-up messages and what the scheduler remembers of them, without processes."""

from __future__ import annotations

import ssl
import time
from pathlib import Path

import pytest
from tests.support.servers import ValkeyServer

from refund_worker.errors import InvalidRequest
from refund_worker.settings import PREFIX, load_settings
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.publisher import PUBLISH_SOCKET_SECONDS, Publisher, make_publisher
from refund_worker.worker.runtime_dir import runtime_folder
from refund_worker.worker.scheduler import Published
from refund_worker.worker.tasks import parsed_request, wanted_ids


def test_publishing_starts_no_embedded_broker(tmp_path: Path) -> None:
    settings = load_settings({PREFIX + "DATABASE_URL": f"sqlite:///{tmp_path}/refunds.db"})
    make_publisher(settings)(["rf_1"], False)
    assert not runtime_folder(settings).exists()


def test_hanging_broker_slows_one_request_and_not_the_next(own_valkey: ValkeyServer) -> None:
    publish = make_publisher(load_settings({PREFIX + "BROKER_URL": own_valkey.url}))
    publish(["rf_1"], False)
    own_valkey.freeze()
    began = time.monotonic()
    for _ in range(100):
        publish(["rf_2"], False)
    assert time.monotonic() - began < 3 * PUBLISH_SOCKET_SECONDS


def test_ids_are_published_in_batches_to_the_queue_of_their_priority(redis_url: str) -> None:
    settings = load_settings({PREFIX + "BROKER_URL": redis_url, PREFIX + "STRIPE_RATE_PER_SECOND": "0"})
    publisher = Publisher(settings, redis_url, socket_seconds=2)
    assert publisher.waiting(bulk=True) == 0
    publisher.publish([f"rf_{number}" for number in range(101)], bulk=True)
    assert publisher.waiting(bulk=True) == 3
    assert publisher.waiting(bulk=False) == 0
    publisher.close()


def test_ids_are_republished_after_a_while_or_on_an_empty_queue() -> None:
    now = 0.0
    published = Published(10, clock=lambda: now)
    published.remember(["a", "b"])
    assert published.unknown(["a", "b", "c"]) == ["c"]
    now = 11.0
    assert published.unknown(["a"]) == ["a"]
    published.remember(["a"])
    published.forget()
    assert published.unknown(["a"]) == ["a"]


@pytest.mark.parametrize("ids", [None, "rf_1", {"rf_1": 1}, 7, [], [None, 1, ["rf_1"], "", "x" * 201, "\x00", "é"]])
def test_message_without_a_usable_id_names_none(ids: object) -> None:
    assert wanted_ids(ids) == []


def test_message_with_a_million_ids_is_cut() -> None:
    assert len(wanted_ids([str(number) for number in range(1_000_000)])) <= 500


@pytest.mark.parametrize("wrong", [{"idempotency_key": 7}, {"client": ""}, {"client": ["a"]}, {"approved": True}])
def test_request_with_wrong_fields_is_refused(wrong: dict[str, object]) -> None:
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "c", "reason": "r", "idempotency_key": "k"}
    assert parsed_request(fields).client == "celery"
    with pytest.raises(InvalidRequest):
        parsed_request(fields | wrong)


@pytest.mark.parametrize(
    ("changes", "declared", "field", "told"),
    [
        ({"idempotency_key": 7}, None, "idempotency_key", "the idempotency key is missing"),
        ({"client": "mallory"}, frozenset({"shop"}), "client", "client mallory is not in REFUND_WORKER_CELERY_CLIENTS"),
    ],
)
def test_refusal_names_the_field_and_its_value(
    changes: dict[str, object], declared: frozenset[str] | None, field: str, told: str
) -> None:
    fields = {"kind": "withdrawal", "to": "source", "customer_id": "c", "reason": "r", "idempotency_key": "k"}
    with pytest.raises(InvalidRequest, match=told) as refused:
        parsed_request(fields | changes, declared)
    assert refused.value.field == field


def test_secure_url_checks_certificates_by_default() -> None:
    def required(url: str) -> object:
        with make_app(load_settings({}), url).connection_for_write() as connection:
            return connection.ssl and connection.ssl["ssl_cert_reqs"]

    assert required("rediss://:secret@redis.example/0") is ssl.CERT_REQUIRED
    assert required("rediss://:secret@redis.example/0?ssl_cert_reqs=none") is ssl.CERT_NONE
    assert not required("redis://127.0.0.1/0")
