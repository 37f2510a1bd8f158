"""kombu's Redis transport, with a reader that no message can stop and that survives a lost broker.

kombu 5.7 parses a popped message outside of every handler: text that is not JSON, a list, or bad base64 stops its
worker. A popped message is no longer in Redis, so dropping it loses nothing that a restart would bring back.

kombu also keeps counting a message as being worked on if it could not be acknowledged. If the broker dies while every
process of a worker is busy, all acknowledgements fail and no slot is ever free again. A worker without a free slot does
not read: it never notices that its connection is dead, while its heartbeat continues.

Another application may use the same Redis. kombu puts back every message that was not acknowledged in time, the other
application's too, although that one may still be working on it. And a task of that application may be in a queue of
ours. It was already popped, so it is kept in a list beside the queue.
"""

from __future__ import annotations

import logging
from collections import deque
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from kombu.utils import json as kombu_json
from redis.exceptions import DataError

from refund_worker.alarms import Alarm, Condition, raise_alarm
from refund_worker.condition_log import ConditionLog
from refund_worker.worker.broker_cause import cause_of
from refund_worker.worker.celery_app.messages import cleaned_envelope, names_another_task

log = logging.getLogger(__name__)

# Other applications' tasks are kept in the list "<queue>.not-ours", up to this number for each queue.
NOT_OURS = ".not-ours"
NOT_OURS_MAX = 1000

# A full Redis refuses a script's first command if it may need memory, and lets a script finish that has written. LTRIM
# needs none. KEYS[1]: the list. ARGV: the task and the number of tasks kept.
_KEEP = """
redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 2)
return redis.call('LPUSH', KEYS[1], ARGV[1])
"""
# Tasks of others that are in no list yet, because Redis could not be used: a task that was popped is nowhere else.
_unstored: deque[tuple[str, str]] = deque(maxlen=NOT_OURS_MAX)

_conditions = ConditionLog(log)
# True from the first refusal of a Redis that is full or read-only up to its return.
_was_refused = False

json: Any = kombu_json  # kombu has only partial types


class _AnotherTask(Exception):
    """A queue of ours holds another application's task."""

    def __init__(self, envelope: object, queue: str) -> None:
        super().__init__(queue)
        self.envelope, self.queue = envelope, queue


class QoS(kombu_redis.QoS):
    """The count of messages being worked on.

    A message that could not be acknowledged counts as finished. The broker may deliver it again, which does no harm.
    """

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Put back what was not acknowledged in time; while Redis is full or read-only, say so once and go on.

        kombu's timer would log a traceback every ten seconds. Redis is asked in one of `interval` calls.
        """
        global _was_refused
        is_asked = self._vrestore_count % (interval or 1) == 0
        try:
            super().restore_visible(start, num, interval)  # type: ignore[no-untyped-call]
        except self.channel.connection.channel_errors as error:
            cause = cause_of(error)
            if cause is None:
                raise
            _was_refused = True
            text = f"the broker cannot be used ({cause.found}): {cause.do}"
            _conditions.hear(cause.found, text, Condition.BROKER_UNAVAILABLE)
        else:
            if _was_refused and is_asked:
                _was_refused = False
                log.info("the broker can be used again")

    def ack(self, delivery_tag: str) -> None:
        """Acknowledge a message; if that fails, stop counting it and raise."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Reject a message; if that fails, stop counting it and raise."""
        try:
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put back a message that was not acknowledged in time, unless it belongs to another application.

        An unreadable entry is dropped.
        """
        broker = self.channel.connection
        try:
            if self._is_of_others(tag, client):
                return
            super().restore_by_tag(tag, client=client, leftmost=leftmost)  # type: ignore[no-untyped-call]
        except (*broker.connection_errors, *broker.channel_errors):
            raise
        except Exception as error:  # noqa: BLE001 - foreign bytes can raise anything
            raise_alarm(
                log,
                Alarm.MESSAGE_DROPPED,
                "a message to be put back cannot be read and is dropped (%s)",
                type(error).__name__,
            )
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]

    def _is_of_others(self, tag: Any, client: Any) -> bool:
        with self.channel.conn_or_acquire(client) as redis:
            text = redis.hget(self.unacked_key, tag)
        entry = json.loads(text.decode()) if text else None
        if not isinstance(entry, list) or len(entry) != 3:
            return False
        envelope, _, queue = entry
        return isinstance(envelope, dict) and (queue not in self.channel.our_queues or names_another_task(envelope))


class Channel(kombu_redis.Channel):
    """A channel that drops, with an alarm, a message with an unreadable envelope or impossible fields."""

    QoS = QoS
    # The transport's options may name these keys too (app.py).
    from_transport_options = (  # type: ignore[assignment]
        *kombu_redis.Channel.from_transport_options,
        "keyprefix_queue",
        "keyprefix_binding_deadlines",
        "keyprefix_binding_permanent",
        "our_queues",
    )
    our_queues: tuple[str, ...] = ()

    def _brpop_start(self, timeout: float | None = None) -> None:
        self._store_kept()
        super()._brpop_start(timeout)  # type: ignore[no-untyped-call]

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except _AnotherTask as found:
            self._keep(found)
        except (KeyError, DataError) as error:
            # kombu takes both for failures of the server; here only the message's own fields can raise them.
            self._discard(error)
        except (*self.connection_errors, *self.connection.channel_errors, Empty):
            raise
        except Exception as error:  # noqa: BLE001 - foreign bytes can raise anything
            self._discard(error)
        return True

    def _keep(self, found: _AnotherTask) -> None:
        _unstored.append((found.queue, json.dumps(found.envelope)))
        self._store_kept()
        if _unstored:
            log.warning("a task that is not ours is not stored yet: Redis refuses it, and it is tried again")

    def _store_kept(self) -> None:
        """Store the tasks of others. A task that cannot be stored now is tried again later."""
        while _unstored:
            queue, text = _unstored[0]
            key = queue + NOT_OURS
            try:
                with self.conn_or_acquire() as client:
                    client.eval(_KEEP, 1, key, text, NOT_OURS_MAX)
            except self.connection.channel_errors:  # for example no right to this list
                return
            _unstored.popleft()
            raise_alarm(
                log,
                Alarm.TASK_NOT_OURS,
                "the queue %s has a task that is not ours: it is kept in the list %s",
                queue,
                key,
            )

    def _discard(self, error: Exception) -> None:
        """Log an alarm without the error's text, which may hold anything."""
        raise_alarm(
            log, Alarm.MESSAGE_DROPPED, "a message whose envelope cannot be read is dropped (%s)", type(error).__name__
        )


class Transport(kombu_redis.Transport):
    """kombu's transport with our channel; the envelope of each message is replaced before anything uses it."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> Any:
        if names_another_task(message):
            raise _AnotherTask(message, queue)
        return super()._deliver(cleaned_envelope(message, queue), queue)  # type: ignore[no-untyped-call]
