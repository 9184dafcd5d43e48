"""Everything of a node that ends by itself: certificates, keys, the directory, backups.

Announced a week ahead in `node status`, in the log (at start, then daily) and by the metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from cryptography.x509 import Certificate, load_pem_x509_certificate
from tieline_client.certificates import Kind
from tieline_client.limits import NODE_LEAF_LIFE

from tieline_server.backup import records
from tieline_server.config import Home
from tieline_server.domain.expiry import ANNOUNCED_AHEAD, Ending, announced
from tieline_server.trust.directory_status import revoked_words
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)

_DAILY = timedelta(days=1)
_NEXT_NODE_CA = "node-ca.next.pem"
_RENEWED_BY_NOW = NODE_LEAF_LIFE / 4
"""A leaf that renews itself at half-life and has so little left did not."""


def endings(parts: Parts, now: datetime) -> Iterator[Ending]:
    """Yield what ends, whether or not it is near; no two are called the same."""
    yield from _certificates(parts)
    yield from _directory(parts, now)
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


def _certificates(parts: Parts) -> Iterator[Ending]:
    """The leaf, and the CAs that are in use or about to be."""
    identity = parts.identity
    here = identity.node_ca.authority is not None
    yield Ending(
        "the node's leaf",
        identity.expires,
        "see the log for why it does not renew itself"
        if here
        else "have HOME/node.csr of `tieline node renew` signed and --import it",
        _RENEWED_BY_NOW if here else ANNOUNCED_AHEAD,
    )
    cas = identity.operator_cas
    for authority, option in ((identity.node_ca, "--ca"), (cas.present, "--operator-ca")):
        yield Ending(
            f"the {authority.kind.value} CA",
            authority.certificate.not_valid_after_utc,
            f"begin its replacement with `tieline node rekey HOME {option}`",
        )
    for kind, certificate in (
        (Kind.NODE, _next_node_ca(parts.home)),
        (Kind.OPERATOR, cas.upcoming.certificate if cas.upcoming else None),
    ):
        if certificate is not None:
            yield Ending(
                f"the next {kind.value} CA",
                certificate.not_valid_after_utc,
                "take it up with `tieline node rekey HOME --finish`, then begin another",
            )


def _next_node_ca(home: Home) -> Certificate | None:
    try:
        return load_pem_x509_certificate((home.certs / _NEXT_NODE_CA).read_bytes())
    except (OSError, ValueError):  # none, or one that --finish will refuse
        return None


def _directory(parts: Parts, now: datetime) -> Iterator[Ending]:
    """The directory, its parts, and what it says of this agency."""
    agency, directory = parts.config.agency, parts.directory.current()
    copy = parts.directory.copy()
    for key in directory.member(agency).signing_keys:
        if key.not_after is not None and key.covers(now):
            yield Ending("the signing key", key.not_after, "publish its successor")
    publish = "its authority must run `tieline federation publish`, and this node get the result"
    first = ", ".join(role for role, ends in copy.role_ends.items() if ends == copy.expires)
    yield Ending("the directory", copy.expires, f"of its parts {first} first: {publish}")
    by_role = {
        "root": "its authority must run `tieline federation rotate`, and the holders sign it",
        "targets": "its authority must run `tieline federation renew`, and the holders sign it",
    }
    for role, ends in copy.role_ends.items():
        if ends != copy.expires:  # that one is announced as the directory already
            yield Ending(f"the directory's {role}", ends, by_role.get(role, publish))
    own = copy.agency_ends.get(agency)
    if own is not None:
        yield Ending(
            "this agency's part of the directory",
            own,
            "sign it anew with `tieline node restate HOME`; peers find no keys of it afterwards",
        )


class Announcer:
    """Says in the log, once a day, what ends before long, and that this agency is revoked."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._said: datetime | None = None

    def daily(self, now: datetime) -> None:
        """Say it, unless it was said within a day."""
        if self._said is not None and self._said <= now < self._said + _DAILY:
            return
        self._said = now
        own = self._parts.config.agency
        if why := revoked_words(self._parts.directory.current(), own):
            _log.warning("agency.revoked", text=why)
        for one in announced(endings(self._parts, now), now):
            _log.warning(
                "expiry.announced",
                what=one.what,
                ends=one.ends.isoformat(),
                over=one.over(now),
                advice=one.advice,
            )
