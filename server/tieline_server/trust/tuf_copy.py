"""One complete, consistent version of the directory's TUF files, and how it is verified.

``verify`` runs python-tuf's client workflow (TUF specification 1.0.34, section 5) over files that
somebody offers, with the files already trusted as its memory, so that rollback, mix-and-match and
tampering are its refusals. It does not judge expiry: signatures, versions and hashes are judged
when files come in, expiry whenever the directory is used (``Directory.check_fresh``). A node past
expiry can so start, stay refused, and resume with the next version.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from tieline_client import identifiers, limits
from tieline_client.directory import Directory
from tieline_client.errors import DirectoryError, InvalidInput, TielineError
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import Updater, UpdaterConfig
from tuf.ngclient.fetcher import FetcherInterface

from tieline_server.trust import files, statements
from tieline_server.trust.statements import AgencyStatement, FederationStatement, OwnStatement

ROOT = "root.json"
"""The initial root, by whose SHA-256 people name the federation."""
METADATA = "metadata"
TARGETS = "targets"
TIMESTAMP = f"{METADATA}/timestamp.json"

Reader = Callable[[str], bytes | None]
"""Returns the bytes of a relative path, or None when it is absent. May raise a TielineError."""
Ahead = Callable[[Sequence[str]], None]
"""Is told names that will be read next, so that they can be fetched together."""

_CHUNK = 64 * 1024
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TufCopy:
    """The exact bytes of one version: all that a member needs, and all that it may pass on."""

    roots: Mapping[int, bytes]
    timestamp: bytes
    snapshot: bytes
    targets: bytes
    roles: Mapping[str, bytes]
    """Metadata of each agency's own role."""
    contents: Mapping[str, bytes]
    """Target files by path."""

    @cached_property
    def parsed_root(self) -> Root:
        """The newest root."""
        return Metadata[Root].from_bytes(self.roots[max(self.roots)]).signed

    @cached_property
    def parsed_timestamp(self) -> Timestamp:
        """The timestamp's signed part."""
        return Metadata[Timestamp].from_bytes(self.timestamp).signed

    @cached_property
    def parsed_snapshot(self) -> Snapshot:
        """The snapshot's signed part."""
        return Metadata[Snapshot].from_bytes(self.snapshot).signed

    @cached_property
    def parsed_targets(self) -> Targets:
        """The top-level targets' signed part."""
        return Metadata[Targets].from_bytes(self.targets).signed

    @cached_property
    def files(self) -> dict[str, bytes]:
        """All files by relative path, versioned and hash-named; the timestamp comes last.

        Names are TUF's consistent snapshots (specification, section 6.2): a name never gets other
        content, so files can be added while others read, and only the timestamp is replaced.
        """
        named = {ROOT: self.roots[min(self.roots)]}
        for version, data in self.roots.items():
            named[f"{METADATA}/{version}.root.json"] = data
        for path, data in self.contents.items():
            folder, _, name = path.rpartition("/")
            digest = hashlib.sha256(data).hexdigest()
            named[str(Path(TARGETS, folder, f"{digest}.{name}"))] = data
        for name, data in self._versioned():
            named[f"{METADATA}/{name}"] = data
        named[TIMESTAMP] = self.timestamp
        return named

    def _versioned(self) -> Iterator[tuple[str, bytes]]:
        meta = self.parsed_snapshot.meta
        for agency, data in self.roles.items():
            yield f"{meta[f'{agency}.json'].version}.{agency}.json", data
        yield f"{meta['targets.json'].version}.targets.json", self.targets
        yield f"{self.parsed_snapshot.version}.snapshot.json", self.snapshot

    @property
    def root_fingerprint(self) -> str:
        """64 hex digits: SHA-256 of the initial root."""
        return hashlib.sha256(self.roots[min(self.roots)]).hexdigest()

    @property
    def expires(self) -> datetime:
        """The earliest expiry of the four top-level roles."""
        return min(self.role_ends.values())

    @property
    def role_ends(self) -> dict[str, datetime]:
        """When each of the four top-level roles expires."""
        return {
            "root": self.parsed_root.expires,
            "targets": self.parsed_targets.expires,
            "snapshot": self.parsed_snapshot.expires,
            "timestamp": self.parsed_timestamp.expires,
        }

    @cached_property
    def agency_ends(self) -> dict[str, datetime]:
        """When each agency's own metadata expires."""
        roles = self.roles.items()
        return {name: Metadata[Targets].from_bytes(data).signed.expires for name, data in roles}

    def lapsed(self, now: datetime) -> frozenset[str]:
        """Return the agencies whose own metadata has expired by ``now``."""
        return frozenset(name for name, ends in self.agency_ends.items() if now >= ends)

    def directory(self, now: datetime) -> Directory:
        """Return the Directory that the files add up to.

        An agency whose own metadata has expired by ``now`` is listed without endpoints and keys.
        Raises DirectoryError when a file does not say what it should.
        """
        targets = self.parsed_targets
        delegations = targets.delegations
        roles = delegations.roles if delegations and delegations.roles else {}
        owns = {
            agency: statements.parse(
                OwnStatement,
                self.contents[statements.own_path(agency)],
                statements.own_path(agency),
            )
            for agency in self.roles.keys() - self.lapsed(now)
        }
        agencies = {
            agency: statements.parse(
                AgencyStatement,
                self.contents[statements.agency_path(agency)],
                statements.agency_path(agency),
            )
            for agency in roles
        }
        federation = statements.parse(
            FederationStatement,
            self.contents[statements.FEDERATION_PATH],
            statements.FEDERATION_PATH,
        )
        return statements.assemble(
            version=self.parsed_snapshot.version,
            expires=self.expires,
            federation=federation,
            agencies=agencies,
            owns=owns,
            directory_keys={agency: role.keyids[0] for agency, role in roles.items()},
        )


