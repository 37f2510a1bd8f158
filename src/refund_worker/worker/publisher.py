"""Messages to the workers about due refunds. Every message may be lost: the sweep finds the work without it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError, OperationalError

from refund_worker.alarms import Condition, warn_of
from refund_worker.batching import batched
from refund_worker.engine.context import Publish
from refund_worker.metrics import BROKER_FAILURES, count
from refund_worker.processors.accounts import accounts_of
from refund_worker.settings import Settings
from refund_worker.tracing import HEADER, current_traceparent
from refund_worker.worker.broker_cause import cause_of
from refund_worker.worker.celery_app.app import make_app
from refund_worker.worker.embedded_broker.broker import MEMORY, url_if_running
from refund_worker.worker.queues import ADVANCE, INSTALLATION, name_at_broker, queue_of

log = logging.getLogger(__name__)

# The number of ids that one claim takes: a message is one round of work.
IDS_PER_MESSAGE = 50
# An entry point answers its caller after this time at the latest: a lost message is better than a slow answer.
PUBLISH_SOCKET_SECONDS = 1.0
# Seconds without a try after a failure: accepting requests must not wait for a broker that is down.
SILENT_SECONDS = 5.0
WARN_SECONDS = 60.0


class BrokerUnavailable(Exception):
    """The broker cannot be used just now. It is not known if it got the message.

    `kind` is the name of the client's error. `line` says it in words, for a log.
    """

    def __init__(self, kind: str, cause: str | None = None) -> None:
        super().__init__(kind)
        self.line = f"the broker cannot be used ({cause})" if cause else f"the broker cannot be reached ({kind})"


class Publisher:
    """Publishes ids and counts waiting messages, with few and short tries. It is safe for several threads."""

    def __init__(self, settings: Settings, url: str, *, socket_seconds: float) -> None:
        self.url = url
        self.ids_per_message = ids_per_message(settings)
        self._app = make_app(settings, url, socket_seconds=socket_seconds, tries=0)
        self._queues = {bulk: name_at_broker(settings, queue_of(bulk)) for bulk in (False, True)}

    def publish(self, refund_ids: Sequence[str], *, bulk: bool, installation: str | None = None) -> None:
        """Publish ids of this installation to the queue of their priority. Raises `BrokerUnavailable`."""
        traceparent = current_traceparent()
        traced = {HEADER: traceparent} if traceparent else {}
        options: dict[str, Any] = {"queue": self._queues[bulk], "retry": False, "ignore_result": True}
        if installation is not None:
            options["headers"] = {INSTALLATION: installation}
        with _away():
            for batch in batched(refund_ids, self.ids_per_message):
                self._app.send_task(ADVANCE, args=[batch], kwargs=traced, **options)

    def waiting(self, *, bulk: bool) -> int:
        """Return how many messages wait in the queue of this priority. Raises `BrokerUnavailable`."""
        with _away():
            return _length(self._app, self._queues[bulk])

    def close(self) -> None:
        """Close the connections to the broker."""
        self._app.close()


def ids_per_message(settings: Settings) -> int:
    """Return a second's work at the lowest rate, so that a bulk message occupies a worker's process no longer."""
    rate = accounts_of(settings).lowest_rate
    return IDS_PER_MESSAGE if rate == 0 else max(1, min(IDS_PER_MESSAGE, int(rate)))


class _away:
    """Raises every error of a broker as `BrokerUnavailable`."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        # redis and amqp raise their own errors, some of them neither OSError nor KombuError.
        if isinstance(error, Exception):
            cause = cause_of(_origin(error))
            raise BrokerUnavailable(type(_origin(error)).__name__, cause and cause.found) from error


def _origin(error: BaseException) -> BaseException:
    """Return the error of the broker's client: kombu hides it behind one error for all causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _length(app: Celery, queue: str) -> int:
    with app.pool.acquire(block=True) as connection:
        try:
            found = connection.default_channel.queue_declare(queue=queue, passive=True)
        except connection.channel_errors:
            return 0  # no message was ever published to it
        return int(found.message_count)


def make_publisher(settings: Settings) -> Publish:
    """Return the publish function of an entry point.

    It never raises, never waits for long, and starts no broker.
    """
    return _LazyPublisher(settings)


class _LazyPublisher:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._publisher: Publisher | None = None
        self._silent_until = 0.0
        self._warned_at = -WARN_SECONDS

    def __call__(self, refund_ids: Sequence[str], bulk: bool, installation: str | None = None, /) -> None:
        if time.monotonic() < self._silent_until:
            return
        try:
            publisher = self._current()
            if publisher is not None:
                publisher.publish(refund_ids, bulk=bulk, installation=installation)
        except BrokerUnavailable as error:
            self._fall_silent(error)
        except (OSError, KombuError, OperationalError) as error:
            self._fall_silent(BrokerUnavailable(str(error)))

    def _current(self) -> Publisher | None:
        """Return the publisher of the broker that runs now: an embedded one may have restarted on another port."""
        url = url_if_running(self._settings)
        if url is None or url.startswith(MEMORY):
            return None
        with self._lock:
            if self._publisher is None or self._publisher.url != url:
                self._publisher = Publisher(self._settings, url, socket_seconds=PUBLISH_SOCKET_SECONDS)
            return self._publisher

    def _fall_silent(self, error: BrokerUnavailable) -> None:
        now = time.monotonic()
        count(BROKER_FAILURES, error)
        self._silent_until = now + SILENT_SECONDS
        if now - self._warned_at >= WARN_SECONDS:
            self._warned_at = now
            warn_of(
                log,
                Condition.BROKER_UNAVAILABLE,
                "%s: workers get no message, the sweep finds the work",
                error.line,
            )
