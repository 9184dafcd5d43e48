"""What is proposed and not yet in force, and the holders' signatures on it.

The proposal is one file, DIR/proposed/proposal.json: the top-level targets with the signatures so
far, all files that they name, and for a change of holders or online keys the next root. Editing it
again replaces it and drops the signatures, since these were given for something else.

The file may travel: a holder on another machine signs in a copy of the folder (without keys/ and
online/), and ``collect`` brings the signatures back together. A changed root needs k of the holders
before and k of those after; the targets need k of those after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from tieline_client import keys
from tieline_client.errors import DirectoryError, RefusedError, WrongState
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.metadata import Role as RootRole

from tieline_server.trust import canonical, files
from tieline_server.trust.request import tuf_signer
from tieline_server.trust.stated import Stated

PROPOSAL = Path("proposed", "proposal.json")
_FORMAT = "tieline-proposal/1"
_FAULTS = (ValueError, KeyError, AttributeError, TypeError)


@dataclass(frozen=True)
class Proposal:
    """Top-level targets on the way to their threshold."""

    metadata: Metadata[Targets]
    roles: Mapping[str, bytes]
    contents: Mapping[str, bytes]
    root: Metadata[Root] | None = None
    """The next root, where holders or online keys change."""
    requests: Mapping[str, bytes] = field(default_factory=dict)
    """Enrolment requests that are to be admitted, canonical JSON by agency."""

    @property
    def stated(self) -> Stated:
        """What is proposed; raises DirectoryError when files and signed hashes differ."""
        return Stated.of(self.metadata.signed, self.roles, self.contents)


def propose(
    stated: Stated,
    targets: Targets,
    root: Metadata[Root] | None = None,
    requests: Mapping[str, bytes] | None = None,
) -> Proposal:
    """Return a proposal whose targets nobody signed."""
    return Proposal(
        Metadata(targets), dict(stated.roles), stated.contents(), root, dict(requests or {})
    )


def sign(proposal: Proposal, key: keys.PrivateKey, root: Root) -> Proposal:
    """Add one holder's signatures. ``root`` is the one in force. Raises RefusedError or WrongState.

    1. The files are those whose hashes are signed.
    2. The key is a holder's, of now or, where holders change, of then.
    3. This holder has not signed yet.
    """
    # 1
    _ = proposal.stated
    # 2
    signer = tuf_signer(key)
    keyid = signer.public_key.keyid
    wanted = [
        part for part in _parts(proposal, root) if any(keyid in one.keyids for one in part.roles)
    ]
    if not wanted:
        raise RefusedError(
            "this key belongs to no holder of this federation; use the file that "
            "`tieline federation init` or `holder-key` wrote for you"
        )
    # 3
    if all(keyid in part.signed for part in wanted):
        raise WrongState("this holder has signed already; another holder signs next")
    targets = Metadata(proposal.metadata.signed, dict(proposal.metadata.signatures))
    next_root = proposal.root
    if next_root is not None:
        next_root = Metadata(next_root.signed, dict(next_root.signatures))
    for part in wanted:
        metadata = targets if part.name == Targets.type else next_root
        assert metadata is not None
        metadata.sign(signer, append=True)
    return replace(proposal, metadata=targets, root=next_root)


def collect(mine: Proposal, other: Proposal, root: Root) -> Proposal:
    """Add the signatures of another copy of the same proposal; those that do not hold are left out.

    Raises RefusedError when the other proposes something else.
    """
    same_root = (mine.root is None) == (other.root is None)
    if mine.root is not None and other.root is not None:
        same_root = mine.root.signed_bytes == other.root.signed_bytes
    if not same_root or mine.metadata.signed_bytes != other.metadata.signed_bytes:
        raise RefusedError(
            "the other file proposes something else; send the holder the proposal of this folder"
        )
    valid = {part.name: part.signed for part in _parts(other, root)}
    targets = _joined(mine.metadata, other.metadata, valid[Targets.type])
    next_root = mine.root
    if mine.root is not None and other.root is not None:
        next_root = _joined(mine.root, other.root, valid[Root.type])
    return replace(mine, metadata=targets, root=next_root)


M = TypeVar("M", Root, Targets)


def _joined(mine: Metadata[M], other: Metadata[M], valid: set[str]) -> Metadata[M]:
    added = {keyid: other.signatures[keyid] for keyid in valid}
    return Metadata(mine.signed, {**mine.signatures, **added})


@dataclass(frozen=True)
class Part:
    """What is to be signed: targets or root, by whom, and whose signatures hold."""

    name: str
    roles: tuple[RootRole, ...]
    """Each needs its threshold by itself."""
    signed: set[str]

    @property
    def have(self) -> int:
        """Signatures that count, over all roles."""
        return sum(min(len(self.signed & set(role.keyids)), role.threshold) for role in self.roles)

    @property
    def need(self) -> int:
        """Signatures that are needed, over all roles."""
        return sum(role.threshold for role in self.roles)


def _parts(proposal: Proposal, root: Root) -> list[Part]:
    after = proposal.root.signed if proposal.root is not None else root
    parts = [_part(Targets.type, proposal.metadata, (after,))]
    if proposal.root is not None:
        parts.append(_part(Root.type, proposal.root, (root, after)))
    return parts


def _part(name: str, metadata: Metadata[Root] | Metadata[Targets], roots: tuple[Root, ...]) -> Part:
    results = [
        root.get_verification_result(name, metadata.signed_bytes, metadata.signatures)
        for root in roots
    ]
    signed = {keyid for result in results for keyid in result.signed}
    return Part(name, tuple(root.roles[name] for root in roots), signed)


def progress(proposal: Proposal, root: Root) -> tuple[int, int]:
    """Return how many signatures count, and how many are needed."""
    parts = _parts(proposal, root)
    return sum(part.have for part in parts), sum(part.need for part in parts)


def holders_signed(proposal: Proposal, root: Root) -> set[str]:
    """Return the ids of the holders' keys whose signatures on the targets are valid."""
    return _parts(proposal, root)[0].signed


