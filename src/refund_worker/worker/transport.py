"""kombu's Redis transport, with a reader that a message can't end.

kombu 5.7 parses what it popped outside of every handler: text that is not JSON, a list, or bad base64 ends its worker.
What is popped is gone already, so throwing it away loses nothing that a restart would bring back.
"""

from __future__ import annotations

import logging
from queue import Empty
from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import DataError

log = logging.getLogger("refund_worker.worker")


class Channel(kombu_redis.Channel):
    """A message whose envelope can't be read, or names something impossible, is thrown away with an alarm."""

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
    """kombu's, with that channel."""

    Channel = Channel
