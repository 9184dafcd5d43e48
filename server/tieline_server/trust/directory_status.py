"""How the own copy of the directory stands, for `tieline node status`."""

from __future__ import annotations

from tieline.v1 import directory_pb2
from tieline_client.payloads import timestamp

from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.online_half import OnlineHalf


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
