"""The federation's authority: a folder in which holders state who is a member.

::

    DIR/authority.json       the federation's name, and whether it is a trial
    DIR/keys/holder-N.pem    one key per holder, encrypted; holders take theirs away
    DIR/online/              snapshot and timestamp keys, 0600
    DIR/proposed/            what waits for signatures
    DIR/public/              all that others get: the TUF files of the version in force

A change starts as a proposal (``propose``), gathers the signatures of k holders (``sign``), and
takes effect at the threshold: its files join DIR/public, the timestamp last. ``publish`` renews
the online half and hands the whole to a hub's home.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from tieline_client import keys, limits
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError, DirectoryError, RefusedError, WrongState
from tuf.api.metadata import Metadata, Root, Targets

from tieline_server.trust import (
    canonical,
    ceremony,
    federation_edits,
    files,
    merging,
    root_rotation,
    tuf_folder,
    tuf_online,
)
from tieline_server.trust.ceremony import Proposal
from tieline_server.trust.request import Request, verify
from tieline_server.trust.stated import Stated
from tieline_server.trust.tuf_copy import TIMESTAMP, TufCopy
from tieline_server.trust.tuf_online import OnlineKeys

ABOUT = "authority.json"
FORMAT = "tieline-federation/1"
PUBLISHED = Path("directory", "published")
"""Below a hub's home: the public part that it serves."""
DIRECTORY = Path("directory")
"""Below a node's home: its own copy."""
ONLINE_NEXT = "online.next"
"""In the authority's folder: online keys of a root that is not in force yet."""
ONLINE = Path("directory", "online")
"""Below a hub's home: the keys with which it renews snapshot and timestamp."""


@dataclass(frozen=True)
class Proposed:
    """What came of an edit."""

    changed: bool
    dropped: int
    """Signatures on an earlier proposal that count no more."""


@dataclass(frozen=True)
class Signatures:
    """How far a proposal is: ``have`` of ``need`` holders; in force once both are equal."""

    have: int
    need: int
    in_force: bool


