"""A part of a transaction that can fail without the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from tieline_server.storage.errors import may_retry, translate
from tieline_server.storage.session import Session


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """Undo what is done inside when something is raised inside; raise it on, translated.

    When the database itself gave the transaction up, that is what is raised, and nothing of the
    transaction remains.
    """
    if session.postgres:
        try:
            with session.connection.begin_nested():
                yield
        except Exception as error:
            if may_retry(error, 1):  # the whole transaction runs again
                raise
            _raise(error)
        return
    driver = session.driver
    leaves, changes = len(session.pending), len(session.uncommitted)
    driver.execute("SAVEPOINT part")
    try:
        yield
    except BaseException as error:
        if driver.in_transaction:
            driver.execute("ROLLBACK TO part")
            driver.execute("RELEASE part")
        del session.pending[leaves:]
        del session.uncommitted[changes:]
        if isinstance(error, Exception):
            _raise(error)
        raise
    driver.execute("RELEASE part")


def _raise(error: Exception) -> NoReturn:
    meant = translate(error)
    raise meant from (None if meant is error else error)
