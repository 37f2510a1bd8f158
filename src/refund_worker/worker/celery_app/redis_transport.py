"""kombu's Redis transport, with a reader that a message can't end and a lost broker can't make deaf.

kombu 5.7 parses what it popped outside of every handler: text that is not JSON, a list, or bad base64 ends its worker.
What is popped is gone already, so throwing it away loses nothing that a restart would bring back.

It also goes on counting a message that it could not acknowledge as being worked on. When the broker dies while every
process of a worker is busy, all acknowledgements fail, no place is free ever again, and a worker that may take nothing
asks nothing: it never sees that its connection is dead, while its heart goes on beating.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import DataError

from refund_worker.worker.celery_app.messages import cleaned_envelope

log = logging.getLogger("refund_worker.worker")


class QoS(kombu_redis.QoS):
    """Counts what is being worked on. What could not be acknowledged is over all the same; the broker may bring it
    again, which harms nothing."""

    def ack(self, delivery_tag: str) -> None:
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        try:
            super().reject(delivery_tag, requeue=requeue)  # type: ignore[no-untyped-call]
        except Exception:
            self._quick_ack(delivery_tag)
            raise

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put back what was not acknowledged in time; what somebody else wrote into that list is thrown away."""
        broker = self.channel.connection
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)  # type: ignore[no-untyped-call]
        except (*broker.connection_errors, *broker.channel_errors):
            raise
        except Exception as error:  # noqa: BLE001 - whatever somebody's bytes can bring about
            log.error("alarm: a message to be put back can't be read and is thrown away (%s)", type(error).__name__)
            self._remove_from_indices(tag).execute()  # type: ignore[no-untyped-call]


class Channel(kombu_redis.Channel):
    """A message whose envelope can't be read, or names something impossible, is thrown away with an alarm."""

    QoS = QoS

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (KeyError, DataError) as error:
            # kombu counts both as failures of the server; here only the message's own fields can raise them.
            self._throw_away(error)
        except (*self.connection_errors, *self.connection.channel_errors, Empty):
            raise
        except Exception as error:  # noqa: BLE001 - whatever somebody's bytes can bring about
            self._throw_away(error)
        return True

    def _throw_away(self, error: Exception) -> None:
        """Told without its text, which may hold anything."""
        log.error("alarm: a message whose envelope can't be read is thrown away (%s)", type(error).__name__)


class Transport(kombu_redis.Transport):
    """kombu's, with that channel; what a message brings round itself is made anew before anything acts on it."""

    Channel = Channel

    def _deliver(self, message: Any, queue: str) -> Any:
        return super()._deliver(cleaned_envelope(message, queue), queue)  # type: ignore[no-untyped-call]
