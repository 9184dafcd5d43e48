"""A database that was found damaged answers nothing more.

SQLite says "malformed" only where it meets the damage; the statements before and after may well
succeed, and write by a tree that is no longer one. So the first such word closes the store for
good: every later read and write is refused with StorageCorrupt, until a person has put a backup
back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from tieline_client.errors import StorageCorrupt

from tieline_server.storage.errors import corrupt, translating

_log = structlog.get_logger(__name__)


class Damage:
    """Whether damage was found. Used from any number of threads."""

    def __init__(self) -> None:
        self.found = False

    def check(self) -> None:
        """Raise StorageCorrupt when there was any."""
        if self.found:
            raise corrupt()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Let what a database raises leave as a Tieline error, and remember damage.

        Raises StorageCorrupt at once when there was any.
        """
        self.check()
        try:
            with translating():
                yield
        except StorageCorrupt as error:
            self.note(error)
            raise

    def note(self, error: BaseException | None) -> None:
        """Remember when this is the database's damage, and not that of an index beside it."""
        if type(error) is StorageCorrupt and not self.found:
            self.found = True
            _log.error("storage.damaged", text=error.message)
