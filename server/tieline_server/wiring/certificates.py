"""The node's own certificates at work: the leaf's renewal, and people's from elsewhere."""

from __future__ import annotations

import structlog

from tieline_server.services.people import IssuedLeaf
from tieline_server.trust.ca_keys import ca_fingerprint
from tieline_server.trust.leaf_import import check_operator_leaf, issued_by
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)


def renew_leaf(parts: Parts) -> None:
    """Take up or issue a new leaf; the log says so, and what keeps one from being issued."""
    identity, before = parts.identity, parts.identity.problem
    if identity.renew_if_due(utc_now()):
        serial, expires = f"{identity.serial:x}", identity.expires.isoformat()
        _log.info("leaf.renewed", serial=serial, expires=expires)
        entry = parts.node.entry("leaf.renewed", serial=serial, expires=expires)
        parts.store.write(lambda tx: tx.audit.append(entry))
    if identity.problem and identity.problem != before:
        _log.warning("leaf.not_renewed", reason=identity.problem)


def check_operator(parts: Parts, name: str, der: bytes) -> IssuedLeaf:
    """Check a person's certificate that the operator CA issued elsewhere."""
    directory, cas = parts.directory.current(), parts.identity.operator_cas.trusted()
    checked = check_operator_leaf(
        der,
        name,
        agency=parts.config.agency,
        federation=directory.federation,
        cas=cas,
        is_revoked=directory.is_serial_revoked,
        clock=utc_now,
    )
    issuer = next(ca_fingerprint(ca) for ca in cas if issued_by(der, ca))
    return IssuedLeaf(der, checked.serial, checked.not_after, issuer)


def look_at_operator_cas(parts: Parts) -> None:
    """Take up a next operator CA that was put into the home; the log says so."""
    cas, before = parts.identity.operator_cas, parts.identity.operator_cas.problem
    if cas.look() and cas.upcoming is not None:
        _log.info("operator_ca.next", fingerprint=cas.upcoming.fingerprint)
        entry = parts.node.entry("operator_ca.next", fingerprint=cas.upcoming.fingerprint)
        parts.store.write(lambda tx: tx.audit.append(entry))
    if cas.problem and cas.problem != before:
        _log.warning("operator_ca.refused", reason=cas.problem)
