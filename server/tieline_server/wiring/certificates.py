"""The node's own certificates at work: the leaf's renewal, and people's from elsewhere."""

from __future__ import annotations

import structlog

from tieline_server.services.people import IssuedLeaf
from tieline_server.trust.leaf_import import check_operator_leaf
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
    directory = parts.directory.current()
    checked = check_operator_leaf(
        der,
        name,
        agency=parts.config.agency,
        federation=directory.federation,
        cas=(parts.identity.operator_ca.der,),
        is_revoked=directory.is_revoked,
        clock=utc_now,
    )
    return IssuedLeaf(der, checked.serial, checked.not_after)
