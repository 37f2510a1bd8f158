"""For any message, Celery gets a task of ours: its name, its id, its arguments, and nothing else."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from amqp.basic_message import Message as AmqpMessage
from hypothesis import given
from hypothesis import strategies as st
from kombu import compression
from kombu.transport.pyamqp import Message
from kombu.transport.virtual.base import Message as VirtualMessage

from refund_worker.strict_json import DEPTH_MAX
from refund_worker.worker.celery_app.consumer import make_ours
from refund_worker.worker.celery_app.messages import (
    BODY_BYTES_MAX,
    Cleaned,
    NotOurs,
    bound_compression,
    cleaned,
    cleaned_envelope,
)
from refund_worker.worker.queues import RETRIES_MAX, TASKS

# Every name that Celery 5.7 and kombu 5.7 read of a message, in either protocol.
HEADERS = (
    "argsrepr",
    "callbacks",
    "chain",
    "chord",
    "compression",
    "correlation_id",
    "delivery_info",
    "errbacks",
    "eta",
    "expires",
    "group",
    "group_id",
    "group_index",
    "headers",
    "id",
    "ignore_result",
    "kwargsrepr",
    "lang",
    "meth",
    "origin",
    "parent_id",
    "priority",
    "redelivered",
    "replaced_task_nesting",
    "reply_to",
    "retries",
    "root_id",
    "shadow",
    "stamped_headers",
    "stamps",
    "taskset",
    "timelimit",
    "timeouts",
    "utc",
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=50)
    | st.sampled_from(["x" * 100_000, ["x", "y"], [None, "y"], [0.001, 0.001], "2999-01-01T00:00:00", "-1", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
ODD = st.dictionaries(st.sampled_from(HEADERS) | st.text(max_size=20).filter(lambda name: name != "task"), VALUES)
TASK = TASKS[0]
ARGUMENTS = [["rf_1"]], {"bulk": True}


def body(args: Any, kwargs: Any, embed: Any) -> bytes:
    return json.dumps([args, kwargs, embed]).encode()


def is_rebuilt(task: Cleaned) -> bool:
    """Return True if the task has only the required fields, each of its type and within its limits."""
    headers = dict(task.headers)
    task_id, root, retries = headers.pop("id"), headers.pop("root_id"), headers.pop("retries")
    plain = type(task_id) is str and 0 < len(task_id) <= 100 and task_id.isascii() and task_id.isprintable()
    counted = type(retries) is int and 0 <= retries <= RETRIES_MAX
    rest = {"lang": "py", "task": TASK, "ignore_result": True}
    return plain and root == task_id and counted and headers == rest


@given(headers=ODD, embed=VALUES)
def test_protocol_2_headers_and_stored_calls_do_not_reach_celery(headers: dict[str, Any], embed: Any) -> None:
    raw = body(*ARGUMENTS, embed)
    task = cleaned({**headers, "task": TASK}, raw, "application/json", "utf-8")
    assert is_rebuilt(task)
    assert json.loads(task.body) == [*ARGUMENTS, {}]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("inst_" + "0f" * 16, True),
        ("inst_" + "0f" * 16 + "\n", False),
        ("inst_x", False),
        (["inst_" + "0f" * 16], False),
    ],
)
def test_only_an_installations_id_is_passed_on(said: object, kept: bool) -> None:
    task = cleaned({"task": TASK, "installation": said}, body(*ARGUMENTS, {}), "application/json", "utf-8")
    assert task.headers.get("installation") == (said if kept else None)


@given(fields=ODD, headers=ODD)
def test_protocol_1_fields_and_headers_do_not_reach_celery(fields: dict[str, Any], headers: dict[str, Any]) -> None:
    args, kwargs = ARGUMENTS
    raw = json.dumps({**fields, "task": TASK, "args": args, "kwargs": kwargs}).encode()
    task = cleaned(headers, raw, "application/json", "utf-8")
    assert is_rebuilt(task)
    assert json.loads(task.body) == [*ARGUMENTS, {}]


@given(headers=VALUES, raw=VALUES | st.binary(max_size=50), kind=VALUES, encoding=VALUES)
def test_invalid_message_is_refused_with_a_reason(headers: Any, raw: Any, kind: Any, encoding: Any) -> None:
    with pytest.raises(NotOurs):
        cleaned(headers, raw, kind, encoding)


@given(
    name=st.sampled_from(["celery.map", "celery.starmap", "celery.chord_unlock", "celery.backend_cleanup"])
    | VALUES.filter(lambda name: name not in TASKS)
)
def test_foreign_task_is_refused_also_one_of_celery(name: Any) -> None:
    with pytest.raises(NotOurs):
        cleaned({"task": name, "id": "c"}, body([], {}, {}), "application/json", "utf-8")


@pytest.mark.parametrize(("args", "kwargs"), [(None, {}), ("ab", {}), ({}, {}), ([], None), ([], []), ([], "x")])
def test_arguments_of_another_shape_are_refused(args: Any, kwargs: Any) -> None:
    with pytest.raises(NotOurs, match="arguments"):
        cleaned({"task": TASK, "id": "c"}, body(args, kwargs, {}), "application/json", "utf-8")


@pytest.mark.parametrize("absent", [{"args": [1]}, {"kwargs": {"a": 1}}, {}], ids=str)
def test_protocol_1_may_omit_empty_arguments(absent: dict[str, Any]) -> None:
    task = cleaned({}, json.dumps({"task": TASK, **absent}).encode(), "application/json", "utf-8")
    assert json.loads(task.body) == [absent.get("args", []), absent.get("kwargs", {}), {}]


@pytest.mark.parametrize(("said", "kept"), [("c", True), ("c" * 100, True), ("c" * 101, False), ("", False)])
def test_task_id_of_up_to_100_characters_is_kept(said: str, kept: bool) -> None:
    task = cleaned({"task": TASK, "id": said}, body([], {}, {}), "application/json", "utf-8")
    assert (task.headers["id"] == said) is kept


def test_body_size_is_limited() -> None:
    with pytest.raises(NotOurs, match="bytes"):
        cleaned({"task": TASK}, body(["x" * BODY_BYTES_MAX], {}, {}), "application/json", "utf-8")


@pytest.mark.parametrize("raw", [b"[" * 100_000, b'[[{"__type__": "x", "__value__": 1}], {}, {}]', b"[[], {}, {}]\xff"])
def test_unreadable_json_is_refused(raw: bytes) -> None:
    with pytest.raises(NotOurs, match="decoded"):
        cleaned({"task": TASK}, raw, "application/json", "utf-8")


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("depth", [DEPTH_MAX, 100, 300, 480, 600, 850])
def test_arguments_nested_deeper_than_over_http_are_refused(depth: int) -> None:
    """Positional and named arguments of both tasks; one level less is accepted.

    The list or object itself counts as a level.
    """
    for args, kwargs in (
        (lambda value: [value], lambda _: {}),
        (lambda _: [], lambda value: {"ids": value}),
        (lambda _: [], lambda value: {"metadata": {"a": value[0]}}),
    ):
        shallow, deep = nested(DEPTH_MAX - 1), nested(depth)
        assert cleaned({"task": TASK}, body(args(shallow), kwargs(shallow), {}), "application/json", "utf-8")
        with pytest.raises(NotOurs, match="nested deeper than"):
            cleaned({"task": TASK}, body(args(deep), kwargs(deep), {}), "application/json", "utf-8")


def test_retry_count_is_kept() -> None:
    for said, kept in ((0, 0), (1, 1), (RETRIES_MAX, RETRIES_MAX), (99, RETRIES_MAX), (-1, 0), (True, 0), ("1", 0)):
        task = cleaned({"task": TASK, "retries": said}, body([], {}, {}), "application/json", "utf-8")
        assert task.headers["retries"] == kept


@given(headers=ODD, properties=ODD)
def test_rabbitmq_message_is_replaced_completely(headers: dict[str, Any], properties: dict[str, Any]) -> None:
    named = {name: value for name, value in headers.items() if name != "compression"} | {"task": TASK}
    raw = AmqpMessage(body(*ARGUMENTS, {"chord": "x"}))
    raw.properties = {**properties, "application_headers": named, "content_type": "application/json"}
    raw.properties["content_encoding"] = "utf-8"
    raw.delivery_info = {"delivery_tag": 7, "exchange": "refunds", "routing_key": "bulk", "redelivered": "yes"}
    message = Message(raw)
    make_ours(message)
    assert is_rebuilt(Cleaned(message.headers, message.body))
    assert (message.payload, message.properties) == ([*ARGUMENTS, {}], {})
    assert message.delivery_tag == 7
    assert message.delivery_info == {"exchange": "refunds", "routing_key": "bulk", "redelivered": False}


@given(properties=ODD | VALUES, info=ODD | VALUES, headers=ODD | VALUES)
def test_redis_envelope_gets_its_queue_and_our_delivery_tag(properties: Any, info: Any, headers: Any) -> None:
    named = {**properties, "delivery_info": info, "delivery_tag": "t"} if isinstance(properties, dict) else properties
    content = {"body": "x", "content-type": "application/json", "content-encoding": "utf-8"}
    made = cleaned_envelope(content | {"properties": named, "headers": headers}, "bulk")
    assert made | content == made
    tag = made["properties"].pop("delivery_tag")
    assert (type(tag), len(tag)) == (str, 36)
    assert made["properties"].pop("body_encoding") is None
    again = isinstance(info, dict) and isinstance(properties, dict) and info.get("redelivered") is True
    delivery = {"exchange": "", "routing_key": "bulk", "redelivered": again}
    assert made["properties"] == {"delivery_mode": 2, "priority": 0, "delivery_info": delivery}
    assert isinstance(made["headers"], dict)
    with pytest.raises(NotOurs):
        cleaned_envelope([headers], "bulk")


@pytest.mark.parametrize("encoding", ["hex", "", 7, ["base64"], None])
def test_body_encoding_is_base64_or_none(encoding: Any) -> None:
    """kombu knows no other encoding; an unknown one would end the loop that reads the queue."""
    made = cleaned_envelope({"body": "x", "properties": {"body_encoding": encoding}}, "bulk")
    assert made["properties"]["body_encoding"] is None
    kept = cleaned_envelope({"body": "x", "properties": {"body_encoding": "base64"}}, "bulk")
    assert kept["properties"]["body_encoding"] == "base64"


@pytest.mark.parametrize(
    ("name", "pack"),
    [("gzip", zlib.compress), ("application/x-gzip", zlib.compress), ("bzip2", bz2.compress), ("xz", lzma.compress)],
)
def test_compressed_body_is_unpacked_up_to_the_body_limit(
    name: str, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for registry in ("_decoders", "_encoders", "_aliases"):
        monkeypatch.setattr(compression, registry, dict(getattr(compression, registry)))
    bound_compression()

    def come(content: bytes) -> VirtualMessage:
        headers = {"task": TASK, "id": "c", "compression": name}
        properties = {"delivery_tag": "t", "delivery_info": {}}
        payload = {"body": pack(content), "headers": headers, "properties": properties}
        payload |= {"content-type": "application/json", "content-encoding": "utf-8"}

        class Channel:
            def decode_body(self, raw: bytes, _encoding: object) -> bytes:
                return raw

        return VirtualMessage(payload, channel=Channel())

    message = come(body(*ARGUMENTS, {}))
    make_ours(message)
    assert message.payload == [*ARGUMENTS, {}]
    bomb = come(b" " * (100 * BODY_BYTES_MAX))
    assert [(kind, str(why)) for kind, why, _ in bomb.errors] == [
        (NotOurs, "it is compressed, and incomplete or too large")
    ]
    assert len(bomb.body) < BODY_BYTES_MAX
