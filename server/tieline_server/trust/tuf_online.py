"""The online half of the directory: snapshot and timestamp, signed again at least every 14 days.

These keys can only say which of the files that the holders and the agencies signed belong together,
and that they are current; they cannot state a member, a role or a key.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from tieline_client import keys, limits
from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from tieline_server.trust import files, tuf_copy
from tieline_server.trust.request import tuf_signer
from tieline_server.trust.tuf_copy import TufCopy

Part = TypeVar("Part", Snapshot, Timestamp)

_NAMES = ("snapshot", "timestamp")


@dataclass(frozen=True)
class OnlineKeys:
    """The two keys that stay without a passphrase where the directory is published."""

    snapshot: keys.PrivateKey
    timestamp: keys.PrivateKey

    @classmethod
    def generate(cls) -> OnlineKeys:
        """Return two new keys."""
        return cls(keys.generate(), keys.generate())

    @classmethod
    def load(cls, folder: Path) -> OnlineKeys:
        """Read both; raise ConfigurationError when one is missing or others may read it."""
        return cls(*(keys.load(folder / f"{name}.pem") for name in _NAMES))

    def save(self, folder: Path) -> None:
        """Write both into a folder (0700), mode 0600, over what stood there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name, key in zip(_NAMES, (self.snapshot, self.timestamp), strict=True):
            files.write_atomic(folder / f"{name}.pem", keys.private_pem(key), mode=0o600)


def bind(
    *,
    roots: Mapping[int, bytes],
    targets: bytes,
    roles: Mapping[str, bytes],
    contents: Mapping[str, bytes],
    online: OnlineKeys,
    now: datetime,
    after: tuple[int, int] = (0, 0),
) -> TufCopy:
    """Return a version of the directory made of these signed parts, current for 14 days.

    ``after`` are the highest versions of snapshot and timestamp that anyone may have seen.
    """
    expires = (now + limits.DIRECTORY_ONLINE_LIFE).replace(microsecond=0)
    meta = {"targets.json": _described(targets)}
    meta.update((f"{agency}.json", _described(data)) for agency, data in roles.items())
    snapshot = _signed(Snapshot(version=after[0] + 1, expires=expires, meta=meta), online.snapshot)
    timestamp = _signed(
        Timestamp(
            version=after[1] + 1,
            expires=expires,
            snapshot_meta=MetaFile.from_data(after[0] + 1, snapshot, ["sha256"]),
        ),
        online.timestamp,
    )
    return TufCopy(
        roots=roots,
        timestamp=timestamp,
        snapshot=snapshot,
        targets=targets,
        roles=roles,
        contents=contents,
    )


def renew(
    copy: TufCopy, online: OnlineKeys, now: datetime, *, seen: Iterable[TufCopy] = ()
) -> TufCopy:
    """Return the same parts with a fresh snapshot and timestamp, newer than all of ``seen`` too.

    ``seen`` is what a hub serves, who may have renewed it by itself.
    """
    all_versions = [versions(copy), *map(versions, seen)]
    after = max(one[0] for one in all_versions), max(one[1] for one in all_versions)
    renewed = bind(
        roots=copy.roots,
        targets=copy.targets,
        roles=copy.roles,
        contents=copy.contents,
        online=online,
        now=now,
        after=after,
    )
    return check(renewed, copy)


def check(copy: TufCopy, before: TufCopy | None) -> TufCopy:
    """Return ``copy`` when a member that knows ``before`` would accept it, else DirectoryError."""
    root = copy.roots[min(copy.roots)]
    return tuf_copy.verify(copy.files.get, root, before, "what is to be published")


def versions(copy: TufCopy) -> tuple[int, int]:
    """Return the versions of snapshot and timestamp."""
    return copy.parsed_snapshot.version, copy.parsed_timestamp.version


def _described(data: bytes) -> MetaFile:
    version = Metadata[Targets].from_bytes(data).signed.version
    return MetaFile.from_data(version, data, ["sha256"])


def _signed(part: Part, key: keys.PrivateKey) -> bytes:
    metadata = Metadata(part)
    metadata.sign(tuf_signer(key))
    return metadata.to_bytes()