class Federation:
    """An authority's folder. Every change is durable before its method returns."""

    def __init__(self, folder: Path, name: str, trial: bool) -> None:
        self.folder, self.name, self.trial = folder, name, trial
        self.public = folder / "public"
        self._published: TufCopy | None = None

    @classmethod
    def open(cls, folder: Path) -> Federation:
        """Open an authority's folder; raise ConfigurationError when it is none."""
        about = files.read_bounded(folder / ABOUT, limits.DIRECTORY_FILE_BYTES)
        if about is None:
            raise ConfigurationError(
                f"{folder} is no authority's folder; make one with `tieline federation init`"
            )
        document = canonical.decode(about, str(folder / ABOUT))
        name = document.get("federation")
        if document.get("format") != FORMAT or not isinstance(name, str):
            raise ConfigurationError(f"{folder / ABOUT} is of another version; update Tieline")
        return cls(folder, name, document.get("trial") is True)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the folder for one command; raises HomeInUse when another one does."""
        with files.locked(self.folder / ".lock", str(self.folder)):
            yield

    def published(self) -> TufCopy:
        """Return the version in force, verified once per version."""
        timestamp = files.read_bounded(self.public / TIMESTAMP, limits.DIRECTORY_FILE_BYTES)
        if self._published is None or self._published.timestamp != timestamp:
            self._published = tuf_folder.load(self.public)
        return self._published

    def directory(self, now: datetime) -> Directory:
        """Return the version in force as members see it."""
        return self.published().directory(now)

    def proposal(self) -> Proposal | None:
        """Return what waits for signatures, or None."""
        found = ceremony.load(self.folder)
        if found is None or found.metadata.signed.version <= self._targets().version:
            # One that took effect just before a crash is no proposal any more.
            return None
        return found

    def stated(self, *, proposed: bool) -> Stated:
        """Return what is in force, or with ``proposed`` what will be once it is signed."""
        waiting = self.proposal() if proposed else None
        if waiting is not None:
            return waiting.stated
        copy = self.published()
        return Stated.of(copy.parsed_targets, copy.roles, copy.contents)

    def admissions(self, now: datetime) -> list[Request]:
        """Return the requests that the proposal admits, verified, and proven to be what it admits.

        Raises RefusedError when a member would come in, or get another directory key, that no
        request in the proposal vouches for.
        """
        waiting = self.proposal()
        if waiting is None:
            return []
        before, after = self.stated(proposed=False), waiting.stated
        found = []
        for agency, key in sorted(after.directory_keys.items()):
            known = before.directory_keys.get(agency)
            if known is not None and known.keyid == key.keyid:
                continue
            document = waiting.requests.get(agency)
            if document is None:
                raise RefusedError(f"the proposal admits {agency} without its request; admit anew")
            request = verify(document, now)
            if (request.claims.agency, request.directory_key.keyid) != (agency, key.keyid):
                raise RefusedError(f"the request shown for {agency} is not what is proposed")
            found.append(request)
        return found

    def root_changes(self) -> list[str]:
        """Return what the proposal changes in the root, a line each."""
        waiting = self.proposal()
        if waiting is None or waiting.root is None:
            return []
        return root_rotation.changes(self._root(), waiting.root.signed)

    def signatures(self) -> Signatures | None:
        """Return how far the proposal is, or None when there is none."""
        waiting = self.proposal()
        root = self._root()
        if waiting is None:
            return None
        return Signatures(*ceremony.progress(waiting, root), in_force=False)

    @property
    def single_key(self) -> Path | None:
        """The one holder's key file, where init made one key and it is still here."""
        path = self.folder / "keys" / "holder-1.pem"
        return path if len(self._root().roles[Targets.type].keyids) == 1 and path.exists() else None

    def propose(
        self,
        edit: Callable[[Stated], Stated],
        now: datetime,
        *,
        renew: bool = False,
        request: Request | None = None,
    ) -> Proposed:
        """Apply an edit of federation_edits.py to what is proposed, or else to what is in force.

        With ``renew``, the expiry starts anew even if the edit changes nothing. ``request`` is what
        the edit admits, for the holders to compare.
        """
        self.settle(now)
        waiting, base = self.proposal(), self.stated(proposed=True)
        after = edit(base)
        if after == base and not renew:
            return Proposed(changed=False, dropped=0)
        targets = after.targets(self._targets().version + 1, now + limits.DIRECTORY_TARGETS_LIFE)
        requests = dict(waiting.requests) if waiting is not None else {}
        if request is not None:
            requests[request.claims.agency] = request.document
        root = waiting.root if waiting is not None else None
        ceremony.save(self.folder, ceremony.propose(after, targets, root, requests))
        dropped = len(waiting.metadata.signatures) if waiting else 0
        return Proposed(changed=True, dropped=dropped)

    def propose_root(
        self,
        now: datetime,
        *,
        holders: Sequence[keys.PublicKey] | None = None,
        threshold: int | None = None,
        online: bool = False,
    ) -> None:
        """Propose other holders, another threshold, new online keys, or a root for ten more years.

        What is proposed besides stays so; its signatures count no more. Raises UsageError for
        numbers that make no threshold, or one person's.
        """
        self.settle(now)
        waiting = self.proposal()
        stated = self.stated(proposed=True)
        root = root_rotation.next_root(self._root(), now, holders=holders, threshold=threshold)
        need = root.roles[Targets.type].threshold
        root_rotation.check_two_persons(need, trial=self.trial)
        if online:
            fresh = OnlineKeys.generate()
            root_rotation.set_online(root, fresh)
            fresh.save(self.folder / ONLINE_NEXT)
        targets = stated.targets(self._targets().version + 1, now + limits.DIRECTORY_TARGETS_LIFE)
        requests = waiting.requests if waiting is not None else {}
        ceremony.save(self.folder, ceremony.propose(stated, targets, Metadata(root), requests))

    def sign(self, key: keys.PrivateKey, now: datetime) -> Signatures:
        """Add a holder's signature to the proposal; at the threshold it takes effect.

        Raises WrongState when nothing waits or this holder signed, RefusedError for a stranger.
        """
        return self._signed(ceremony.sign(self._waiting(), key, self._root()), now)

    def collect(self, path: Path, now: datetime) -> Signatures:
        """Add the signatures of another copy of the proposal; at the threshold it takes effect.

        Raises WrongState when nothing waits, RefusedError when the copy proposes something else,
        DirectoryError when the file is damaged.
        """
        return self._signed(
            ceremony.collect(self._waiting(), ceremony.read(path), self._root()), now
        )

    def _waiting(self) -> Proposal:
        waiting = self.proposal()
        if waiting is None:
            raise WrongState("nothing is proposed; `tieline federation status` shows what stands")
        return waiting

    def _signed(self, signed: Proposal, now: datetime) -> Signatures:
        root = self._root()
        ceremony.save(self.folder, signed)
        return Signatures(*ceremony.progress(signed, root), in_force=self.settle(now))

    def discard(self) -> bool:
        """Drop what is proposed; say whether there was anything."""
        return ceremony.clear(self.folder)

    def settle(self, now: datetime) -> bool:
        """Put a proposal that reached its threshold in force; say whether there was one."""
        waiting = self.proposal()
        if waiting is None:
            ceremony.clear(self.folder)
            return False
        have, need = ceremony.progress(waiting, self._root())
        if have < need or not (self.folder / "online").is_dir():
            # A holder's copy of the folder cannot bind it: the authority's own does.
            return False
        before = self.published()
        proposed = replace(
            before,
            targets=waiting.metadata.to_bytes(),
            roles=waiting.roles,
            contents=waiting.contents,
        )
        # What an agency stated since the proposal was made stays in force.
        parts = merging.newest_parts(proposed, before) or proposed
        if waiting.root is not None:
            number = waiting.root.signed.version
            parts = replace(parts, roots={**parts.roots, number: waiting.root.to_bytes()})
            self._online_of(waiting.root.signed).save(self.folder / "online")
        copy = tuf_online.bind(
            roots=parts.roots,
            targets=parts.targets,
            roles=parts.roles,
            contents=parts.contents,
            online=self._online(),
            now=now,
            after=tuf_online.versions(before),
        )
        tuf_folder.write(self.public, tuf_online.check(copy, before), before)
        ceremony.clear(self.folder)
        shutil.rmtree(self.folder / ONLINE_NEXT, ignore_errors=True)
        return True

    def publish(
        self, now: datetime, home: Path | None = None, after: TufCopy | None = None
    ) -> TufCopy:
        """Renew snapshot and timestamp; with ``home``, hand all of it to that node.

        ``after`` is what members hold by now, where a hub went on by itself and is lost: what
        agencies stated there is taken over, and its numbers are overtaken.

        The node gets the public part in HOME/directory/published and the online keys in
        HOME/directory/online; what agencies handed in there becomes part of this folder. Raises
        ConfigurationError when ``home`` is no folder, DirectoryError when it serves another
        federation.
        """
        if home is not None and not home.is_dir():
            raise ConfigurationError(f"{home} is no folder; name the home of the hub's node")
        self.settle(now)
        before = self.published()
        handed = _served(home / PUBLISHED, before) if home is not None else None
        known = _served(home / DIRECTORY, before) if home is not None else None
        others = [one for one in (handed, known, after) if one is not None]
        parts = before
        for one in others:
            parts = merging.newest_parts(parts, one) or parts
        copy = tuf_online.renew(parts, self._online(), now, seen=[before, *others])
        tuf_folder.write(self.public, copy, before)
        if home is not None:
            self._online().save(home / ONLINE)
            tuf_folder.write(home / PUBLISHED, copy, handed)
        return copy

    def accept(
        self, agency: str, metadata: bytes, own: bytes, now: datetime
    ) -> tuple[TufCopy, list[str]]:
        """Take a member's statement of itself, which no holder signs; return remarks as well.

        Raises what federation_edits.restate raises.
        """
        before = self.published()
        after, remarks = federation_edits.restate(
            self.stated(proposed=False), agency, metadata, own, now
        )
        parts = replace(before, roles=after.roles, contents=after.contents())
        copy = tuf_online.renew(parts, self._online(), now, seen=[before])
        tuf_folder.write(self.public, copy, before)
        return copy, remarks

    def _online(self) -> OnlineKeys:
        return OnlineKeys.load(self.folder / "online")

    def _online_of(self, root: Root) -> OnlineKeys:
        """The online keys that a root names: those in use, or those made for it."""
        for folder in ("online", ONLINE_NEXT):
            if (self.folder / folder).is_dir():
                found = OnlineKeys.load(self.folder / folder)
                if root_rotation.names_online(root, found):
                    return found
        raise DirectoryError(
            "the online keys of the proposed root are not in this folder; propose it anew"
        )

    def _root(self) -> Root:
        return self.published().parsed_root

    def _targets(self) -> Targets:
        return self.published().parsed_targets


def _served(folder: Path, mine: TufCopy) -> TufCopy | None:
    if not (folder / "root.json").exists():
        return None
    if tuf_folder.read_root(folder) != mine.roots[min(mine.roots)]:
        raise DirectoryError(f"{folder} is another federation's; name the right home")
    return tuf_folder.load(folder)
