"""How the own copy of the directory stands, for `tieline node status`."""

from __future__ import annotations

from tieline.v1 import directory_pb2
from tieline_client.directory import Directory
from tieline_client.payloads import timestamp

from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.online_half import OnlineHalf


def revoked_words(directory: Directory, agency: str) -> str:
    """Say that the directory revokes the own agency and what that means; "" where it does not."""
    member = directory.by_agency.get(agency)
    if member is None or not member.revoked:
        return ""
    return (
        f"{agency} is revoked (directory version {directory.version}): every other node refuses "
        "this one, nothing is asked or sent, what is queued waits; its own people keep their "
        "access; ask the authority, which can admit it again"
    )


def standing(
    store: DirectoryStore, online: OnlineHalf, problem: str | None
) -> directory_pb2.DirectoryStanding:
    """Return versions and ends of the four parts, and who confirmed them last."""
    copy, confirmed = store.copy(), store.confirmed
    told = directory_pb2.DirectoryStanding(online=online.held, problem=(problem or "")[:500])
    for role, part in {
        "root": copy.parsed_root,
        "targets": copy.parsed_targets,
        "snapshot": copy.parsed_snapshot,
        "timestamp": copy.parsed_timestamp,
    }.items():
        told.parts.add(role=role, version=part.version, expire_time=timestamp(part.expires))
    if confirmed is not None:
        told.source = confirmed.source[:200]
        told.refresh_time.CopyFrom(timestamp(confirmed.at))
    return told
