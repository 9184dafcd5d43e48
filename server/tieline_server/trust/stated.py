"""What the authority states, as one value: edited by federation_edits.py, signed by the holders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from securesystemslib.signer import Key
from tieline_client.errors import DirectoryError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, TargetFile, Targets

from tieline_server.trust import statements
from tieline_server.trust.statements import AgencyStatement, FederationStatement


@dataclass(frozen=True)
class Stated:
    """One version of the authority's statements, with the agencies' signed ones beside them."""

    federation: FederationStatement
    agencies: Mapping[str, AgencyStatement]
    directory_keys: Mapping[str, Key]
    roles: Mapping[str, bytes]
    """Each agency's own metadata, as it signed it."""
    owns: Mapping[str, bytes]
    """The file that this metadata names."""

    @classmethod
    def of(
        cls, targets: Targets, roles: Mapping[str, bytes], contents: Mapping[str, bytes]
    ) -> Stated:
        """Read the statements out of top-level targets and the files that these name.

        Raises DirectoryError when a file is not the one that the authority, or for its own file
        the agency, signed.
        """
        agencies, directory_keys, owns = {}, {}, {}
        delegations = targets.delegations
        delegated = (delegations.roles if delegations else None) or {}
        try:
            for path, target in targets.targets.items():
                target.verify_length_and_hashes(contents[path])
            for agency, role in delegated.items():
                assert delegations is not None
                path = statements.agency_path(agency)
                agencies[agency] = statements.parse(AgencyStatement, contents[path], path)
                directory_keys[agency] = delegations.keys[role.keyids[0]]
                owns[agency] = contents[statements.own_path(agency)]
                _check_own(targets, agency, roles[agency], owns[agency])
            path = statements.FEDERATION_PATH
            federation = statements.parse(FederationStatement, contents[path], path)
        except (RepositoryError, KeyError) as error:
            raise DirectoryError(
                f"files and signatures of the directory do not fit together: {error}"
            ) from error
        kept = {agency: roles[agency] for agency in agencies}
        return cls(federation, agencies, directory_keys, kept, owns)

    def contents(self) -> dict[str, bytes]:
        """Return all target files by path."""
        own = {statements.own_path(agency): data for agency, data in self.owns.items()}
        return {**self._authority(), **own}

    def targets(self, version: int, expires: datetime) -> Targets:
        """Return the top-level targets to be signed."""
        return Targets(
            version=version,
            expires=expires.replace(microsecond=0),
            targets={
                path: TargetFile.from_data(path, data, ["sha256"])
                for path, data in self._authority().items()
            },
            delegations=Delegations(
                keys={key.keyid: key for key in self.directory_keys.values()},
                roles={
                    agency: DelegatedRole(
                        name=agency,
                        keyids=[key.keyid],
                        threshold=1,
                        terminating=True,
                        paths=[statements.own_path(agency)],
                    )
                    for agency, key in sorted(self.directory_keys.items())
                },
            ),
        )

    def _authority(self) -> dict[str, bytes]:
        files = {statements.FEDERATION_PATH: statements.to_bytes(self.federation)}
        for agency, stated in self.agencies.items():
            files[statements.agency_path(agency)] = statements.to_bytes(stated)
        return files


def _check_own(targets: Targets, agency: str, role: bytes, own: bytes) -> None:
    metadata = Metadata[Targets].from_bytes(role)
    targets.verify_delegate(agency, metadata.signed_bytes, metadata.signatures)
    metadata.signed.targets[statements.own_path(agency)].verify_length_and_hashes(own)


def changes(before: Stated, after: Stated) -> list[str]:
    """Return what ``after`` changes, a line each: what a holder reads before signing."""
    return [*_agency_changes(before, after), *_federation_changes(before, after)]


def _agency_changes(before: Stated, after: Stated) -> Iterator[str]:
    for agency, stated in sorted(after.agencies.items()):
        served = ", ".join(stated.countries) or "no country"
        described = f"{agency} ({stated.name}) as {stated.role}, {served}"
        if agency not in before.agencies:
            yield f"admit {described}"
        elif before.agencies[agency] != stated:
            yield f"restate {described}"
        if agency in before.agencies and before.roles[agency] != after.roles[agency]:
            yield f"new keys and addresses of {agency}, under its new request"
        if agency in before.agencies and (
            before.directory_keys[agency] != after.directory_keys[agency]
        ):
            yield f"new directory key of {agency}"


def _federation_changes(before: Stated, after: Stated) -> Iterator[str]:
    old, new = before.federation, after.federation
    for code, text in sorted(new.purposes.items()):
        if old.purposes.get(code) != text:
            yield f"purpose {code}: {text}"
    for name, group in sorted(new.groups.items()):
        if old.groups.get(name) != group:
            members = ", ".join(group.members) or "nobody"
            yield f"group {name}, version {group.version}: {members}"
    for agency, basis in sorted(new.agreements.items()):
        if old.agreements.get(agency) != basis:
            yield f"agreement with {agency}: {basis}"
    for agency in sorted(set(new.revoked_agencies) - set(old.revoked_agencies)):
        yield f"revoke {agency}"
    for agency in sorted(set(old.revoked_agencies) - set(new.revoked_agencies)):
        yield f"end the revocation of {agency}"
    for agency, serials in sorted(new.revoked_serials.items()):
        for serial in sorted(serials - old.revoked_serials.get(agency, frozenset())):
            yield f"revoke certificate {serial:x} of {agency}"
