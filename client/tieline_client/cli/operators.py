"""`tieline operator`: the people of the own agency."""

from __future__ import annotations

import getpass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tieline_client import keys
from tieline_client.cli import views
from tieline_client.cli.common import HomeOption, ProfileOption, connect, on_terminal, usage
from tieline_client.cli.groups import group
from tieline_client.cli.output import Json, emit, line, run, say
from tieline_client.cli.tables import moment, show_rows
from tieline_client.errors import ConfigurationError, InvalidInput, UsageError
from tieline_client.identifiers import check_operator
from tieline_client.key_encryption import encrypt_pkcs8
from tieline_client.profile import Profile
from tieline_client.tls import to_pem

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
    profile: ProfileOption = None,
    home: HomeOption = None,
    as_json: Json = False,
) -> None:
    """Add a person, or give one a new certificate; writes their profile, mode 0600.

    The key is made here, and only its public half goes to the node.

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
    key = keys.generate()
    with connect(profile, home) as client:
        given = client.add_operator(name, roles, keys.public_der(key))
        own = client.profile
    try:
        made = Profile(
            agency=own.agency,
            federation=own.federation,
            operator=name,
            address=given.address or own.address,
            target_name=given.target_name or own.target_name,
            node_ca=to_pem([given.node_ca]).decode() if given.node_ca else own.node_ca,
            certificate=to_pem([given.certificate]).decode(),
            key=_key_pem(key, passphrase),
        )
    except (ValueError, InvalidInput):
        raise ConfigurationError(
            f"the node's answer makes no profile; {name} is added, run the command again"
        ) from None
    made.save(out)
    if passphrase is None:
        say(f"the key in {out} is not encrypted; the file has mode 0600, keep it so")
    document = {"name": name, "roles": roles, "profile": out}
    emit(as_json, document, lambda: line(f"{name} ({', '.join(roles)}): {out}"))


@app.command("list")
@run
def list_operators(
    *, profile: ProfileOption = None, home: HomeOption = None, as_json: Json = False
) -> None:
    """List the people and their roles.

    Example: tieline operator list --home ./pt-pj
    """
    with connect(profile, home) as client:
        found = [views.operator(each) for each in client.list_operators()]

    def render() -> None:
        rows = []
        for each in found:
            roles = each["roles"]
            assert isinstance(roles, list)
            rows.append(
                (each["name"], ", ".join(roles), moment(each["created"]), moment(each["revoked"]))
            )
        show_rows(("name", "roles", "added", "revoked"), rows, "nobody")

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


def _key_pem(key: keys.PrivateKey, passphrase: bytes | None) -> str:
    if passphrase is None:
        return keys.private_pem(key).decode()
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return encrypt_pkcs8(der, passphrase).decode()
