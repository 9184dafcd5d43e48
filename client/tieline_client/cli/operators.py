"""`tieline operator`: the people of the own agency."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from tieline.v1 import operator_pb2

from tieline_client import keys
from tieline_client.cli import node_views
from tieline_client.cli.common import (
    HomeOption,
    ProfileOption,
    connect,
    on_terminal,
    passphrase_of,
    usage,
)
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import ConfigurationError, InvalidInput, TrustError, UsageError
from tieline_client.identifiers import check_operator
from tieline_client.limits import CERTIFICATE_BYTES
from tieline_client.profile import Profile, reserved
from tieline_client.profile_refresh import refresh as refresh_profile
from tieline_client.tls import to_der, to_pem

app = group("The people of the own agency. Callers: admin.")


class Role(StrEnum):
    """What a person may do."""

    ANALYST = "analyst"
    OFFICER = "officer"
    AUDITOR = "auditor"
    ADMIN = "admin"


@app.command("add")
@run
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As it will stand in the log.")],
    *,
    role: Annotated[list[Role], typer.Option("--role", help="What they may do; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", metavar="PROFILE", help="A new file.")],
    encrypt: Annotated[
        bool,
        typer.Option(
            "--encrypt",
            help="Encrypt the key: passphrase by prompt or TIELINE_PASSPHRASE_FILE.",
        ),
    ] = False,
    certificate: Annotated[
        Path | None,
        typer.Option(
            "--certificate", metavar="FILE", help="Issued elsewhere by the agency's operator CA."
        ),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="Its private key (P-256, PEM, mode 0600)."),
    ] = None,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Add a person, or give one a new certificate; writes their profile, mode 0600.

    The key is made here, and only its public half goes to the node. With --certificate and --key
    both were made elsewhere: the node checks the certificate as on every call, and registers it.

    Example: tieline operator add ana.silva --role analyst --role officer --out ana.json
    """
    with usage():
        check_operator(name)
    if out.exists():
        raise UsageError(f"{out} exists; a profile is never overwritten, name another file")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}; make it first")
    passphrase = _new_passphrase(name) if encrypt else None
    roles = list(dict.fromkeys(each.value for each in role))
    given_key = _given(certificate, key, passphrase)
    own_key = given_key or keys.generate()
    given_certificate = _read_certificate(certificate)
    with connect(profile, home) as client, reserved(out) as write:
        given = client.add_operator(name, roles, keys.public_der(own_key), given_certificate)
        made = _profile_of(name, client.profile, given, keys.to_pem(own_key, passphrase))
        try:
            write(made)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{error.message}; {name} has a new certificate by now and none that is older, so"
                " an admin has to run the command again"
            ) from None
    if passphrase is None:
        say(f"the key in {out} is not encrypted; the file has mode 0600, keep it so")
    document = {"name": name, "roles": roles, "profile": out}
    emit(as_json, document, lambda: line(f"{name} ({', '.join(roles)}): {out}"))


def _profile_of(
    name: str, own: Profile, given: operator_pb2.AddOperatorResponse, key: bytes
) -> Profile:
    """Return the profile that a node's answer makes."""
    # A node of before v1.2 names one CA.
    cas = list(given.node_cas) or ([given.node_ca] if given.node_ca else [])
    try:
        return Profile(
            agency=own.agency,
            federation=own.federation,
            operator=name,
            address=given.address or own.address,
            target_name=given.target_name or own.target_name,
            node_ca=to_pem(cas).decode() if cas else own.node_ca,
            certificate=to_pem([given.certificate]).decode(),
            key=key.decode(),
        )
    except (ValueError, InvalidInput):
        raise ConfigurationError(
            f"the node's answer makes no profile; {name} is added, run the command again"
        ) from None


@app.command("refresh")
@run
def refresh(
    path: Annotated[
        Path, typer.Argument(metavar="PROFILE", help="The profile to bring up to date.")
    ],
    *,
    as_json: Json = False,
) -> None:
    """Have the node say anew what your profile holds of it: its CAs and its address.

    For when the node's CA changes: while both CAs count, and after. While the operator CA changes
    you get a certificate of the next one. The key stays; an encrypted key stays encrypted.

    Example: tieline operator refresh ana.json
    """
    done = refresh_profile(path, passphrase_of(Profile.load(path)))
    cas = len(done.profile.node_cas())
    if done.kept_address:
        say(
            f"the node says it listens on {done.kept_address}, which cannot be reached from here; "
            f"the address {done.profile.address} stays"
        )
    document = {
        "profile": path,
        "changed": list(done.changed),
        "node_cas": cas,
        "address": done.profile.address,
    }
    what = f"{cas} node CAs" if cas > 1 else "one node CA"
    told = "is up to date" if not done.changed else "was brought up to date"
    if "certificate" in done.changed:
        what += ", a certificate of the next operator CA"
    emit(as_json, document, lambda: line(f"{path} {told}: {what}, {done.profile.address}"))


@app.command("list")
@run
def list_operators(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """List the people and their roles.

    Example: tieline operator list --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = [node_views.operator(each) for each in client.list_operators()]

    def render() -> None:
        rows = []
        for each in found:
            roles = each["roles"]
            assert isinstance(roles, list)
            rows.append(
                (
                    each["name"],
                    ", ".join(roles),
                    moment(each["created"]),
                    moment(each["expires"]),
                    moment(each["revoked"]),
                )
            )
        show_rows(("name", "roles", "added", "certificate ends", "revoked"), rows, "nobody")

    emit(as_json, {"operators": found}, render)


@app.command("revoke")
@run
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `tieline operator list` says.")],
    *,
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """End a person's access; it holds from their next call.

    Example: tieline operator revoke ana.silva --home ./pt-pj
    """
    with usage():
        check_operator(name)
    with connect(profile, home) as client:
        client.revoke_operator(name)
    emit(as_json, {"name": name, "revoked": True}, lambda: line(f"{name} is revoked"))


def _new_passphrase(name: str) -> bytes:
    passphrase = keys.passphrase_from_environment()
    if passphrase is not None:
        return passphrase
    if not on_terminal():
        raise UsageError(f"--encrypt needs a terminal or {keys.PASSPHRASE_VARIABLE}")
    first = getpass.getpass(f"new passphrase for {name}: ")
    if not first or first != getpass.getpass("again: "):
        raise UsageError("the passphrases are empty or differ; run the command again")
    return first.encode()


def _given(
    certificate: Path | None, key: Path | None, passphrase: bytes | None
) -> keys.PrivateKey | None:
    """Return the key that was made elsewhere; raise UsageError unless it is the certificate's."""
    if (certificate is None) != (key is None):
        raise UsageError("--certificate and --key go together")
    if certificate is None or key is None:
        return None
    loaded = keys.load(key, passphrase or keys.passphrase_from_environment())
    try:
        public = x509.load_der_x509_certificate(_read_certificate(certificate)).public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{certificate} is no certificate that can be read") from None
    if public != loaded.public_key():
        raise UsageError(f"the key {key} does not belong to {certificate}; give its own")
    return loaded


def _read_certificate(path: Path | None) -> bytes:
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            return to_der(file.read(2 * CERTIFICATE_BYTES))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except TrustError as error:
        raise UsageError(f"{path}: {error.message}") from None
