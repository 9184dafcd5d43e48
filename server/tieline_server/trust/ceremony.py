"""What is proposed and not yet in force, and the holders' signatures on it.

The proposal is one file, DIR/proposed/proposal.json: the top-level targets with the signatures so
far, and all files that they name. Editing it again replaces it and drops the signatures, since
these were given for something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tieline_client import keys
from tieline_client.errors import DirectoryError, RefusedError, WrongState
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Targets

from tieline_server.trust import canonical, files
from tieline_server.trust.request import tuf_signer
from tieline_server.trust.stated import Stated

PROPOSAL = Path("proposed", "proposal.json")
_FORMAT = "tieline-proposal/1"


@dataclass(frozen=True)
class Proposal:
    """Top-level targets on the way to their threshold."""

    metadata: Metadata[Targets]
    roles: Mapping[str, bytes]
    contents: Mapping[str, bytes]

    @property
    def stated(self) -> Stated:
        """What is proposed; raises DirectoryError when files and signed hashes differ."""
        return Stated.of(self.metadata.signed, self.roles, self.contents)


def propose(stated: Stated, targets: Targets) -> Proposal:
    """Return an unsigned proposal."""
    return Proposal(Metadata(targets), dict(stated.roles), stated.contents())


def sign(proposal: Proposal, key: keys.PrivateKey, root: Root) -> Proposal:
    """Add one holder's signature. Raises RefusedError or WrongState.

    1. The files are those whose hashes are signed.
    2. The key is a holder's.
    3. This holder has not signed yet.
    """
    # 1
    _ = proposal.stated
    # 2
    signer = tuf_signer(key)
    if signer.public_key.keyid not in root.roles[Targets.type].keyids:
        raise RefusedError(
            "this key belongs to no holder of this federation; use the file that "
            "`tieline federation init` wrote for you"
        )
    # 3
    if signer.public_key.keyid in holders_signed(proposal, root):
        raise WrongState("this holder has signed already; another holder signs next")
    metadata = Metadata(proposal.metadata.signed, dict(proposal.metadata.signatures))
    metadata.sign(signer, append=True)
    return Proposal(metadata, proposal.roles, proposal.contents)


def holders_signed(proposal: Proposal, root: Root) -> set[str]:
    """Return the ids of the holders' keys whose signatures are valid."""
    metadata = proposal.metadata
    result = root.get_verification_result(Targets.type, metadata.signed_bytes, metadata.signatures)
    return set(result.signed)


def load(folder: Path) -> Proposal | None:
    """Read the proposal of an authority's folder; None when there is none.

    Raises DirectoryError when the file is damaged.
    """
    path = folder / PROPOSAL
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_bytes())
        if document["format"] != _FORMAT:
            raise ValueError("unknown format")
        metadata = Metadata[Targets].from_bytes(document["targets"].encode())
        roles = {agency: text.encode() for agency, text in document["roles"].items()}
        contents = {name: text.encode() for name, text in document["files"].items()}
    except (RepositoryError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise DirectoryError(f"{path} is damaged; `tieline federation discard` drops it") from error
    return Proposal(metadata, roles, contents)


def save(folder: Path, proposal: Proposal) -> None:
    """Write the proposal, durably, in place of the one before."""
    document = {
        "format": _FORMAT,
        "targets": proposal.metadata.to_bytes().decode(),
        "roles": {agency: data.decode() for agency, data in proposal.roles.items()},
        "files": {name: data.decode() for name, data in proposal.contents.items()},
    }
    files.write_atomic(folder / PROPOSAL, canonical.encode(document), mode=0o600)


def clear(folder: Path) -> bool:
    """Remove the proposal; say whether there was one."""
    path = folder / PROPOSAL
    present = path.exists()
    path.unlink(missing_ok=True)
    return present
