"""Everything of a node that ends by itself: certificates, keys, the directory, backups.

Announced a week ahead in `node status`, in the log (at start, then daily) and by the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from tieline_client.limits import NODE_LEAF_LIFE

from tieline_server.backup import records
from tieline_server.domain.expiry import ANNOUNCED_AHEAD, Ending, announced
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)

_DAILY = timedelta(days=1)
_RENEWED_BY_NOW = NODE_LEAF_LIFE / 4
"""A leaf that renews itself at half-life and has so little left did not."""


def endings(parts: Parts) -> Iterator[Ending]:
    """Yield what ends, whether or not it is near."""
    identity, directory = parts.identity, parts.directory.current()
    here = identity.node_ca.authority is not None
    yield Ending(
        "the node's leaf",
        identity.expires,
        "see the log for why it does not renew itself"
        if here
        else "have HOME/node.csr of `tieline node renew` signed and --import it",
        _RENEWED_BY_NOW if here else ANNOUNCED_AHEAD,
    )
    for authority, option in (
        (identity.node_ca, "--ca"),
        (identity.operator_cas.issuing, "--operator-ca"),
    ):
        yield Ending(
            f"the {authority.kind.value} CA",
            authority.certificate.not_valid_after_utc,
            f"begin its replacement with `tieline node rekey HOME {option}`",
        )
    for key in directory.member(parts.config.agency).signing_keys:
        if key.not_after is not None and key.covers(utc_now()):
            yield Ending("the signing key", key.not_after, "publish its successor")
    yield Ending(
        "the directory",
        directory.expires,
        "its authority must run `tieline federation publish`, and this node get the result",
    )
    for person in parts.store.read(lambda tx: list(tx.operators.find())):
        if person.revoked is None and person.expires is not None:
            yield Ending(
                f"the certificate of {person.name}",
                person.expires,
                f"give a new one with `tieline operator add {person.name}`",
            )
    last = parts.store.read(records.last)
    if last is not None:
        yield Ending("the last backup", last.expires, "make another with `tieline node backup`")


class Announcer:
    """Says in the log, once a day, what ends before long."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._said: datetime | None = None

    def daily(self) -> None:
        """Say it, unless it was said within a day."""
        now = utc_now()
        if self._said is not None and self._said <= now < self._said + _DAILY:
            return
        self._said = now
        for one in announced(endings(self._parts), now):
            _log.warning(
                "expiry.announced",
                what=one.what,
                ends=one.ends.isoformat(),
                over=one.over(now),
                advice=one.advice,
            )