def folder_reader(folder: Path) -> Reader:
    """Return a reader of the files below ``folder``, each bounded."""
    return lambda name: files.read_bounded(folder / name, limits.DIRECTORY_FILE_BYTES)


def _nothing_ahead(_names: Sequence[str]) -> None:
    pass


def verify(
    read: Reader,
    bootstrap: bytes,
    known: TufCopy | None,
    where: str,
    ahead: Ahead = _nothing_ahead,
) -> TufCopy:
    """Return the version that ``read`` offers, verified from the root ``bootstrap``.

    ``known`` is the version trusted so far: nothing older is taken in its place. Raises
    DirectoryError, which names ``where``, or what ``read`` raised.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="tieline-directory-") as name:
            cache = Path(name)
            if known is not None:
                _remember(cache / METADATA, known)
            copy = _fetch(read, bootstrap, cache, ahead)
        copy.directory(_LONG_AGO)
    except DownloadError as error:
        if isinstance(error.__cause__, TielineError):
            raise error.__cause__ from None
        raise DirectoryError(f"the directory in {where} is incomplete: {_reason(error)}") from error
    except (RepositoryError, ValueError, KeyError) as error:
        raise DirectoryError(f"the directory in {where} is refused: {_reason(error)}") from error
    except InvalidInput as error:
        raise DirectoryError(f"the directory in {where} is refused: {error.message}") from error
    return copy


def _reason(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _remember(cache: Path, known: TufCopy) -> None:
    """Lay out trusted files as ngclient keeps them between runs."""
    history = cache / "root_history"
    history.mkdir(parents=True)
    for version, data in known.roots.items():
        (history / f"{version}.root.json").write_bytes(data)
    named = {"timestamp": known.timestamp, "snapshot": known.snapshot, "targets": known.targets}
    for name, data in {**named, **known.roles}.items():
        (cache / f"{name}.json").write_bytes(data)


def _fetch(read: Reader, bootstrap: bytes, cache: Path, ahead: Ahead) -> TufCopy:
    metadata, downloads = cache / METADATA, cache / "downloads"
    metadata.mkdir(exist_ok=True)
    updater = _TimelessUpdater(
        str(metadata),
        f"{METADATA}/",
        target_dir=str(downloads),
        target_base_url=f"{TARGETS}/",
        fetcher=_Fetcher(read),
        config=UpdaterConfig(targets_max_length=limits.DIRECTORY_FILE_BYTES),
        bootstrap=bootstrap,
    )
    updater.refresh()
    targets = (metadata / "targets.json").read_bytes()
    stated = Metadata[Targets].from_bytes(targets).signed
    agencies = _agencies(stated)
    snapshot = Metadata[Snapshot].from_bytes((metadata / "snapshot.json").read_bytes()).signed
    ahead([*_role_names(snapshot, agencies, metadata), *map(_hashed_name, stated.targets.values())])
    paths = [statements.FEDERATION_PATH]
    for agency in agencies:
        paths += [statements.agency_path(agency), statements.own_path(agency)]
    infos = {path: updater.get_targetinfo(path) for path in paths}
    ahead([_hashed_name(info) for info in infos.values() if info is not None])
    contents = {}
    for path, info in infos.items():
        if info is None:
            raise RepositoryError(f"{path} is missing")
        contents[path] = Path(updater.download_target(info)).read_bytes()
    timestamp = (metadata / "timestamp.json").read_bytes()
    for part in (snapshot, Metadata[Timestamp].from_bytes(timestamp).signed):
        if part.version > limits.DIRECTORY_VERSION_MOST:
            raise RepositoryError(f"{part.type} version {part.version} is no version in use")
    history = metadata / "root_history"
    return TufCopy(
        roots={int(p.name.partition(".")[0]): p.read_bytes() for p in sorted(history.iterdir())},
        timestamp=timestamp,
        snapshot=(metadata / "snapshot.json").read_bytes(),
        targets=targets,
        roles={agency: (metadata / f"{agency}.json").read_bytes() for agency in agencies},
        contents=contents,
    )


def _role_names(snapshot: Snapshot, agencies: Sequence[str], metadata: Path) -> Iterator[str]:
    """Yield the files of agencies' roles that are not known in the version that is bound."""
    for agency in agencies:
        bound = snapshot.meta.get(f"{agency}.json")
        if bound is None:
            continue
        known = metadata / f"{agency}.json"
        if known.is_file() and (
            Metadata[Targets].from_bytes(known.read_bytes()).signed.version == bound.version
        ):
            continue
        yield f"{METADATA}/{bound.version}.{agency}.json"


