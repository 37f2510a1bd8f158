"""The settings, the database and the engine's context of a command, opened when needed and closed at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import TYPE_CHECKING

from refund_worker.errors import BadSettings
from refund_worker.extras import MissingExtra
from refund_worker.logs import set_up_logging

if TYPE_CHECKING:
    from refund_worker.domain.processor_replies import Answer
    from refund_worker.engine.context import Context, Publish
    from refund_worker.engine.processor_sync.sync_refund import Access, ClosableLimiter
    from refund_worker.runtime import Runtime
    from refund_worker.settings import Settings
    from refund_worker.store.database import Database

DATABASE_URL = "REFUND_WORKER_DATABASE_URL"


def settings() -> Settings:
    """Return the settings of this process. Raises `BadSettings` if one is wrong or unknown."""
    from refund_worker.settings import load_settings

    return load_settings()


def publisher_factory() -> Callable[[Settings], Publish] | None:
    """Return `make_publisher`, or None without the extra `worker`: the scheduler's sweep finds what is stored."""
    try:
        from refund_worker.worker.publisher import make_publisher
    except MissingExtra:
        return None
    return make_publisher


def limiter_factory() -> Callable[[Settings], ClosableLimiter] | None:
    """Return `make_limiter`, or None without the extra `worker`."""
    try:
        from refund_worker.worker.limiter import make_limiter
    except MissingExtra:
        return None
    return make_limiter


def access(loaded: Settings) -> Access:
    """Return the way to the processors for one question, within their rate limits."""
    from refund_worker.engine.context import NoLimit
    from refund_worker.engine.processor_sync.sync_refund import Access
    from refund_worker.processors.accounts import accounts_of

    make = limiter_factory()
    return Access(
        lambda: accounts_of(loaded).make_processors(loaded.call_timeout_seconds),
        lambda: NoLimit() if make is None else make(loaded),
        lambda: accounts_of(loaded).make_routes(loaded.call_timeout_seconds),
    )


@contextmanager
def runtime(*, processors: bool = False, limited: bool = False) -> Iterator[Runtime]:
    """Open the runtime: the database, the context and, if asked for, the processors' adapters.

    With `limited`, calls to processors share the rate limit of the workers. Raises `BadSettings` if a setting is wrong,
    and `Unavailable` if the database is down.
    """
    from refund_worker.engine.jobs.metric_flush import flush
    from refund_worker.runtime import build_runtime

    loaded = settings()
    _set_up_logging(loaded)

    @cache
    def publisher() -> Publish:
        from refund_worker.engine.context import no_publish

        make = publisher_factory()
        return make(loaded) if make else no_publish

    def publish(refund_ids: Sequence[str], bulk: bool, installation: str | None = None, /) -> None:
        # Celery is imported only when there is a wake-up to publish.
        publisher()(refund_ids, bulk, installation)

    with _usable_database():
        make = limiter_factory() if limited else None
        limiter = None if make is None else make(loaded)
        built = build_runtime(loaded, publish=publish, processors=processors, limiter=limiter)
    with built:
        try:
            yield built
        finally:
            if limiter is not None:
                built.context.run(_closed(limiter))
        flush(lambda: nullcontext(built.database))


async def _closed(limiter: ClosableLimiter) -> list[Answer]:
    await limiter.close()
    return []


def _set_up_logging(loaded: Settings) -> None:
    """Let commands log warnings only, and at a terminal as text, unless the settings say otherwise."""
    chosen = loaded.model_fields_set
    form = "text" if sys.stderr.isatty() and "log_format" not in chosen else loaded.log_format
    set_up_logging(loaded.log_level if "log_level" in chosen else "warning", form, "cli")


@contextmanager
def context() -> Iterator[Context]:
    """Open the engine's context without processors' adapters, for commands that make no processor calls.

    Raises the same errors as `runtime`.
    """
    with runtime() as built:
        yield built.context


@contextmanager
def database() -> Iterator[Database]:
    """Open the database as it is, without migrating or checking it. Raises `BadSettings` if it cannot be used."""
    from refund_worker.store.database import Database

    with _usable_database():
        loaded = settings()
        opened = Database(loaded.database_url.get_secret_value(), schema=loaded.database_schema)
    try:
        with _usable_database():
            yield opened
    finally:
        opened.close()


@contextmanager
def _usable_database() -> Iterator[None]:
    """Convert errors of a wrong URL or path to `BadSettings` that names the setting.

    The original text is dropped, because it may contain a password.
    """
    from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

    try:
        yield
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        raise BadSettings(
            f"{DATABASE_URL} is not a database URL: write sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from None
    except OSError as error:
        raise BadSettings(f"{DATABASE_URL}: the file cannot be created ({error.strerror})") from None
    except DatabaseError as error:
        if "not a database" not in str(error.orig):
            raise
        raise BadSettings(f"{DATABASE_URL} names a file that is not a database") from None
