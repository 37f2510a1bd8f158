"""kombu's Redis transport, with a reader that no message can stop and that survives a lost broker.

kombu 5.7 parses a popped message outside of every handler: text that is not JSON, a list, or bad base64 stops its
worker. A popped message is no longer in Redis, so dropping it loses nothing that a restart would bring back.

kombu also keeps counting a message as being worked on if it could not be acknowledged. If the broker dies while every
process of a worker is busy, all acknowledgements fail and no slot is ever free again. A worker without a free slot does
not read: it never notices that its connection is dead, while its heartbeat continues.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import DataError

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.worker.celery_app.messages import cleaned_envelope

log = logging.getLogger(__name__)


class QoS(kombu_redis.QoS):
    """The count of messages being worked on.

    A message that could not be acknowledged counts as finished. The broker may deliver it again, which does no harm.
    """

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
        """Put back a message that was not acknowledged in time; drop an entry of that list that others wrote."""
        broker = self.channel.connection
        try:
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


class Channel(kombu_redis.Channel):
    """A channel that drops, with an alarm, a message with an unreadable envelope or impossible fields."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (KeyError, DataError) as error:
            # kombu takes both for failures of the server; here only the message's own fields can raise them.
            self._discard(error)
        except (*self.connection_errors, *self.connection.channel_errors, Empty):
            raise
        except Exception as error:  # noqa: BLE001 - foreign bytes can raise anything
            self._discard(error)
        return True

    def _discard(self, error: Exception) -> None:
        """Log an alarm without the error's text, which may hold anything."""
        raise_alarm(
            log, Alarm.MESSAGE_DROPPED, "a message whose envelope cannot be read is dropped (%s)", type(error).__name__
        )


class Transport(kombu_redis.Transport):
    """kombu's transport with our channel; the envelope of each message is replaced before anything uses it."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> Any:
        return super()._deliver(cleaned_envelope(message, queue), queue)  # type: ignore[no-untyped-call]