def _hashed_name(target: TargetFile) -> str:
    folder, _, name = target.path.rpartition("/")
    return str(Path(TARGETS, folder, f"{target.hashes['sha256']}.{name}"))


def _agencies(targets: Targets) -> list[str]:
    """Return the agencies that the authority delegates to, each to its own file and no other.

    The authority must not state an agency's own file in its place: top-level targets would win.
    """
    roles = (targets.delegations.roles if targets.delegations else None) or {}
    stated = {statements.FEDERATION_PATH, *map(statements.agency_path, roles)}
    if set(targets.targets) != stated:
        raise RepositoryError("the authority's files and its list of agencies differ")
    if len(roles) > limits.MEMBERS:
        raise RepositoryError(f"more than {limits.MEMBERS} members")
    for name, role in roles.items():
        identifiers.check_agency(name)
        if role.paths != [statements.own_path(name)] or not role.terminating:
            raise RepositoryError(f"role {name} may state more than its own file")
        if len(role.keyids) != 1:
            raise RepositoryError(f"role {name} has other than one key")
    return sorted(roles)


class _TimelessUpdater(Updater):
    """ngclient with a clock that stands before every expiry; see the module's first lines."""

    def __init__(
        self,
        metadata_dir: str,
        metadata_base_url: str,
        *,
        target_dir: str,
        target_base_url: str,
        fetcher: FetcherInterface,
        config: UpdaterConfig,
        bootstrap: bytes,
    ) -> None:
        super().__init__(
            metadata_dir,
            metadata_base_url,
            target_dir,
            target_base_url,
            fetcher,
            config,
            bootstrap=bootstrap,
        )
        self._trusted_set.reference_time = _LONG_AGO


class _Fetcher(FetcherInterface):
    """Gives ngclient the files of a reader; an absent one is a 404, as it expects."""

    def __init__(self, read: Reader) -> None:
        self._read = read

    def _fetch(self, url: str) -> Iterator[bytes]:
        data = self._read(url)
        if data is None:
            raise DownloadHTTPError(f"{url} is missing", 404)
        return (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
