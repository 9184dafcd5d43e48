"""Whose keys prove an old export: those that came with it, or those of a folder named for it."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tieline.v1 import envelope_pb2, payload_pb2
from tieline_client.audit_evidence import Evidence
from tieline_client.audit_log import write_export
from tieline_client.cli.audit_trust import Trust, check_file
from tieline_client.errors import DirectoryError, SignatureRefused
from tieline_client.merkle import RootBuilder, leaf_hash
from tieline_client.payloads import Audience, Sealer
from tieline_server.domain.audit import AuditEntry, leaf_bytes
from tieline_server.trust import federation_edits, tuf_folder

from tests.federation.building import FEDERATION, NOW, Agency, change, trial


@dataclass
class World:
    folder: Path
    own: Agency = field(default_factory=lambda: Agency("pt-pj"))
    peer: Agency = field(default_factory=lambda: Agency("es-pn", countries=("ES",)))

    def __post_init__(self) -> None:
        self.federation = trial(self.folder / "authority", self.own, self.peer)
        self.public = tuf_folder.public_part(self.federation.folder)
        self.root = hashlib.sha256((self.public / "root.json").read_bytes()).hexdigest()

    def export(self, name: str, *, directory: bool = True) -> Path:
        """What the own node exports now."""
        leaves = [leaf_bytes(AuditEntry("a", at, "pt-pj"), bytes(16)) for at in (NOW, NOW)]
        tree = RootBuilder()
        for leaf in leaves:
            tree.add_hash(leaf_hash(leaf))
        head = payload_pb2.Payload(
            checkpoint=payload_pb2.Checkpoint(size=2, root=tree.root(), epoch="e" * 32)
        )
        by = payload_pb2.Payload(
            countersignature=payload_pb2.Countersignature(
                agency="pt-pj", size=2, root=tree.root(), checkpoint_digest=bytes(32)
            )
        )
        evidence = Evidence(_seal(self.own, head, ""), [_seal(self.peer, by, "pt-pj")])
        for path in sorted(self.public.rglob("*.json")) if directory else ():
            evidence.files[path.relative_to(self.public).as_posix()] = path.read_bytes()
        path = self.folder / name
        write_export(
            path,
            ((n, leaf, b"") for n, leaf in enumerate(leaves)),
            federation=FEDERATION,
            agency="pt-pj",
            size=2,
            root=tree.root(),
            evidence=evidence.document(),
        )
        return path

    def check(self, path: Path, public: Path | None = None) -> str:
        _, _, verdict, against = check_file(path, Trust(self.root, public, ()))
        assert verdict.verified
        return against


def _seal(agency: Agency, payload: payload_pb2.Payload, audience: str) -> envelope_pb2.Envelope:
    sealer = Sealer(FEDERATION, agency.agency, agency.signing_key)
    return sealer.seal(payload, Audience(agency=audience), NOW)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_an_export_of_an_agency_that_is_revoked_verifies_as_before(world: World) -> None:
    """What it signed while it was a member stays proven: by the files inside, by a folder kept from
    then, and by the folder of today, which still lists its keys."""
    before = world.export("before.jsonl")
    kept = world.folder / "kept"
    shutil.copytree(world.public, kept)
    change(world.federation, lambda stated: federation_edits.revoke_agency(stated, "pt-pj"), NOW)
    words = "countersigned by es-pn up to 2 entries"
    assert world.check(before) == words
    assert world.check(before, kept) == words
    assert world.check(before, world.public) == words
    assert world.check(world.export("after.jsonl")) == words


def test_a_named_folder_stands_alone(world: World) -> None:
    """An older folder is not mixed with the newer files inside, nor the other way round."""
    kept = world.folder / "kept"
    shutil.copytree(world.public, kept)
    late = Agency("fr-pn", countries=("FR",))
    asks = late.request()
    change(
        world.federation,
        lambda stated: federation_edits.admit(
            stated, asks, asks.claims.role, asks.claims.countries, NOW
        )[0],
        NOW,
    )
    world.peer = late
    export = world.export("export.jsonl")
    assert world.check(export) == "countersigned by fr-pn up to 2 entries"
    with pytest.raises(SignatureRefused, match="no signature"):
        world.check(export, kept)


def test_an_export_without_files_needs_a_folder(world: World) -> None:
    bare = world.export("bare.jsonl", directory=False)
    assert world.check(bare, world.public)
    with pytest.raises(DirectoryError, match="fingerprint"):
        check_file(bare, Trust("ab" * 32, world.public, ()))
