"""What a command works with: settings, a database, the engine's context; opened late and closed at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from refund_worker.errors import BadSettings
from refund_worker.extras import MissingExtra

if TYPE_CHECKING:
    from refund_worker.engine.context import Context
    from refund_worker.runtime import Runtime
    from refund_worker.settings import Settings
    from refund_worker.store.database import Database

DATABASE_URL = "REFUND_WORKER_DATABASE_URL"


def settings() -> Settings:
    """The settings of this process. Raises `BadSettings`."""
    from refund_worker.settings import load_settings

    return load_settings()


@contextmanager
def runtime(*, processors: bool = False) -> Iterator[Runtime]:
    """Everything wired. Raises `BadSettings` or `Unavailable`."""
    from refund_worker.runtime import build_runtime

    given = settings()

    @cache
    def publisher() -> Callable[[Sequence[str], bool], None]:
        from refund_worker.engine.context import no_wake

        try:
            from refund_worker.worker.publisher import make_publisher
        except MissingExtra:  # the refund is stored, and the scheduler's sweep finds it
            return no_wake
        return make_publisher(given)

    def wake(refund_ids: Sequence[str], bulk: bool) -> None:
        # Celery is imported only once there is something to wake workers for.
        publisher()(refund_ids, bulk)

    with _usable_database():
        built = build_runtime(given, wake=wake, processors=processors)
    with built:
        yield built


@contextmanager
def context() -> Iterator[Context]:
    """The engine's context without processors, for commands that only take in, look and decide."""
    with runtime() as built:
        yield built.context


@contextmanager
def database() -> Iterator[Database]:
    """The database as it is, neither migrated nor checked. Raises `BadSettings`."""
    from refund_worker.store.database import Database

    with _usable_database():
        opened = Database(settings().database_url.get_secret_value())
    try:
        with _usable_database():
            yield opened
    finally:
        opened.close()


@contextmanager
def _usable_database() -> Iterator[None]:
    """Turn what a wrong URL or path raises into the name of the setting; its text may hold a password."""
    from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError

    try:
        yield
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError):
        raise BadSettings(
            f"{DATABASE_URL} is not the URL of a database: sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME"
        ) from None
    except OSError as error:
        raise BadSettings(f"{DATABASE_URL}: the file can't be made ({error.strerror})") from None
    except DatabaseError as error:
        if "not a database" not in str(error.orig):
            raise
        raise BadSettings(f"{DATABASE_URL} names a file that is not a database") from None
