"""Whose signing keys a federation's signed files list, verified from the root's fingerprint alone.

An auditor has an export, the files that came with it (or the authority's public folder), and the
fingerprint of the root on paper. No node, no clock and no network: what was signed years ago is
judged by the keys as they are listed, so that expiry and freshness, which the node looks at, say
nothing here.

1. ``root.json`` has this SHA-256. Each next root is signed as the one before it and as itself ask.
2. The newest targets are signed as the last root asks (TUF specification 1.0.34, section 5.6).
3. Each agency's own part is signed by the key that the targets delegate to.
4. Each statement has the length and the SHA-256 that its signed list says.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from tieline_client import limits
from tieline_client.directory import Directory, Member, Role, SigningKey
from tieline_client.errors import DirectoryError

Files = Mapping[str, bytes]
"""Contents by relative path, as in the authority's public folder."""

_NAME = re.compile(r"root\.json|metadata/\d+\.[a-z0-9-]+\.json|targets/([a-z]+/)?[a-z0-9.-]+\.json")


def read_folder(folder: Path) -> Files:
    """Return the files of an authority's folder or its public part. Raises DirectoryError."""
    public = folder / "public" if (folder / "public" / "root.json").is_file() else folder
    if not (public / "root.json").is_file():
        raise DirectoryError(f"{folder} holds no root.json; name the authority's public folder")
    found: dict[str, bytes] = {}
    for path in sorted(public.rglob("*.json")):
        name = path.relative_to(public).as_posix()
        if wanted(name) and path.stat().st_size <= limits.DIRECTORY_FILE_BYTES:
            found[name] = path.read_bytes()
    return found


def wanted(name: str) -> bool:
    """Whether a file is one of those that prove whose keys are whose."""
    return _NAME.fullmatch(name) is not None


def signing_directory(files: Files, fingerprint: str) -> Directory:
    """Return the members with their signing keys, verified from the root with this fingerprint.

    Raises DirectoryError, which says what does not hold.
    """
    initial = files.get("root.json", b"")
    if hashlib.sha256(initial).hexdigest() != fingerprint.lower():
        raise DirectoryError(
            "the root in these files does not have this fingerprint: they are of another"
            " federation, or forged"
        )
    try:
        root = _newest_root(files, initial)  # 1
        targets = _newest(files, "targets")
        root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)  # 2
        members = tuple(_members(files, targets))
        stated = json.loads(_target(files, targets, "federation.json"))
        return Directory(
            federation=str(stated["federation"]),
            version=targets.signed.version,
            expires=datetime.max.replace(tzinfo=UTC),
            members=members,
        )
    except (RepositoryError, ValueError, KeyError, TypeError) as error:
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DirectoryError(f"the federation's files are refused: {why[:200]}") from None


def _newest_root(files: Files, initial: bytes) -> Metadata[Root]:
    root = Metadata[Root].from_bytes(initial)
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    while (data := files.get(f"metadata/{root.signed.version + 1}.root.json")) is not None:
        following = Metadata[Root].from_bytes(data)
        root.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        following.signed.verify_delegate("root", following.signed_bytes, following.signatures)
        if following.signed.version != root.signed.version + 1:
            raise ValueError("a root states another version than its name")
        root = following
    return root


def _newest(files: Files, role: str) -> Metadata[Targets]:
    pattern = re.compile(rf"metadata/(\d+)\.{re.escape(role)}\.json")
    versions = [int(found[1]) for found in map(pattern.fullmatch, files) if found]
    if not versions:
        raise ValueError(f"{role}.json is missing")
    return Metadata[Targets].from_bytes(files[f"metadata/{max(versions)}.{role}.json"])


def _members(files: Files, targets: Metadata[Targets]) -> Iterator[Member]:
    delegations = targets.signed.delegations
    for agency in sorted((delegations.roles if delegations else None) or {}):
        stated: dict[str, Any] = json.loads(_target(files, targets, f"agencies/{agency}.json"))
        try:
            own = _newest(files, agency)
        except ValueError:
            continue  # an agency whose part did not come along has no keys here
        targets.signed.verify_delegate(agency, own.signed_bytes, own.signatures)  # 3
        said: dict[str, Any] = json.loads(_target(files, own, f"self/{agency}.json"))
        yield Member(
            agency=agency,
            name=str(stated.get("name", agency))[: limits.NAME_CHARS],
            role=Role(stated["role"]),
            signing_keys=tuple(SigningKey(**one) for one in said.get("signing_keys", ())),
        )


# 4
def _target(files: Files, listed: Metadata[Targets], path: str) -> bytes:
    info = listed.signed.targets[path]
    folder, _, name = path.rpartition("/")
    digest = info.hashes["sha256"]
    place = "/".join(part for part in ("targets", folder, f"{digest}.{name}") if part)
    data = files.get(place)
    if data is None:
        raise ValueError(f"{path} is missing")
    info.verify_length_and_hashes(data)
    return data
