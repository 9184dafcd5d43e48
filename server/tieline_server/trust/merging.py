"""One version out of two: what the authority signed last, and what agencies signed last.

The authority's folder and the hub go on apart: holders sign in the one, agencies hand in to the
other. Each part proves itself (the root its chain, targets the holders, a role its agency), so the
newer of each part is taken, and whoever has the online keys binds them anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from securesystemslib.exceptions import StorageError
from tieline_client.errors import DirectoryError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Targets

from tieline_server.trust import statements
from tieline_server.trust.tuf_copy import TufCopy


def newest_parts(mine: TufCopy, other: TufCopy) -> TufCopy | None:
    """Return ``mine`` with every part of ``other`` that is newer; None when none is.

    Both are verified from their own roots already. Snapshot and timestamp stay those of ``mine``
    and fit no more: the caller binds the result. Raises DirectoryError for another federation.
    """
    if mine.root_fingerprint != other.root_fingerprint:
        raise DirectoryError("the two directories have different roots; name the right home")
    roots = other.roots if max(other.roots) > max(mine.roots) else mine.roots
    newer = other if _version(other.targets) > _version(mine.targets) else mine
    delegations = newer.parsed_targets.delegations
    agencies = sorted((delegations.roles if delegations else None) or {})
    contents = {statements.FEDERATION_PATH: newer.contents[statements.FEDERATION_PATH]}
    roles = {}
    for agency in agencies:
        path = statements.agency_path(agency)
        contents[path] = newer.contents[path]
        source = _best(agency, newer, (mine, other))
        roles[agency] = source.roles[agency]
        contents[statements.own_path(agency)] = source.contents[statements.own_path(agency)]
    merged = TufCopy(
        roots=roots,
        timestamp=mine.timestamp,
        snapshot=mine.snapshot,
        targets=newer.targets,
        roles=roles,
        contents=contents,
    )
    return None if _parts(merged) == _parts(mine) else merged


def _parts(copy: TufCopy) -> tuple[object, ...]:
    return max(copy.roots), copy.targets, dict(copy.roles), dict(copy.contents)


def _best(agency: str, targets: TufCopy, copies: tuple[TufCopy, TufCopy]) -> TufCopy:
    """Return the copy whose statement of an agency is the newest that its present key signed."""
    valid = list(_signed(agency, targets, copies))
    if not valid:
        raise DirectoryError(f"no statement of {agency} is signed by the key that it is known by")
    return max(valid, key=lambda copy: _version(copy.roles[agency]))


def _signed(agency: str, targets: TufCopy, copies: tuple[TufCopy, TufCopy]) -> Iterator[TufCopy]:
    for copy in copies:
        data = copy.roles.get(agency)
        if data is None:
            continue
        metadata = Metadata[Targets].from_bytes(data)
        try:
            targets.parsed_targets.verify_delegate(
                agency, metadata.signed_bytes, metadata.signatures
            )
        except (RepositoryError, StorageError):
            continue
        yield copy


def _version(data: bytes) -> int:
    return Metadata[Targets].from_bytes(data).signed.version