def load(folder: Path) -> Proposal | None:
    """Read the proposal of an authority's folder; None when there is none.

    Raises DirectoryError when the file is damaged.
    """
    path = folder / PROPOSAL
    return read(path) if path.is_file() else None


def read(path: Path) -> Proposal:
    """Read a proposal's file; raise DirectoryError when it is damaged or none."""
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise ValueError("unknown format")
        metadata = Metadata[Targets].from_bytes(document["targets"].encode())
        roles = {agency: text.encode() for agency, text in document["roles"].items()}
        contents = {name: text.encode() for name, text in document["files"].items()}
        text = document.get("root")
        root = Metadata[Root].from_bytes(text.encode()) if text else None
        requests = {name: text.encode() for name, text in document.get("requests", {}).items()}
    except (*_FAULTS, RepositoryError, RecursionError) as error:
        raise DirectoryError(f"{path} is damaged; `tieline federation discard` drops it") from error
    return Proposal(metadata, roles, contents, root, requests)


def save(folder: Path, proposal: Proposal) -> None:
    """Write the proposal, durably, in place of the one before."""
    document = {
        "format": _FORMAT,
        "targets": proposal.metadata.to_bytes().decode(),
        "roles": {agency: data.decode() for agency, data in proposal.roles.items()},
        "files": {name: data.decode() for name, data in proposal.contents.items()},
        "requests": {agency: data.decode() for agency, data in proposal.requests.items()},
    }
    if proposal.root is not None:
        document["root"] = proposal.root.to_bytes().decode()
    files.write_atomic(folder / PROPOSAL, canonical.encode(document), mode=0o600)


def clear(folder: Path) -> bool:
    """Remove the proposal; say whether there was one."""
    path = folder / PROPOSAL
    present = path.exists()
    path.unlink(missing_ok=True)
    return present
