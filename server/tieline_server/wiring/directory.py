"""What a node does when its directory changes, and as the keeper of the online keys.

A new version is told once (trust/directory_refresh.py). Then whoever is refused under it is cut
off, in the middle of a call if need be; the log says so; and peers are greeted, which tells them
that there is something to fetch: all of them by whoever signs versions, those at hand by others.
"""

from __future__ import annotations

import structlog
from tieline_client.directory import Directory
from tieline_client.findings import Finding

from tieline_server.trust import own_keys
from tieline_server.trust.directory_status import revoked_words
from tieline_server.wiring.beginnings import greet_peers
from tieline_server.wiring.clock import utc_now
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)


def directory_changed(parts: Parts, directory: Directory) -> None:
    """Act on a new version of the directory."""
    review(parts)
    if why := revoked_words(directory, parts.config.agency):
        _log.warning("agency.revoked", text=why)
    log_keys(parts)
    confirmed = parts.directory.confirmed
    entry = parts.node.entry(
        "directory.changed",
        directory=directory.version,
        source=confirmed.source if confirmed else "",
    )
    parts.store.write(lambda tx: tx.audit.append(entry))
    greet_peers(parts, parts.others() if parts.online.held else parts.peers.connected())


def keys_apart(parts: Parts) -> Finding | None:
    """Say how the directory and the keys of this home part; None where they agree."""
    return own_keys.look(
        parts.home.path,
        parts.config.agency,
        parts.directory,
        utc_now(),
        parts.identity.signing_key,
    )


def log_keys(parts: Parts) -> None:
    """Log it where they part: whoever starts the node, or brings a directory in, is to know."""
    if (found := keys_apart(parts)) is not None:
        _log.warning("keys.apart", text=f"{found.text}; {found.advice}")


def review(parts: Parts) -> None:
    """End what the directory, as it is now, would not let begin; also when it has expired."""
    for one in parts.reviews:
        one()
    parts.peers.review()
    parts.relaying.board.review()


def accept_statement(parts: Parts, agency: str, metadata: bytes, own: bytes) -> int:
    """Take an agency's statement of itself into the directory, where this node may."""
    version = parts.online.accept(agency, metadata, own, utc_now())
    entry = parts.node.entry("directory.statement", peer=agency, directory=version)
    parts.store.write(lambda tx: tx.audit.append(entry))
    parts.refresher.note_changes()
    return version
